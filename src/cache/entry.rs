//! An entry of a cache, as it was at one moment.
//!
//! A private copy. May call `cache::found`, `cache::insert` and everything below them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::cache::found::Found;
use crate::cache::insert::InsertOptions;
use crate::engine::Version;
use crate::format::freshness::Freshness;
use crate::format::internal::{self, GroupKind};
use crate::os::clock::unix_millis;

/// A fresh or stale entry: its value, version, deadline and groups. A private copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheEntry {
    found: Found,
}

pub(super) fn of(found: Found) -> CacheEntry {
    CacheEntry { found }
}

impl CacheEntry {
    /// Returns the value; empty if the entry is negative.
    pub fn value(&self) -> &[u8] {
        &self.found.value
    }

    /// Returns the value without copying it.
    pub fn into_value(self) -> Vec<u8> {
        self.found.value
    }

    /// Returns the version, which tells this insertion from every other; a touch keeps it.
    pub fn version(&self) -> Version {
        Version(self.found.version)
    }

    /// Returns whether the entry was expired or invalidated when it was read: only
    /// [`Cache::stored_entry`](crate::Cache::stored_entry) returns such entries.
    pub fn is_expired(&self) -> bool {
        !matches!(self.found.freshness, Freshness::Fresh | Freshness::Stale)
    }

    /// Returns whether the entry says that the key is known not to exist.
    pub fn is_negative(&self) -> bool {
        self.found.traits.is_negative()
    }

    /// Returns whether the deadline had passed when the entry was read, so that the value should be
    /// computed again; see [`InsertOptions::stale_for`](crate::InsertOptions::stale_for).
    pub fn is_stale(&self) -> bool {
        self.found.freshness == Freshness::Stale
    }

    /// Returns the moment from which on the entry is stale or expired; `None` if it has no deadline.
    pub fn expires_at(&self) -> Option<SystemTime> {
        self.found
            .deadline
            .map(|deadline| UNIX_EPOCH + Duration::from_millis(deadline))
    }

    /// Returns the time until the deadline, from now on; zero if it has passed, `None` if there is no
    /// deadline. Reads the clock.
    pub fn remaining(&self) -> Option<Duration> {
        let now = unix_millis();
        self.found
            .deadline
            .map(|deadline| Duration::from_millis(deadline.saturating_sub(now)))
    }

    /// Returns the time since the insertion, until now, to 10 ms; zero if the clock was set back behind
    /// it. Reads the clock.
    pub fn age(&self) -> Duration {
        let now = Duration::from_millis(unix_millis());
        now.saturating_sub(Duration::from_nanos(self.found.version))
    }

    /// Returns whether the entry was inserted with this [tag](crate::InsertOptions::tag). Compares hashes
    /// of 64 bits: another tag with the same hash passes for it.
    pub fn has_tag(&self, tag: impl AsRef<[u8]>) -> bool {
        self.found.extension.tag == Some(internal::group_hash(GroupKind::Tag, tag.as_ref()))
    }

    /// Returns whether the entry was inserted with this
    /// [namespace](crate::InsertOptions::namespace), as [`has_tag`](Self::has_tag).
    pub fn has_namespace(&self, namespace: impl AsRef<[u8]>) -> bool {
        let hash = internal::group_hash(GroupKind::Namespace, namespace.as_ref());
        self.found.extension.namespace == Some(hash)
    }

    /// Returns the hash of the entry's tag; see [`InsertOptions::tag_hash`](crate::InsertOptions::tag_hash).
    pub fn tag_hash(&self) -> Option<u64> {
        self.found.extension.tag
    }

    /// Returns the hash of the entry's namespace, as [`tag_hash`](Self::tag_hash).
    pub fn namespace_hash(&self) -> Option<u64> {
        self.found.extension.namespace
    }

    /// Returns how long after its deadline the value is served, if the insertion
    /// [said so](crate::InsertOptions::stale_for). `Duration::MAX` that was given is 9 million years here.
    pub fn stale_for(&self) -> Option<Duration> {
        let stale_for = self.found.extension.stale_for?;
        Some(Duration::from_millis(stale_for.get()))
    }

    /// Returns options with which an insertion gives another value what this entry has: its deadline, tag,
    /// namespace, [`stale_for`](Self::stale_for) and [`cost`](Self::cost). Setters change some of them.
    ///
    /// The deadline stays the same moment; if that is more than 37 hours away, each insertion may move it
    /// forward by 1/2^26 of the remaining time, never back. Lookups go on renewing one that is under a
    /// [time to idle](crate::CacheBuilder::time_to_idle).
    pub fn insert_options(&self) -> InsertOptions {
        let Found {
            deadline,
            traits,
            extension,
            ..
        } = self.found;
        InsertOptions::kept(deadline, traits.is_idle(), extension)
    }

    pub(super) fn found(&self) -> &Found {
        &self.found
    }

    /// Returns what the value took to compute, if that was [stored](crate::InsertOptions::cost).
    pub fn cost(&self) -> Option<Duration> {
        let cost = self.found.extension.cost?;
        Some(Duration::from_micros(cost.get()))
    }
}
