//! The invalidation of a tag that a million entries have.

use std::time::Instant;

use mmapcache::{Cache, InsertOptions};

use crate::cache::keys::{key, median};

const ENTRIES: u64 = 1_000_000;
const ROUNDS: usize = 101;

pub(crate) fn measure() {
    let dir = tempfile::tempdir().expect("a directory");
    let cache = Cache::open(dir.path().join("cache")).expect("a cache");
    let tagged = InsertOptions::new().tag("all");
    for number in 0..ENTRIES {
        cache
            .insert_with(key(number), [7; 100], &tagged)
            .expect("an insertion");
    }
    let other = Cache::open(dir.path().join("cache")).expect("a cache");
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        cache
            .insert_with(key(0), "again", &tagged)
            .expect("an insertion");
        assert!(other.contains(key(0)).expect("a lookup"));
        let begin = Instant::now();
        cache.invalidate_tag("all").expect("an invalidation");
        times.push(begin.elapsed().as_nanos() as f64 / 1_000.0);
        assert!(
            !other.contains(key(0)).expect("a lookup"),
            "seen at the next get"
        );
    }
    println!("a tag of {ENTRIES} entries: {:.1} us", median(times));
}
