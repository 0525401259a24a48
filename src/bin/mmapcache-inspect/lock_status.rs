//! The state of the writer lock, for people and for programs.
//!
//! Reading the lock is the library's part.

use mmapcache::inspect::{Holder, LockState};
use serde_json::{Value, json};

/// Returns who holds the lock, and what that means for other writers.
pub(crate) fn describe(lock: &LockState) -> (String, &'static str) {
    let owner = match lock.process {
        Some(process) => format!("process {process}"),
        None => "held".to_owned(),
    };
    match lock.holder {
        Holder::Nobody => ("free".to_owned(), "no process writes"),
        Holder::Alive if lock.awaited => (owner, "writes; others wait"),
        Holder::Alive => (owner, "writes"),
        Holder::Dead => ("free".to_owned(), "its last owner died"),
        _ => ("unknown".to_owned(), "the system does not tell"),
    }
}

/// Returns the state in one or a few words.
pub(crate) fn summary(lock: &LockState) -> &'static str {
    match lock.holder {
        Holder::Nobody => "free",
        Holder::Alive => "held",
        Holder::Dead => "held by a dead process",
        _ => "unknown",
    }
}

/// Returns the state as JSON.
pub(crate) fn value(lock: &LockState) -> Value {
    json!({
        "by_word": lock.by_word,
        "holder": match lock.holder {
            Holder::Nobody => "nobody",
            Holder::Alive => "alive",
            Holder::Dead => "dead",
            _ => "unknown",
        },
        "number": lock.number,
        "next": lock.next,
        "awaited": lock.awaited,
        "process": lock.process,
    })
}
