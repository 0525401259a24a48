//! Iterates over all labels in the order of their ids, and skips gaps.

use std::fmt;

use crate::engine::ids::{self, IdTally};
use crate::error::Result;
use crate::labels::id::LabelId;
use crate::mmap_cache::MmapCache;

/// Iterates over the labels and their ids; made by [`Labels::iter`](crate::Labels::iter).
pub struct LabelIter<'a> {
    cache: &'a MmapCache,
    /// The engine's id of the next label, and of the last one.
    next: u64,
    last: u64,
    tally: IdTally,
    /// Number of labels found.
    found: u64,
    label: Vec<u8>,
}

impl fmt::Debug for LabelIter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LabelIter")
            .field("path", &self.cache.path())
            .field("position", &(self.next - 1))
            .field("end", &self.last)
            .finish()
    }
}

impl<'a> LabelIter<'a> {
    pub(super) fn new(cache: &'a MmapCache) -> Result<Self> {
        // Before the last number is read.
        let tally = IdTally::of(cache.handle())?;
        Ok(Self {
            cache,
            next: 1,
            last: ids::ids_given(cache.handle())?,
            tally,
            found: 0,
            label: Vec::new(),
        })
    }

    /// Returns the next label, borrowed from a buffer that the next call overwrites. Does not allocate.
    ///
    /// # Errors
    ///
    /// Returns the errors of the iterator's items; see [`Labels::iter`](crate::Labels::iter).
    pub fn next_borrowed(&mut self) -> Option<Result<(LabelId, &[u8])>> {
        while self.next <= self.last {
            let number = self.next;
            self.next += 1;
            self.label.clear();
            match ids::key_of(self.cache.handle(), number, &mut self.label) {
                Ok(false) => {}
                Ok(true) => {
                    self.found += 1;
                    return Some(Ok((LabelId::from_engine(number), &self.label)));
                }
                Err(error) => {
                    self.next = self.last.saturating_add(2);
                    return Some(Err(error));
                }
            }
        }
        // Compared once: the next call returns `None`.
        if self.next > self.last.saturating_add(1) {
            return None;
        }
        self.next = self.last.saturating_add(2);
        let checked = self.tally.check(self.cache.handle(), self.found);
        checked.err().map(Err)
    }
}

impl Iterator for LabelIter<'_> {
    type Item = Result<(LabelId, Vec<u8>)>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.next_borrowed()?;
        Some(next.map(|(id, label)| (id, label.to_vec())))
    }
}

impl std::iter::FusedIterator for LabelIter<'_> {}
