//! Processes and threads increment the same counters, and others read them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use mmapcache::Update;
use mmapcache::dict::{
    CachedDict, Condition, Dict, DictError, ETag, LocalDict, MmapDict, Outcome, Result, Retrieve,
    Store,
};

use crate::child::ack_log::AckLog;
use crate::child::scratch::Scratch;
use crate::child::{Child, Part, dismissal, hear, say};

const PROCESSES: u64 = 4;
const THREADS: u64 = 2;
const UPDATED: [&str; 2] = ["counters", "updated"];
const SWAPPED: [&str; 2] = ["counters", "swapped"];

/// Increments each counter `times` times, and returns how often a swap failed because another write was first.
fn increment(dict: &Dict<u64, impl Store>, times: u64) -> Result<u64> {
    let (mut newest, mut late) = (None, 0);
    let mut is_new = |etag: ETag| {
        assert!(newest < Some(etag), "{newest:?}, and then {etag}");
        newest = Some(etag);
    };
    let (mut seen, mut count) = (None, 0);
    for _ in 0..times {
        let grow = |count: Option<u64>| Ok::<_, DictError>(Update::Put(count.unwrap_or(0) + 1));
        let grown = dict.try_update(UPDATED, None, grow)?;
        is_new(grown.expect("it was put").1);
        loop {
            let write = Update::Put(count + 1);
            let swapped = dict.set_if(SWAPPED, write, Condition::Same, seen, Retrieve::Always)?;
            assert_eq!(swapped.is_satisfied(), swapped.is_changed());
            seen = swapped.etag_after();
            match swapped {
                Outcome::Written { etag, value, .. } => {
                    is_new(etag);
                    count = value;
                    break;
                }
                Outcome::Unchanged { value, .. } => count = value.expect("it was asked for"),
                other => panic!("{other:?}"),
            }
            late += 1;
        }
    }
    Ok(late)
}

/// The last state of a counter that was read. Counter and ETag only grow, and grow together.
#[derive(Debug, Default)]
struct Watch {
    last: Option<(ETag, u64)>,
    /// The number of different states that were read.
    states: u64,
}

impl Watch {
    fn look(&mut self, dict: &Dict<u64, impl Store>, key: [&str; 2]) -> Result<()> {
        let now = dict.get_with_etag(key)?.map(|(value, etag)| (etag, value));
        let (before, after) = (self.last, now);
        let grown = match (before, after) {
            (Some((old, less)), Some((new, more))) if old != new => old < new && less < more,
            (None, Some(_)) => true,
            _ => {
                assert_eq!(before, after, "{key:?}: the same tag, another value");
                return Ok(());
            }
        };
        assert!(grown, "{key:?}: {before:?}, and then {after:?}");
        self.last = now;
        self.states += 1;
        Ok(())
    }
}

/// Reads both counters until `ended` is set, and returns the number of different states.
fn watch(dict: &Dict<u64, impl Store>, ended: &AtomicBool) -> Result<u64> {
    let mut watches = BTreeMap::from([(UPDATED, Watch::default()), (SWAPPED, Watch::default())]);
    loop {
        let last = ended.load(Ordering::Relaxed);
        for (key, watch) in &mut watches {
            watch.look(dict, *key)?;
        }
        if last {
            return Ok(watches.values().map(|watch| watch.states).sum());
        }
    }
}

/// A process with two threads that increment.
pub(crate) fn counts(part: &Part) {
    let dict = MmapDict::open(&part.path).expect("the dictionary");
    say("ready");
    hear();
    let late: u64 = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|_| scope.spawn(|| increment(&dict, part.numbers[0]).expect("increments")))
            .collect();
        threads
            .into_iter()
            .map(|one| one.join().expect("a thread"))
            .sum()
    });
    say(late);
}

/// A process that reads the counters, with values in memory.
pub(crate) fn watches(part: &Part) {
    let dict = CachedDict::new(MmapDict::open(&part.path).expect("the dictionary"));
    let dismissed = dismissal();
    say("ready");
    say(watch(&dict, &dismissed).expect("looks"));
}

