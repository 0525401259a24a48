//! Measures the engine's operations under Criterion, each beside the in-memory map at 100,000 and
//! 1,000,000 entries.
//!
//! `cargo bench --bench engine -- hit` runs what has "hit" in its name. `ratio.rs` measures both
//! stores in turn and prints the table of docs/benchmarks.md; this file keeps histories and finds
//! regressions.

mod workload;

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BatchSize, BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group};
use workload::{Key, Map, Scratch, consume, fill_cache, fill_map, mix, value};

const SIZES: [u64; 2] = [100_000, 1_000_000];

fn reads(criterion: &mut Criterion) {
    for entries in SIZES {
        let scratch = Scratch::new();
        let cache = scratch.open();
        let mut map = Map::default();
        fill_map(&mut map, 0..entries);
        fill_cache(&mut cache.writer().expect("the lock"), 0..entries);
        let mut buffer = Vec::new();
        let mut turn = 0_u64;

        let mut group = criterion.benchmark_group("get hit, dependent");
        let mut last = 0;
        group.bench_function(BenchmarkId::new("hashbrown", entries), |bencher| {
            bencher.iter(|| {
                turn += 1;
                last = consume(&map[Key::new(mix(last ^ turn) % entries).bytes()]);
            });
        });
        group.bench_function(BenchmarkId::new("mmapcache", entries), |bencher| {
            bencher.iter(|| {
                turn += 1;
                let key = Key::new(mix(last ^ turn) % entries);
                assert!(cache.get_into(key.bytes(), &mut buffer).expect("a value"));
                last = consume(&buffer);
            });
        });
        group.finish();

        let mut group = criterion.benchmark_group("get hit, independent");
        group.bench_function(BenchmarkId::new("hashbrown", entries), |bencher| {
            bencher.iter(|| {
                turn += 1;
                black_box(consume(&map[Key::new(mix(turn) % entries).bytes()]))
            });
        });
        group.bench_function(BenchmarkId::new("mmapcache", entries), |bencher| {
            bencher.iter(|| {
                turn += 1;
                let key = Key::new(mix(turn) % entries);
                assert!(cache.get_into(key.bytes(), &mut buffer).expect("a value"));
                black_box(consume(&buffer))
            });
        });
        group.finish();

        let absent = |turn: u64| Key::new((mix(turn) % entries) + (1 << 40));
        let mut group = criterion.benchmark_group("get miss");
        group.bench_function(BenchmarkId::new("hashbrown", entries), |bencher| {
            bencher.iter(|| {
                turn += 1;
                assert!(!map.contains_key(absent(turn).bytes()));
            });
        });
        group.bench_function(BenchmarkId::new("mmapcache", entries), |bencher| {
            bencher.iter(|| {
                turn += 1;
                assert!(
                    !cache
                        .get_into(absent(turn).bytes(), &mut buffer)
                        .expect("a miss")
                );
            });
        });
        group.finish();

        let mut group = criterion.benchmark_group("list all");
        group
            .sampling_mode(SamplingMode::Flat)
            .sample_size(10)
            .throughput(Throughput::Elements(entries));
        group.bench_function(BenchmarkId::new("hashbrown", entries), |bencher| {
            bencher.iter(|| {
                map.iter()
                    .fold(0, |sum, (key, value)| sum ^ consume(key) ^ consume(value))
            });
        });
        group.bench_function(BenchmarkId::new("mmapcache", entries), |bencher| {
            bencher.iter(|| {
                let (mut items, mut sum) = (cache.iter().expect("a listing"), 0);
                while let Some(item) = items.next_borrowed() {
                    let (key, value) = item.expect("an item");
                    sum ^= consume(key) ^ consume(value);
                }
                sum
            });
        });
        group.finish();
    }
}

fn loads(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("put new");
    group.sampling_mode(SamplingMode::Flat).sample_size(10);
    for entries in SIZES {
        group.throughput(Throughput::Elements(entries));
        group.bench_function(BenchmarkId::new("hashbrown", entries), |bencher| {
            bencher.iter_batched_ref(
                Map::default,
                |map| fill_map(map, 0..entries),
                BatchSize::PerIteration,
            );
        });
        group.bench_function(BenchmarkId::new("mmapcache", entries), |bencher| {
            bencher.iter_custom(|rounds| (0..rounds).map(|_| load(entries)).sum());
        });
    }
    group.finish();
}

/// Returns the time to fill a new cache in one batch.
fn load(entries: u64) -> Duration {
    let scratch = Scratch::new();
    let cache = scratch.open();
    let mut writer = cache.writer().expect("the lock");
    let start = Instant::now();
    fill_cache(&mut writer, 0..entries);
    start.elapsed()
}

fn changes(criterion: &mut Criterion) {
    for entries in SIZES {
        let scratch = Scratch::new();
        let cache = scratch.open();
        let mut map = Map::default();
        fill_map(&mut map, 0..entries);
        fill_cache(&mut cache.writer().expect("the lock"), 0..entries);
        let mut turn = 0_u64;

        let mut group = criterion.benchmark_group("overwrite");
        group.bench_function(BenchmarkId::new("hashbrown", entries), |bencher| {
            bencher.iter(|| {
                turn += 1;
                let number = mix(turn) % entries;
                map.insert(
                    Key::new(number).bytes().into(),
                    value(number).as_slice().into(),
                )
            });
        });
        group.bench_function(
            BenchmarkId::new("mmapcache, in a writer", entries),
            |bencher| {
                let mut writer = cache.writer().expect("the lock");
                bencher.iter(|| {
                    turn += 1;
                    let number = mix(turn) % entries;
                    writer
                        .put(Key::new(number).bytes(), &value(number))
                        .expect("room")
                });
            },
        );
        group.bench_function(
            BenchmarkId::new("mmapcache, one lock each", entries),
            |bencher| {
                bencher.iter(|| {
                    turn += 1;
                    let number = mix(turn) % entries;
                    cache
                        .put(Key::new(number).bytes(), &value(number))
                        .expect("room")
                });
            },
        );
        group.finish();

        // Deletes and puts back, because a deleted entry must exist again in the next turn.
        let mut group = criterion.benchmark_group("delete and put back");
        group.bench_function(BenchmarkId::new("hashbrown", entries), |bencher| {
            bencher.iter(|| {
                turn += 1;
                let number = mix(turn) % entries;
                let key = Key::new(number);
                assert!(map.remove(key.bytes()).is_some());
                map.insert(key.bytes().into(), value(number).as_slice().into())
            });
        });
        group.bench_function(
            BenchmarkId::new("mmapcache, in a writer", entries),
            |bencher| {
                let mut writer = cache.writer().expect("the lock");
                bencher.iter(|| {
                    turn += 1;
                    let number = mix(turn) % entries;
                    let key = Key::new(number);
                    assert!(writer.delete(key.bytes()).expect("room"));
                    writer.put(key.bytes(), &value(number)).expect("room")
                });
            },
        );
        group.finish();
    }
}

criterion_group!(benches, loads, reads, changes);

fn main() {
    benches();
    Criterion::default().configure_from_args().final_summary();
}
