//! Stores responses, those that are worth it.
//!
//! The body of a large one goes before the entry that names it. Calls `codec`, `key` and `store`.

use std::time::{Duration, SystemTime};

use http_cache::{HttpResponse, XCACHE};
use http_cache_semantics::CachePolicy;
use mmapcache::{ErrorKind, InsertOptions};

use crate::codec::{self, BodyRecord, Entry};
use crate::key;
use crate::store::{LARGE, Store, shown};

/// Ages above this are of no response that is to be served: RFC 9111, section 1.2.2, bounds such numbers
/// so. http-cache-semantics 3.0.0 adds to them without a check.
const LONGEST_AGE: u64 = 1 << 31;

impl Store {
    /// Stores a response, and returns it. What fails is reported, and the key then has no entry, unless the
    /// removal fails too.
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
            None => self.try_put(
                cache_key,
                &mut response,
                policy,
                old.and_then(|old| old.body),
            ),
        };
        // The origin has answered otherwise since: the older response must not be served.
        if !is_stored && let Err(error) = self.remove(cache_key) {
            self.reports.failed_removals.warn(format_args!(
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
        report.warn(format_args!(
            "the response for {} is not stored: {error}",
            shown(cache_key)
        ));
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
        let life = self
            .life(policy)
            .map(|life| life.saturating_add(Duration::from_secs(60)));
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
            let options = options.stale_for(Duration::ZERO);
            self.cache
                .insert_with(&body_key, &response.body, &options)?;
        }
        let inserted = self.insert(cache_key, &mut Vec::new(), response, policy, Some(record));
        if inserted.is_err() {
            // Nothing names it.
            self.remove_body(cache_key, record);
        }
        inserted.map(|()| Some(record))
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
        // The files may have a grace period, which would prolong the retention.
        let options = options.stale_for(Duration::ZERO);
        self.cache
            .insert_with(key::of_entry(cache_key), bytes, &options)?;
        Ok(())
    }

    /// Returns how long an entry is kept: while it is fresh, and to be revalidated after that.
    fn life(&self, policy: &CachePolicy) -> Option<Duration> {
        let fresh_for = policy.time_to_live(SystemTime::now());
        self.retention
            .map(|retention| fresh_for.saturating_add(retention))
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
    if values(response, "age")
        .any(|age| age.trim().parse::<u64>().is_ok_and(|age| age > LONGEST_AGE))
    {
        return Some("its age is no sensible number");
    }
    if old.is_some_and(|old| has_body_of_other_tag(response, old)) {
        return Some("a 304 brought the ETag of another body");
    }
    None
}

/// Returns the values of a header, also those that are in one line.
fn values<'r>(response: &'r HttpResponse, name: &'static str) -> impl Iterator<Item = &'r str> {
    let lines = response
        .headers
        .iter()
        .filter(move |(line, _)| line.eq_ignore_ascii_case(name));
    lines.flat_map(|(_, value)| value.split(','))
}

/// Returns whether a response is an old one's body under the strong ETag of another: http-cache makes it
/// of a 304 that is about a newer body. RFC 9111, section 4.3.4, forbids to update the old entry by it.
fn has_body_of_other_tag(response: &HttpResponse, old: &Entry) -> bool {
    let (new, tag) = (&response.headers, |tag: &String| {
        tag.trim_start_matches("W/").to_owned()
    });
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
