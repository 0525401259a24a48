//! One of many keys at random, where nothing but a listing tells how many there are.
//!
//! Algorithm R of Vitter, "Random Sampling with a Reservoir" (1985), for a sample of one.

use std::hash::{BuildHasher, RandomState};

use crate::dict::error::Result;
use crate::dict::etag::ETag;
use crate::dict::key::DictKey;

/// One of the keys, each as likely as any other. Takes time for each of them, and holds one.
pub(super) fn of(keys: impl Iterator<Item = Result<(DictKey, ETag)>>) -> Result<Option<DictKey>> {
    let random = RandomState::new();
    let mut chosen = None;
    for (seen, item) in (1u64..).zip(keys) {
        let (key, _) = item?;
        // The n-th takes the place with a chance of one in n.
        if random.hash_one(seen) % seen == 0 {
            chosen = Some(key);
        }
    }
    Ok(chosen)
}
