//! Measures the cache beside the in-memory map, in turn within one run, as a table of medians and
//! ratios.
//!
//! `cargo bench --bench ratio` takes some minutes; `-- --entries 100000` measures one size only,
//! `-- --reads` only reads, and `-- --in-place` changes in a cache with `Options::in_place`.

mod workload;

use std::hint::black_box;
use std::time::Instant;

use mmapcache::{MmapCache, Options};
use workload::{Key, Keys, Map, Scratch, consume, fill_cache, fill_map, mix, value};

const ROUNDS: usize = 7;
/// Keys that the cache looks up at once; all operations of a round are whole batches.
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

/// Returns the nanoseconds per operation of `count` operations.
fn time(count: usize, run: impl FnOnce()) -> f64 {
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
        } else if arguments.iter().any(|argument| argument == "--in-place") {
            measure_in_place(entries);
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

fn measure_in_place(entries: u64) {
    let dir = tempfile::tempdir().expect("a directory for the benchmark");
    let cache = Options::new().in_place(true).open(dir.path().join("cache"));
    let (mut map, cache) = filled_in(cache.expect("a cache"), entries);
    change(entries, &mut map, &cache);
}

/// Fills a map and a cache with the same entries.
fn filled(scratch: &Scratch, entries: u64) -> (Map, MmapCache) {
    filled_in(scratch.open(), entries)
}

fn filled_in(cache: MmapCache, entries: u64) -> (Map, MmapCache) {
    let mut map = Map::default();
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
        pairs
            .map
            .push(time(entries as usize, || fill_map(map, 0..entries)));
        let mut writer = cache.writer().expect("the lock");
        pairs.cache.push(time(entries as usize, || {
            fill_cache(&mut writer, 0..entries)
        }));
    };
    fill_both(put, &mut map, &cache);
    if round < 3 {
        let few = entries / 10;
        let after = entries..entries + few;
        single
            .map
            .push(time(few as usize, || fill_map(&mut map, after.clone())));
        single.cache.push(time(few as usize, || {
            for number in after {
                cache
                    .put(Key::new(number).bytes(), &value(number))
                    .expect("room");
            }
        }));
    }
    // The cache creates new files each round. The map must have new memory as well, not what the
    // round before freed.
    std::mem::forget(map);
}

fn read(entries: u64, map: &Map, cache: &MmapCache) {
    let count = 500_000 / BATCH * BATCH;
    let chosen = |seed: u64| {
        let start = mix(seed);
        (0..count as u64).map(move |step| mix(start ^ step) % entries)
    };
    let rounds = ROUNDS as u64;
    let (mut dependent, mut made) = <(Pairs, Pairs)>::default();
    let (mut independent, mut many) = <(Pairs, Pairs)>::default();
    for round in 0..rounds {
        let keys = Keys::of(chosen(round));
        measure_dependent(&keys, map, cache, &mut dependent);
        measure_hits(&keys, map, cache, &mut independent);
        many.map.push(independent.map[independent.map.len() - 1]);
        many.cache.push(measure_batches(&keys, count, cache));
        measure_made(chosen(round), count, map, cache, &mut made);
    }
    let (mut miss, mut has, mut list) = <(Pairs, Pairs, Pairs)>::default();
    for round in 0..rounds {
        let absent = Keys::of(chosen(round).map(|number| number + (1 << 40)));
        measure_misses(&absent, map, cache, &mut miss);
        measure_contains(&Keys::of(chosen(round)), map, cache, &mut has);
        measure_listing(entries, map, cache, &mut list);
    }
    dependent.print("get hit, next key depends on the last value");
    independent.print("get hit, independent keys");
    many.print("get hit, independent keys, 16 at once; the map one at a time");
    made.print("get hit, key made just before the call");
    miss.print("get miss");
    has.print("contains, hit");
    list.print("list all items, per entry");
}

/// The position of the next key depends on the last value; the keys are still read in their order.
fn measure_dependent(keys: &Keys, map: &Map, cache: &MmapCache, pairs: &mut Pairs) {
    // The compiler must not know that this is zero.
    let nothing = black_box(0);
    let (count, mut buffer) = (keys.iter().count(), Vec::new());
    pairs.map.push(time(count, || {
        let mut last = 0;
        for step in 0..count {
            last = consume(&map[keys.at(step + (last & nothing) as usize)]);
        }
        black_box(last);
    }));
    pairs.cache.push(time(count, || {
        let mut last = 0;
        for step in 0..count {
            let key = keys.at(step + (last & nothing) as usize);
            assert!(cache.get_into(key, &mut buffer).expect("a value"));
            last = consume(&buffer);
        }
        black_box(last);
    }));
}

