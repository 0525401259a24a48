//! Kills or stops processes that write and read one cache.
//!
//! `tests/processes.rs` kills single writers.

mod child;

use std::path::Path;
use std::time::{Duration, Instant};

use child::contents::Random;
use child::process_group::{Done, Moment, ProcessGroup};
use child::scratch::{Scratch, in_memory};
use child::{Child, Part, checking_reader, hear, say, worker};
use mmapcache::{ErrorKind, LockKind, MmapCache, Options};

/// Not a test: the entry point of the child processes.
#[test]
fn child() {
    child::play(&[
        ("writes", worker::write_until_closed),
        ("reads", checking_reader::read_until_closed),
        ("holds the writer", holds_the_writer),
        ("holds the cache", holds_the_cache),
        ("waits for the writer", waits_for_the_writer),
        ("creates", creates),
    ]);
}

const SOON: Duration = Duration::from_millis(150);

/// Opens a handle with a short lock timeout.
fn open(path: &Path) -> MmapCache {
    let mut options = Options::new();
    options.lock_timeout(Some(SOON));
    options.open(path).expect("the cache")
}

/// Asserts that a write fails after the timeout, and that the error names the holder.
#[track_caller]
fn assert_locked_by(cache: &MmapCache, id: u32) {
    let refused = cache.put(b"mine", b"1").expect_err("the lock is held");
    let &ErrorKind::Locked { waited, holder } = refused.kind() else {
        panic!("{refused}");
    };
    assert!((SOON..20 * SOON).contains(&waited), "{waited:?}");
    assert_eq!(holder, Some(id));
    let named = format!("(process {id})");
    assert!(refused.to_string().contains(&named), "{refused}");
}

fn holds_the_writer(part: &Part) {
    let cache = MmapCache::open(&part.path).expect("the cache");
    let mut writer = cache.writer().expect("the writer");
    writer.put(b"theirs", b"1").expect("a put");
    say("held");
    hear();
    writer.put(b"theirs", b"2").expect("a put");
    writer.commit().expect("the end of a batch");
    say("done");
    hear();
}

// The error names a stopped writer to writers that time out; it continues when it is woken.
#[test]
fn stopped_writer_is_named_to_waiters() {
    let scratch = Scratch::new();
    let cache = open(&scratch.path);
    let mut other = Child::start("holds the writer", &scratch.path, &[]);
    other.expect("held");
    other.stop();
    for _ in 0..2 {
        assert_locked_by(&cache, other.id());
        assert_locked_by(&open(&scratch.path), other.id());
    }
    assert_eq!(
        cache.get(b"theirs").expect("a lookup").as_deref(),
        Some(&b"1"[..])
    );
    other.wake();
    assert_eq!(other.ask("go on"), "done");
    cache.put(b"mine", b"2").expect("a put");
    assert_eq!(
        cache.get(b"theirs").expect("a lookup").as_deref(),
        Some(&b"2"[..])
    );
    assert!(cache.verify().run().expect("a check").is_clean());
    other.finish();
}

fn holds_the_cache(part: &Part) {
    let mut options = Options::new();
    let cache = options.exclusive(true).open(&part.path);
    let cache = cache.expect("the cache");
    cache.put(b"theirs", b"1").expect("a put");
    say("held");
    hear();
    drop(cache);
    say("done");
    hear();
}

// The error names an exclusive holder between its writes too, until the handle is closed.
#[test]
fn exclusive_holder_is_named_until_gone() {
    let scratch = Scratch::new();
    let cache = open(&scratch.path);
    let mut other = Child::start("holds the cache", &scratch.path, &[]);
    other.expect("held");
    assert_locked_by(&cache, other.id());
    assert_eq!(
        cache.stats().expect("the counters").writer,
        Some(other.id())
    );
    assert_eq!(other.ask("let go"), "done");
    assert_eq!(cache.stats().expect("the counters").writer, None);
    cache.put(b"mine", b"2").expect("a put");
    other.finish();
}

fn waits_for_the_writer(part: &Part) {
    let cache = MmapCache::open(&part.path).expect("the cache");
    say("waits");
    cache.put(b"theirs", b"1").expect("a put");
    say("done");
    hear();
}

