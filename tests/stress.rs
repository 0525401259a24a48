//! Four writer and four reader processes on one cache, some of which are stopped or killed.

mod child;

use std::time::{Duration, Instant};

use child::contents::Random;
use child::process_group::{Done, ProcessGroup};
use child::{checking_reader, worker};
use mmapcache::{LockKind, Options};

const READERS: u64 = 4;
const PROCESSES: f64 = 8.0;
/// Seconds of the long run; by default eight processes together take one hour.
const SECONDS: &str = "MMAPCACHE_STRESS_SECONDS";

/// Not a test: the entry point of the child processes.
#[test]
fn child() {
    child::play(&[
        ("writes", worker::write_until_closed),
        ("reads", checking_reader::read_until_closed),
    ]);
}

/// Lets all processes work for `length`. After each pause one of them is stopped for some
/// milliseconds; every tenth time one is killed instead.
fn run(options: &Options, length: Duration, between: Duration) -> Done {
    let root = tempfile::tempdir().expect("a directory");
    let mut group = ProcessGroup::start(root.path(), options, READERS);
    let mut random = Random::new(length.as_secs());
    let began = Instant::now();
    for turn in 1_u64.. {
        let left = length.saturating_sub(began.elapsed());
        std::thread::sleep(between.min(left));
        if left <= between {
            break;
        }
        if turn.is_multiple_of(10) {
            group.kill_one(&mut random);
        } else {
            let pause = Duration::from_micros(random.below(30_000));
            group.stop_one(&mut random, pause);
        }
    }
    group.finish()
}

// Four writers and four readers, each a process of its own, agree on everything.
#[test]
fn writers_and_readers_agree() {
    for lock in [LockKind::Word, LockKind::Flock] {
        let mut options = child::tight();
        options.lock_kind(lock);
        let (length, between) = (Duration::from_secs(3), Duration::from_millis(60));
        let done = run(&options, length, between);
        println!("{done:?}");
        assert!(done.operations > 100 && done.rebuilds > 0, "{done:?}");
        assert!(done.values > 1_000 && done.listings > 0, "{done:?}");
        assert!(done.kills > 0 && done.stops > 0, "{done:?}");
    }
}

// All processes together work on one cache for one process-hour.
#[test]
#[ignore = "a soak: an hour of processes; see docs/testing.md"]
fn soak_writers_and_readers_agree() {
    let seconds = std::env::var(SECONDS).map_or(450_u64, |seconds| {
        seconds.parse().expect("a number of seconds")
    });
    let began = Instant::now();
    for options in [Options::new(), child::tight()] {
        let half = Duration::from_secs(seconds.div_ceil(2));
        let done = run(&options, half, Duration::from_millis(500));
        println!("{done:#?}");
        assert!(done.operations > 25 * seconds && 8 * done.rebuilds > seconds);
    }
    let took = began.elapsed();
    let hours = PROCESSES * took.as_secs_f64() / 3_600.0;
    println!("{hours:.2} process-hours in {took:?}");
    println!("{:.2} hours of CPU time", cpu_hours());
}

/// The CPU time of all child processes that have ended.
#[expect(unsafe_code, reason = "getrusage is a call of the C library")]
fn cpu_hours() -> f64 {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the pointer is to room for one `rusage`.
    let failed = unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, usage.as_mut_ptr()) };
    assert_eq!(failed, 0, "the usage of the children");
    // SAFETY: it consists of integers, for which zeros are valid too.
    let usage = unsafe { usage.assume_init() };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    (seconds(usage.ru_utime) + seconds(usage.ru_stime)) / 3_600.0
}
