//! All labels, in the order of their ids.
//!
//! Knows which ids there are and passes over those that nobody has.

use std::fmt;

use crate::cache::MmapCache;
use crate::engine::NumberTally;
use crate::error::Result;
use crate::labels::id::LabelId;

/// The labels and their ids; made by [`Labels::iter`](crate::Labels::iter).
pub struct LabelIter<'a> {
    cache: &'a MmapCache,
    /// The number of the next label, and the last one.
    next: u64,
    last: u64,
    tally: NumberTally,
    /// Labels that were found.
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
        let tally = NumberTally::of(cache.handle())?;
        Ok(Self {
            cache,
            next: 1,
            last: cache.handle().numbers_given()?,
            tally,
            found: 0,
            label: Vec::new(),
        })
    }

    /// The next label, borrowed from a buffer that the next call uses again: listing without
    /// allocations.
    ///
    /// # Errors
    ///
    /// As the iterator's items.
    pub fn next_borrowed(&mut self) -> Option<Result<(LabelId, &[u8])>> {
        while self.next <= self.last {
            let number = self.next;
            self.next += 1;
            self.label.clear();
            match self.cache.handle().key_of(number, &mut self.label) {
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
        // Compared once: the next call finds the end behind it.
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
