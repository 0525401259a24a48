//! Samples random keys: only live ones, each with the same probability.

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::engine::tests::*;
use crate::format::record::Variant;
use crate::format::roster::HEADER_BYTES;
use crate::sync::failpoint;

/// Returns how often each key comes.
fn draw(cache: &MmapCache, times: usize) -> BTreeMap<Vec<u8>, usize> {
    let mut drawn = BTreeMap::new();
    for _ in 0..times {
        let key = cache.random_key().unwrap().expect("it is not empty");
        *drawn.entry(key).or_default() += 1;
    }
    drawn
}

/// Asserts that exactly these keys come, each nearly as often as expected: of a thousand times
/// each, the probability of such a deviation is below 10^-30.
#[track_caller]
fn assert_even(cache: &MmapCache, keys: &[Vec<u8>]) {
    let drawn = draw(cache, 1_000 * keys.len());
    assert!(drawn.keys().eq(keys), "{:?}", drawn.keys());
    let even = |&times: &usize| (600..1_600).contains(&times);
    assert!(drawn.values().all(even), "{:?}", drawn.values());
}

/// Returns a key; some fit into a slot, and others are longer.
fn key(i: usize) -> Vec<u8> {
    let mut key = format!("{i:06}").into_bytes();
    key.resize(6 + i % 3 * 20, b'.');
    key
}

// Each key of a cache is sampled as often as any other.
#[test]
fn random_keys_are_uniform() {
    for options in [Options::new(), tiny(), colliding()] {
        let scratch = scratch();
        let cache = scratch.open(&options);
        let keys: Vec<_> = (0..16).map(key).collect();
        for key in &keys {
            cache.put(key, &[7; 3_000]).unwrap();
        }
        assert_even(&cache, &keys);
        // Overwritten entries have one roster position all the same.
        for _ in 0..5 {
            cache.put(&keys[3], &[8; 3_000]).unwrap();
        }
        assert_even(&cache, &keys);
        let mut reading = Options::new();
        assert_even(&scratch.open(reading.read_only(true)), &keys);
    }
}

// Deleted entries are not sampled, and the rest stay uniform.
#[test]
fn random_keys_skip_deleted_entries() {
    let scratch = scratch();
    let cache = scratch.open(&tiny());
    for i in 0..400 {
        cache.put(&key(i), b"").unwrap();
    }
    for i in (0..400).filter(|i| i % 25 != 7) {
        cache.delete(&key(i)).unwrap();
    }
    let left: Vec<_> = (0..400).filter(|i| i % 25 == 7).map(key).collect();
    assert_eq!(left.len(), 16);
    assert_even(&cache, &left);
    // New entries take the positions of deleted ones.
    let mut grown = left;
    for i in 1_000..1_008 {
        cache.put(&key(i), b"").unwrap();
        grown.push(key(i));
    }
    assert_even(&cache, &grown);
}

// After nearly all entries were deleted, the rest are sampled uniformly.
#[test]
fn random_keys_stay_uniform_when_sparse() {
    let scratch = scratch();
    let cache = scratch.open(&Options::new());
    let mut writer = cache.writer().unwrap();
    for i in 0..5_000 {
        writer.put(&key(i), b"").unwrap();
    }
    for i in (0..5_000).filter(|i| i % 2_000 != 1) {
        writer.delete(&key(i)).unwrap();
    }
    drop(writer);
    assert_even(&cache, &[key(1), key(2_001), key(4_001)]);
    for i in [1, 2_001, 4_001] {
        cache.delete(&key(i)).unwrap();
    }
    assert_eq!(cache.random_key().unwrap(), None);
    cache.put(b"the only one", b"").unwrap();
    assert_eq!(cache.random_key().unwrap().unwrap(), b"the only one");
}

// Sampling returns no key only if the cache is empty.
#[test]
fn random_key_fails_only_when_empty() {
    let scratch = scratch();
    let cache = scratch.open(&tiny());
    assert_eq!(cache.random_key().unwrap(), None);
    for round in 0..3 {
        cache.put(&key(round), b"").unwrap();
        assert_eq!(cache.random_key().unwrap(), Some(key(round)));
        cache.delete(&key(round)).unwrap();
        assert_eq!(cache.random_key().unwrap(), None);
    }
    cache.put(&key(9), b"").unwrap();
    cache.clear().unwrap();
    assert_eq!(cache.random_key().unwrap(), None);
}

// Sampling skips ids that no key has.
#[test]
fn random_keys_skip_unused_ids() {
    let scratch = scratch();
    let mut options = tiny();
    options.variant = Variant::Numbered;
    let cache = scratch.open(&options);
    let keys: Vec<_> = (0..16).map(key).collect();
    let mut writer = cache.writer().unwrap();
    for key in &keys[..9] {
        writer.id(key).unwrap();
    }
    drop(writer);
    let (generation, _) = cache.handle.current().unwrap();
    let generation = std::sync::Arc::clone(&generation);
    // As a power loss leaves it.
    crate::engine::ids::give_up_reserved(&generation).unwrap();
    let mut writer = cache.writer().unwrap();
    for key in &keys[9..] {
        assert!(writer.id(key).unwrap() > 16);
    }
    drop(writer);
    assert_even(&cache, &keys);
}

