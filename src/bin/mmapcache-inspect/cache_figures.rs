//! What the header of a `Cache` says besides: limits and defaults, lookups, removals by cause.

use std::time::Duration;

use mmapcache::inspect::CacheFiles;
use mmapcache::{CacheCounts, CacheSettings};
use serde_json::{Map, Value, json};

use crate::grid::Grid;
use crate::units;

/// The record variant of entries that expire.
const EXPIRING: u32 = 3;

/// The settings and statistics of a `Cache`.
#[derive(Clone, Debug)]
pub(crate) struct CacheFigures {
    /// `None` if they are corrupt.
    pub(crate) settings: Option<CacheSettings>,
    pub(crate) counts: CacheCounts,
}

/// Returns whether the files are those of a `Cache`.
pub(crate) fn is_cache(cache_files: &CacheFiles) -> bool {
    let header = cache_files.header();
    header.is_some_and(|header| header.record_variant == EXPIRING)
}

/// Returns the figures; `None` if the files are not those of a `Cache`.
pub(crate) fn of(cache_files: &CacheFiles) -> Option<CacheFigures> {
    let state = cache_files.state().filter(|_| is_cache(cache_files))?;
    Some(CacheFigures {
        settings: state.settings,
        counts: state.counts,
    })
}

impl CacheFigures {
    /// Adds a section of lookups and removals, and one of settings.
    pub(crate) fn rows(&self, grid: &mut Grid) {
        let counts = &self.counts;
        grid.section("cache");
        let ratio = counts
            .hit_ratio()
            .map_or("none yet".to_owned(), units::percent);
        grid.row("hit ratio", ratio, "of all look-ups that were counted");
        let stale = format!(
            "{} stale and {} negative ones besides",
            units::count(counts.stale_hits),
            units::count(counts.negative_hits),
        );
        grid.row("hits", units::count(counts.hits), stale);
        grid.row("misses", units::count(counts.misses), "");
        let replaced = format!(
            "{} of them replaced an entry",
            units::count(counts.replaced)
        );
        grid.row("insertions", units::count(counts.insertions), replaced);
        for (cause, count, note) in self.removals() {
            grid.row(cause, units::count(count), note);
        }
        grid.section("settings");
        let Some(settings) = &self.settings else {
            grid.row(
                "settings",
                "CORRUPT",
                "no limit and no default holds; set them again",
            );
            return;
        };
        for (name, value) in shown(settings) {
            grid.row(name, value, "");
        }
    }

    /// Returns the causes of removals, how many there were, and what each is.
    fn removals(&self) -> [(&'static str, u64, &'static str); 5] {
        let counts = &self.counts;
        [
            (
                "evicted by size",
                counts.evicted_size,
                "to keep `max_bytes`",
            ),
            (
                "evicted by number",
                counts.evicted_number,
                "to keep `max_entries`",
            ),
            ("expired", counts.expired, "removed after their deadline"),
            (
                "invalidated",
                counts.invalidated,
                "removed with their group",
            ),
            ("removed", counts.removed, "by callers"),
        ]
    }

    pub(crate) fn value(&self) -> Value {
        let counts = &self.counts;
        // A JSON parser may round large integers.
        let seconds = |time: Option<Duration>| time.map(|time| time.as_secs_f64());
        let settings = self.settings.map(|settings| {
            json!({
                "max_bytes": settings.max_bytes,
                "max_entries": settings.max_entries,
                "time_to_live_seconds": seconds(settings.time_to_live),
                "time_to_idle_seconds": seconds(settings.time_to_idle),
                "stale_while_revalidate_seconds": seconds(settings.stale_while_revalidate),
                "stale_if_error_seconds": seconds(settings.stale_if_error),
                "jitter_percent": percent(settings.jitter),
                "eviction": settings.eviction.to_string(),
            })
        });
        let mut value = Map::new();
        value.insert("settings".to_owned(), settings.into());
        value.insert("hit_ratio".to_owned(), counts.hit_ratio().into());
        for (name, count) in names(counts) {
            value.insert(name.to_owned(), count.into());
        }
        value.into()
    }
}

/// Returns the counters by name.
pub(crate) fn names(counts: &CacheCounts) -> [(&'static str, u64); 11] {
    [
        ("hits", counts.hits),
        ("stale_hits", counts.stale_hits),
        ("negative_hits", counts.negative_hits),
        ("misses", counts.misses),
        ("insertions", counts.insertions),
        ("replaced", counts.replaced),
        ("removed", counts.removed),
        ("evicted_size", counts.evicted_size),
        ("evicted_number", counts.evicted_number),
        ("expired", counts.expired),
        ("invalidated", counts.invalidated),
    ]
}

/// Returns a share in whole percent, as the files have it.
fn percent(share: f64) -> u64 {
    (share * 100.0).round() as u64
}

/// Returns the settings by name, as text.
fn shown(settings: &CacheSettings) -> Vec<(&'static str, String)> {
    let none = || "none".to_owned();
    let time = |time: Option<Duration>| match time {
        None => none(),
        Some(time) if time.as_secs() < 2 => units::duration(time),
        Some(time) => units::span(time.as_secs()),
    };
    vec![
        (
            "max bytes",
            settings.max_bytes.map_or_else(none, units::bytes),
        ),
        (
            "max entries",
            settings.max_entries.map_or_else(none, units::count),
        ),
        ("time to live", time(settings.time_to_live)),
        ("time to idle", time(settings.time_to_idle)),
        (
            "stale while revalidate",
            time(settings.stale_while_revalidate),
        ),
        ("stale if error", time(settings.stale_if_error)),
        ("jitter", format!("{} %", percent(settings.jitter))),
        ("eviction", settings.eviction.to_string()),
    ]
}
