//! Keys chosen against a seed: any number of them, whose hashes agree in every bit that the index
//! uses.
//!
//! XXH3 of eight bytes can be inverted if the seed is known; `docs/format.md` says where the index
//! has the seed, and that bits 16 to 41 of a hash are unused.
#![allow(dead_code, reason = "each test binary uses another part of this")]

use std::path::Path;

/// Offset of the seed in the index.
const SEED: usize = 56;
const UNUSED_BITS: u32 = 16;

/// Returns the seed of the cache at a path, as any reader of the file can.
pub(crate) fn seed_of(path: &Path) -> u64 {
    let index = std::fs::read(path).expect("a readable index");
    u64::from_le_bytes(index[SEED..SEED + 8].try_into().expect("eight bytes"))
}

/// Returns the i-th of the keys that collide under a seed.
pub(crate) fn key(seed: u64, i: u32) -> [u8; 8] {
    // These bits are arbitrary, but always the same.
    let hash = 0x1234_5000_0000_6789 | (u64::from(i) << UNUSED_BITS);
    let key = unhash(hash, seed);
    debug_assert_eq!(xxhash_rust::xxh3::xxh3_64_with_seed(&key, seed), hash);
    key
}

/// Returns the key of eight bytes that has this hash.
fn unhash(hash: u64, seed: u64) -> [u8; 8] {
    // The two words of XXH3's default secret that are mixed into keys of this length.
    const FLIP: u64 = 0x1cad_21f7_2c81_017c ^ 0xdb97_9083_e96d_d4de;
    let seed = seed ^ (u64::from((seed as u32).swap_bytes()) << 32);
    let mixed = unmix(hash) ^ FLIP.wrapping_sub(seed);
    // The first four bytes are the upper half.
    mixed.rotate_left(32).to_le_bytes()
}

/// Inverts XXH3's `rrmxmx` for eight bytes, step by step from its end.
fn unmix(hash: u64) -> u64 {
    const PRIME: u64 = 0x9fb2_1c65_1e98_df25;
    let mut inverse = PRIME;
    for _ in 0..6 {
        inverse = inverse.wrapping_mul(2_u64.wrapping_sub(PRIME.wrapping_mul(inverse)));
    }
    let mut word = hash ^ (hash >> 28) ^ (hash >> 56);
    word = word.wrapping_mul(inverse);
    // The upper 35 bits came through unchanged.
    word ^= (word >> 35).wrapping_add(8);
    word = word.wrapping_mul(inverse);
    // The rotations, taken 64 times, are the identity.
    for _ in 0..63 {
        word ^= word.rotate_left(49) ^ word.rotate_left(24);
    }
    word
}
