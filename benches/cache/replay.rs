//! The misses of a recorded trace: each request is a lookup, and an insertion after a miss.

use std::collections::HashSet;
use std::io::{BufRead, BufReader};

use mmapcache::Cache;

/// A request: the key, and the bytes of the object.
type Request = (Vec<u8>, usize);

pub(crate) fn measure(file: &str, columns: &[&str]) {
    let columns: Vec<usize> = columns
        .iter()
        .map(|c| c.parse().expect("a column"))
        .collect();
    let requests = read(file, &columns);
    let distinct: HashSet<&[u8]> = requests.iter().map(|(key, _)| &key[..]).collect();
    println!(
        "{file}: {} requests of {} keys",
        requests.len(),
        distinct.len()
    );
    for percent in [1, 10] {
        let entries = (distinct.len() as u64 * percent / 100).max(1);
        let misses = replay(&requests, |builder| builder.max_entries(entries), false);
        println!("{percent} % of the keys, {entries} entries: misses {misses:.4}");
    }
    if columns.len() > 1 {
        let mut seen = HashSet::new();
        let first = requests.iter().filter(|(key, _)| seen.insert(key));
        let all: usize = first.map(|(_, size)| size + 200).sum();
        for percent in [5, 10, 20] {
            let bytes = (all as u64 * percent / 100).max(1 << 20);
            let misses = replay(&requests, |builder| builder.max_bytes(bytes), true);
            println!("{percent} % of the bytes, {bytes} bytes of disk: misses {misses:.4}");
        }
    }
}

fn replay(
    requests: &[Request],
    limit: impl Fn(mmapcache::CacheBuilder) -> mmapcache::CacheBuilder,
    with_sizes: bool,
) -> f64 {
    let dir = tempfile::tempdir().expect("a directory");
    let builder = Cache::builder(dir.path().join("cache"));
    let cache = limit(builder).open().expect("a cache");
    let value = vec![7; 1 << 21];
    let mut misses = 0;
    for (key, size) in requests {
        if cache.get(key).expect("a lookup").is_none() {
            misses += 1;
            let len = if with_sizes {
                (*size).min(value.len())
            } else {
                16
            };
            // Values beyond the bound's share are not stored.
            let _ = cache.insert(key, &value[..len]);
        }
    }
    f64::from(misses) / requests.len() as f64
}

fn read(file: &str, columns: &[usize]) -> Vec<Request> {
    let file = std::fs::File::open(file).expect("the trace");
    let lines = BufReader::new(file).lines().skip(1);
    let request = |line: std::io::Result<String>| {
        let line = line.expect("a line");
        let fields: Vec<&str> = line.split(',').map(str::trim).collect();
        let size = columns
            .get(1)
            .map_or(16, |&at| fields[at].parse().expect("a size"));
        (fields[columns[0]].as_bytes().to_vec(), size)
    };
    lines.map(request).collect()
}
