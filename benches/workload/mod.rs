//! What the benchmarks share: keys, values, and the two stores under test.
//!
//! [`Keys`] are in memory before the clock starts. A [`Key`] is made just before the call; its
//! stores must retire before a store can load it, so that no two gets overlap.

use std::path::PathBuf;

use mmapcache::{MmapCache, Writer};

/// The map that a persistent cache is measured against.
pub(crate) type Map = hashbrown::HashMap<Box<[u8]>, Box<[u8]>>;

/// Bytes of a value.
pub(crate) const VALUE: usize = 100;

/// Mixes a number's bits: pseudorandom, but reproducible.
pub(crate) fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The key of a number: 16 to 40 bytes, 28 on average.
pub(crate) struct Key {
    bytes: [u8; 40],
    len: usize,
}

impl Key {
    pub(crate) fn new(number: u64) -> Self {
        let seed = mix(number);
        let mut bytes = [0; 40];
        for (lane, chunk) in (0_u64..).zip(bytes.chunks_exact_mut(8)) {
            chunk.copy_from_slice(&seed.wrapping_mul(2 * lane + 1).to_le_bytes());
        }
        Self {
            bytes,
            len: 16 + (seed >> 32) as usize % 25,
        }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Keys laid out one after the other before the clock starts.
#[allow(dead_code, reason = "not every benchmark reads")]
#[derive(Default)]
pub(crate) struct Keys {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

#[allow(dead_code, reason = "not every benchmark reads")]
impl Keys {
    pub(crate) fn of(numbers: impl Iterator<Item = u64>) -> Self {
        let mut keys = Self::default();
        for number in numbers {
            keys.bytes.extend_from_slice(Key::new(number).bytes());
            keys.ends.push(keys.bytes.len());
        }
        keys
    }

    pub(crate) fn at(&self, index: usize) -> &[u8] {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[start..self.ends[index]]
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.ends.len()).map(|index| self.at(index))
    }
}

/// Returns the value of a number; its first bytes are another number, on which the next key can
/// depend.
pub(crate) fn value(number: u64) -> [u8; VALUE] {
    let mut bytes = [number as u8; VALUE];
    bytes[..8].copy_from_slice(&mix(number ^ 0x55).to_le_bytes());
    bytes
}

/// Reads all of a value, as a user does, and reduces it to a number.
pub(crate) fn consume(value: &[u8]) -> u64 {
    let mut sum = 0_u64;
    for chunk in value.chunks_exact(8) {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(chunk);
        sum = sum.wrapping_add(u64::from_le_bytes(bytes));
    }
    sum
}

/// A cache in a directory of its own.
pub(crate) struct Scratch {
    _dir: tempfile::TempDir,
    pub(crate) path: PathBuf,
}

impl Scratch {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory for the benchmark");
        let path = dir.path().join("cache");
        Self { _dir: dir, path }
    }

    pub(crate) fn open(&self) -> MmapCache {
        MmapCache::open(&self.path).expect("a cache for the benchmark")
    }
}

pub(crate) fn fill_map(map: &mut Map, numbers: std::ops::Range<u64>) {
    for number in numbers {
        map.insert(
            Key::new(number).bytes().into(),
            value(number).as_slice().into(),
        );
    }
}

pub(crate) fn fill_cache(writer: &mut Writer<'_>, numbers: std::ops::Range<u64>) {
    for number in numbers {
        writer
            .put(Key::new(number).bytes(), &value(number))
            .expect("room for the benchmark");
    }
}
