//! The options of one insertion: its deadline.
//!
//! May call `cache::settings`, `engine::write::put` and `os::random`.

use std::cell::RefCell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::cache::settings::millis;
use crate::engine::write::put::Terms;
use crate::format::life::Life;
use crate::format::record::Traits;
use crate::format::settings::Settings;
use crate::os::random::Rng;

thread_local! {
    static RANDOM: RefCell<Rng> = RefCell::new(Rng::new());
}

/// How long an entry lives. Without a choice, as the cache says
/// ([`CacheBuilder::time_to_live`](crate::CacheBuilder::time_to_live) and
/// [`time_to_idle`](crate::CacheBuilder::time_to_idle)), and if it says nothing, until it is removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InsertOptions {
    deadline: Deadline,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Deadline {
    /// As the cache says.
    #[default]
    Default,
    Never,
    After(Duration),
    /// In milliseconds since the Unix epoch.
    At(u64),
}

impl InsertOptions {
    /// Returns options that leave the life of the entry to the cache.
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives the entry no deadline, whatever the cache says.
    #[must_use]
    pub fn no_expiry(mut self) -> Self {
        self.deadline = Deadline::Never;
        self
    }

    /// Sets the life of the entry, from the insertion on. Replaces [`expires_at`](Self::expires_at).
    /// [`CacheBuilder::jitter`](crate::CacheBuilder::jitter) may shorten it.
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

    /// Returns what is stored with the entry, if it is inserted now, under the defaults of the cache.
    pub(super) fn terms(&self, settings: &Settings) -> Terms {
        let (deadline, traits) = match self.deadline {
            Deadline::Default => default_deadline(settings),
            Deadline::Never => (None, Traits::NONE),
            Deadline::After(ttl) => (after(millis(ttl), settings.jitter), Traits::NONE),
            Deadline::At(at) => (within_reach(at), Traits::NONE),
        };
        Terms {
            deadline,
            traits,
            ..Terms::PLAIN
        }
    }
}

/// Returns the deadline of an entry that is given no life. Under a time to idle it is not random: uses
/// renew it at times of their own.
fn default_deadline(settings: &Settings) -> (Option<u64>, Traits) {
    match (settings.time_to_live, settings.time_to_idle) {
        (0, 0) => (None, Traits::NONE),
        (life, 0) => (after(life, settings.jitter), Traits::NONE),
        (0, idle) => (after(idle, 0), Traits::IDLE),
        (life, idle) => (after(life.min(idle), 0), Traits::IDLE),
    }
}

/// Returns a deadline; `None` if it is so late that no record can store it.
fn within_reach(deadline: u64) -> Option<u64> {
    let left = deadline.saturating_sub(super::now());
    (left <= Life::LONGEST).then_some(deadline)
}

/// Returns the end of a life that begins now; `None` if no record can store it.
fn after(life: u64, jitter: u8) -> Option<u64> {
    (life <= Life::LONGEST).then(|| super::now().saturating_add(shortened(life, jitter)))
}

/// Returns a life that is shorter by a random share of at most `percent`.
fn shortened(life: u64, percent: u8) -> u64 {
    let most = (u128::from(life) * u128::from(percent.min(100)) / 100) as u64;
    if most == 0 {
        return life;
    }
    life - RANDOM.with_borrow_mut(|random| random.below(most + 1))
}
