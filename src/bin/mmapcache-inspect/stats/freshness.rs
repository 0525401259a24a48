//! `stats --full` of a `Cache`: the shares of fresh, expired and negative entries, and their ages.

use std::time::Duration;

use serde_json::{Value, json};

use crate::entry_state::EntryState;
use crate::failure::Failure;
use crate::grid::Grid;
use crate::location::Location;
use crate::units;

/// Entries that are read: of a cache with more, so many random ones, some perhaps twice.
const SAMPLE: u64 = 10_000;

/// What was found of a number of entries.
#[derive(Debug)]
pub(super) struct Freshness {
    read: u64,
    /// Whether these are random ones of more.
    is_sample: bool,
    expired: u64,
    negative: u64,
    forever: u64,
    /// Of half of the entries at most; so is the remaining life, of fresh entries with a deadline.
    median_age: Option<Duration>,
    median_remaining: Option<Duration>,
}

impl Freshness {
    pub(super) fn gather(location: &Location) -> Result<Self, Failure> {
        let cache = location.open_cache_read_only()?;
        let keys = location.open_read_only()?;
        let mut states = Vec::new();
        let is_sample = keys.len() > SAMPLE;
        // An entry that cannot be read, or that was removed since, counts as none.
        let mut add = |key: &[u8]| {
            if let Ok(Some(entry)) = cache.stored_entry(key) {
                states.push(EntryState::of(&entry));
            }
        };
        if is_sample {
            for _ in 0..SAMPLE {
                if let Some(key) = keys.random_key()? {
                    add(&key);
                }
            }
        } else {
            keys.keys()?.flatten().for_each(|key| add(&key));
        }
        let count = |of: fn(&EntryState) -> bool| states.iter().filter(|&it| of(it)).count() as u64;
        let fresh = states.iter().filter(|state| !state.is_expired);
        Ok(Self {
            read: states.len() as u64,
            is_sample,
            expired: count(|state| state.is_expired),
            negative: count(|state| state.is_negative && !state.is_expired),
            forever: count(|state| state.remaining.is_none()),
            median_remaining: median(fresh.filter_map(|state| state.remaining).collect()),
            median_age: median(states.iter().map(|state| state.age).collect()),
        })
    }

    pub(super) fn rows(&self, grid: &mut Grid) {
        grid.section("entries");
        let note = match self.is_sample {
            true => "random ones; the shares are estimates",
            false => "all of them",
        };
        grid.row("read", units::count(self.read), note);
        for (label, count) in [
            ("expired", self.expired),
            ("negative", self.negative),
            ("without a deadline", self.forever),
        ] {
            let share = units::percent(count as f64 / self.read.max(1) as f64);
            grid.row(label, units::count(count), share);
        }
        for (label, time) in [
            ("median age", self.median_age),
            ("median remaining life", self.median_remaining),
        ] {
            let shown = time.map_or("none".to_owned(), |time| units::span(time.as_secs()));
            grid.row(label, shown, "");
        }
    }

    pub(super) fn value(&self) -> Value {
        let seconds = |time: Option<Duration>| time.map(|time| time.as_secs_f64());
        json!({
            "read": self.read,
            "sample": self.is_sample,
            "expired": self.expired,
            "negative": self.negative,
            "without_deadline": self.forever,
            "median_age_seconds": seconds(self.median_age),
            "median_remaining_seconds": seconds(self.median_remaining),
        })
    }
}

fn median(mut times: Vec<Duration>) -> Option<Duration> {
    times.sort_unstable();
    times.get(times.len() / 2).copied()
}
