//! The work of every dictionary: keys, values and orders, made from numbers by the rules of
//! `baseline.py`.

use serde::{Deserialize, Serialize};

const GROUPS: u64 = 40;
const TAGS: [&str; 8] = [
    "red", "green", "blue", "amber", "violet", "ochre", "teal", "rose",
];
/// Numbers from here on are those of absent keys.
const ABSENT: u64 = 500_000;

/// Two parts.
pub(crate) type Key = [String; 2];

/// A small value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Item {
    pub(crate) name: String,
    pub(crate) count: u64,
    pub(crate) ratio: f64,
    pub(crate) tags: Vec<String>,
}

impl Item {
    fn new(number: u64, salt: u64) -> Self {
        let seed = mix(number ^ (salt << 32));
        let count = seed % 1_000_000;
        Self {
            name: format!("{:012x}", seed >> 16),
            count,
            ratio: count as f64 / 1e6,
            tags: [20, 23, 26]
                .map(|shift| TAGS[(seed >> shift) as usize % 8].to_owned())
                .into(),
        }
    }
}

/// Mixes a number's bits by splitmix64: pseudorandom, but reproducible.
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn key(number: u64) -> Key {
    [
        format!("group-{:03}", number % GROUPS),
        format!("item-{number:06}"),
    ]
}

/// Returns the numbers below `entries`, each once.
fn order(entries: u64, salt: u64) -> Vec<u64> {
    let mut numbers: Vec<_> = (0..entries).collect();
    numbers.sort_by_key(|number| mix(number ^ (salt << 32)));
    numbers
}

/// Keys and values of a round, all made before a clock starts.
pub(crate) struct Work {
    pub(crate) inserted: Vec<(Key, Item)>,
    pub(crate) read: Vec<Key>,
    pub(crate) absent: Vec<Key>,
    pub(crate) changed: Vec<Changed>,
}

/// A key, and its value after the first one.
pub(crate) struct Changed {
    pub(crate) key: Key,
    pub(crate) second: Item,
    pub(crate) third: Item,
}

impl Work {
    pub(crate) fn new(entries: u64) -> Self {
        assert!(entries <= ABSENT, "at most {ABSENT} entries");
        let reads = order(entries, 1);
        Self {
            inserted: order(entries, 0)
                .into_iter()
                .map(|number| (key(number), Item::new(number, 0)))
                .collect(),
            read: reads.iter().copied().map(key).collect(),
            absent: reads.iter().map(|number| key(number + ABSENT)).collect(),
            changed: order(entries, 2)
                .into_iter()
                .map(|number| Changed {
                    key: key(number),
                    second: Item::new(number, 1),
                    third: Item::new(number, 2),
                })
                .collect(),
        }
    }

    /// Returns the sum over what was inserted, which readers of everything must find.
    pub(crate) fn sum(&self) -> u64 {
        self.inserted.iter().map(|(_, item)| item.count).sum()
    }

    /// Returns checksums over everything written, to compare the two sides' work.
    pub(crate) fn fingerprints(&self) -> [u32; 3] {
        let (inserted, changed) = (self.inserted.iter(), self.changed.iter());
        [
            fingerprint(inserted.map(|(key, item)| (key, item))),
            fingerprint(changed.clone().map(|it| (&it.key, &it.second))),
            fingerprint(changed.map(|it| (&it.key, &it.third))),
        ]
    }
}

fn fingerprint<'a>(items: impl Iterator<Item = (&'a Key, &'a Item)>) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    for (key, item) in items {
        let (key, tags) = (key.join("/"), item.tags.join("/"));
        let Item {
            name, count, ratio, ..
        } = item;
        crc.update(format!("{key}/{name}/{count}/{ratio:.6}/{tags}").as_bytes());
    }
    crc.finalize()
}
