//! The pool under loom: the last handle of a value is dropped while other threads intern it.
//!
//! `RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=target/loom cargo test --release --lib loom_`
//!
//! The code is the pool's own, with loom's locks and counts. The memory of an entry is kept by
//! another count, that of `triomphe`, which has its own tests and is invisible to loom: nothing here
//! can be freed too early. The models check the table. Loom explores every order of the threads.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use ::loom::thread;

use crate::intern::pool::{Interned, Pool, PoolOptions, Retention};
use crate::sync::count::{ModelCheck, leave_out};

fn pool() -> Arc<Pool> {
    let mut options = PoolOptions::new();
    options
        .retention(Retention::UntilReleased)
        .shards(1)
        .seed(7);
    Arc::new(options.build())
}

fn spawn<T: 'static>(
    pool: &Arc<Pool>,
    part: impl FnOnce(&Pool) -> T + 'static,
) -> thread::JoinHandle<T> {
    let pool = Arc::clone(pool);
    thread::spawn(move || part(&pool))
}

/// Checks what must hold while no thread uses the pool.
fn assert_is_the_one(pool: &Pool, handle: &Interned) {
    assert_eq!(pool.len(), 1);
    assert_eq!(
        pool.get("a").as_ref(),
        Some(handle),
        "a value has two handles"
    );
}

fn last_release_meets_new_intern() {
    let pool = pool();
    let old = pool.intern("a");
    let releasing = spawn(&pool, move |_| drop(old));
    let new = pool.intern("a");
    releasing.join().unwrap();
    assert_is_the_one(&pool, &new);
    drop(new);
    assert_eq!(pool.len(), 0, "no thread holds a handle");
}

fn two_let_go_at_once() {
    let pool = pool();
    let one = pool.intern("a");
    let two = one.clone();
    let releasing = spawn(&pool, move |_| drop(one));
    drop(two);
    releasing.join().unwrap();
    assert_eq!(pool.len(), 0, "no thread holds a handle");
}

fn two_intern_at_once() {
    let pool = pool();
    let other = spawn(&pool, |pool| pool.intern("a"));
    let one = pool.intern("a");
    let two = other.join().unwrap();
    assert_eq!(one, two);
    assert_is_the_one(&pool, &one);
}

/// The first release waits while another thread interns, releases and interns the value: it finds
/// another entry in the place of its own.
fn late_release_meets_next_entry() {
    let pool = pool();
    let old = pool.intern("a");
    let releasing = spawn(&pool, move |_| drop(old));
    drop(pool.intern("a"));
    let new = pool.intern("a");
    releasing.join().unwrap();
    assert_is_the_one(&pool, &new);
}

fn clone_meets_release_and_intern() {
    let pool = pool();
    let old = pool.intern("a");
    let cloning = spawn(&pool, move |_| {
        let copy = old.clone();
        drop(old);
        drop(copy);
    });
    let interning = spawn(&pool, |pool| drop(pool.intern("a")));
    cloning.join().unwrap();
    interning.join().unwrap();
    assert_eq!(pool.len(), 0, "no thread holds a handle");
}

const MODELS: [(&str, fn()); 5] = [
    ("a release and an intern", last_release_meets_new_intern),
    ("two releases", two_let_go_at_once),
    ("two interns", two_intern_at_once),
    ("a late release", late_release_meets_next_entry),
    (
        "a clone, a release, an intern",
        clone_meets_release_and_intern,
    ),
];

/// Explores a model. Returns the failure, if there was one, and the number of executions.
fn explore(model: fn()) -> (Option<String>, u64) {
    let executions = Arc::new(std::sync::Mutex::new(0_u64));
    let count = Arc::clone(&executions);
    let mut builder = ::loom::model::Builder::new();
    builder.max_branches = 10_000;
    let explored = catch_unwind(AssertUnwindSafe(|| {
        builder.check(move || {
            *count.lock().unwrap() += 1;
            model();
        });
    }));
    let broken = explored.err().map(|payload| {
        let text = payload.downcast_ref::<String>().cloned();
        text.unwrap_or_else(|| "a panic".to_owned())
    });
    let executions = *executions.lock().unwrap();
    (broken, executions)
}

// No order gives a value two handles, or leaves one without a handle.
// P2: no handle is made of an entry that the table lost.
#[test]
fn loom_held_value_has_one_handle() {
    for (name, model) in MODELS {
        let (broken, executions) = explore(model);
        println!("{name:32} {executions} executions");
        assert_eq!(broken, None, "{name}");
    }
}

// P3: each check that a release makes under the lock is needed.
#[test]
fn loom_pool_needs_every_locked_check() {
    for check in [ModelCheck::StillUnheld, ModelCheck::SameEntry] {
        leave_out(Some(check));
        let noticed: Vec<_> = MODELS
            .iter()
            .filter(|(_, model)| explore(*model).0.is_some())
            .map(|(name, _)| *name)
            .collect();
        leave_out(None);
        println!("{check:?}: {noticed:?}");
        assert!(!noticed.is_empty(), "no model misses {check:?}");
    }
}
