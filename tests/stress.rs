//! Writer and reader processes on one cache, some of which are stopped or killed.

mod child;

use std::time::{Duration, Instant};

use child::contents::Random;
use child::process_group::{Done, Moment, ProcessGroup};
use child::{checking_reader, worker};
use mmapcache::{LockKind, Options};

/// Seconds of CPU time that the processes of the long run use.
const SECONDS: &str = "MMAPCACHE_STRESS_SECONDS";

/// Not a test: the entry point of the child processes.
#[test]
fn child() {
    child::play(&[
        ("writes", worker::write_until_closed),
        ("reads", checking_reader::read_until_closed),
    ]);
}

/// Writers and readers, and what is done to them.
#[derive(Clone, Copy)]
struct Plan {
    /// Writers, and readers.
    roles: [u64; 2],
    between: Duration,
}

/// Lets all processes work until `is_over`, which is asked how long they have worked and how many
/// seconds of CPU time they have used. After each pause one of them is stopped for some milliseconds; every tenth time one is killed instead, or
/// several at once.
fn run(options: &Options, plan: Plan, is_over: impl Fn(Duration, f64) -> bool) -> Done {
    let root = tempfile::tempdir().expect("a directory");
    let ended = cpu_seconds_of_ended();
    let mut group = ProcessGroup::start(root.path(), options, plan.roles);
    let mut random = Random::new(plan.roles[0]);
    let began = Instant::now();
    for turn in 1_u64.. {
        std::thread::sleep(plan.between);
        let used = cpu_seconds_of_ended() - ended + group.cpu_seconds();
        if is_over(began.elapsed(), used) {
            break;
        }
        match turn % 40 {
            10 | 30 => group.kill_one(&mut random),
            20 => group.kill_several(&mut random, Moment::Reserved),
            0 => group.kill_several(&mut random, Moment::Handed),
            _ => {
                let pause = Duration::from_micros(random.below(30_000));
                group.stop_one(&mut random, pause);
            }
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
        let plan = Plan {
            roles: [4, 4],
            between: Duration::from_millis(60),
        };
        let done = run(&options, plan, |worked, _| worked.as_secs() >= 3);
        println!("{done:?}");
        assert!(done.operations > 100 && done.rebuilds > 0, "{done:?}");
        assert!(done.values > 1_000 && done.listings > 0, "{done:?}");
        assert!(done.kills > 0 && done.stops > 0, "{done:?}");
    }
}

// Eight writers and two readers work on one cache until they have used an hour of CPU time, half of it
// with each geometry.
#[test]
#[ignore = "a soak: an hour of CPU time; see docs/testing.md"]
fn soak_writers_and_readers_agree() {
    let seconds = std::env::var(SECONDS).map_or(3_600_u64, |seconds| {
        seconds.parse().expect("a number of seconds")
    });
    let began = Instant::now();
    let plan = Plan {
        roles: [8, 2],
        between: Duration::from_millis(250),
    };
    for options in [Options::new(), child::tight()] {
        let done = run(&options, plan, |_, used| used > seconds as f64 / 2.0);
        println!("{done:#?}");
        assert!(done.operations > 25 * seconds && 8 * done.rebuilds > seconds);
        assert!(done.values > 1_000 * seconds && done.kills * 40 > seconds);
    }
    let hours = cpu_seconds_of_ended() / 3_600.0;
    println!("{hours:.2} hours of CPU time in {:?}", began.elapsed());
}

/// The CPU time of all child processes that have ended, in seconds.
#[expect(unsafe_code, reason = "getrusage is a call of the C library")]
fn cpu_seconds_of_ended() -> f64 {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the pointer is to room for one `rusage`.
    let failed = unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, usage.as_mut_ptr()) };
    assert_eq!(failed, 0, "the usage of the children");
    // SAFETY: it consists of integers, for which zeros are valid too.
    let usage = unsafe { usage.assume_init() };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}
