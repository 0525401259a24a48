//! The lock word under loom: contenders that take turns, wait, give up, and die.
//!
//! What the system does is model: sleep ends when somebody wakes, not by itself, so a wake that
//! is lost is a deadlock, and found; a death wakes all, and is known to whoever asks after it. The code that contends is the lock's own.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use ::loom::thread;

use crate::sync::load;
use crate::sync::loom_model::{self, Role, Site};

use crate::lock::tests::*;

/// What three contenders at most have in common.
struct Stage {
    words: [Word; 3],
    /// What the lock guards: whoever is alone with it adds one, in two steps.
    turns: Word,
    file: File,
}

impl Stage {
    fn new(state: u64, inside: u64) -> Arc<Self> {
        loom_model::begin_without_files();
        loom_model::play(Role::Writer);
        Arc::new(Self {
            words: [state, inside, 0].map(loom_model::shared),
            turns: loom_model::shared(0),
            file: File::open("/dev/null").unwrap(),
        })
    }

    fn contender(&self, number: u32) -> Contender<'_> {
        let [state, inside, waiting] = &self.words;
        Contender {
            words: Words {
                state,
                inside,
                waiting,
            },
            file: &self.file,
            number,
        }
    }

    /// Has one turn.
    fn turn(&self, number: u32) {
        let contender = self.contender(number);
        contender.acquire(&Patience::new(None)).unwrap();
        self.add();
        contender.release();
    }

    fn add(&self) {
        let seen = load(&self.turns);
        store(&self.turns, seen + 1);
    }
}

fn spawn(stage: &Arc<Stage>, part: fn(&Stage)) -> thread::JoinHandle<()> {
    let stage = Arc::clone(stage);
    thread::spawn(move || {
        loom_model::play(Role::Writer);
        part(&stage);
    })
}

/// Explores a model; what went wrong, where something did, and the executions until then.
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
    loom_model::play(Role::Alone);
    let broken = explored.err().map(|payload| {
        let text = payload.downcast_ref::<String>().cloned();
        text.unwrap_or_else(|| "a panic".to_owned())
    });
    let executions = *executions.lock().unwrap();
    (broken, executions)
}

fn two_take_turns() {
    let stage = Stage::new(0, 0);
    let other = spawn(&stage, |stage| stage.turn(2));
    stage.turn(1);
    other.join().unwrap();
    assert_eq!(load(&stage.turns), 2);
    assert_eq!(load(&stage.words[0]) & 0x7fff_ffff, 0, "nobody has let go");
    assert_eq!(load(&stage.words[1]), 0);
}

fn three_take_turns() {
    let stage = Stage::new(0, 0);
    let others = [2, 3].map(|number| match number {
        2 => spawn(&stage, |stage| stage.turn(2)),
        _ => spawn(&stage, |stage| stage.turn(3)),
    });
    stage.turn(1);
    for other in others {
        other.join().unwrap();
    }
    assert_eq!(load(&stage.turns), 3);
}

fn one_dies_at_work_and_another_follows() {
    let stage = Stage::new(0, 0);
    let dying = spawn(&stage, |stage| {
        let contender = stage.contender(2);
        contender.acquire(&Patience::new(None)).unwrap();
        stage.add();
        loom_model::kill(2);
    });
    stage.turn(1);
    dying.join().unwrap();
    stage.turn(3);
    assert_eq!(load(&stage.turns), 3);
}

fn two_find_the_lock_of_a_dead_owner() {
    let stage = Stage::new(9, 9);
    loom_model::kill(9);
    let other = spawn(&stage, |stage| stage.turn(2));
    stage.turn(1);
    other.join().unwrap();
    assert_eq!(load(&stage.turns), 2);
}

/// One is at work, by the word that damage left; two others come.
fn a_lock_word_was_lost_while_somebody_was_at_work() {
    let stage = Stage::new(0, 9);
    let other = spawn(&stage, |stage| stage.turn(2));
    let at_work = spawn(&stage, |stage| {
        stage.add();
        stage.contender(9).release();
    });
    stage.turn(1);
    other.join().unwrap();
    at_work.join().unwrap();
    assert_eq!(load(&stage.turns), 3);
}

fn one_gives_up_while_another_lets_go() {
    let stage = Stage::new(1 | (2 << 32), 1);
    let leaving = spawn(&stage, |stage| stage.contender(2).withdraw());
    stage.add();
    stage.contender(1).release();
    stage.turn(3);
    leaving.join().unwrap();
    assert_eq!(load(&stage.turns), 2);
    assert_eq!(
        load(&stage.words[0]) >> 32,
        0,
        "it is kept for one who left"
    );
}

const MODELS: [(&str, fn()); 6] = [
    ("two take turns", two_take_turns),
    ("three take turns", three_take_turns),
    ("one dies at work", one_dies_at_work_and_another_follows),
    ("two find a dead owner", two_find_the_lock_of_a_dead_owner),
    (
        "the word was lost",
        a_lock_word_was_lost_while_somebody_was_at_work,
    ),
    ("one gives up", one_gives_up_while_another_lets_go),
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
    let sites: Vec<Site> = loom_model::sites()
        .into_iter()
        .filter(|site| site.file.ends_with("lock/word.rs"))
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
