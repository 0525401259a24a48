//! Counters: 64-bit numbers as values.
//!
//! Functions over bytes. May call `error`.

use crate::error::ErrorKind;

/// Returns the value of a counter.
pub(super) fn encode(count: i64) -> [u8; 8] {
    count.to_le_bytes()
}

/// Returns the sum of a counter's value, 0 if there is none, and `by`.
pub(super) fn add(was: Option<&[u8]>, by: i64) -> Result<i64, ErrorKind> {
    let value = match was {
        None => 0,
        Some(bytes) => match bytes.try_into() {
            Ok(bytes) => i64::from_le_bytes(bytes),
            Err(_) => return Err(ErrorKind::NotACounter { len: bytes.len() }),
        },
    };
    value
        .checked_add(by)
        .ok_or(ErrorKind::CounterOverflow { value, by })
}
