//! Copies bytes between private memory and shared words.
//!
//! Words hold bytes in little-endian order. Shared memory is never lent as bytes here: it is copied
//! word by word, with relaxed loads and stores (M1). May call `sync` only.

use crate::sync::{Word, load, store};

/// Copies whole words into `out`, up to the end of the shorter one.
#[inline]
pub(crate) fn copy_out(words: &[Word], out: &mut [u8]) {
    for (word, bytes) in words.iter().zip(out.chunks_exact_mut(8)) {
        bytes.copy_from_slice(&load(word).to_le_bytes());
    }
}

/// Stores `pieces`, one after the other, from the first of `words` on, and fills the last word with
/// zeros.
///
/// The rest of a piece stays in a register. If its bytes were put together in memory, loading them as
/// one word would wait until all stores before it reach the cache, and stores to a slot mostly miss
/// it: storing a new entry's slot took 26 ns that way, and takes 9.
///
/// # Panics
///
/// If there are too few words.
#[inline]
pub(crate) fn copy_in(words: &[Word], pieces: &[&[u8]]) {
    debug_assert!(
        pieces.iter().map(|piece| piece.len()).sum::<usize>() <= words.len() * 8,
        "nothing is stored of what does not fit"
    );
    let mut at = 0;
    // The lowest `held` bits of `pending` belong to the next word, the others are zero.
    let (mut pending, mut held) = (0_u64, 0);
    for piece in pieces {
        let (whole, left) = piece.as_chunks::<8>();
        for (word, chunk) in words[at..at + whole.len()].iter().zip(whole) {
            let next = u64::from_le_bytes(*chunk);
            store(word, pending | (next << held));
            // In two steps, because a shift by 64 is not defined.
            pending = next >> 1 >> (63 - held);
        }
        at += whole.len();
        let (next, bits) = (low(left), 8 * left.len() as u32);
        pending |= next << held;
        if held + bits >= 64 {
            store(&words[at], pending);
            at += 1;
            pending = next >> 1 >> (63 - held);
        }
        held = (held + bits) % 64;
    }
    if held > 0 {
        store(&words[at], pending);
    }
}

/// Returns fewer than eight bytes as the lowest bytes of a word.
#[inline(always)]
fn low(bytes: &[u8]) -> u64 {
    let (fours, rest) = bytes.as_chunks::<4>();
    let (twos, ones) = rest.as_chunks::<2>();
    let (mut word, mut bits) = (0, 0);
    if let [four] = fours {
        word = u64::from(u32::from_le_bytes(*four));
        bits = 32;
    }
    if let [two] = twos {
        word |= u64::from(u16::from_le_bytes(*two)) << bits;
        bits += 16;
    }
    if let [one] = ones {
        word |= u64::from(*one) << bits;
    }
    word
}

/// Returns whether `words` begin with exactly `bytes`.
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

    // Pieces of any length are read back as one sequence of bytes.
    #[test]
    fn split_bytes_are_read_back_whole() {
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
    fn equality_sees_any_changed_byte() {
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
