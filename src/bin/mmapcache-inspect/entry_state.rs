//! The state of one entry of a `Cache`, as listings show it: fresh, expired or negative, its age and its
//! remaining life.

use std::time::{Duration, SystemTime};

use mmapcache::CacheEntry;
use serde_json::{Map, Value};

use crate::entry_terms::EntryTerms;
use crate::units;

/// What an entry is at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EntryState {
    pub(crate) is_expired: bool,
    pub(crate) is_negative: bool,
    /// Since it was inserted.
    pub(crate) age: Duration,
    /// `None` without a deadline.
    pub(crate) remaining: Option<Duration>,
    /// Bytes of the value.
    pub(crate) value_len: u64,
    terms: EntryTerms,
}

impl EntryState {
    pub(crate) fn of(entry: &CacheEntry) -> Self {
        let inserted = entry.version().to_system_time();
        Self {
            is_expired: entry.is_expired(),
            is_negative: entry.is_negative(),
            age: SystemTime::now()
                .duration_since(inserted)
                .unwrap_or_default(),
            remaining: entry.remaining(),
            value_len: entry.value().len() as u64,
            terms: EntryTerms::of(entry),
        }
    }

    /// Returns the state in one word, and the remaining life.
    pub(crate) fn text(self) -> String {
        let state = match (self.is_expired, self.is_negative) {
            (true, false) => "expired",
            (true, true) => "expired negative",
            (false, true) => "negative",
            (false, false) => "fresh",
        };
        match self.remaining {
            None => format!("{state} for ever"),
            Some(_) if self.is_expired => state.to_owned(),
            Some(left) => format!("{state} for {}", units::span(left.as_secs())),
        }
    }

    pub(crate) fn insert(self, object: &mut Map<String, Value>) {
        object.insert("expired".to_owned(), self.is_expired.into());
        object.insert("negative".to_owned(), self.is_negative.into());
        object.insert("age_seconds".to_owned(), self.age.as_secs_f64().into());
        let remaining = self.remaining.map(|left| left.as_secs_f64());
        object.insert("remaining_seconds".to_owned(), remaining.into());
        self.terms.insert(object);
    }
}
