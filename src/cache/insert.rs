//! The options of one insertion: its deadline.
//!
//! May call `engine::write::put`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::engine::write::put::Terms;
use crate::format::life::Life;

/// How long an entry lives; none by default: until it is removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InsertOptions {
    deadline: Deadline,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Deadline {
    #[default]
    Never,
    After(Duration),
    /// In milliseconds since the Unix epoch.
    At(u64),
}

impl InsertOptions {
    /// Returns options without a deadline.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the life of the entry, from the insertion on. Replaces [`expires_at`](Self::expires_at).
    ///
    /// Rounded down to a millisecond, and to 1/2^26 of lives above 37 hours. Zero is expired at once.
    /// Longer than 139 years, `Duration::MAX` for example, is no deadline.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.deadline = Deadline::After(ttl);
        self
    }

    /// Sets the moment from which on the entry is expired. Replaces [`ttl`](Self::ttl). A moment in the
    /// past is expired at once.
    #[must_use]
    pub fn expires_at(mut self, at: SystemTime) -> Self {
        let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.deadline = Deadline::At(millis(since));
        self
    }

    /// Returns what is stored with the entry, if it is inserted now.
    pub(super) fn terms(&self) -> Terms {
        let now = super::now();
        let deadline = match self.deadline {
            Deadline::Never => None,
            Deadline::After(ttl) => Some(now.saturating_add(millis(ttl))),
            Deadline::At(at) => Some(at),
        };
        Terms {
            deadline: deadline.filter(|&at| at.saturating_sub(now) <= Life::LONGEST),
            ..Terms::PLAIN
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
