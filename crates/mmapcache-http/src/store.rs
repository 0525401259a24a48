//! Finds and removes entries, in the calling thread; `put` stores them.
//!
//! A body of [`LARGE`] bytes or more has a record of its own: a lookup then knows its length before it
//! reads it, and a response that was revalidated is stored again without it. The body is stored before
//! the entry that names it and removed after it, so no moment has an entry with another one's body. An
//! entry whose body is gone is a miss. Calls `codec`, `key` and `reports`.

use std::sync::Arc;
use std::time::Duration;

use mmapcache::{Cache, ErrorKind};

use crate::codec::{self, BodyRecord, Entry};
use crate::key;
use crate::reports::Reports;

/// Bodies of so many bytes have a record of their own. Reading fewer takes less than about 0.1 ms and
/// writing them 0.2, which is no reason to leave a task: the pool takes about as long.
pub(crate) const LARGE: usize = 256 << 10;

/// What a manager and its clones share, and what each of them was told.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    pub(crate) cache: Arc<Cache>,
    pub(crate) reports: Arc<Reports>,
    pub(crate) retention: Option<Duration>,
}

/// What the key of an entry has.
pub(crate) enum Found {
    Nothing,
    /// An entry with its body.
    Whole(Entry),
    /// An entry without its body, which is in a record of its own.
    Apart(Entry, BodyRecord),
}

impl Store {
    /// Finds an entry. What fails is reported, and is nothing.
    pub(crate) fn find(&self, cache_key: &str) -> Found {
        let found = self.cache.entry(key::of_entry(cache_key));
        let value = match found {
            Ok(Some(found)) if !found.is_negative() => found.into_value(),
            Ok(_) => return Found::Nothing,
            Err(error) => {
                self.report_lookup(cache_key, &error);
                return Found::Nothing;
            }
        };
        match self.decoded(cache_key, value) {
            None => Found::Nothing,
            Some(entry) => match entry.body {
                None => Found::Whole(entry),
                Some(body) => Found::Apart(entry, body),
            },
        }
    }

    /// Finds the body of an entry that was found without it.
    pub(crate) fn complete(&self, cache_key: &str, found: Found) -> Option<Entry> {
        let (entry, record) = match found {
            Found::Nothing => return None,
            Found::Whole(entry) => return Some(entry),
            Found::Apart(entry, record) => (entry, record),
        };
        if let Some(entry) = self.with_body(cache_key, entry, record) {
            return Some(entry);
        }
        // Evicted; or another process has replaced the entry since it was found, and removed its body.
        match self.find(cache_key) {
            Found::Apart(entry, again) if again != record => {
                self.with_body(cache_key, entry, again)
            }
            Found::Whole(entry) => Some(entry),
            Found::Apart(..) | Found::Nothing => None,
        }
    }

    fn with_body(&self, cache_key: &str, mut entry: Entry, record: BodyRecord) -> Option<Entry> {
        let body_key = key::of_body(cache_key, record.digest(), record.len);
        match self.cache.entry(&body_key) {
            Ok(found) => entry.response.body = found?.into_value(),
            Err(error) => {
                self.report_lookup(cache_key, &error);
                return None;
            }
        }
        // Another program that uses the cache may have put something else there.
        (entry.response.body.len() as u64 == record.len).then_some(entry)
    }

    /// Decodes the value of an entry's key. What this version cannot read is reported, and is nothing.
    fn decoded(&self, cache_key: &str, value: Vec<u8>) -> Option<Entry> {
        match codec::decode(value) {
            // Another key with the same hash.
            Ok(entry) if entry.key.as_ref().is_some_and(|key| key != cache_key) => None,
            Ok(entry) => Some(entry),
            Err(error) => {
                self.reports.unreadable.warn(format_args!(
                    "{}: the value of {} is not an HTTP response ({error}); taken for absent until a \
                     response replaces it",
                    self.cache.path().display(),
                    shown(cache_key),
                ));
                None
            }
        }
    }

    fn report_lookup(&self, cache_key: &str, error: &mmapcache::Error) {
        self.reports.failed_lookups.warn(format_args!(
            "{} is taken for absent: {error}",
            shown(cache_key)
        ));
    }

    /// Removes an entry and its body. Returns whether there was one that was not expired.
    pub(crate) fn remove(&self, cache_key: &str) -> mmapcache::Result<bool> {
        self.remove_stored(cache_key, &key::of_entry(cache_key))
    }

    fn remove_stored(&self, cache_key: &str, stored_key: &[u8]) -> mmapcache::Result<bool> {
        // No other caller removes the same entry, and with it the body that it names.
        let Some(value) = self.cache.take(stored_key)? else {
            return Ok(false);
        };
        if let Some(body) = codec::decode(value).ok().and_then(|entry| entry.body) {
            self.remove_body(cache_key, body);
        }
        Ok(true)
    }

    /// Removes a body that no entry names any more. If that fails, it only takes room until its deadline.
    pub(crate) fn remove_body(&self, cache_key: &str, record: BodyRecord) {
        let body_key = key::of_body(cache_key, record.digest(), record.len);
        if let Err(error) = self.cache.remove(body_key) {
            log::debug!(
                "an unused body of {} stays for now: {error}",
                shown(cache_key)
            );
        }
    }

    /// Removes the entries whose keys begin with `prefix`. Returns how many.
    pub(crate) fn remove_prefix(&self, prefix: &str) -> mmapcache::Result<u64> {
        let mut removed = 0;
        loop {
            match self.remove_listed(prefix, &mut removed) {
                // Cleared or repaired since the listing began: what is there now is to be listed.
                Err(error) if matches!(error.kind(), ErrorKind::Superseded) => {}
                result => return result.map(|()| removed),
            }
        }
    }

    fn remove_listed(&self, prefix: &str, removed: &mut u64) -> mmapcache::Result<()> {
        for item in self.cache.entries()? {
            let (stored_key, entry) = match item {
                // It is not served.
                Err(error) if error.is_corruption() => continue,
                item => item?,
            };
            let cache_key = match key::cache_key(&stored_key) {
                Some(cache_key) => cache_key.to_owned(),
                None if key::is_hashed(&stored_key) => match codec::decode(entry.into_value()) {
                    Ok(Entry {
                        key: Some(cache_key),
                        ..
                    }) => cache_key,
                    _ => continue,
                },
                None => continue,
            };
            if cache_key.starts_with(prefix) && self.remove_stored(&cache_key, &stored_key)? {
                *removed += 1;
            }
        }
        Ok(())
    }
}

/// Returns a key as a message shows it: without control characters, and not too long.
pub(crate) fn shown(cache_key: &str) -> String {
    let start: String = cache_key.chars().take(200).collect();
    format!("{start:?}")
}
