//! Readers beside a writer: none gets a value after its life was ended.

use crate::cache::tests::*;
use crate::sync::{Ordering, Word};

/// Calls `live` with growing numbers. It stores a value that begins with the number, ends its life,
/// and returns. Readers must not get that value from then on.
fn assert_never_late(rounds: u64, live: impl Fn(&Cache, u64)) {
    let (_dir, path) = place();
    let cache = Cache::open_with(&path, &tiny()).unwrap();
    let (ended, stop) = (Word::new(0), Word::new(0));
    std::thread::scope(|scope| {
        let readers = [(); 2].map(|()| {
            scope.spawn(|| {
                let reader = Cache::open_with(&path, &tiny()).unwrap();
                let mut seen = 0;
                while stop.load(Ordering::SeqCst) == 0 {
                    let before = ended.load(Ordering::SeqCst);
                    if let Some(value) = reader.get("key").unwrap() {
                        let number = u64::from_le_bytes(value[..8].try_into().unwrap());
                        assert!(number > before, "{number} after {before} ended");
                        seen += 1;
                    }
                }
                seen
            })
        });
        for number in 1..=rounds {
            if readers.iter().any(|reader| reader.is_finished()) {
                break;
            }
            live(&cache, number);
            ended.store(number, Ordering::SeqCst);
        }
        stop.store(1, Ordering::SeqCst);
        let seen = readers.map(|reader| reader.join().unwrap());
        println!("{seen:?} values read in {rounds} lives");
    });
}

#[test]
fn readers_never_get_invalidated_values() {
    let options = InsertOptions::new().tag("a");
    assert_never_late(30_000, |cache, number| {
        cache
            .insert_with("key", number.to_le_bytes(), &options)
            .unwrap();
        cache.invalidate_tag("a").unwrap();
    });
}

#[test]
fn readers_never_get_long_values_late() {
    assert_never_late(2_000, |cache, number| {
        let value = [&number.to_le_bytes()[..], &[7; 4_100]].concat();
        cache.insert_with("key", value, &ttl(10 * HOUR)).unwrap();
        // Its deadline is removed with the entry, by the sweep after it, or replaced.
        match number % 3 {
            0 => {
                assert!(cache.touch("key", Duration::ZERO).unwrap());
                assert_eq!(cache.sweep().unwrap(), 1);
                assert_eq!(cache.sweep().unwrap(), 0);
            }
            1 => {
                assert!(cache.touch("key", HOUR).unwrap());
                assert!(cache.remove("key").unwrap());
            }
            _ => assert!(cache.touch("key", Duration::ZERO).unwrap()),
        }
    });
}
