//! The keys under which records are in the cache.
//!
//! An entry has the key that http-cache gives it, so tools show it as it is. Two kinds of records have
//! others, which begin with a byte that is in no UTF-8 text, and so in no key of http-cache. Calls
//! nothing of this crate.

use std::borrow::Cow;

use xxhash_rust::xxh3::xxh3_128;

/// The longest key of a cache, in bytes.
const LONGEST: usize = 65_535;
/// Begins the key of an entry whose own key is empty or too long. The entry names its key.
const HASHED: &[u8] = b"\xFFk";
/// Begins the key of a body that has a record of its own.
const BODY: &[u8] = b"\xFFb";

/// Returns whether a cache refuses this key as it is.
pub(crate) fn is_unusable(cache_key: &str) -> bool {
    cache_key.is_empty() || cache_key.len() > LONGEST
}

/// Returns the key of an entry.
pub(crate) fn of_entry(cache_key: &str) -> Cow<'_, [u8]> {
    if !is_unusable(cache_key) {
        return Cow::Borrowed(cache_key.as_bytes());
    }
    let hash = xxh3_128(cache_key.as_bytes()).to_le_bytes();
    Cow::Owned([HASHED, &hash].concat())
}

/// Returns the key of a body: equal for equal bodies of one entry, so that a body which did not change
/// need not be stored again, and different for different entries, so that each removes its own.
pub(crate) fn of_body(cache_key: &str, digest: u128, len: u64) -> Vec<u8> {
    let hash = xxh3_128(cache_key.as_bytes()).to_le_bytes();
    [BODY, &hash, &digest.to_le_bytes(), &len.to_le_bytes()].concat()
}

/// Returns the key of http-cache that an entry's key is, or `None` if it has only its hash, or is no
/// entry.
pub(crate) fn cache_key(stored: &[u8]) -> Option<&str> {
    std::str::from_utf8(stored).ok()
}

/// Returns whether an entry with this key must name its key.
pub(crate) fn is_hashed(stored: &[u8]) -> bool {
    stored.starts_with(HASHED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usable_keys_stay_as_they_are() {
        let longest = "k".repeat(LONGEST);
        for key in ["GET:http://a/", longest.as_str()] {
            assert_eq!(of_entry(key), key.as_bytes());
            assert_eq!(cache_key(&of_entry(key)), Some(key));
        }
    }

    #[test]
    fn unusable_keys_are_hashed() {
        let long = "k".repeat(LONGEST + 1);
        let (empty, long) = (of_entry(""), of_entry(&long));
        assert_ne!(empty, long);
        for key in [empty, long] {
            assert_eq!(key.len(), 18);
            assert!(is_hashed(&key));
            assert_eq!(cache_key(&key), None);
        }
    }

    #[test]
    fn body_keys_differ_in_each_part() {
        let keys = [
            of_body("a", 1, 1),
            of_body("b", 1, 1),
            of_body("a", 2, 1),
            of_body("a", 1, 2),
        ];
        for (n, key) in keys.iter().enumerate() {
            assert!(!keys[n + 1..].contains(key));
            assert!(!is_hashed(key));
            assert_eq!(cache_key(key), None);
        }
    }
}
