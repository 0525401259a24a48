//! Entries that a process removed, and that a callback has not heard of yet.
//!
//! Noted under the writer lock, handed out after it is released. May call `lock` and `sync`.

use std::collections::VecDeque;

use crate::lock::{Mutex, PerProcess};

/// Removals that are kept at most: a change that removes more reports no others.
const MOST: usize = 1 << 16;

/// Why an entry was removed; see [`CacheBuilder::on_removal`](crate::CacheBuilder::on_removal).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RemovalCause {
    /// To keep a limit of the cache.
    Evicted,
    /// Its deadline had passed, when it was swept, removed or replaced.
    Expired,
    /// Another value of its key took its place.
    Replaced,
    /// By a call that names its key.
    Removed,
    /// Its group was invalidated.
    Invalidated,
}

/// One removal: the key, the cause, and the length of the value.
pub(crate) type Removal = (Vec<u8>, RemovalCause, u64);

/// Removals of one handle. A forked child begins with none.
#[derive(Debug)]
pub(crate) struct Removals(Box<PerProcess<Queue>>);

/// The removals of one process.
#[derive(Debug, Default)]
struct Queue(Mutex<Noted>);

#[derive(Debug, Default)]
struct Noted {
    removals: VecDeque<Removal>,
    dropped: u64,
}

impl Removals {
    pub(crate) fn new() -> Self {
        Self(Box::new(PerProcess::new()))
    }

    /// Notes a removal, after it was made.
    pub(crate) fn note(&self, key: &[u8], cause: RemovalCause, size: u64) {
        let mut noted = self.0.0.lock();
        if noted.removals.len() < MOST {
            noted.removals.push_back((key.to_vec(), cause, size));
        } else {
            noted.dropped += 1;
        }
    }

    /// Takes the oldest removal; `None` after the last one.
    pub(crate) fn take(&self) -> Option<Removal> {
        let mut noted = self.0.0.lock();
        let taken = noted.removals.pop_front();
        if taken.is_none() && noted.dropped > 0 {
            log::warn!("{} removals are not reported", noted.dropped);
            noted.dropped = 0;
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removals_are_kept_within_bounds() {
        let removals = Removals::new();
        for number in 0..MOST as u64 + 10 {
            removals.note(b"key", RemovalCause::Evicted, number);
        }
        for number in 0..MOST as u64 {
            let expected = (b"key".to_vec(), RemovalCause::Evicted, number);
            assert_eq!(removals.take(), Some(expected));
        }
        assert_eq!(removals.take(), None);
    }
}
