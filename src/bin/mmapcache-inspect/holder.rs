//! Who holds the writer lock, in words.
//!
//! Knows what follows from it for a reader of the words, not how it is found out.

use mmapcache::inspect::{Holder, LockState};

/// Who holds the lock, and what follows.
pub(crate) fn words(lock: &LockState) -> (String, &'static str) {
    let who = match lock.process {
        Some(process) => format!("process {process}"),
        None => "held".to_owned(),
    };
    match lock.holder {
        Holder::Nobody => ("free".to_owned(), "nobody writes"),
        Holder::Alive if lock.awaited => (who, "writes; others wait"),
        Holder::Alive => (who, "writes"),
        Holder::Dead => ("free".to_owned(), "whoever held it died"),
        _ => ("unknown".to_owned(), "the system does not tell"),
    }
}
