//! The limits and defaults of a `Cache`, as its index has them. May call `format::settings`.

use std::time::Duration;

use crate::format::settings::{EvictionPolicy, Settings};

/// The limits and defaults of a `Cache`; `None` is no limit, and no default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheSettings {
    /// Bytes of disk that all files may take.
    pub max_bytes: Option<u64>,
    /// The entries that the cache may have.
    pub max_entries: Option<u64>,
    /// The life of an insertion that names none.
    pub time_to_live: Option<Duration>,
    /// The life after a hit.
    pub time_to_idle: Option<Duration>,
    /// After the deadline, the time in which a value is served while another is computed.
    pub stale_while_revalidate: Option<Duration>,
    /// After the deadline, the time in which a value replaces one that cannot be computed.
    pub stale_if_error: Option<Duration>,
    /// Percent by which a life is shortened at random, at most.
    pub jitter_percent: u8,
    /// What becomes of an insertion that exceeds a limit: `clock` and `fifo` evict, `refuse` does not.
    pub eviction: &'static str,
}

impl From<Settings> for CacheSettings {
    fn from(settings: Settings) -> Self {
        let some = |number: u64| Some(number).filter(|&number| number != 0);
        let time = |millis| some(millis).map(Duration::from_millis);
        Self {
            max_bytes: some(settings.max_bytes),
            max_entries: some(settings.max_entries),
            time_to_live: time(settings.time_to_live),
            time_to_idle: time(settings.time_to_idle),
            stale_while_revalidate: time(settings.stale_for),
            stale_if_error: time(settings.stale_on_error),
            jitter_percent: settings.jitter,
            eviction: match settings.eviction {
                EvictionPolicy::Clock => "clock",
                EvictionPolicy::Fifo => "fifo",
                EvictionPolicy::Refuse => "refuse",
            },
        }
    }
}
