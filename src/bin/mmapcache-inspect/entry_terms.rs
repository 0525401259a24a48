//! What a `Cache` stores beside a value, as lines of JSON carry it: the deadline, a negative mark, the
//! groups.
//!
//! Groups have no names in the files, only hashes of them, which another cache can be given.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mmapcache::{CacheEntry, InsertOptions};
use serde_json::{Map, Value};

use crate::json_number;

/// The terms of an entry of a `Cache`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct EntryTerms {
    /// In milliseconds since the Unix epoch; `None` is no deadline.
    pub(crate) deadline: Option<u64>,
    /// Whether no reader finds the entry, whatever its deadline.
    pub(crate) is_expired: bool,
    pub(crate) is_negative: bool,
    stale_for_millis: Option<u64>,
    cost_micros: Option<u64>,
    tag_hash: Option<u64>,
    namespace_hash: Option<u64>,
}

impl EntryTerms {
    pub(crate) fn of(entry: &CacheEntry) -> Self {
        let since_epoch =
            |at: SystemTime| millis(at.duration_since(UNIX_EPOCH).unwrap_or_default());
        Self {
            deadline: entry.expires_at().map(since_epoch),
            is_expired: entry.is_expired(),
            is_negative: entry.is_negative(),
            stale_for_millis: entry.stale_for().map(millis),
            cost_micros: entry.cost().map(|cost| cost.as_micros() as u64),
            tag_hash: entry.tag_hash(),
            namespace_hash: entry.namespace_hash(),
        }
    }

    /// Returns whether an entry of another type of cache can have them.
    pub(crate) fn are_none(self) -> bool {
        self == Self::default()
    }

    /// Returns whether readers would not find an entry with these terms.
    pub(crate) fn have_ended(self) -> bool {
        let stale_for = match self.is_negative {
            true => 0,
            false => self.stale_for_millis.unwrap_or(0),
        };
        let end = self
            .deadline
            .map(|deadline| deadline.saturating_add(stale_for));
        self.is_expired || end.is_some_and(|end| end <= now())
    }

    /// Returns the time until the deadline; `Duration::MAX` without one.
    pub(crate) fn remaining(self) -> Duration {
        let left = |deadline: u64| Duration::from_millis(deadline.saturating_sub(now()));
        self.deadline.map_or(Duration::MAX, left)
    }

    /// Returns the options with which a `Cache` stores the value.
    pub(crate) fn options(self) -> InsertOptions {
        let mut options = match self.deadline {
            None => InsertOptions::new().no_expiry(),
            Some(deadline) => {
                InsertOptions::new().expires_at(UNIX_EPOCH + Duration::from_millis(deadline))
            }
        };
        if let Some(stale_for) = self.stale_for_millis {
            options = options.stale_for(Duration::from_millis(stale_for));
        }
        if let Some(cost) = self.cost_micros {
            options = options.cost(Duration::from_micros(cost));
        }
        if let Some(hash) = self.tag_hash {
            options = options.tag_hash(hash);
        }
        if let Some(hash) = self.namespace_hash {
            options = options.namespace_hash(hash);
        }
        options
    }

    /// Inserts the terms into an object. `expires_at_ms` is always there: it says that the entry is one of
    /// a `Cache`.
    pub(crate) fn insert(self, object: &mut Map<String, Value>) {
        let mut insert = |name: &str, value: Value| object.insert(name.to_owned(), value);
        insert("expires_at_ms", self.deadline.into());
        if let Some(deadline) = self.deadline {
            insert("remaining_ms", deadline.saturating_sub(now()).into());
        }
        if self.is_negative {
            insert("negative", true.into());
        }
        for (name, number) in [
            ("stale_for_ms", self.stale_for_millis),
            ("cost_us", self.cost_micros),
        ] {
            if let Some(number) = number {
                insert(name, number.into());
            }
        }
        for (name, hash) in [
            ("tag_hash", self.tag_hash),
            ("namespace_hash", self.namespace_hash),
        ] {
            if let Some(hash) = hash {
                insert(name, format!("{hash:016x}").into());
            }
        }
    }

