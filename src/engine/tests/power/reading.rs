//! Reads a cache in every way, and uses it afterwards.
//!
//! Knows what must hold of any cache; `history.rs` says which entries it may have.

use crate::engine::tests::power::cache_dir::CacheDir;
use crate::engine::tests::power::history::{History, Seen};
use crate::engine::tests::power::values::{name, number, value};
use crate::engine::tests::power::*;

pub(super) fn read_entries(cache: &MmapCache) -> Seen {
    let mut seen = Seen::new();
    for entry in cache.entries().unwrap() {
        let (key, entry) = entry.unwrap();
        let version = entry.version().as_nanos();
        let twice = seen.insert(key, (entry.into_value(), version));
        assert!(twice.is_none(), "listed twice");
    }
    seen
}

/// Reads a cache in every way, and asserts that all agree.
pub(super) fn read_and_compare(cache: &MmapCache, history: &History) -> Seen {
    let seen = read_entries(cache);
    assert_eq!(cache.len() as usize, seen.len(), "the number of entries");
    let keys = history.generations.iter().flat_map(|states| states.keys());
    for key in keys {
        let found = seen.get(key);
        let got = cache.get(key).unwrap();
        assert_eq!(
            got.as_ref(),
            found.map(|(value, _)| value),
            "get and list disagree about {}",
            name(key)
        );
        let mtime = cache.version(key).unwrap();
        assert_eq!(
            mtime.map(Version::as_nanos),
            found.map(|&(_, version)| version)
        );
    }
    seen
}

/// Asserts that the cache can be used: versions are higher than before, nothing is recovered again,
/// and no entry is lost.
pub(super) fn assert_usable(cache: &MmapCache, before: &Seen, version: u64) {
    let slots = |cache: &MmapCache| cache.handle.generation.load().table.geometry().region_slots;
    let (generation, region) = (cache.stats().unwrap().generation, slots(cache));
    for i in 0..12_u32 {
        let key = format!("afterwards {}", i % 8).into_bytes();
        let put = cache.put(&key, &[7; 300]).unwrap();
        assert!(put.as_nanos() > version, "versions went back");
    }
    assert!(cache.delete(b"afterwards 3").unwrap());
    assert_clean(cache);
    cache.compact().unwrap();
    assert_clean(cache);
    let recovered = cache.stats().unwrap().generation > generation && slots(cache) == region;
    assert!(!recovered, "recovered again");
    let mut after = read_entries(cache);
    after.retain(|key, _| !key.starts_with(b"afterwards"));
    assert_eq!(after, *before);
}

/// Asserts that a read-only handle, which cannot recover, sees no wrong value.
pub(super) fn check_read_only(dir: &CacheDir) {
    let mut options = dir.options();
    options.exclusive(false).read_only(true);
    let Ok(cache) = options.open(dir.path()) else {
        return;
    };
    for (key, found) in cache.iter().unwrap().filter_map(std::result::Result::ok) {
        assert_eq!(
            found,
            value(&key, number(&found), found.len()),
            "a wrong value"
        );
    }
}
