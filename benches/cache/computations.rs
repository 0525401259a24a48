//! Computations through the cache: a hit beside one of `get`, and processes that all want the same
//! keys.

use std::hint::black_box;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mmapcache::{Cache, ComputeOptions, InsertOptions};

use crate::cache::keys::{Random, key, keys, median};

const ENTRIES: u64 = 100_000;
const LOOKUPS: usize = 1_000_000;
const ROUNDS: usize = 9;

const PROCESSES: u64 = 8;
const THREADS: u64 = 4;
const KEYS: u64 = 300;
/// How long each computation takes.
const WORK: Duration = Duration::from_millis(5);

pub(crate) fn measure() {
    hits();
    for order in ["same", "random"] {
        processes(order);
    }
}

fn hits() {
    let dir = tempfile::tempdir().expect("a directory");
    let cache = Cache::open(dir.path().join("cache")).expect("a cache");
    for number in 0..ENTRIES {
        cache.insert(key(number), [7; 100]).expect("an insertion");
    }
    let keys = keys(LOOKUPS, ENTRIES);
    let options = ComputeOptions::new();
    let time = |look_up: &dyn Fn(&[u8])| {
        let begin = Instant::now();
        keys.iter().for_each(|key| look_up(key));
        begin.elapsed().as_nanos() as f64 / LOOKUPS as f64
    };
    let compute = || -> Vec<u8> { panic!("every key has a value") };
    let (mut gets, mut obtained) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        gets.push(time(&|key| {
            black_box(cache.get(key).expect("a lookup")).expect("an entry");
        }));
        obtained.push(time(&|key| {
            let value = cache.get_or_insert_with(key, options, compute);
            black_box(value.expect("an entry"));
        }));
    }
    let ratios = obtained.iter().zip(&gets).map(|(other, get)| other / get);
    let ratio = median(ratios.collect());
    println!(
        "get {:.0} ns, a hit of get_or_insert_with {:.0} ns, ratio {ratio:.3}",
        median(gets),
        median(obtained)
    );
}

/// All threads of all processes ask for each key once, in one order or each in its own.
fn processes(order: &str) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("cache");
    let cache = Cache::open(&path).expect("a cache");
    let start = |number: u64| {
        let program = std::env::current_exe().expect("this program");
        Command::new(program)
            .args(["computations-of", order, &number.to_string()])
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a process")
    };
    let mut callers: Vec<Child> = (1..=PROCESSES).map(start).collect();
    for caller in &mut callers {
        // A byte: its threads are about to begin.
        let ready = caller.stdout.as_mut().expect("a pipe");
        ready.read_exact(&mut [0]).expect("a process that started");
    }
    let begin = Instant::now();
    for caller in &mut callers {
        drop(caller.stdin.take());
    }
    let (mut computed, mut longest) = (0, 0);
    for caller in callers {
        let output = caller.wait_with_output().expect("an end");
        assert!(output.status.success(), "{}", output.status);
        let text = String::from_utf8(output.stdout).expect("numbers");
        let numbers: Vec<u64> = text
            .split_whitespace()
            .map(|word| word.parse().expect("a number"))
            .collect();
        computed += numbers[0];
        longest = longest.max(numbers[1]);
    }
    let elapsed = begin.elapsed().as_secs_f64();
    println!(
        "{PROCESSES} processes x {THREADS} threads, {KEYS} keys, computations of {} ms, {order} order: \
         {computed} computations, {:.2} ms a key, longest call {:.1} ms",
        WORK.as_millis(),
        elapsed * 1e3 / KEYS as f64,
        longest as f64 / 1e3
    );
    assert_eq!(cache.len_with_expired(), KEYS, "every key was computed");
    assert_eq!(computed, KEYS, "each key was computed once");
}

/// Asks for all keys in some threads, when its input ends. Prints the number of its computations,
/// and the microseconds of its longest call.
pub(crate) fn call(order: &str, number: u64, path: &str) {
    let cache = Cache::open(Path::new(path)).expect("a cache");
    print!(" ");
    std::io::Write::flush(&mut std::io::stdout()).expect("a pipe");
    std::io::stdin()
        .read_to_end(&mut Vec::new())
        .expect("a pipe");
    let results: Vec<(u64, u64)> = std::thread::scope(|scope| {
        let run = |thread| {
            let cache = &cache;
            scope.spawn(move || ask(cache, order, number * THREADS + thread))
        };
        let threads: Vec<_> = (0..THREADS).map(run).collect();
        let results = threads.into_iter().map(|thread| thread.join());
        results.map(|one| one.expect("a thread")).collect()
    });
    let computed: u64 = results.iter().map(|one| one.0).sum();
    let longest = results.iter().map(|one| one.1).max().unwrap_or(0);
    println!("{computed} {longest}");
}

fn ask(cache: &Cache, order: &str, seed: u64) -> (u64, u64) {
    let mut numbers: Vec<u64> = (0..KEYS).collect();
    if order == "random" {
        let mut random = Random(seed << 20 | 1);
        for at in (1..numbers.len()).rev() {
            numbers.swap(at, random.below(at as u64 + 1) as usize);
        }
    }
    let options = ComputeOptions::from(InsertOptions::new()).patience(Duration::MAX);
    let (mut computed, mut longest) = (0, 0);
    for number in numbers {
        let begin = Instant::now();
        let compute = || {
            computed += 1;
            std::thread::sleep(WORK);
            [7; 100]
        };
        let value = cache.get_or_insert_with(key(number), options, compute);
        value.expect("a value");
        longest = longest.max(begin.elapsed().as_micros() as u64);
    }
    (computed, longest)
}
