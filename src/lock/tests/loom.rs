//! The lock word under loom: contenders that take turns, wait, give up, and die.
//!
//! The system is modelled: a sleep ends by a wake, not by its timeout, so a lost wake is a deadlock,
//! which loom reports. A death wakes all threads, and a later check of liveness sees it. The code of
//! the contenders is the lock's own.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use ::loom::thread;

use crate::sync::load;
use crate::sync::loom_model::{self, OrderingSite, ThreadRole};

use crate::lock::tests::*;

/// The state that the contenders of a model share.
struct LockModel {
    words: [Word; 3],
    /// The data that the lock guards: its owner adds one, in two steps.
    turns: Word,
    file: File,
}

impl LockModel {
    fn new(state: u64, inside: u64) -> Arc<Self> {
        loom_model::begin_without_files();
        loom_model::set_role(ThreadRole::Writer);
        Arc::new(Self {
            words: [state, inside, 0].map(loom_model::shared),
            turns: loom_model::shared(0),
            file: File::open("/dev/null").unwrap(),
        })
    }

    fn futex_lock(&self, number: u32) -> FutexLock<'_> {
        let [state, inside, waiting] = &self.words;
        FutexLock {
            words: LockWords {
                state,
                inside,
                waiting,
            },
            file: &self.file,
            owner_id: number,
        }
    }

    /// Acquires the lock, adds one, and releases the lock.
    fn turn(&self, number: u32) {
        let lock = self.futex_lock(number);
        lock.acquire(&LockDeadline::new(None)).unwrap();
        self.add();
        lock.release();
    }

    fn add(&self) {
        let seen = load(&self.turns);
        store(&self.turns, seen + 1);
    }
}

fn spawn(shared: &Arc<LockModel>, part: fn(&LockModel)) -> thread::JoinHandle<()> {
    let shared = Arc::clone(shared);
    thread::spawn(move || {
        loom_model::set_role(ThreadRole::Writer);
        part(&shared);
    })
}

/// Explores a model. Returns the failure, if there was one, and the number of executions.
fn explore(model: fn()) -> (Option<String>, u64) {
    let executions = Arc::new(std::sync::Mutex::new(0_u64));
    let count = Arc::clone(&executions);
    let mut builder = ::loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.max_branches = 10_000;
    let explored = catch_unwind(AssertUnwindSafe(|| {
        builder.check(move || {
            *count.lock().unwrap() += 1;
            model();
        });
    }));
    loom_model::set_role(ThreadRole::Alone);
    let broken = explored.err().map(|payload| {
        let text = payload.downcast_ref::<String>().cloned();
        text.unwrap_or_else(|| "a panic".to_owned())
    });
    let executions = *executions.lock().unwrap();
    (broken, executions)
}

fn two_take_turns() {
    let shared = LockModel::new(0, 0);
    let other = spawn(&shared, |shared| shared.turn(2));
    shared.turn(1);
    other.join().unwrap();
    assert_eq!(load(&shared.turns), 2);
    assert_eq!(
        load(&shared.words[0]) & 0x7fff_ffff,
        0,
        "the lock is not released"
    );
    assert_eq!(load(&shared.words[1]), 0);
}

fn three_take_turns() {
    let shared = LockModel::new(0, 0);
    let others = [2, 3].map(|number| match number {
        2 => spawn(&shared, |shared| shared.turn(2)),
        _ => spawn(&shared, |shared| shared.turn(3)),
    });
    shared.turn(1);
    for other in others {
        other.join().unwrap();
    }
    // L3, L4: each owner was alone.
    assert_eq!(load(&shared.turns), 3);
}

fn owner_dies_and_another_follows() {
    let shared = LockModel::new(0, 0);
    let dying = spawn(&shared, |shared| {
        let lock = shared.futex_lock(2);
        lock.acquire(&LockDeadline::new(None)).unwrap();
        shared.add();
        loom_model::kill(2);
    });
    shared.turn(1);
    dying.join().unwrap();
    shared.turn(3);
    assert_eq!(load(&shared.turns), 3);
}

fn two_take_over_from_a_dead_owner() {
    let shared = LockModel::new(9, 9);
    loom_model::kill(9);
    let other = spawn(&shared, |shared| shared.turn(2));
    shared.turn(1);
    other.join().unwrap();
    assert_eq!(load(&shared.turns), 2);
}

/// A writer is at work by the writer-at-work word alone, because corruption zeroed the lock word, while
/// two others contend.
fn lock_word_is_lost_under_its_owner() {
    let shared = LockModel::new(0, 9);
    let other = spawn(&shared, |shared| shared.turn(2));
    let at_work = spawn(&shared, |shared| {
        shared.add();
        shared.futex_lock(9).release();
    });
    shared.turn(1);
    other.join().unwrap();
    at_work.join().unwrap();
    assert_eq!(load(&shared.turns), 3);
}

fn waiter_gives_up_during_release() {
    let shared = LockModel::new(1 | (2 << 32), 1);
    let leaving = spawn(&shared, |shared| shared.futex_lock(2).withdraw());
    shared.add();
    shared.futex_lock(1).release();
    shared.turn(3);
    leaving.join().unwrap();
    assert_eq!(load(&shared.turns), 2);
    assert_eq!(
        load(&shared.words[0]) >> 32,
        0,
        "handed to a waiter that gave up"
    );
}

const MODELS: [(&str, fn()); 6] = [
    ("two take turns", two_take_turns),
    ("three take turns", three_take_turns),
    ("one dies at work", owner_dies_and_another_follows),
    ("two find a dead owner", two_take_over_from_a_dead_owner),
    ("the word was lost", lock_word_is_lost_under_its_owner),
    ("one gives up", waiter_gives_up_during_release),
];

#[test]
fn loom_lock_excludes_contenders() {
    for (name, model) in MODELS {
        let began = Instant::now();
        let (broken, executions) = explore(model);
        println!("{name:24} {executions} executions, {:.2?}", began.elapsed());
        assert_eq!(broken, None, "{name}");
    }
}

#[test]
fn loom_lock_needs_every_ordering() {
    for (_, model) in MODELS {
        assert_eq!(explore(model).0, None);
    }
    let sites: Vec<OrderingSite> = loom_model::sites()
        .into_iter()
        .filter(|site| site.file.ends_with("lock/futex_lock.rs"))
        .collect();
    let ordered: Vec<_> = sites.iter().map(|site| site.line).collect();
    println!("{ordered:?}");
    assert!(!sites.is_empty());
    for site in sites {
        loom_model::weaken([site]);
        let noticed = MODELS.iter().any(|(_, model)| explore(*model).0.is_some());
        loom_model::weaken([]);
        assert!(noticed, "no model misses the ordering of {site:?}");
    }
}
