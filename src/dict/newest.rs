//! The newest, or oldest, of many keys.
//!
//! Knows tags and an order, and holds no more keys than are asked for.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::dict::error::Result;
use crate::dict::etag::ETag;
use crate::dict::key::DictKey;

/// Keys with the place in time that they are chosen by; the one to go first is on top.
pub(super) struct Newest<T> {
    kept: BinaryHeap<(T, DictKey)>,
    at_most: usize,
}

impl<T: Ord> Newest<T> {
    fn of(
        items: impl Iterator<Item = Result<(DictKey, ETag)>>,
        at_most: Option<usize>,
        place: impl Fn(ETag) -> T,
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
            newest.see(place(etag), key);
        }
        let sorted = newest.kept.into_sorted_vec();
        Ok(sorted.into_iter().map(|(_, key)| key).collect())
    }

    fn see(&mut self, place: T, key: DictKey) {
        if self.kept.len() < self.at_most {
            self.kept.push((place, key));
            return;
        }
        if let Some(mut last) = self.kept.peek_mut()
            && place < last.0
        {
            *last = (place, key);
        }
    }
}

impl Newest<ETag> {
    /// The oldest, oldest first.
    pub(super) fn oldest(
        items: impl Iterator<Item = Result<(DictKey, ETag)>>,
        at_most: Option<usize>,
    ) -> Result<Vec<DictKey>> {
        Self::of(items, at_most, |etag| etag)
    }

    /// The newest, newest first.
    pub(super) fn newest(
        items: impl Iterator<Item = Result<(DictKey, ETag)>>,
        at_most: Option<usize>,
    ) -> Result<Vec<DictKey>> {
        Newest::of(items, at_most, Reverse)
    }
}
