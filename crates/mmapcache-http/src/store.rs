//! Stores, finds and removes entries, in the calling thread.
//!
//! A body of [`LARGE`] bytes or more has a record of its own: a lookup then knows its length before it
//! reads it, and a response that was revalidated is stored again without it. The body is stored before
//! the entry that names it and removed after it, so no moment has an entry with another one's body. An
//! entry whose body is gone is a miss. Calls `codec`, `key` and `reports`.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http_cache::{HttpResponse, XCACHE};
use http_cache_semantics::CachePolicy;
use mmapcache::{Cache, ErrorKind, InsertOptions};

use crate::codec::{self, BodyRecord, Entry};
use crate::key;
use crate::reports::Reports;

/// Bodies of so many bytes have a record of their own. Reading or writing fewer takes less than about
/// 0.1 ms, which is no reason to leave a task.
pub(crate) const LARGE: usize = 256 << 10;

/// Ages above this are of no response that is to be served: RFC 9111, section 1.2.2, bounds such numbers
/// so. http-cache-semantics 3.0.0 adds to them without a check.
const LONGEST_AGE: u64 = 1 << 31;

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
        Some(entry)
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

    /// Stores a response, and returns it. What fails is reported, and the key then has no entry.
    pub(crate) fn put(
        &self,
        cache_key: &str,
        mut response: HttpResponse,
        policy: &CachePolicy,
    ) -> HttpResponse {
        let old = self.stored(cache_key);
        let is_stored = match declined(&response, old.as_ref()) {
            Some(reason) => {
                self.reports.declined.note(format_args!(
                    "the response for {} is not stored: {reason}",
                    shown(cache_key)
                ));
                false
            }
            None => self.try_put(cache_key, &mut response, policy, old.and_then(|old| old.body)),
        };
        // The origin has answered otherwise since: the older response must not be served.
        if !is_stored && let Err(error) = self.remove(cache_key) {
            self.reports.failed_stores.warn(format_args!(
                "the older response for {} could not be removed: {error}",
                shown(cache_key)
            ));
        }
        response
    }

    /// Returns what the key has, fresh or not. What this version cannot read is about to be replaced.
    fn stored(&self, cache_key: &str) -> Option<Entry> {
        let found = self.cache.stored_entry(key::of_entry(cache_key)).ok()??;
        let entry = codec::decode(found.into_value()).ok()?;
        let is_this = entry.key.as_ref().is_none_or(|key| key == cache_key);
        is_this.then_some(entry)
    }

    /// Stores a response in place of one with the body record `old`. Returns whether that succeeded.
    fn try_put(
        &self,
        cache_key: &str,
        response: &mut HttpResponse,
        policy: &CachePolicy,
        old: Option<BodyRecord>,
    ) -> bool {
        let written = match response.body.len() {
            ..LARGE => self.write_whole(cache_key, response, policy),
            LARGE.. => self.write_apart(cache_key, response, policy),
        };
        let error = match written {
            Ok(record) => {
                if let Some(old) = old.filter(|old| Some(*old) != record) {
                    self.remove_body(cache_key, old);
                }
                return true;
            }
            Err(error) => error,
        };
        let report = match &error {
            Failure::Cache(error) if is_too_large(error) => &self.reports.declined,
            _ => &self.reports.failed_stores,
        };
        report.warn(format_args!("the response for {} is not stored: {error}", shown(cache_key)));
        false
    }

    fn write_whole(
        &self,
        cache_key: &str,
        response: &mut HttpResponse,
        policy: &CachePolicy,
    ) -> Result<Option<BodyRecord>, Failure> {
        let mut bytes = std::mem::take(&mut response.body);
        let body_len = bytes.len();
        let written = self.insert(cache_key, &mut bytes, response, policy, None);
        bytes.truncate(body_len);
        response.body = bytes;
        written.map(|()| None)
    }

    fn write_apart(
        &self,
        cache_key: &str,
        response: &HttpResponse,
        policy: &CachePolicy,
    ) -> Result<Option<BodyRecord>, Failure> {
        let record = BodyRecord::of(&response.body);
        let body_key = key::of_body(cache_key, record.digest(), record.len);
        // The body lives a little longer than the entry that names it.
        let life = self.life(policy).map(|life| life.saturating_add(Duration::from_secs(60)));
        let end = life.and_then(|life| SystemTime::now().checked_add(life));
        let is_there = match life {
            Some(life) => self.cache.touch(&body_key, life)?,
            None => self.cache.persist(&body_key)?,
        };
        if !is_there {
            let options = match end {
                Some(end) => InsertOptions::new().expires_at(end),
                None => InsertOptions::new().no_expiry(),
            };
            self.cache.insert_with(&body_key, &response.body, &options)?;
        }
        self.insert(cache_key, &mut Vec::new(), response, policy, Some(record))?;
        Ok(Some(record))
    }

    /// Stores an entry, whose bytes begin with `bytes`.
    fn insert(
        &self,
        cache_key: &str,
        bytes: &mut Vec<u8>,
        response: &HttpResponse,
        policy: &CachePolicy,
        record: Option<BodyRecord>,
    ) -> Result<(), Failure> {
        let name = key::is_unusable(cache_key).then(|| cache_key.to_owned());
        codec::append(bytes, response, policy, name, record)?;
        let options = match self.life(policy) {
            Some(life) => InsertOptions::new().ttl(life),
            None => InsertOptions::new().no_expiry(),
        };
        self.cache.insert_with(key::of_entry(cache_key), bytes, &options)?;
        Ok(())
    }

    /// Returns how long an entry is kept: while it is fresh, and to be revalidated after that.
    fn life(&self, policy: &CachePolicy) -> Option<Duration> {
        let fresh_for = policy.time_to_live(SystemTime::now());
        self.retention.map(|retention| fresh_for.saturating_add(retention))
    }

    /// Removes an entry and its body. Returns whether there was one that was not expired.
    pub(crate) fn remove(&self, cache_key: &str) -> mmapcache::Result<bool> {
        self.remove_stored(cache_key, &key::of_entry(cache_key))
    }

    fn remove_stored(&self, cache_key: &str, stored_key: &[u8]) -> mmapcache::Result<bool> {
        // Nobody else removes the same entry, and with it the body that it names.
        let Some(value) = self.cache.take(stored_key)? else {
            return Ok(false);
        };
        if let Some(body) = codec::decode(value).ok().and_then(|entry| entry.body) {
            self.remove_body(cache_key, body);
        }
        Ok(true)
    }

    /// Removes a body that no entry names any more. If that fails, it only takes room until its deadline.
    fn remove_body(&self, cache_key: &str, record: BodyRecord) {
        let body_key = key::of_body(cache_key, record.digest(), record.len);
        if let Err(error) = self.cache.remove(body_key) {
            log::debug!("an unused body of {} stays for now: {error}", shown(cache_key));
        }
    }

    /// Removes the entries whose keys begin with `prefix`. Returns how many.
    pub(crate) fn remove_prefix(&self, prefix: &str) -> mmapcache::Result<u64> {
        let mut removed = 0;
        loop {
            match self.remove_listed(prefix, &mut removed) {
                // Cleared or repaired meanwhile: what is there now is to be listed.
                Err(error) if matches!(error.kind(), ErrorKind::Superseded) => {}
                result => return result.map(|()| removed),
            }
        }
    }

    fn remove_listed(&self, prefix: &str, removed: &mut u64) -> mmapcache::Result<()> {
        for item in self.cache.entries()? {
            let (stored_key, entry) = match item {
                // It is served to nobody.
                Err(error) if error.is_corruption() => continue,
                item => item?,
            };
            let cache_key = match key::cache_key(&stored_key) {
                Some(cache_key) => cache_key.to_owned(),
                None if key::is_hashed(&stored_key) => match codec::decode(entry.into_value()) {
                    Ok(Entry { key: Some(cache_key), .. }) => cache_key,
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

/// Why a response could not be stored.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Cache(#[from] mmapcache::Error),
    #[error("it does not encode: {0}")]
    Encode(#[from] rmp_serde::encode::Error),
}

fn is_too_large(error: &mmapcache::Error) -> bool {
    matches!(error.kind(), ErrorKind::ValueTooLarge { .. })
}

/// Returns why a response is not worth storing, or must not be.
fn declined(response: &HttpResponse, old: Option<&Entry>) -> Option<&'static str> {
    if values(response, "vary").any(|name| name.trim() == "*") {
        return Some("it has `Vary: *`, so that it answers no other request");
    }
    if values(response, "age").any(|age| age.trim().parse::<u64>().is_ok_and(|age| age > LONGEST_AGE)) {
        return Some("its age is no sensible number");
    }
    if old.is_some_and(|old| has_body_of_other_tag(response, old)) {
        return Some("a 304 brought the ETag of another body");
    }
    None
}

/// Returns the values of a header, also those that are in one line.
fn values<'r>(response: &'r HttpResponse, name: &'static str) -> impl Iterator<Item = &'r str> {
    let lines = response.headers.iter().filter(move |(line, _)| line.eq_ignore_ascii_case(name));
    lines.flat_map(|(_, value)| value.split(','))
}

/// Returns whether a response is an old one's body under the strong ETag of another: http-cache makes it
/// of a 304 that is about a newer body. RFC 9111, section 4.3.4, forbids to update the old entry by it.
fn has_body_of_other_tag(response: &HttpResponse, old: &Entry) -> bool {
    let (new, tag) = (&response.headers, |tag: &String| tag.trim_start_matches("W/").to_owned());
    let (Some(new_tag), Some(old_tag)) = (new.get("etag"), old.response.headers.get("etag")) else {
        return false;
    };
    // What http-cache answers from the cache says so here, unless its user turned that off.
    let is_revalidated = new.get(XCACHE).is_some_and(|status| status == "HIT");
    is_revalidated
        && !new_tag.starts_with("W/")
        && tag(new_tag) != tag(old_tag)
        && match old.body {
            Some(record) => record == BodyRecord::of(&response.body),
            None => old.response.body == response.body,
        }
}

/// Returns a key as a message shows it: without control characters, and not too long.
fn shown(cache_key: &str) -> String {
    let start: String = cache_key.chars().take(200).collect();
    format!("{start:?}")
}
