//! What a program would use that needs no disk, no checked keys and no tags: a `BTreeMap`.
//!
//! Its keys are the joined parts, made in advance. Values are copied in and out, as in the
//! dictionaries; or encoded and decoded, as in a store of bytes.

use std::collections::BTreeMap;
use std::hint::black_box;

use crate::clock::{Clock, Figures};
use crate::work::{Item, Key, Work};

/// How a map stores a value.
pub(crate) trait Kept {
    fn of(item: &Item) -> Self;
    fn item(&self) -> Item;
}

impl Kept for Item {
    fn of(item: &Item) -> Self {
        item.clone()
    }

    fn item(&self) -> Item {
        self.clone()
    }
}

impl Kept for Vec<u8> {
    fn of(item: &Item) -> Self {
        serde_json::to_vec(item).expect("an item in JSON")
    }

    fn item(&self) -> Item {
        serde_json::from_slice(self).expect("an item in JSON")
    }
}

fn joined((key, item): &(Key, Item)) -> (String, &Item) {
    (key.join("/"), item)
}

/// Runs one round on an empty map, and empties it again.
pub(crate) fn measure<K: Kept>(work: &Work) -> Figures {
    let (mut clock, mut map) = (Clock::default(), BTreeMap::<String, K>::new());
    fill(&mut clock, &mut map, work);
    read(&mut clock, &map, work);
    change(&mut clock, &mut map, work);
    clock.figures
}

fn fill<K: Kept>(clock: &mut Clock, map: &mut BTreeMap<String, K>, work: &Work) {
    let inserted: Vec<_> = work.inserted.iter().map(joined).collect();
    clock.time("insert", inserted.len(), || {
        for (key, item) in &inserted {
            map.insert(key.clone(), K::of(item));
        }
    });
}

fn read<K: Kept>(clock: &mut Clock, map: &BTreeMap<String, K>, work: &Work) {
    let (entries, sum) = (work.read.len(), work.sum());
    let keys: Vec<_> = work.read.iter().map(|key| key.join("/")).collect();
    let absent: Vec<_> = work.absent.iter().map(|key| key.join("/")).collect();

    for operation in ["get", "get, again"] {
        let found = clock.time(operation, entries, || -> u64 {
            keys.iter().map(|key| map[key].item().count).sum()
        });
        assert_eq!(found, sum);
    }
    let found = clock.time("get, absent", entries, || {
        absent.iter().filter_map(|key| map.get(key)).count()
    });
    assert_eq!(found, 0);
    let found = clock.time("contains", entries, || {
        keys.iter().filter(|key| map.contains_key(*key)).count()
    });
    assert_eq!(found, entries);
    let found = clock.time("len, one call", 1, || map.len());
    assert_eq!(found, entries);
    let found = clock.time("keys, per entry", entries, || -> usize {
        map.keys().map(|key| black_box(key.clone()).len()).sum()
    });
    assert_eq!(found, keys.iter().map(String::len).sum::<usize>());
    let found = clock.time("items, per entry", entries, || -> u64 {
        let items = map
            .iter()
            .map(|(key, kept)| black_box((key.clone(), kept.item())));
        items.map(|(_, item)| item.count).sum()
    });
    assert_eq!(found, sum);
}

fn change<K: Kept>(clock: &mut Clock, map: &mut BTreeMap<String, K>, work: &Work) {
    let entries = work.changed.len();
    let changed = work.changed.iter().map(|it| (it.key.join("/"), it));
    let changed: Vec<_> = changed.collect();

    clock.time("overwrite", entries, || {
        for (key, it) in &changed {
            map.insert(key.clone(), K::of(&it.second));
        }
    });
    for (key, it) in &changed {
        map.insert(key.clone(), K::of(&it.third));
    }
    clock.time("transform_item", entries, || {
        for (key, _) in &changed {
            let kept = map.get_mut(key).expect("an item");
            let mut item = kept.item();
            item.count += 1;
            *kept = K::of(&item);
        }
    });
    for (key, it) in &changed {
        assert_eq!(map[key].item().count, it.third.count + 1);
    }
    let deleted = clock.time("delete", entries, || {
        changed
            .iter()
            .filter_map(|(key, _)| map.remove(key))
            .count()
    });
    assert_eq!((deleted, map.len()), (entries, 0));
}
