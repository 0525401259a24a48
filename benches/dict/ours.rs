//! Measures our dictionaries.

use mmapcache::Update;
use mmapcache::dict::{Condition, Dict, Outcome, Retrieve, Store};

use crate::clock::{Clock, Figures};
use crate::work::{Item, Work};

/// Runs one round on an empty dictionary, and empties it again.
pub(crate) fn measure(dict: &Dict<Item, impl Store>, work: &Work) -> Figures {
    let mut clock = Clock::default();
    fill(&mut clock, dict, work);
    read(&mut clock, dict, work);
    list(&mut clock, dict, work);
    change(&mut clock, dict, work);
    clock.figures
}

fn fill(clock: &mut Clock, dict: &Dict<Item, impl Store>, work: &Work) {
    let inserted = work.inserted.clone();
    clock.time("insert", inserted.len(), || {
        for (key, item) in inserted {
            dict.insert(&key, item).expect("room");
        }
    });
}

fn read(clock: &mut Clock, dict: &Dict<Item, impl Store>, work: &Work) {
    let (keys, entries) = (&work.read, work.read.len());
    for operation in ["get", "get, again"] {
        let found = clock.time(operation, entries, || -> u64 {
            let items = keys.iter().map(|key| dict.get(key).expect("readable"));
            items.map(|item| item.expect("an item").count).sum()
        });
        assert_eq!(found, work.sum());
    }
    let found = clock.time("get_with_etag", entries, || -> u64 {
        let items = keys
            .iter()
            .map(|key| dict.get_with_etag(key).expect("readable"));
        items.map(|tagged| tagged.expect("an item").0.count).sum()
    });
    assert_eq!(found, work.sum());
    let found = clock.time("get, absent", entries, || {
        let items = work
            .absent
            .iter()
            .map(|key| dict.get(key).expect("readable"));
        items.flatten().count()
    });
    assert_eq!(found, 0);
    let found = clock.time("contains", entries, || {
        keys.iter()
            .filter(|key| dict.contains(key).expect("readable"))
            .count()
    });
    assert_eq!(found, entries);
    let found = clock.time("etag", entries, || {
        keys.iter()
            .filter_map(|key| dict.etag(key).expect("readable"))
            .count()
    });
    assert_eq!(found, entries);
}

fn list(clock: &mut Clock, dict: &Dict<Item, impl Store>, work: &Work) {
    let entries = work.read.len();
    let found = clock.time("len, one call", 1, || dict.len().expect("readable"));
    assert_eq!(found, entries as u64);
    let found = clock.time("keys, per entry", entries, || -> usize {
        dict.keys().map(|key| key.expect("readable").len()).sum()
    });
    assert_eq!(found, 2 * entries);
    let found = clock.time("items, per entry", entries, || -> u64 {
        dict.iter()
            .map(|item| item.expect("readable").1.count)
            .sum()
    });
    assert_eq!(found, work.sum());
}

fn change(clock: &mut Clock, dict: &Dict<Item, impl Store>, work: &Work) {
    let (changed, entries) = (&work.changed, work.changed.len());

    let second: Vec<_> = changed
        .iter()
        .map(|it| (&it.key, it.second.clone()))
        .collect();
    clock.time("overwrite", entries, || {
        for (key, item) in second {
            dict.insert(key, item).expect("room");
        }
    });

    let third = changed.iter().map(|it| {
        let etag = dict.etag(&it.key).expect("readable").expect("an item");
        (&it.key, Update::Put(it.third.clone()), etag)
    });
    let third: Vec<_> = third.collect();
    let written = clock.time("set_item_if", entries, || {
        let results = third.into_iter().map(|(key, write, etag)| {
            dict.set_if(key, write, Condition::Same, etag, Retrieve::Never)
                .expect("room")
        });
        results
            .filter(|result| matches!(result, Outcome::Written { .. }))
            .count()
    });
    assert_eq!(written, entries);

    clock.time("transform_item", entries, || {
        for it in changed {
            let incremented = dict.update(&it.key, |item| {
                let mut item = item.expect("an item");
                item.count += 1;
                Update::Put(item)
            });
            incremented.expect("room");
        }
    });
    for it in changed {
        let item = dict.get(&it.key).expect("readable").expect("an item");
        assert_eq!(item.count, it.third.count + 1);
    }

    clock.time("delete", entries, || {
        for it in changed {
            dict.remove(&it.key).expect("an item");
        }
    });
    assert_eq!(dict.len().expect("readable"), 0);
}
