//! Entries that come and go during a demonstration, and that no file can be mistaken for.
//!
//! Knows what each must hold, so that whoever finds one can check it.

/// Entries that are there at a time.
pub(super) const ALIVE: u64 = 64;
/// No path has a zero byte in it.
const PREFIX: &[u8] = b"\0churn ";

/// The key of the entry with this number.
pub(super) fn key(number: u64) -> Vec<u8> {
    [PREFIX, number.to_string().as_bytes()].concat()
}

/// What the entry under a key must hold: the key, over and over, as often as its length and last
/// byte say.
pub(super) fn value(key: &[u8]) -> Vec<u8> {
    let times = key.last().map_or(0, |&byte| usize::from(byte)) * 4;
    key.repeat(times)
}

/// Whether a key is one of these.
pub(super) fn is_churn(key: &[u8]) -> bool {
    key.starts_with(PREFIX)
}
