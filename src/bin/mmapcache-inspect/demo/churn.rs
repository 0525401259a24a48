//! Entries that a demonstration inserts and deletes, with keys that no file has.
//!
//! The value follows from the key, so that a reader can check it.

/// The number of such entries at a time.
pub(super) const ALIVE: u64 = 64;
/// No path contains a zero byte.
const PREFIX: &[u8] = b"\0churn ";

/// Returns the key of the entry with this number.
pub(super) fn key(number: u64) -> Vec<u8> {
    [PREFIX, number.to_string().as_bytes()].concat()
}

/// Returns the value for a key: the key repeated four times its last byte.
pub(super) fn value(key: &[u8]) -> Vec<u8> {
    let times = key.last().map_or(0, |&byte| usize::from(byte)) * 4;
    key.repeat(times)
}

/// Returns whether a key belongs to such an entry.
pub(super) fn is_churn(key: &[u8]) -> bool {
    key.starts_with(PREFIX)
}