// A writer killed while it waits for the lock blocks no other writer, and has written nothing.
#[test]
fn killed_waiter_blocks_no_writer() {
    let scratch = Scratch::new();
    let cache = open(&scratch.path);
    let mut writer = cache.writer().expect("the writer");
    let start = || Child::start("waits for the writer", &scratch.path, &[]);
    let mut others = [start(), start(), start()];
    others.iter_mut().for_each(|other| other.expect("waits"));
    std::thread::sleep(SOON / 3);
    others[0].kill();
    writer.put(b"mine", b"1").expect("a put");
    assert!(!cache.contains(b"theirs").expect("a lookup"));
    others[1].stop();
    drop(writer);
    // One is dead and one is stopped: the third gets the lock, and so does this process.
    others[2].expect("done");
    cache.put(b"mine", b"2").expect("a put");
    assert!(cache.delete(b"theirs").expect("a deletion"));
    others[1].wake();
    others[1].expect("done");
    assert!(cache.contains(b"theirs").expect("a lookup"));
    assert!(cache.verify().run().expect("a check").is_clean());
}

/// Kills a process that holds the lock, and returns how long the next writer took from then on.
/// That writer waits since before the kill, or comes after it.
fn wait_after_a_kill(waits_before: bool) -> Duration {
    let scratch = Scratch::new();
    let cache = MmapCache::open(&scratch.path).expect("the cache");
    cache.put(b"mine", b"0").expect("a put");
    let mut other = Child::start("holds the writer", &scratch.path, &[]);
    other.expect("held");
    if !waits_before {
        other.kill();
        let began = Instant::now();
        cache.put(b"mine", b"1").expect("a put");
        return began.elapsed();
    }
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            cache.put(b"mine", b"1").expect("a put");
            Instant::now()
        });
        // By now the waiter sleeps for as long as it ever does at once.
        std::thread::sleep(Duration::from_millis(50));
        assert!(!waiter.is_finished());
        let began = Instant::now();
        other.kill();
        waiter.join().expect("the waiter") - began
    })
}

/// Returns the waits after `kills` kills, the shortest first.
fn waits_after_kills(waits_before: bool, kills: usize) -> Vec<Duration> {
    let mut waits: Vec<_> = (0..kills)
        .map(|_| wait_after_a_kill(waits_before))
        .collect();
    waits.sort();
    let at = |share: usize| waits[(kills - 1) * share / 100];
    let (median, most) = (at(50), at(100));
    println!(
        "waits before: {waits_before}; median {median:?}, 90 %: {:?}, most {most:?}",
        at(90)
    );
    waits
}

/// A busy machine may delay one wait, not most.
#[test]
fn killed_holder_frees_lock_quickly() {
    let waits = waits_after_kills(true, 9);
    assert!(waits[4] < Duration::from_millis(3), "{waits:?}");
    let waits = waits_after_kills(false, 9);
    assert!(waits[4] < Duration::from_micros(400), "{waits:?}");
}

#[test]
#[ignore = "a measurement; see docs/testing.md"]
fn waits_after_two_hundred_kills() {
    for waits_before in [true, false] {
        assert_eq!(waits_after_kills(waits_before, 200).len(), 200);
    }
}

fn creates(part: &Part) {
    let number = part.numbers[0].to_string();
    say("ready");
    let cache = child::tight().open(&part.path).expect("a cache");
    cache
        .put(number.as_bytes(), number.as_bytes())
        .expect("a put");
    say("done");
    hear();
}

