//! The cache beside the in-memory map, in turns within one run, as a table of medians and ratios.
//!
//! `cargo bench --bench ratio` takes some minutes; `-- --entries 100000` measures one size only, and
//! `-- --reads` only what changes nothing.

mod workload;

use std::hint::black_box;
use std::time::Instant;

use mmapcache::MmapCache;
use workload::{Key, Map, Scratch, consume, fill_cache, fill_map, mix, value};

const ROUNDS: usize = 7;
/// Keys that the cache is asked for at once; all operations of a round are whole batches.
const BATCH: usize = 16;

/// Nanoseconds per operation of the map and of the cache, round by round.
#[derive(Default)]
struct Pairs {
    map: Vec<f64>,
    cache: Vec<f64>,
}

impl Pairs {
    fn print(&mut self, what: &str) {
        let mut ratios: Vec<_> = self
            .map
            .iter()
            .zip(&self.cache)
            .map(|(map, cache)| cache / map)
            .collect();
        let (map, cache, ratio) = (
            median(&mut self.map),
            median(&mut self.cache),
            median(&mut ratios),
        );
        println!("| {what} | {map:.0} | {cache:.0} | {ratio:.2} |");
    }
}

fn median(numbers: &mut [f64]) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

/// Nanoseconds per operation of `count` operations.
fn time(count: u64, run: impl FnOnce()) -> f64 {
    let start = Instant::now();
    run();
    start.elapsed().as_nanos() as f64 / count as f64
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let only = arguments
        .iter()
        .position(|argument| argument == "--entries");
    let sizes = match only.and_then(|at| arguments.get(at + 1)?.parse().ok()) {
        Some(size) => vec![size],
        None => vec![100_000, 1_000_000],
    };
    for entries in sizes {
        println!(
            "\n{entries} entries, keys of 28 bytes, values of 100, nanoseconds per operation\n"
        );
        println!("| operation | hashbrown | mmapcache | ratio |");
        println!("|---|--:|--:|--:|");
        if arguments.iter().any(|argument| argument == "--reads") {
            measure_reads(entries);
        } else {
            measure(entries);
        }
    }
}

fn measure_reads(entries: u64) {
    let scratch = Scratch::new();
    let (map, cache) = filled(&scratch, entries);
    read(entries, &map, &cache);
}

/// A map and a cache with the same entries.
fn filled(scratch: &Scratch, entries: u64) -> (Map, MmapCache) {
    let (mut map, cache) = (Map::default(), scratch.open());
    fill_map(&mut map, 0..entries);
    fill_cache(&mut cache.writer().expect("the lock"), 0..entries);
    (map, cache)
}

fn measure(entries: u64) {
    let (mut put, mut single) = (Pairs::default(), Pairs::default());
    for round in 0..ROUNDS.min(5) {
        load(entries, round, &mut put, &mut single);
    }
    put.print("put new, in a `Writer`");
    let scratch = Scratch::new();
    let (mut map, cache) = filled(&scratch, entries);
    read(entries, &map, &cache);
    single.print("put new, one lock each");
    change(entries, &mut map, &cache);
}

fn load(entries: u64, round: usize, put: &mut Pairs, single: &mut Pairs) {
    let scratch = Scratch::new();
    let cache = scratch.open();
    let mut map = Map::default();
    let fill_both = |pairs: &mut Pairs, map: &mut Map, cache: &MmapCache| {
        pairs.map.push(time(entries, || fill_map(map, 0..entries)));
        let mut writer = cache.writer().expect("the lock");
        pairs
            .cache
            .push(time(entries, || fill_cache(&mut writer, 0..entries)));
    };
    fill_both(put, &mut map, &cache);
    if round < 3 {
        let few = entries / 10;
        let after = entries..entries + few;
        single
            .map
            .push(time(few, || fill_map(&mut map, after.clone())));
        single.cache.push(time(few, || {
            for number in after {
                cache
                    .put(Key::new(number).bytes(), &value(number))
                    .expect("room");
            }
        }));
    }
    // The cache makes new files each round. The map is to have new memory as well, not what the
    // round before gave back.
    std::mem::forget(map);
}

