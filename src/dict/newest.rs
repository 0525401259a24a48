//! The newest or oldest keys of a listing, in a bounded heap.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::dict::conditional::ETag;
use crate::dict::error::Result;
use crate::dict::key::DictKey;

/// The keys with the least ranks that were seen, at most `at_most` of them.
pub(super) struct Newest<T> {
    /// The key with the greatest rank is on top: it is replaced first.
    kept: BinaryHeap<(T, DictKey)>,
    at_most: usize,
}

impl<T: Ord> Newest<T> {
    fn of(
        items: impl Iterator<Item = Result<(DictKey, ETag)>>,
        at_most: Option<usize>,
        rank: impl Fn(ETag) -> T,
    ) -> Result<Vec<DictKey>> {
        let mut newest = Self {
            kept: BinaryHeap::new(),
            at_most: at_most.unwrap_or(usize::MAX),
        };
        if newest.at_most == 0 {
            return Ok(Vec::new());
        }
        for item in items {
            let (key, etag) = item?;
            newest.push(rank(etag), key);
        }
        debug_assert!(newest.kept.len() <= newest.at_most);
        let sorted = newest.kept.into_sorted_vec();
        Ok(sorted.into_iter().map(|(_, key)| key).collect())
    }

    fn push(&mut self, rank: T, key: DictKey) {
        if self.kept.len() < self.at_most {
            self.kept.push((rank, key));
            return;
        }
        if let Some(mut last) = self.kept.peek_mut()
            && rank < last.0
        {
            *last = (rank, key);
        }
    }
}

impl Newest<ETag> {
    /// Returns the oldest keys, oldest first.
    pub(super) fn oldest(
        items: impl Iterator<Item = Result<(DictKey, ETag)>>,
        at_most: Option<usize>,
    ) -> Result<Vec<DictKey>> {
        Self::of(items, at_most, |etag| etag)
    }

    /// Returns the newest keys, newest first.
    pub(super) fn newest(
        items: impl Iterator<Item = Result<(DictKey, ETag)>>,
        at_most: Option<usize>,
    ) -> Result<Vec<DictKey>> {
        Newest::of(items, at_most, Reverse)
    }
}