// Beside a writer each sampled key existed, and permanent keys are sampled uniformly.
#[test]
fn random_keys_beside_writer_stay_uniform() {
    let scratch = scratch();
    let (cache, other) = (scratch.open(&tiny()), scratch.open(&tiny()));
    let stay: Vec<_> = (0..16).map(|i| key(1_000 + i)).collect();
    for key in &stay {
        cache.put(key, b"stays").unwrap();
    }
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for round in 0..4_000 {
                other.put(&key(round % 50), &[1; 300]).unwrap();
                other.delete(&key((round + 25) % 50)).unwrap();
                if round % 500 == 499 {
                    let mut writer = other.writer().unwrap();
                    writer.atomic_rebuild(other.iter().unwrap()).unwrap();
                }
            }
        });
        let mut times = BTreeMap::new();
        while !writer.is_finished() || times.len() < stay.len() {
            let drawn = cache.random_key().unwrap().expect("sixteen always stay");
            let known = stay.contains(&drawn) || (0..50).any(|i| key(i) == drawn);
            assert!(known, "{drawn:?} was never put");
            *times.entry(drawn).or_insert(0) += 1;
        }
    });
    assert_clean(&cache);
}

// A cache that another handle empties and fills during sampling is not reported as corrupt.
#[test]
fn concurrent_emptying_is_no_corruption() {
    let scratch = scratch();
    let (cache, other) = (scratch.open(&tiny()), scratch.open(&tiny()));
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for round in 0..3_000 {
                other.put(&key(round % 7), &[1; 50]).unwrap();
                other.delete(&key(round % 7)).unwrap();
            }
        });
        while !writer.is_finished() {
            if let Some(drawn) = cache.random_key().unwrap() {
                assert!((0..7).any(|i| key(i) == drawn));
            }
        }
    });
    assert_eq!(cache.random_key().unwrap(), None);
}

// A writer stopped in the only change leaves one key or none to sample, and no corruption.
#[test]
fn stopped_change_samples_key_or_none() {
    let put = |cache: &MmapCache| assert!(cache.put(&key(1), b"").is_ok());
    let delete = |cache: &MmapCache| assert!(cache.delete(&key(1)).unwrap());
    for filled in [false, true] {
        let mut seen = [0, 0];
        for steps in 0.. {
            let scratch = scratch();
            let cache = scratch.open(&tiny());
            if filled {
                put(&cache);
            }
            let reader = scratch.open(Options::new().read_only(true));
            failpoint::set(steps);
            let outcome = catch_unwind(AssertUnwindSafe(|| match filled {
                false => put(&cache),
                true => delete(&cache),
            }));
            failpoint::clear();
            let drawn = reader.random_key().unwrap();
            assert!(drawn.is_none() || drawn == Some(key(1)), "step {steps}");
            seen[usize::from(drawn.is_some())] += 1;
            if outcome.is_ok() {
                break;
            }
        }
        assert!(seen.into_iter().all(|times| times > 0), "{seen:?}");
    }
}

/// Stores a word to these positions of the roster.
fn overwrite_roster(scratch: &Scratch, positions: std::ops::Range<u64>, word: u32) {
    let roster = scratch.path().with_extension("roster");
    let file = std::fs::File::options().write(true).open(roster).unwrap();
    for position in positions {
        let at = HEADER_BYTES + 4 * position;
        file.write_all_at(&word.to_le_bytes(), at).unwrap();
    }
}

// Corrupt positions are skipped, and no corruption makes a cache look empty.
#[test]
fn random_keys_skip_corrupt_positions() {
    let scratch = scratch();
    let cache = scratch.open(&Options::new());
    let keys: Vec<_> = (0..200).map(key).collect();
    for key in &keys {
        cache.put(key, b"").unwrap();
    }
    let sound: Vec<_> = (184..200).map(key).collect();
    // A slot that only one position may lead to, and a slot that does not exist.
    for word in [0, 0x7fff_fff0] {
        overwrite_roster(&scratch, 0..184, word);
        let drawn = draw(&cache, 2_000);
        let few: Vec<_> = drawn.keys().filter(|key| !sound.contains(*key)).collect();
        assert!(few.len() <= 1, "{few:?}: the slot's own position");
        assert!(sound.iter().all(|key| drawn.contains_key(key)));
    }
    assert!(cache.stats().unwrap().damaged_seen > 0);
    overwrite_roster(&scratch, 0..200, 0x7fff_fff0);
    assert!(cache.random_key().unwrap_err().is_corruption());
    // Free positions only, in a cache whose header counts entries.
    overwrite_roster(&scratch, 0..200, 1 << 31);
    assert!(cache.random_key().unwrap_err().is_corruption());
}
