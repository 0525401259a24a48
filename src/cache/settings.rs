//! The limits and defaults of a cache, as all its processes share them.
//!
//! May call `engine` and everything below it.

use std::fmt;
use std::time::Duration;

use crate::engine::handle::Handle;
use crate::error::{ErrorKind, Result};
use crate::format::life::Life;
use crate::format::settings::{EvictionPolicy, Settings};

/// Loads of settings that do not pass their check, before they count as corrupt.
const ATTEMPTS: u32 = 100;

/// What becomes of an insertion that exceeds a limit of the cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Eviction {
    /// The oldest entries are evicted that no lookup has found since they were inserted, or last
    /// spared.
    #[default]
    Clock,
    /// The oldest entries are evicted.
    Fifo,
    /// No entry is evicted: the insertion is refused, and nothing is changed. That mostly takes a
    /// microsecond; the first refusal by a handle, and the first after removals, may clean the heap. The
    /// next insertion uses the room of removed and invalidated entries; that of expired ones is searched
    /// for in a tenth of the time at most.
    None,
}

impl fmt::Display for Eviction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Clock => "clock",
            Self::Fifo => "fifo",
            Self::None => "none",
        })
    }
}

/// The limits and defaults of a cache, shared by all its processes; returned by
/// [`Cache::settings`](crate::Cache::settings). Times are whole milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct CacheSettings {
    /// Bytes of disk that all files may take; see [`CacheBuilder::max_bytes`](crate::CacheBuilder::max_bytes).
    pub max_bytes: Option<u64>,
    /// Entries that there may be.
    pub max_entries: Option<u64>,
    /// The life of an entry that is given none.
    pub time_to_live: Option<Duration>,
    /// The life of an entry since its last use, if it is given no life.
    pub time_to_idle: Option<Duration>,
    /// How long after its deadline a value is served while another one is computed.
    pub stale_while_revalidate: Option<Duration>,
    /// How long after its deadline a value replaces one that cannot be computed.
    pub stale_if_error: Option<Duration>,
    /// What becomes of an insertion that exceeds a limit.
    pub eviction: Eviction,
    /// The share by which a life is shortened at random, at most: 0.0 to 0.5.
    pub jitter: f64,
}

impl CacheSettings {
    pub(crate) fn from_stored(stored: Settings) -> Self {
        let limit = |limit: u64| (limit > 0).then_some(limit);
        let time = |millis: u64| limit(millis).map(Duration::from_millis);
        Self {
            max_bytes: limit(stored.max_bytes),
            max_entries: limit(stored.max_entries),
            time_to_live: time(stored.time_to_live),
            time_to_idle: time(stored.time_to_idle),
            stale_while_revalidate: time(stored.stale_for),
            stale_if_error: time(stored.stale_on_error),
            eviction: match stored.eviction {
                EvictionPolicy::Clock => Eviction::Clock,
                EvictionPolicy::Fifo => Eviction::Fifo,
                EvictionPolicy::Refuse => Eviction::None,
            },
            jitter: f64::from(stored.jitter) / 100.0,
        }
    }
}

/// Returns the stored limits and defaults, without a lock.
pub(super) fn read(handle: &Handle) -> Result<Settings> {
    for _ in 0..ATTEMPTS {
        let (generation, _) = handle.current()?;
        if let Some(settings) = generation.header().settings() {
            return Ok(settings);
        }
        std::thread::yield_now();
    }
    Err(ErrorKind::SettingsCorrupted.at(&handle.path))
}

/// The limits and defaults that a builder sets; the others stay as they are.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Changes {
    pub max_bytes: Option<Option<u64>>,
    pub max_entries: Option<Option<u64>>,
    pub time_to_live: Option<Option<Duration>>,
    pub time_to_idle: Option<Option<Duration>>,
    pub stale_for: Option<Option<Duration>>,
    pub stale_on_error: Option<Option<Duration>>,
    pub eviction: Option<Eviction>,
    pub jitter: Option<f64>,
}

impl Changes {
    pub(super) const LEAST_BYTES: u64 = 1 << 20;
    const MOST_JITTER: f64 = 0.5;

    /// Returns what is out of its range: the name, the value, the range.
    pub(super) fn fault(&self) -> Option<(&'static str, u64, &'static str)> {
        if let Some(Some(bytes)) = self.max_bytes
            && bytes < Self::LEAST_BYTES
        {
            return Some(("max_bytes", bytes, "at least 1,048,576, or none"));
        }
        if let Some(Some(0)) = self.max_entries {
            return Some(("max_entries", 0, "at least 1, or none"));
        }
        let times = [
            ("time_to_live", self.time_to_live),
            ("time_to_idle", self.time_to_idle),
        ];
        for (name, time) in times {
            if let Some(Some(time)) = time
                && millis(time) == 0
            {
                return Some((name, 0, "at least a millisecond, or none"));
            }
        }
        match self.jitter {
            Some(jitter) if !(0.0..=Self::MOST_JITTER).contains(&jitter) => {
                // Not a number is 0 %, which the text tells from an accepted 0.
                Some(("jitter", (jitter * 100.0) as u64, "0.0 to 0.5, which is 50"))
            }
            _ => None,
        }
    }

    /// Returns the settings with these changes.
    pub(super) fn apply(&self, stored: Settings) -> Settings {
        let limit = |new: Option<Option<u64>>, old| new.map_or(old, Option::unwrap_or_default);
        let time = |new: Option<Option<Duration>>, old| limit(new.map(|it| it.map(millis)), old);
        // A life that no record can store is none.
        let life = |new, old| Some(time(new, old)).filter(|&it| it <= Life::LONGEST);
        Settings {
            max_bytes: limit(self.max_bytes, stored.max_bytes),
            max_entries: limit(self.max_entries, stored.max_entries),
            time_to_live: life(self.time_to_live, stored.time_to_live).unwrap_or(0),
            time_to_idle: life(self.time_to_idle, stored.time_to_idle).unwrap_or(0),
            stale_for: time(self.stale_for, stored.stale_for),
            stale_on_error: time(self.stale_on_error, stored.stale_on_error),
            eviction: match self.eviction {
                None => stored.eviction,
                Some(Eviction::Clock) => EvictionPolicy::Clock,
                Some(Eviction::Fifo) => EvictionPolicy::Fifo,
                Some(Eviction::None) => EvictionPolicy::Refuse,
            },
            jitter: match self.jitter {
                None => stored.jitter,
                Some(share) => (share * 100.0).round() as u8,
            },
        }
    }

    /// Returns whether any is set.
    pub(super) fn has_any(&self) -> bool {
        self.max_bytes.is_some()
            || self.max_entries.is_some()
            || self.time_to_live.is_some()
            || self.time_to_idle.is_some()
            || self.stale_for.is_some()
            || self.stale_on_error.is_some()
            || self.eviction.is_some()
            || self.jitter.is_some()
    }
}

/// Returns a time in milliseconds.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
