//! A hit of a `Cache` beside one of `MmapCache`, in turns: a million keys at rest.

use std::hint::black_box;
use std::time::Instant;

use mmapcache::{Cache, MmapCache};

use crate::cache::keys::{key, keys, median};

const ENTRIES: u64 = 1_000_000;
const LOOKUPS: usize = 2_000_000;
const ROUNDS: usize = 9;

pub(crate) fn measure() {
    let dir = tempfile::tempdir().expect("a directory");
    let engine = MmapCache::open(dir.path().join("engine")).expect("a cache");
    let cache = Cache::open(dir.path().join("cache")).expect("a cache");
    for number in 0..ENTRIES {
        engine.put(key(number), [7; 100]).expect("a put");
        cache.insert(key(number), [7; 100]).expect("an insertion");
    }
    let keys = keys(LOOKUPS, ENTRIES);
    let time = |look_up: &dyn Fn(&[u8]) -> Option<Vec<u8>>| {
        let begin = Instant::now();
        for key in &keys {
            black_box(look_up(key)).expect("an entry");
        }
        begin.elapsed().as_nanos() as f64 / LOOKUPS as f64
    };
    let (mut engines, mut caches) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        engines.push(time(&|key| engine.get(key).expect("a lookup")));
        caches.push(time(&|key| cache.get(key).expect("a lookup")));
    }
    let ratios = caches
        .iter()
        .zip(&engines)
        .map(|(cache, engine)| cache / engine);
    let ratio = median(ratios.collect());
    let (engine, cache) = (median(engines), median(caches));
    println!("MmapCache::get {engine:.0} ns, Cache::get {cache:.0} ns, ratio {ratio:.3}");
}
