//! `get_many`: each key's answer is the same as that of a `get`.

use std::cell::Cell;

use crate::engine::tests::*;
use crate::sync::{Word, load};

/// Calls `get_many`, and checks the order of the answers.
fn many<K: AsRef<[u8]>>(cache: &MmapCache, keys: &[K]) -> Vec<Option<Vec<u8>>> {
    let mut values = Vec::new();
    let each = |number: usize, value: Option<&[u8]>| {
        assert_eq!(number, values.len(), "in order, each once");
        values.push(value.map(<[u8]>::to_vec));
    };
    cache.get_many(keys, each).unwrap();
    assert_eq!(values.len(), keys.len());
    values
}

fn one_by_one<K: AsRef<[u8]>>(cache: &MmapCache, keys: &[K]) -> Vec<Option<Vec<u8>>> {
    let get = |key: &K| cache.get(key.as_ref()).unwrap();
    keys.iter().map(get).collect()
}

#[test]
fn get_many_equals_single_gets() {
    for options in [Options::new(), tiny(), colliding()] {
        let scratch = Scratch::new();
        let cache = scratch.open(&options);
        let key = |i: usize| vec![i as u8; 1 + i * 7 % 60];
        for i in 0..40 {
            // Empty values, short ones, and ones that are copied in more than one piece.
            let value = vec![i as u8; [0, 9, 300, 5_000][i % 4]];
            cache.put(&key(i), &value).unwrap();
        }
        // Every third key is absent, and after sixty they repeat.
        let asked: Vec<_> = (0..100).map(|i| key(i % 60)).collect();
        for len in (0..=50).chain([100]) {
            let found = many(&cache, &asked[..len]);
            assert_eq!(found, one_by_one(&cache, &asked[..len]), "{len} keys");
            assert_eq!(
                found.iter().flatten().count(),
                len.min(40) + len.saturating_sub(60)
            );
        }
    }
}

// A key that `get` refuses ends the call, after the keys before it are answered.
#[test]
fn get_many_stops_at_invalid_key() {
    let scratch = Scratch::new();
    let cache = scratch.open(&tiny());
    cache.put(b"k", b"v").unwrap();
    for bad in [vec![], vec![0; 65_536]] {
        for at in [0, 15, 16, 20] {
            let mut keys = vec![b"k".to_vec(); 40];
            keys[at].clone_from(&bad);
            let mut given = 0;
            let error = cache.get_many(&keys, |_, value| {
                assert_eq!(value, Some(&b"v"[..]));
                given += 1;
            });
            assert!(matches!(
                error.as_ref().map_err(crate::Error::kind),
                Err(crate::ErrorKind::KeyLength { .. })
            ));
            assert_eq!(given, at);
        }
    }
}

// An iterator is not polled again after its end.
#[test]
fn exhausted_iterator_is_not_polled_again() {
    let scratch = Scratch::new();
    let cache = scratch.open(&tiny());
    let mut turn = 0;
    let keys = std::iter::from_fn(|| {
        turn += 1;
        (turn != 4).then_some(b"k")
    });
    let mut given = 0;
    cache.get_many(keys, |_, _| given += 1).unwrap();
    assert_eq!((given, turn), (3, 4));
}

// A corrupt entry among many keys is a miss, and is counted.
#[test]
fn get_many_counts_corrupt_entries() {
    let scratch = Scratch::new();
    let cache = scratch.open(&Options::new());
    let key = |i: u8| [b'k', i];
    for i in 0..32 {
        cache.put(&key(i), &[i; 300]).unwrap();
    }
    let (generation, _) = cache.handle.current().unwrap();
    let hash = generation.hasher.hash(&key(20));
    let located = generation
        .table
        .locate(generation.header().poll(), hash)
        .unwrap();
    let (_, _, link) = located.region.probe(hash).next().unwrap();
    let heap = scratch.path().with_extension("heap");
    let file = std::fs::File::options().write(true).open(heap).unwrap();
    use std::os::unix::fs::FileExt;
    file.write_all_at(&[0xee], link.addr().bytes() + 100)
        .unwrap();
    let keys: Vec<_> = (0..32).map(key).collect();
    for (i, value) in (0..).zip(many(&cache, &keys)) {
        assert_eq!(value, (i != 20).then(|| vec![i; 300]), "{i}");
    }
    assert_eq!(cache.stats().unwrap().damaged_seen, 1);
}

