//! The entries that a `Cache` makes for itself: their keys and values.
//!
//! Their keys begin with the id of the cache, and callers may not use such keys. Packs and unpacks
//! them. Calls no other module.

use xxhash_rust::xxh3::xxh3_64;

/// The bytes of a cache's id.
const ID_BYTES: usize = 16;
/// The byte after the id, in the key of a group.
const GROUP: u8 = b'g';
/// The byte after the id, in the key of a deadline.
const DEADLINE: u8 = b'd';
/// The bytes of a group's key.
const GROUP_KEY_BYTES: usize = ID_BYTES + 1 + 8;
/// The longest key whose deadline can be stored apart.
pub(crate) const LONGEST_KEY: usize = crate::format::MAX_KEY - ID_BYTES - 1;
/// Values that are longer than this are not written again for another deadline.
pub(crate) const LONG_VALUE: usize = 4_096;

/// How entries are grouped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GroupKind {
    Tag,
    Namespace,
}

impl GroupKind {
    fn to_disk(self) -> u8 {
        match self {
            Self::Tag => b't',
            Self::Namespace => b'n',
        }
    }
}

/// Returns the hash by which entries name a group. Two names with one hash are one group. The seed
/// is 0, for that of the index changes when the index does.
pub(crate) fn group_hash(kind: GroupKind, name: &[u8]) -> u64 {
    xxh3_64(&[&[kind.to_disk()], name].concat())
}

/// Returns the key of the entry whose version is that of a group's last invalidation.
pub(crate) fn group_key(cache: [u8; ID_BYTES], group: u64) -> [u8; GROUP_KEY_BYTES] {
    let mut key = [GROUP; GROUP_KEY_BYTES];
    key[..ID_BYTES].copy_from_slice(&cache);
    key[ID_BYTES + 1..].copy_from_slice(&group.to_le_bytes());
    key
}

/// Returns the key of the entry with the deadline of another one; `None` if it would be too long.
pub(crate) fn deadline_key(cache: [u8; ID_BYTES], key: &[u8]) -> Option<Vec<u8>> {
    (key.len() <= LONGEST_KEY).then(|| [&cache[..], &[DEADLINE], key].concat())
}

/// Returns the key whose deadline an internal entry has; `None` if it has none.
pub(crate) fn key_of_deadline(key: &[u8]) -> Option<&[u8]> {
    let rest = key.get(ID_BYTES..)?.strip_prefix(&[DEADLINE])?;
    (!rest.is_empty()).then_some(rest)
}

/// Returns whether only the cache itself may use a key.
#[inline]
pub(crate) fn is_reserved(cache: &[u8; ID_BYTES], key: &[u8]) -> bool {
    key.first_chunk() == Some(cache)
}

/// The value of the entry with the deadline of another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StoredDeadline {
    /// The version of the entry that it belongs to.
    pub version: u64,
    /// In milliseconds since the Unix epoch; `None` if the entry has no deadline any more.
    pub deadline: Option<u64>,
}

impl StoredDeadline {
    pub(crate) const BYTES: usize = 16;

    pub(crate) fn to_bytes(self) -> [u8; Self::BYTES] {
        let deadline = self.deadline.map_or(u64::MAX, |at| at.min(u64::MAX - 1));
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&self.version.to_le_bytes());
        bytes[8..].copy_from_slice(&deadline.to_le_bytes());
        bytes
    }

    /// Unpacks a value. `None` if it has another length.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (version, rest) = bytes.split_first_chunk()?;
        let deadline = u64::from_le_bytes(rest.try_into().ok()?);
        Some(Self {
            version: u64::from_le_bytes(*version),
            deadline: (deadline != u64::MAX).then_some(deadline),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: [u8; 16] = *b"0123456789abcdef";

    #[test]
    fn stored_deadlines_round_trip() {
        for deadline in [None, Some(0), Some(u64::MAX - 1)] {
            let version = 7;
            let stored = StoredDeadline { version, deadline };
            let bytes = stored.to_bytes();
            assert_eq!(StoredDeadline::from_bytes(&bytes), Some(stored));
            for wrong in [&bytes[1..], &[&bytes[..], &[0]].concat()] {
                assert_eq!(StoredDeadline::from_bytes(wrong), None);
            }
        }
    }

    #[test]
    fn internal_keys_are_reserved() {
        let key = deadline_key(ID, b"k").unwrap();
        assert!(is_reserved(&ID, &key) && is_reserved(&ID, &group_key(ID, 1)));
        assert!(is_reserved(&ID, &ID) && !is_reserved(&ID, &ID[..15]));
        assert!(!is_reserved(&ID, b"0123456789abcdeX and more"));
        assert_eq!(key_of_deadline(&key), Some(&b"k"[..]));
        assert_eq!(key_of_deadline(&group_key(ID, 1)), None);
        assert_eq!(deadline_key(ID, &[0; LONGEST_KEY + 1]), None);
        let longest = deadline_key(ID, &[0; LONGEST_KEY]).unwrap();
        assert_eq!(longest.len(), crate::format::MAX_KEY);
    }

    // One name is a tag and a namespace, which are two groups.
    #[test]
    fn tags_are_no_namespaces() {
        let [tag, namespace] = [GroupKind::Tag, GroupKind::Namespace];
        assert_ne!(group_hash(tag, b"x"), group_hash(namespace, b"x"));
        assert_eq!(group_hash(tag, b"x"), xxh3_64(b"tx"));
    }
}
