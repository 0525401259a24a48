//! An entry of a cache that a lookup found, whatever its state.
//!
//! Gathers what decides about it: its record, its groups, and what is stored of it elsewhere. May
//! call its siblings `freshness`, `groups` and `deadlines`, and `engine`.

use crate::engine::handle::Handle;
use crate::engine::read::lookup::{self, Answer, EntryTerms};
use crate::error::{Corruption, Error, Result};
use crate::format::extension::Extension;
use crate::format::internal::LONG_VALUE;
use crate::format::life::Life;
use crate::format::record::Traits;
use crate::format::settings::Settings;
use crate::os::clock::unix_millis;

use crate::cache::deadlines::{self, Apart};
use crate::cache::groups::{self, GroupMemory};
use crate::format::freshness::{Facts, Freshness};

/// Lookups of an entry that is replaced again and again, before it counts as expired.
const ATTEMPTS: usize = 100;
/// Loads of the settings while a writer stores them, before they count as corrupt.
const SETTINGS_ATTEMPTS: usize = 1_000;

/// An entry: a private copy of its value, and what is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Without the extension.
    pub value: Vec<u8>,
    pub version: u64,
    pub traits: Traits,
    pub extension: Extension,
    /// In milliseconds since the Unix epoch.
    pub deadline: Option<u64>,
    pub freshness: Freshness,
}

impl Found {
    /// Returns whether lookups find it: it is fresh or stale.
    #[inline]
    pub(super) fn is_served(&self) -> bool {
        matches!(self.freshness, Freshness::Fresh | Freshness::Stale)
    }
}

/// Returns whether a lookup that found this record, with a stored value of `len` bytes, has a fresh value.
/// `false` if more must be known. Reads the clock if there is a deadline.
#[inline]
pub(super) fn is_plainly_fresh(terms: &EntryTerms, len: usize) -> bool {
    terms.traits == Traits::NONE
        && len <= LONG_VALUE
        && (terms.life == Life::NONE
            || (terms.life.deadline(terms.version))
                .is_some_and(|deadline| unix_millis() < deadline))
}

/// Looks up the entry of a key, whatever its state.
#[inline]
pub(super) fn find(handle: &Handle, memory: &GroupMemory, key: &[u8]) -> Result<Answer<Found>> {
    let mut value = Vec::new();
    let answer = lookup::read_terms(handle, key, &mut value)?;
    judged(handle, memory, key, value, answer)
}

/// The same, for those that look at all entries: the entry does not count as used.
pub(super) fn find_unmarked(
    handle: &Handle,
    memory: &GroupMemory,
    key: &[u8],
) -> Result<Answer<Found>> {
    let mut value = Vec::new();
    let answer = lookup::read_terms_unmarked(handle, key, &mut value)?;
    judged(handle, memory, key, value, answer)
}

/// Judges what a lookup of a key found; `value` is its stored value.
#[inline]
pub(super) fn judged(
    handle: &Handle,
    memory: &GroupMemory,
    key: &[u8],
    value: Vec<u8>,
    answer: Answer<EntryTerms>,
) -> Result<Answer<Found>> {
    match answer {
        Answer::Found(terms) if terms.traits == Traits::NONE && value.len() <= LONG_VALUE => {
            Ok(Answer::Found(plain(value, terms, handle)))
        }
        Answer::Found(terms) => limited(handle, memory, key, value, terms),
        Answer::Absent => Ok(Answer::Absent),
        Answer::Damaged(error) => Ok(Answer::Damaged(error)),
    }
}

/// Judges an entry whose record says everything.
#[inline]
fn plain(value: Vec<u8>, terms: EntryTerms, handle: &Handle) -> Found {
    let deadline = match terms.life {
        Life::NONE => None,
        life => life.deadline(terms.version),
    };
    let facts = Facts {
        version: terms.version,
        deadline,
        is_negative: false,
        stale_for: None,
        invalidated_upto: 0,
        distrusted_upto: 0,
    };
    Found {
        value,
        version: terms.version,
        traits: terms.traits,
        extension: Extension::default(),
        deadline,
        freshness: facts.freshness(unix_millis, || stale_by_default(handle)),
    }
}

/// Judges an entry about which more must be known.
fn limited(
    handle: &Handle,
    memory: &GroupMemory,
    key: &[u8],
    mut value: Vec<u8>,
    mut terms: EntryTerms,
) -> Result<Answer<Found>> {
    for _ in 0..ATTEMPTS {
        if let Some(found) = judge(handle, memory, key, &mut value, terms)? {
            return Ok(found);
        }
        value.clear();
        // The first attempt has marked the entry, if the caller uses it.
        terms = match lookup::read_terms_unmarked(handle, key, &mut value)? {
            Answer::Found(terms) => terms,
            Answer::Absent => return Ok(Answer::Absent),
            Answer::Damaged(error) => return Ok(Answer::Damaged(error)),
        };
    }
    // Each attempt found a newer entry, or the index contradicts itself.
    Ok(Answer::Absent)
}

/// Returns `None` if the entry was replaced since it was read. E1: everything that limits it decides.
fn judge(
    handle: &Handle,
    memory: &GroupMemory,
    key: &[u8],
    value: &mut Vec<u8>,
    terms: EntryTerms,
) -> Result<Option<Answer<Found>>> {
    let split = Extension::split(terms.traits, value);
    let Some((value_len, extension)) = split.filter(|_| !terms.traits.has(Traits::INTERNAL)) else {
        return Ok(Some(Answer::Damaged(contradiction(handle))));
    };
    value.truncate(value_len);
    let is_grouped = extension.groups().next().is_some();
    let seen = terms.invalidations;
    let Some(invalidated_upto) = groups::invalidated_upto(handle, memory, &extension, seen)? else {
        return Ok(None);
    };
    let mut facts = Facts {
        version: terms.version,
        deadline: terms.life.deadline(terms.version),
        is_negative: terms.traits.is_negative(),
        stale_for: extension.stale_for.map(|span| span.get()),
        invalidated_upto,
        distrusted_upto: 0,
    };
    if is_grouped || value_len > LONG_VALUE {
        facts.distrusted_upto = handle.generation.load().header().trusted_from();
    }
    if deadlines::are_apart(key, value_len) {
        match deadlines::look_up(handle, key, terms.version)? {
            Apart::Nothing => {}
            Apart::Deadline(deadline) => facts.deadline = deadline,
            Apart::Damaged => facts.distrusted_upto = u64::MAX,
            Apart::Replaced => return Ok(None),
        }
        // Cleaning may have moved the entry with its deadline, and removed the one that was apart.
        if !groups::is_still(handle, seen)? {
            return Ok(None);
        }
    }
    Ok(Some(Answer::Found(Found {
        value: std::mem::take(value),
        version: terms.version,
        traits: terms.traits,
        extension,
        deadline: facts.deadline,
        freshness: facts.freshness(unix_millis, || stale_by_default(handle)),
    })))
}

/// The error of an entry that has a caller's key and is not a caller's.
#[cold]
fn contradiction(handle: &Handle) -> Error {
    let generation = handle.generation.load();
    generation.table.corrupted(Corruption::EntryContradicts, 0)
}

/// Returns how long after its deadline a value is served, by the settings of the cache. Corrupt
/// settings are none.
#[cold]
fn stale_by_default(handle: &Handle) -> u64 {
    let generation = handle.generation.load();
    let settings = || {
        std::hint::spin_loop();
        generation.header().settings()
    };
    let stored = (0..SETTINGS_ATTEMPTS).find_map(|_| settings());
    stored.unwrap_or_else(Settings::default).stale_for
}