fn read(entries: u64, map: &Map, cache: &MmapCache) {
    let count = 500_000;
    let mut buffer = Vec::new();
    let (mut latency, mut throughput, mut miss, mut has, mut list) =
        <(Pairs, Pairs, Pairs, Pairs, Pairs)>::default();
    let mut many = Pairs::default();
    for round in 0..ROUNDS as u64 {
        let start = mix(round);
        latency.map.push(time(count, || {
            let mut last = start;
            for i in 0..count {
                // The turn `i` keeps the walk out of cycles, which would soon lie in the nearest
                // cache.
                last = consume(&map[Key::new(mix(last ^ i) % entries).bytes()]);
            }
            black_box(last);
        }));
        latency.cache.push(time(count, || {
            let mut last = start;
            for i in 0..count {
                let key = Key::new(mix(last ^ i) % entries);
                assert!(cache.get_into(key.bytes(), &mut buffer).expect("a value"));
                last = consume(&buffer);
            }
            black_box(last);
        }));
        let pick = |i: u64| Key::new(mix(start ^ i) % entries);
        throughput.map.push(time(count, || {
            black_box((0..count).fold(0, |sum, i| sum ^ consume(&map[pick(i).bytes()])));
        }));
        throughput.cache.push(time(count, || {
            let mut sum = 0;
            for i in 0..count {
                assert!(
                    cache
                        .get_into(pick(i).bytes(), &mut buffer)
                        .expect("a value")
                );
                sum ^= consume(&buffer);
            }
            black_box(sum);
        }));
        many.map.push(throughput.map[throughput.map.len() - 1]);
        many.cache.push(time(count, || {
            let mut sum = 0;
            for first in (0..count).step_by(BATCH) {
                let keys: [Key; BATCH] = std::array::from_fn(|i| pick(first + i as u64));
                let consume_hit = |_, value: Option<&[u8]>| sum ^= consume(value.expect("a hit"));
                let keys = keys.iter().map(Key::bytes);
                cache.get_many(keys, consume_hit).expect("values");
            }
            black_box(sum);
        }));
        let absent = |i: u64| Key::new((mix(start ^ i) % entries) + (1 << 40));
        miss.map.push(time(count, || {
            assert!((0..count).all(|i| !map.contains_key(absent(i).bytes())));
        }));
        miss.cache.push(time(count, || {
            assert!((0..count).all(|i| {
                !cache
                    .get_into(absent(i).bytes(), &mut buffer)
                    .expect("a miss")
            }));
        }));
        has.map.push(time(count, || {
            assert!((0..count).all(|i| map.contains_key(pick(i).bytes())))
        }));
        has.cache.push(time(count, || {
            assert!((0..count).all(|i| cache.contains(pick(i).bytes()).expect("an answer")));
        }));
        list.map.push(time(entries, || {
            black_box(
                map.iter()
                    .fold(0, |sum, (key, value)| sum ^ consume(key) ^ consume(value)),
            );
        }));
        list.cache.push(time(entries, || {
            let (mut items, mut sum) = (cache.items().expect("a listing"), 0);
            while let Some(item) = items.next_borrowed() {
                let (key, value) = item.expect("an item");
                sum ^= consume(key) ^ consume(value);
            }
            black_box(sum);
        }));
    }
    latency.print("get hit, next key depends on the last value");
    throughput.print("get hit, independent keys");
    many.print("get hit, independent keys, 16 at once; the map one at a time");
    miss.print("get miss");
    has.print("contains, hit");
    list.print("list all items, per entry");
}

fn change(entries: u64, map: &mut Map, cache: &MmapCache) {
    let count = entries / 2;
    let (mut overwrite, mut single, mut delete) = <(Pairs, Pairs, Pairs)>::default();
    for round in 0..ROUNDS as u64 {
        let pick = |i: u64| mix(mix(round) ^ i) % entries;
        overwrite.map.push(time(count, || {
            for i in 0..count {
                let number = pick(i);
                map.insert(
                    Key::new(number).bytes().into(),
                    value(number).as_slice().into(),
                );
            }
        }));
        let mut writer = cache.writer().expect("the lock");
        overwrite.cache.push(time(count, || {
            for i in 0..count {
                let number = pick(i);
                writer
                    .put(Key::new(number).bytes(), &value(number))
                    .expect("room");
            }
        }));
        drop(writer);
        let few = count / 5;
        single.map.push(overwrite.map[overwrite.map.len() - 1]);
        single.cache.push(time(few, || {
            for i in 0..few {
                let number = pick(i);
                cache
                    .put(Key::new(number).bytes(), &value(number))
                    .expect("room");
            }
        }));
    }
    for round in 0..3 {
        let part = entries / 4 * round..entries / 4 * (round + 1);
        delete.map.push(time(entries / 4, || {
            for number in part.clone() {
                assert!(map.remove(Key::new(number).bytes()).is_some());
            }
        }));
        let mut writer = cache.writer().expect("the lock");
        delete.cache.push(time(entries / 4, || {
            for number in part {
                assert!(writer.delete(Key::new(number).bytes()).expect("room"));
            }
        }));
    }
    overwrite.print("overwrite, in a `Writer`");
    single.print("overwrite, one lock each");
    delete.print("delete, in a `Writer`");
}
