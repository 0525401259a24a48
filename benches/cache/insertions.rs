//! An insertion that evicts, in steady state, beside a put of a new key, and beside that put and a
//! delete of an old key.

use std::time::Instant;

use mmapcache::{Cache, MmapCache};

use crate::cache::keys::{key, median};

const ROUNDS: usize = 7;
const INSERTIONS: u64 = 200_000;

pub(crate) fn measure() {
    for max_bytes in [16_u64 << 20, 256 << 20] {
        let dir = tempfile::tempdir().expect("a directory");
        let cache = Cache::builder(dir.path().join("cache"))
            .max_bytes(max_bytes)
            .open()
            .expect("a cache");
        let mut next = 0;
        let mut insert = |count: u64| {
            let begin = Instant::now();
            for _ in 0..count {
                cache.insert(key(next), [7; 100]).expect("an insertion");
                next += 1;
            }
            begin.elapsed().as_nanos() as f64 / count as f64
        };
        // Until it has evicted everything twice.
        insert(3 * max_bytes / 200);
        let entries = cache.len_with_expired();
        let engine = MmapCache::open(dir.path().join("engine")).expect("a cache");
        for number in 0..entries {
            engine.put(key(number), [7; 100]).expect("a put");
        }
        let (mut oldest, mut newest) = (0, entries);
        let mut put_and_delete = || {
            let begin = Instant::now();
            for number in newest..newest + INSERTIONS {
                engine.put(key(number), [7; 100]).expect("a put");
            }
            let put = begin.elapsed();
            for number in oldest..oldest + INSERTIONS {
                engine.delete(key(number)).expect("a delete");
            }
            oldest += INSERTIONS;
            newest += INSERTIONS;
            [put, begin.elapsed()].map(|time| time.as_nanos() as f64 / INSERTIONS as f64)
        };
        // Until its heap is cleaned regularly.
        for _ in 0..entries / INSERTIONS + 1 {
            put_and_delete();
        }
        let (mut inserted, mut put, mut both) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            inserted.push(insert(INSERTIONS));
            let [alone, with_delete] = put_and_delete();
            put.push(alone);
            both.push(with_delete);
        }
        let ratio = |rivals: &[f64]| {
            let ratios = inserted.iter().zip(rivals).map(|(own, rival)| own / rival);
            median(ratios.collect())
        };
        let (to_put, to_both) = (ratio(&put), ratio(&both));
        println!(
            "{} MiB, {entries} entries: insert {:.0} ns; put {:.0} ns, ratio {to_put:.2}; put and \
             delete {:.0} ns, ratio {to_both:.2}",
            max_bytes >> 20,
            median(inserted),
            median(put),
            median(both),
        );
    }
}
