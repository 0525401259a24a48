//! An insertion that is refused because the cache is full and may evict nothing.

use std::time::Instant;

use mmapcache::{Cache, Eviction};

use crate::cache::keys::{key, median};

const ROUNDS: usize = 15;

pub(crate) fn measure() {
    for (max_bytes, len) in [(4_u64 << 20, 1_000), (64 << 20, 1_000), (64 << 20, 100)] {
        let dir = tempfile::tempdir().expect("a directory");
        let builder = Cache::builder(dir.path().join("cache")).max_bytes(max_bytes);
        let cache = builder.eviction(Eviction::None).open().expect("a cache");
        let value = vec![7; len];
        let insert = |number: u64| {
            let begin = Instant::now();
            let inserted = cache.insert(key(number), &value);
            (
                inserted.is_ok(),
                begin.elapsed().as_nanos() as f64 / 1_000.0,
            )
        };
        let fill = |from: u64| (from..).find(|&number| !insert(number).0);
        let entries = fill(0).expect("a limit");
        let mut next = entries;
        let idle: Vec<f64> = (0..ROUNDS).map(|_| insert(next).1).collect();
        let changed = (0..ROUNDS as u64).map(|number| {
            // Something dies, and its room is used again.
            cache.remove(key(number)).expect("a removal");
            next = fill(next).expect("a limit");
            insert(next).1
        });
        let changed: Vec<f64> = changed.collect();
        assert_eq!(fill(next), Some(next), "the cache is full");
        println!(
            "{} MiB, {entries} entries of {len} bytes: refused in {:.1} us, after changes in {:.1} us",
            max_bytes >> 20,
            median(idle),
            median(changed),
        );
    }
}
