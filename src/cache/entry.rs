//! A fresh entry of a cache, as it was at one moment.
//!
//! A private copy. May call `engine::read::lookup`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::engine::Version;
use crate::engine::read::lookup::EntryTerms;

/// A fresh entry: its value, version and deadline. A private copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheEntry {
    value: Vec<u8>,
    version: Version,
    deadline: Option<u64>,
    is_negative: bool,
}

pub(super) fn of((value, terms): (Vec<u8>, EntryTerms)) -> CacheEntry {
    CacheEntry {
        value,
        version: Version(terms.version),
        deadline: terms.life.deadline(terms.version),
        is_negative: terms.traits.is_negative(),
    }
}

impl CacheEntry {
    /// Returns the value; empty if the entry is negative.
    pub fn value(&self) -> &[u8] {
        &self.value
    }

    /// Returns the value without copying it.
    pub fn into_value(self) -> Vec<u8> {
        self.value
    }

    /// Returns the version, which tells this insertion from every other; a touch keeps it.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Returns whether its deadline has passed by now.
    pub fn is_expired(&self) -> bool {
        self.deadline
            .is_some_and(|deadline| deadline <= super::now())
    }

    /// Returns whether the entry says that the key is known not to exist.
    pub fn is_negative(&self) -> bool {
        self.is_negative
    }

    /// Returns the moment from which on the entry is expired; `None` if it has no deadline.
    pub fn expires_at(&self) -> Option<SystemTime> {
        self.deadline
            .map(|deadline| UNIX_EPOCH + Duration::from_millis(deadline))
    }

    /// Returns how long the entry is still fresh; zero if its deadline passed since it was read, `None`
    /// if it has none.
    pub fn remaining(&self) -> Option<Duration> {
        let now = super::now();
        self.deadline
            .map(|deadline| Duration::from_millis(deadline.saturating_sub(now)))
    }
}
