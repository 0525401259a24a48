//! A uniformly random key of a listing.
//!
//! Algorithm R of Vitter, "Random Sampling with a Reservoir" (1985), for a sample of one.

use std::hash::{BuildHasher, RandomState};

use crate::dict::conditional::ETag;
use crate::dict::error::Result;
use crate::dict::key::DictKey;

/// Returns a uniformly random key. Reads all keys, and holds one.
pub(super) fn random_key_of(
    keys: impl Iterator<Item = Result<(DictKey, ETag)>>,
) -> Result<Option<DictKey>> {
    let random = RandomState::new();
    let mut chosen = None;
    for (seen, item) in (1u64..).zip(keys) {
        let (key, _) = item?;
        // The n-th key replaces the chosen one with probability 1/n.
        if random.hash_one(seen) % seen == 0 {
            chosen = Some(key);
        }
    }
    Ok(chosen)
}
