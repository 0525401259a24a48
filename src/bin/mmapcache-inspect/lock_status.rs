//! The state of the writer lock, for people and for programs.
//!
//! Reading the lock is the library's part.

use mmapcache::inspect::LockState;
use serde_json::{Value, json};

/// Returns who holds the lock, and what that means for other writers.
pub(crate) fn describe(lock: &LockState) -> (String, &'static str) {
    let owner = match lock.process {
        Some(process) => format!("process {process}"),
        None => "held".to_owned(),
    };
    match lock.is_held() {
        Some(true) if lock.awaited => (owner, "writes; others wait"),
        Some(true) => (owner, "writes"),
        Some(false) if lock.owner_died() => ("free".to_owned(), "its last owner died"),
        Some(false) => ("free".to_owned(), "no process writes"),
        None => ("unknown".to_owned(), "the system does not tell"),
    }
}

/// Returns the state in one or a few words.
pub(crate) fn summary(lock: &LockState) -> &'static str {
    match lock.is_held() {
        Some(true) => "held",
        Some(false) if lock.owner_died() => "held by a dead process",
        Some(false) => "free",
        None => "unknown",
    }
}

/// Returns the state as JSON.
pub(crate) fn value(lock: &LockState) -> Value {
    json!({
        "by_word": lock.by_word,
        "holder": match lock.is_held() {
            Some(true) => "alive",
            Some(false) if lock.owner_died() => "dead",
            Some(false) => "nobody",
            None => "unknown",
        },
        "number": lock.number,
        "next": lock.next,
        "awaited": lock.awaited,
        "process": lock.process,
    })
}
