//! Keys, and values that name their key and number.
//!
//! Knows no history: the number distinguishes the values of a key.

use crate::engine::tests::power::random::Random;

pub(super) type Key = Vec<u8>;

pub(super) fn name(key: &[u8]) -> String {
    String::from_utf8_lossy(&key[..key.len().min(8)]).into_owned()
}

pub(super) fn key(i: usize) -> Key {
    let length = [0, 5, 40, 300][i % 4];
    format!("key {i:04}{}", "+".repeat(length)).into_bytes()
}

/// Returns the value of a key with a number.
pub(super) fn value(key: &[u8], number: u64, len: usize) -> Vec<u8> {
    let seed = key.iter().fold(number, |seed, &byte| {
        seed.wrapping_mul(31).wrapping_add(u64::from(byte))
    });
    let mut random = Random(seed);
    let mut value = number.to_le_bytes().to_vec();
    while value.len() < len {
        value.extend_from_slice(&random.next().to_le_bytes());
    }
    value.truncate(len.max(8));
    value
}

pub(super) fn number(value: &[u8]) -> u64 {
    value
        .first_chunk()
        .map_or(0, |bytes| u64::from_le_bytes(*bytes))
}