// The second key of a call shows a change made after the first.
#[test]
fn get_many_sees_changes_between_keys() {
    let scratch = Scratch::new();
    let cache = scratch.open(&tiny());
    let key = |i: usize| format!("key {i}").into_bytes();
    let put = |i: usize, value: &[u8]| {
        cache.put(&key(i), value).unwrap();
    };
    (0..16).for_each(|i| put(i, b"old"));
    let keys: Vec<_> = (0..16).map(key).collect();
    let mut seen = Vec::new();
    let each = |number: usize, value: Option<&[u8]>| {
        seen.push(value.map(<[u8]>::to_vec));
        match number {
            // First one of this group's own keys, then enough to split its region, then everything.
            2 => put(3, b"new"),
            4 => (16..200).for_each(|i| put(i, b"old")),
            6 => assert!(cache.delete(&key(7)).unwrap()),
            9 => {
                let items = (0..16).map(|i| Ok::<_, crate::Error>((key(i), b"rebuilt")));
                cache.atomic_rebuild(items).unwrap();
            }
            12 => cache.clear().unwrap(),
            _ => {}
        }
    };
    cache.get_many(&keys, each).unwrap();
    let value = |i: usize| match i {
        3 => Some(b"new".to_vec()),
        7 | 13.. => None,
        10..=12 => Some(b"rebuilt".to_vec()),
        _ => Some(b"old".to_vec()),
    };
    assert_eq!(seen, (0..16).map(value).collect::<Vec<_>>());
}

// One call follows segments that were added and removed, and a generation switch.
#[test]
fn get_many_follows_removed_files() {
    let scratch = Scratch::new();
    let (writer, reader) = (scratch.open(&tiny()), scratch.open(&tiny()));
    let keys: Vec<_> = (0..300_u32).map(u32::to_le_bytes).collect();
    for round in 0..6_u8 {
        for key in &keys {
            writer.put(key, &[round; 200]).unwrap();
        }
        // The segments that the reader mapped are gone, with records it never read.
        writer.compact().unwrap();
        if round % 2 == 1 {
            let items = keys
                .iter()
                .map(|key| Ok::<_, crate::Error>((key, [round; 200])));
            writer.atomic_rebuild(items).unwrap();
        }
        let found = many(&reader, &keys);
        assert!(
            found
                .iter()
                .all(|value| value.as_deref() == Some(&[round; 200][..]))
        );
    }
    assert_eq!(reader.stats().unwrap().damaged_seen, 0);
}

// Beside a writer each key's value lies between those of a `get` before the call and one after it.
// The values count the writer's rounds.
#[test]
fn get_many_agrees_with_neighbouring_gets() {
    let scratch = Scratch::new();
    let cache = scratch.open(&tiny());
    let other = scratch.open(&tiny());
    let keys: Vec<_> = (0..48_u32).map(u32::to_le_bytes).collect();
    let value = |turn: u64| [turn.to_le_bytes(); 12].concat();
    let turn_of = |value: Option<&[u8]>| {
        let value = value.expect("every key is there all the time");
        let turn = u64::from_le_bytes(value[..8].try_into().unwrap());
        assert_eq!(value, [turn.to_le_bytes(); 12].concat());
        turn
    };
    for key in &keys {
        cache.put(key, &value(0)).unwrap();
    }
    let done = Word::new(0);
    let write = || {
        for turn in 1..=40_u64 {
            for key in &keys {
                cache.put(key, &value(turn)).unwrap();
            }
            // Other keys come and go: regions are purged and split, segments begun and removed.
            for i in 0..40_u64 {
                let passing = (1_000 + turn / 4 * 40 + i).to_le_bytes();
                if turn % 4 == 3 {
                    cache.delete(&passing).unwrap();
                } else {
                    cache.put(&passing, &[7; 100]).unwrap();
                }
            }
            if turn % 10 == 0 {
                let items = keys
                    .iter()
                    .map(|key| Ok::<_, crate::Error>((key, value(turn))));
                cache.atomic_rebuild(items).unwrap();
            }
        }
        done.store(1, Relaxed);
    };
    let read = |reader: &MmapCache| {
        let calls = Cell::new(0);
        while load(&done) == 0 || calls.get() < 3 {
            let get = |key: &[u8; 4]| turn_of(reader.get(key).unwrap().as_deref());
            let before: Vec<_> = keys.iter().map(get).collect();
            let mut between = Vec::new();
            let each = |_, value: Option<&[u8]>| between.push(turn_of(value));
            reader.get_many(&keys, each).unwrap();
            for ((key, before), between) in keys.iter().zip(before).zip(between) {
                assert!(before <= between && between <= get(key));
            }
            calls.set(calls.get() + 1);
        }
        assert_eq!(reader.stats().unwrap().damaged_seen, 0);
    };
    std::thread::scope(|scope| {
        let writer = scope.spawn(write);
        // One reader uses the writer's own handle, the other one as another process would.
        scope.spawn(|| read(&cache));
        read(&other);
        writer.join().unwrap();
    });
}
