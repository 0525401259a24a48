//! Moving bytes between private memory and shared words.
//!
//! Bytes lie little-endian in words. Nothing here lends out shared memory as bytes: it copies, word
//! by word, with relaxed loads and stores. It does not know what the bytes mean.

use crate::sync::{Word, load, store};

/// Copies whole words into `out`, as many as both have room for.
#[inline]
pub(crate) fn copy_out(words: &[Word], out: &mut [u8]) {
    for (word, bytes) in words.iter().zip(out.chunks_exact_mut(8)) {
        bytes.copy_from_slice(&load(word).to_le_bytes());
    }
}

/// Stores `pieces`, one after the other, from the first of `words` on; the last word is filled up
/// with zeros.
///
/// # Panics
///
/// If the words are too few.
#[inline]
pub(crate) fn copy_in(words: &[Word], pieces: &[&[u8]]) {
    let mut at = 0;
    let mut pending = [0_u8; 8];
    let mut held = 0;
    for piece in pieces {
        let mut rest = *piece;
        if held > 0 {
            let take = rest.len().min(8 - held);
            pending[held..held + take].copy_from_slice(&rest[..take]);
            held += take;
            rest = &rest[take..];
            if held < 8 {
                continue;
            }
            store(&words[at], u64::from_le_bytes(pending));
            at += 1;
        }
        let whole = rest.chunks_exact(8);
        let left = whole.remainder();
        let count = rest.len() / 8;
        for (word, chunk) in words[at..at + count].iter().zip(whole) {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(chunk);
            store(word, u64::from_le_bytes(bytes));
        }
        at += count;
        pending = [0; 8];
        pending[..left.len()].copy_from_slice(left);
        held = left.len();
    }
    if held > 0 {
        pending[held..].fill(0);
        store(&words[at], u64::from_le_bytes(pending));
    }
}

/// Whether `words`, from the first on, hold exactly `bytes`.
pub(crate) fn equal(words: &[Word], bytes: &[u8]) -> bool {
    if words.len() * 8 < bytes.len() {
        return false;
    }
    let whole = bytes.chunks_exact(8);
    let left = whole.remainder();
    let same = words
        .iter()
        .zip(whole)
        .all(|(word, chunk)| load(word).to_le_bytes() == *chunk);
    same && (left.is_empty() || load(&words[bytes.len() / 8]).to_le_bytes()[..left.len()] == *left)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(count: usize) -> Vec<Word> {
        (0..count).map(|_| Word::new(u64::MAX)).collect()
    }

    #[test]
    fn pieces_of_every_length_come_back_as_one_string_of_bytes() {
        let text: Vec<u8> = (1..=40).collect();
        for first in 0..20 {
            for second in 0..20 {
                let area = words(6);
                let (a, rest) = text.split_at(first);
                copy_in(&area, &[a, &rest[..second]]);
                let mut out = [0xee; 48];
                copy_out(&area, &mut out);
                assert_eq!(&out[..first + second], &text[..first + second]);
                let padded = (first + second).next_multiple_of(8);
                assert!(out[first + second..padded].iter().all(|&byte| byte == 0));
                assert!(
                    out[padded..].iter().all(|&byte| byte == 0xff),
                    "wrote past its end"
                );
                assert!(equal(&area, &text[..first + second]));
            }
        }
    }

    #[test]
    fn equality_sees_one_changed_byte_at_any_place() {
        let text: Vec<u8> = (1..=23).collect();
        let area = words(3);
        copy_in(&area, &[&text]);
        for at in 0..text.len() {
            let mut other = text.clone();
            other[at] ^= 1;
            assert!(!equal(&area, &other), "byte {at}");
        }
        assert!(!equal(&area[..2], &text), "shorter than the text");
    }
}