    /// Reads the terms of an object; `None` if it has none. A deadline is the time that is left only if
    /// the moment is not there.
    pub(crate) fn parse(object: &Map<String, Value>) -> Result<Option<Self>, String> {
        let at = number(object, "expires_at_ms")?;
        let left = number(object, "remaining_ms")?;
        let terms = Self {
            deadline: at.or(left.map(|left| now().saturating_add(left))),
            is_expired: flag(object, "expired")?,
            is_negative: flag(object, "negative")?,
            stale_for_millis: number(object, "stale_for_ms")?,
            cost_micros: number(object, "cost_us")?,
            tag_hash: hash(object, "tag_hash")?,
            namespace_hash: hash(object, "namespace_hash")?,
        };
        let is_named = object.contains_key("expires_at_ms");
        Ok((is_named || !terms.are_none()).then_some(terms))
    }
}

fn number(object: &Map<String, Value>, name: &str) -> Result<Option<u64>, String> {
    match object.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match json_number::parse(value) {
            Some(number) => Ok(Some(number)),
            None => Err(format!("\"{name}\" is not a whole number")),
        },
    }
}

fn flag(object: &Map<String, Value>, name: &str) -> Result<bool, String> {
    match object.get(name) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(_) => Err(format!("\"{name}\" is neither true nor false")),
    }
}

fn hash(object: &Map<String, Value>, name: &str) -> Result<Option<u64>, String> {
    let digits = match object.get(name) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(digits)) => digits,
        Some(_) => return Err(format!("\"{name}\" is not a string")),
    };
    match u64::from_str_radix(digits, 16) {
        Ok(hash) if digits.len() == 16 && !digits.starts_with('+') => Ok(Some(hash)),
        _ => Err(format!("\"{name}\" is not 16 hexadecimal digits")),
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn now() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
    millis(since_epoch.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Option<EntryTerms>, String> {
        let value: Value = serde_json::from_str(text).unwrap();
        EntryTerms::parse(value.as_object().unwrap())
    }

    #[test]
    fn terms_round_trip() {
        let all = EntryTerms {
            deadline: Some(now() + 60_000),
            is_expired: false,
            is_negative: true,
            stale_for_millis: Some(5),
            cost_micros: Some(7),
            tag_hash: Some(1),
            namespace_hash: Some(u64::MAX),
        };
        for terms in [all, EntryTerms::default()] {
            let mut object = Map::new();
            terms.insert(&mut object);
            assert_eq!(EntryTerms::parse(&object), Ok(Some(terms)), "{object:?}");
        }
        assert_eq!(parse(r#"{"key":"a"}"#), Ok(None));
        let left = parse(r#"{"remaining_ms":60000}"#).unwrap().unwrap();
        let until = left.remaining();
        assert!(until <= Duration::from_secs(60) && until > Duration::from_secs(50));
    }

    #[test]
    fn wrong_terms_are_refused() {
        for wrong in [
            r#"{"expires_at_ms":-1}"#,
            r#"{"expires_at_ms":0.5}"#,
            r#"{"remaining_ms":"soon"}"#,
            r#"{"negative":1}"#,
            r#"{"expired":"yes"}"#,
            r#"{"tag_hash":5}"#,
            r#"{"tag_hash":"5"}"#,
            r#"{"namespace_hash":"00000000000000xx"}"#,
            r#"{"namespace_hash":"+00000000000000f"}"#,
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn ended_terms_are_recognised() {
        let ended = |text: &str| parse(text).unwrap().unwrap().have_ended();
        assert!(ended(r#"{"expires_at_ms":5}"#) && ended(r#"{"expired":true}"#));
        assert!(ended(r#"{"expires_at_ms":5,"stale_for_ms":5}"#));
        let stale = r#"{"expires_at_ms":5,"stale_for_ms":18446744073709551615}"#;
        assert!(!ended(stale) && !ended(r#"{"expires_at_ms":null}"#));
        assert!(ended(&stale.replace('}', r#","negative":true}"#)));
    }
}
