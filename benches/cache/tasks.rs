//! A hit in a task of tokio: called directly, and through a thread for blocking calls.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use mmapcache::Cache;

use crate::cache::keys::{key, keys, median};

const ENTRIES: u64 = 1_000_000;
const LOOKUPS: usize = 50_000;
const ROUNDS: usize = 9;

pub(crate) fn measure() {
    let dir = tempfile::tempdir().expect("a directory");
    let cache = Arc::new(Cache::open(dir.path().join("cache")).expect("a cache"));
    for number in 0..ENTRIES {
        cache.insert(key(number), [7; 100]).expect("an insertion");
    }
    let keys = keys(LOOKUPS, ENTRIES);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .expect("a runtime");
    let (mut direct, mut blocking, mut longest) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (figure, most) = runtime.block_on(get_directly(Arc::clone(&cache), keys.clone()));
        direct.push(figure);
        longest.push(most);
        blocking.push(runtime.block_on(get_blocking(Arc::clone(&cache), keys.clone())));
    }
    println!(
        "get in a task: {:.0} ns, the longest of {LOOKUPS} {:.0} us; through spawn_blocking {:.0} ns",
        median(direct),
        median(longest) / 1_000.0,
        median(blocking),
    );
}

/// Returns the time of a lookup, and the longest one, in nanoseconds.
async fn get_directly(cache: Arc<Cache>, keys: Vec<[u8; 16]>) -> (f64, f64) {
    let task = tokio::spawn(async move {
        let (begin, mut longest) = (Instant::now(), 0);
        for key in &keys {
            let before = Instant::now();
            black_box(cache.get(key).expect("a lookup")).expect("an entry");
            longest = longest.max(before.elapsed().as_nanos());
        }
        let all = begin.elapsed().as_nanos() as f64;
        (all / keys.len() as f64, longest as f64)
    });
    task.await.expect("the task")
}

async fn get_blocking(cache: Arc<Cache>, keys: Vec<[u8; 16]>) -> f64 {
    let task = tokio::spawn(async move {
        let begin = Instant::now();
        for &key in &keys {
            let cache = Arc::clone(&cache);
            let get = move || cache.get(key).expect("a lookup");
            let found = tokio::task::spawn_blocking(get).await.expect("a thread");
            black_box(found).expect("an entry");
        }
        begin.elapsed().as_nanos() as f64 / keys.len() as f64
    });
    task.await.expect("the task")
}