/// Lets four processes increment while others read; checks that every increment counted.
fn race(times: u64) {
    let scratch = Scratch::new();
    let dict = MmapDict::<u64>::open(&scratch.path).expect("a dictionary");
    let start = |role| {
        let mut child = Child::start(role, &scratch.path, &[times]);
        child.expect("ready");
        child
    };
    let watcher = start("watches counters");
    let mut counters: Vec<_> = (0..PROCESSES).map(|_| start("counts")).collect();
    let ended = AtomicBool::new(false);
    let began = Instant::now();
    let seen = thread::scope(|scope| {
        let pair = CachedDict::new(dict.clone());
        let of_pair = scope.spawn({
            let ended = &ended;
            move || watch(&pair, ended)
        });
        let of_files = scope.spawn(|| watch(&dict, &ended));
        counters.iter_mut().for_each(|child| child.tell("go"));
        let late: Vec<_> = counters.drain(..).map(Child::finish).collect();
        println!("{:?}; swaps that failed: {late:?}", began.elapsed());
        ended.store(true, Ordering::Relaxed);
        [of_pair, of_files].map(|one| one.join().expect("a thread").expect("looks"))
    });
    let elsewhere: u64 = watcher.finish().parse().expect("a number");
    println!("states seen: {seen:?} and {elsewhere}");
    let all = PROCESSES * THREADS * times;
    assert_eq!(dict.get(UPDATED).expect("a look"), Some(all));
    assert_eq!(dict.get(SWAPPED).expect("a look"), Some(all));
    assert!(seen.into_iter().chain([elsewhere]).all(|states| states > 2));
}

// Point 32. No increment of four processes with two threads each is lost.
#[test]
fn processes_lose_no_increment() {
    race(10_000);
}

// Point 32.
#[test]
fn memory_threads_lose_no_increment() {
    let dict = LocalDict::<u64>::new();
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        let watcher = scope.spawn(|| watch(&dict, &ended));
        let threads: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| increment(&dict, 10_000)))
            .collect();
        for one in threads {
            one.join().expect("a thread").expect("increments");
        }
        ended.store(true, Ordering::Relaxed);
        assert!(watcher.join().expect("a thread").expect("looks") > 2);
    });
    assert_eq!(dict.get(UPDATED).expect("a look"), Some(80_000));
    assert_eq!(dict.get(SWAPPED).expect("a look"), Some(80_000));
}

/// A process that increments until it is killed, and logs each increment that returned.
pub(crate) fn counts_until_killed(part: &Part) {
    let dict = MmapDict::<u64>::open(&part.path).expect("the dictionary");
    let log = AckLog::open(&part.path.with_extension("log"));
    let acknowledged = log.read(0);
    say("ready");
    for done in acknowledged + 1.. {
        increment(&dict, 1).expect("an increment");
        log.write(0, done);
    }
}

// Point 32. A kill loses no increment that returned, and adds none.
#[test]
fn kills_lose_no_increment() {
    let scratch = Scratch::new();
    let dict = MmapDict::<u64>::open(&scratch.path).expect("a dictionary");
    let kills = 20;
    for round in 0..kills {
        let mut child = Child::start("counts until killed", &scratch.path, &[]);
        child.expect("ready");
        child.kill_after(Duration::from_micros(10_000 + 1_700 * round));
    }
    let acknowledged = AckLog::open(&scratch.path.with_extension("log")).read(0);
    assert!(acknowledged > kills, "{acknowledged}");
    for key in [UPDATED, SWAPPED] {
        let counted = dict.get(key).expect("a look").expect("it is there");
        let possible = acknowledged..=acknowledged + kills;
        assert!(possible.contains(&counted), "{counted} of {possible:?}");
    }
    dict.update(UPDATED, |_| Update::Delete)
        .expect("no process holds the lock");
}

/// A process that takes items, one after the other, until there are none. Prints what it took.
pub(crate) fn takes(part: &Part) {
    let dict = CachedDict::<u64>::new(MmapDict::open(&part.path).expect("the dictionary"));
    say("ready");
    hear();
    let take = || dict.take_any().expect("an answer");
    let taken: Vec<_> = std::iter::from_fn(take)
        .map(|(_, n)| n.to_string())
        .collect();
    assert_eq!(dict.held(), 0);
    say(taken.join(" "));
}

// Point 16.
#[test]
fn processes_take_each_item_once() {
    let scratch = Scratch::new();
    let dict = MmapDict::<u64>::open(&scratch.path).expect("a dictionary");
    let items = (0..4_000).map(|n| (["queue".to_owned(), n.to_string()], n));
    dict.extend(items).expect("items");
    let mut takers: Vec<_> = (0..PROCESSES)
        .map(|_| Child::start("takes items", &scratch.path, &[]))
        .collect();
    takers.iter_mut().for_each(|child| child.expect("ready"));
    takers.iter_mut().for_each(|child| child.tell("go"));
    let said: Vec<_> = takers.into_iter().map(Child::finish).collect();
    let numbers = said.iter().flat_map(|said| said.split_whitespace());
    let mut taken: Vec<u64> = numbers.map(|n| n.parse().expect("a number")).collect();
    taken.sort_unstable();
    assert!(taken.into_iter().eq(0..4_000), "each once");
    assert!(dict.is_empty().expect("a look"));
}
