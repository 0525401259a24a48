//! Whether an entry of a `Cache` still counts, for cleaning and the search for expired entries.
//!
//! The same rules as those of lookups, [`Facts::freshness`], and one more for the cache's own entries:
//! the version of a group, and the deadline of another entry, concern only what was written before
//! them. Cleaning meets that first, and does not keep what they end; so when it comes to them, they
//! are not needed any more. May call `write::mutator` and everything below it.

use crate::error::Result;
use crate::format::extension::Extension;
use crate::format::freshness::{Facts, Freshness};
use crate::format::heap_addr::HeapAddr;
use crate::format::internal::{self, LONG_VALUE, StoredDeadline};
use crate::format::life::Life;
use crate::format::record::{RecordHeader, Traits};
use crate::format::settings::Settings;
use crate::os::clock::unix_millis;

use crate::engine::clean::retention::Validity;
use crate::engine::generation::{FIRST_GENERATION, Generation};
use crate::engine::write::mutator::{Mutator, WriteResult};

/// The moment for which entries are judged, and the defaults of their cache.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Judge {
    /// Milliseconds since the Unix epoch.
    now: u64,
    stale_for: u64,
    stale_on_error: u64,
}

impl Judge {
    /// Returns the judge of a generation's entries now; `None` if it is not that of a `Cache`.
    ///
    /// If the settings are corrupt, no entry counts as expired: how long it is served is not known.
    pub(crate) fn of(generation: &Generation) -> Option<Self> {
        if !generation.is_cache() {
            return None;
        }
        let settings = generation.header().settings();
        let served = |time: fn(&Settings) -> u64| settings.as_ref().map_or(u64::MAX, time);
        Some(Self {
            now: unix_millis(),
            stale_for: served(|settings| settings.stale_for),
            stale_on_error: served(|settings| settings.stale_on_error),
        })
    }

    /// Returns whether the record alone says all about an entry.
    #[inline]
    pub(crate) fn is_plain(record: &RecordHeader) -> bool {
        record.traits == Traits::NONE && record.value_len as usize <= LONG_VALUE
    }

    /// Judges an entry whose record says all.
    #[inline]
    pub(crate) fn plain(&self, record: &RecordHeader) -> Validity {
        if record.life == Life::NONE {
            return Validity::Valid(Life::NONE);
        }
        self.decide(&facts(record), record.life)
    }

    /// Judges an entry by its record at a place; `stored` is its value, with the extension.
    pub(crate) fn judge(
        &self,
        mutator: &mut Mutator,
        (place, record): (HeapAddr, &RecordHeader),
        key: &[u8],
        stored: &[u8],
    ) -> WriteResult<Validity> {
        let cache = mutator.generation.ids.cache;
        if record.traits.has(Traits::INTERNAL) && internal::is_reserved(&cache, key) {
            // Copied records lie in any order.
            let is_passed = mutator.generation.header().is_in_order(place);
            return Ok(match is_passed {
                true => Validity::Unneeded,
                false => Validity::Needed,
            });
        }
        let mut facts = facts(record);
        let Some((value_len, extension)) = Extension::split(record.traits, stored) else {
            // A lookup reports it as corrupt.
            return Ok(Validity::Valid(record.life));
        };
        facts.stale_for = extension.stale_for.map(|span| span.get());
        for group in extension.groups() {
            let version = version_of(mutator, &internal::group_key(cache, group))?;
            facts.invalidated_upto = facts.invalidated_upto.max(version);
        }
        let is_grouped = extension.groups().next().is_some();
        if is_grouped || value_len > LONG_VALUE {
            facts.distrusted_upto = mutator.generation.header().trusted_from();
        }
        let mut life = record.life;
        if value_len > LONG_VALUE
            && mutator.generation.header().has_deadlines()
            && let Some(stored) = stored_deadline(mutator, cache, key)?
            && stored.version == record.mtime
        {
            facts.deadline = stored.deadline;
            life = stored
                .deadline
                .map_or(Life::NONE, |deadline| Life::new(record.mtime, deadline));
        }
        Ok(self.decide(&facts, life))
    }

    fn decide(&self, facts: &Facts, life: Life) -> Validity {
        let served = facts.stale_for.unwrap_or(self.stale_for);
        let kept = served.max(self.stale_on_error);
        let facts = Facts {
            stale_for: Some(kept),
            ..*facts
        };
        match facts.freshness(|| self.now, || kept) {
            Freshness::Fresh | Freshness::Stale => Validity::Valid(life),
            Freshness::Expired | Freshness::Distrusted => Validity::Expired,
            Freshness::Invalidated => Validity::Invalidated,
        }
    }
}

/// Returns what the header of a record says.
fn facts(record: &RecordHeader) -> Facts {
    Facts {
        version: record.mtime,
        deadline: record.life.deadline(record.mtime),
        is_negative: record.traits.is_negative(),
        stale_for: None,
        invalidated_upto: 0,
        distrusted_upto: 0,
    }
}

/// Returns whether the entry of every group that was invalidated after a version is still there:
/// cleaning keeps none that has ended all that was written before it, but what is computed since
/// that version is not written yet.
pub(crate) fn has_groups_since(mutator: &mut Mutator, version: u64) -> WriteResult<bool> {
    let header = mutator.generation.header();
    let oldest = u64::from(header.oldest());
    let kept = header.evicted().max(oldest);
    if kept == 0 && mutator.generation.ids.generation == FIRST_GENERATION {
        // Nothing was ever removed.
        return Ok(true);
    }
    let last = header.tail().segment;
    let kept = u16::try_from(kept).map_or(last, |kept| kept.min(last));
    let segment = mutator.segment(kept)?;
    Ok(segment.is_some_and(|segment| segment.created() <= version))
}

/// Returns the version of an internal entry; 0 if there is none, and the highest if it is damaged.
fn version_of(mutator: &mut Mutator, key: &[u8]) -> WriteResult<u64> {
    let hash = mutator.generation.hasher.hash(key);
    mutator.with_table(|mutator, table| {
        Ok(match mutator.find(table, hash, key)? {
            None => 0,
            Some(target) => target.record.map_or(u64::MAX, |record| record.mtime),
        })
    })
}

/// Returns the deadline that is stored apart from the entry of a key; `None` if there is none, or if it
/// is damaged: a lookup treats the entry as expired then.
fn stored_deadline(
    mutator: &mut Mutator,
    cache: [u8; 16],
    key: &[u8],
) -> WriteResult<Option<StoredDeadline>> {
    let Some(internal) = internal::deadline_key(cache, key) else {
        return Ok(None);
    };
    let hash = mutator.generation.hasher.hash(&internal);
    let place = mutator.with_table(|mutator, table| -> WriteResult<_> {
        let found = mutator.find(table, hash, &internal)?;
        Ok(found.map(|target| target.link.addr()))
    })?;
    let Some(place) = place else {
        return Ok(None);
    };
    let mut value = Vec::new();
    let read: Result<_> = match mutator.segment(place.segment)? {
        Some(segment) => segment.read_any(place.unit, &mut Vec::new(), Some(&mut value)),
        None => Ok(None),
    };
    Ok(read?.and_then(|_| StoredDeadline::from_bytes(&value)))
}