// A process is killed while several create a cache: the others get it complete.
#[test]
fn killed_creator_leaves_creation_complete() {
    let mut random = Random::new(11);
    let mut done = 0;
    for _ in 0..50 {
        let scratch = Scratch::new();
        let start = |number| Child::start("creates", &scratch.path, &[number]);
        let mut others = [start(0), start(1), start(2)];
        others.iter_mut().for_each(|other| other.expect("ready"));
        // A creation takes less than a millisecond, or several on a busy machine.
        let most = [200, 200, 200, 12_000][random.below(4) as usize];
        std::thread::sleep(Duration::from_micros(random.below(most)));
        others[0].kill();
        done += u32::from(others[0].line().is_some());
        others[1].expect("done");
        others[2].expect("done");
        let cache = open(&scratch.path);
        for number in ["1", "2"] {
            let found = cache.get(number.as_bytes()).expect("a lookup");
            assert_eq!(found.as_deref(), Some(number.as_bytes()));
        }
        assert!(cache.verify().run().expect("a check").is_clean());
        cache.clear().expect("an empty cache");
        let directory = scratch.path.parent().expect("a directory");
        assert_eq!(std::fs::read_dir(directory).expect("it").count(), 4);
    }
    println!("{done} of 50 were done when they were killed");
    assert!(done < 50, "no process was killed in the middle");
}

/// Kills one of four writers and two readers at a random moment, `rounds` times.
fn kill(options: &Options, rounds: u64, seed: u64) -> Done {
    let root = tempfile::tempdir().expect("a directory");
    let mut group = ProcessGroup::start(root.path(), options, [4, 2]);
    let mut random = Random::new(seed);
    for _ in 0..rounds {
        std::thread::sleep(Duration::from_micros(random.below(60_000)));
        group.kill_one(&mut random);
    }
    let done = group.finish();
    assert_eq!(done.kills, rounds);
    done
}

// The others continue, and nothing acknowledged is lost.
#[test]
fn kills_lose_no_acknowledged_write() {
    for (options, rounds) in kinds().into_iter().zip([4, 10, 4, 6]) {
        let done = kill(&options, rounds, 5);
        println!("{done:?}");
        assert!(done.operations > 100 && done.rebuilds > 0, "{done:?}");
    }
}

// Four writers and two readers share the cache.
#[test]
#[ignore = "a soak: minutes; see docs/testing.md"]
fn three_hundred_kills_lose_nothing() {
    for options in kinds() {
        let began = Instant::now();
        let done = kill(&options, 300, 77);
        println!("300 kills in {:?}: {done:#?}", began.elapsed());
        assert!(
            done.operations > 10_000 && done.unacknowledged > 0,
            "{done:?}"
        );
    }
}

/// Kills two of eight writers and two readers in one instant, `rounds` times. In memory, so that the
/// kills meet the processes at work rather than in syncs.
fn kill_pairs(options: &Options, rounds: u64, seed: u64) -> Done {
    let root = in_memory();
    let mut group = ProcessGroup::start(root.path(), options, [8, 2]);
    let mut random = Random::new(seed);
    let moments = [
        Moment::Reserved,
        Moment::Any,
        Moment::Reserved,
        Moment::Handed,
    ];
    for round in 0..rounds {
        std::thread::sleep(Duration::from_micros(random.below(30_000)));
        group.kill_several(&mut random, moments[(round % 4) as usize]);
    }
    let done = group.finish();
    assert_eq!(done.kills, 2 * rounds + done.successors);
    done
}

/// By both kinds of lock, each with its own options; and overwriting in place.
fn kinds() -> [Options; 4] {
    let mut by_flock = child::tight();
    by_flock.lock_kind(LockKind::Flock);
    let mut in_place = child::tight();
    in_place.in_place(true);
    [Options::new(), child::tight(), by_flock, in_place]
}

// The lock's holder and the next waiter die together, and sometimes the process that recovers after
// them too. The others continue, and nothing acknowledged is lost.
#[test]
fn writers_killed_together_lose_nothing() {
    for options in kinds() {
        let done = kill_pairs(&options, 8, 9);
        println!("{done:?}");
        assert!(done.operations > 100 && done.successors > 0, "{done:?}");
        assert!(done.reserved + done.handed > 0, "{done:?}");
    }
}

#[test]
#[ignore = "a soak: minutes; see docs/testing.md"]
fn three_hundred_pairs_lose_nothing() {
    for options in kinds() {
        let began = Instant::now();
        let done = kill_pairs(&options, 300, 78);
        println!("300 pairs in {:?}: {done:#?}", began.elapsed());
        assert!(done.operations > 10_000 && done.unacknowledged > 0);
        assert!(done.reserved + done.handed > 30 && done.successors > 75);
    }
}