fn measure_hits(keys: &Keys, map: &Map, cache: &MmapCache, pairs: &mut Pairs) {
    let (count, mut buffer) = (keys.iter().count(), Vec::new());
    pairs.map.push(time(count, || {
        black_box(keys.iter().fold(0, |sum, key| sum ^ consume(&map[key])));
    }));
    pairs.cache.push(time(count, || {
        let mut sum = 0;
        for key in keys.iter() {
            assert!(cache.get_into(key, &mut buffer).expect("a value"));
            sum ^= consume(&buffer);
        }
        black_box(sum);
    }));
}

fn measure_batches(keys: &Keys, count: usize, cache: &MmapCache) -> f64 {
    time(count, || {
        let mut sum = 0;
        for first in (0..count).step_by(BATCH) {
            let keys: [&[u8]; BATCH] = std::array::from_fn(|at| keys.at(first + at));
            let consume_hit = |_, value: Option<&[u8]>| sum ^= consume(value.expect("a hit"));
            cache.get_many(keys, consume_hit).expect("values");
        }
        black_box(sum);
    })
}

fn measure_made(
    numbers: impl Iterator<Item = u64> + Clone,
    count: usize,
    map: &Map,
    cache: &MmapCache,
    pairs: &mut Pairs,
) {
    let mut buffer = Vec::new();
    pairs.map.push(time(count, || {
        let numbers = numbers.clone();
        black_box(numbers.fold(0, |sum, number| {
            sum ^ consume(&map[Key::new(number).bytes()])
        }));
    }));
    pairs.cache.push(time(count, || {
        let mut sum = 0;
        for number in numbers {
            let key = Key::new(number);
            assert!(cache.get_into(key.bytes(), &mut buffer).expect("a value"));
            sum ^= consume(&buffer);
        }
        black_box(sum);
    }));
}

fn measure_misses(keys: &Keys, map: &Map, cache: &MmapCache, pairs: &mut Pairs) {
    let (count, mut buffer) = (keys.iter().count(), Vec::new());
    pairs.map.push(time(count, || {
        assert!(keys.iter().all(|key| !map.contains_key(key)));
    }));
    pairs.cache.push(time(count, || {
        let mut absent = |key| !cache.get_into(key, &mut buffer).expect("a miss");
        assert!(keys.iter().all(&mut absent));
    }));
}

fn measure_contains(keys: &Keys, map: &Map, cache: &MmapCache, pairs: &mut Pairs) {
    let count = keys.iter().count();
    pairs.map.push(time(count, || {
        assert!(keys.iter().all(|key| map.contains_key(key)));
    }));
    pairs.cache.push(time(count, || {
        assert!(
            keys.iter()
                .all(|key| cache.contains(key).expect("an answer"))
        );
    }));
}

fn measure_listing(entries: u64, map: &Map, cache: &MmapCache, pairs: &mut Pairs) {
    pairs.map.push(time(entries as usize, || {
        black_box(
            map.iter()
                .fold(0, |sum, (key, value)| sum ^ consume(key) ^ consume(value)),
        );
    }));
    pairs.cache.push(time(entries as usize, || {
        let (mut items, mut sum) = (cache.iter().expect("a listing"), 0);
        while let Some(item) = items.next_borrowed() {
            let (key, value) = item.expect("an item");
            sum ^= consume(key) ^ consume(value);
        }
        black_box(sum);
    }));
}

fn change(entries: u64, map: &mut Map, cache: &MmapCache) {
    let count = entries / 2;
    let (mut overwrite, mut single, mut delete) = <(Pairs, Pairs, Pairs)>::default();
    for round in 0..ROUNDS as u64 {
        let pick = |i: u64| mix(mix(round) ^ i) % entries;
        overwrite.map.push(time(count as usize, || {
            for i in 0..count {
                let number = pick(i);
                map.insert(
                    Key::new(number).bytes().into(),
                    value(number).as_slice().into(),
                );
            }
        }));
        let mut writer = cache.writer().expect("the lock");
        overwrite.cache.push(time(count as usize, || {
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
        single.cache.push(time(few as usize, || {
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
        delete.map.push(time(entries as usize / 4, || {
            for number in part.clone() {
                assert!(map.remove(Key::new(number).bytes()).is_some());
            }
        }));
        let mut writer = cache.writer().expect("the lock");
        delete.cache.push(time(entries as usize / 4, || {
            for number in part {
                assert!(writer.delete(Key::new(number).bytes()).expect("room"));
            }
        }));
    }
    overwrite.print("overwrite, in a `Writer`");
    single.print("overwrite, one lock each");
    delete.print("delete, in a `Writer`");
}
