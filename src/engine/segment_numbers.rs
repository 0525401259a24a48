//! The segment numbers that a heap can have, without a listing of the directory.
//!
//! The directory may have any number of other files, so only repair and recovery list it. This file
//! alone stores the extent of the heap that a generation replaced. May call `index::header` and
//! `os::files`.

use std::path::Path;

use crate::error::Result;
use crate::index::header::Header;
use crate::os::file_names::{FileNames, Stage};

/// Numbers that a header can name.
const NUMBERS: u32 = 1 << 16;

/// A range of segment numbers: the first, and one past the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    first: u16,
    end: u32,
}

impl Extent {
    /// No segment.
    pub(crate) const NONE: Self = Self { first: 1, end: 1 };

    /// Returns the numbers from the oldest segment of a heap up to the one after the last that its
    /// header names: H3, a writer may have been killed after it named that file, and before the
    /// header named it.
    pub(crate) fn of(header: Header<'_>) -> Self {
        let first = header.oldest();
        let last = header.reserved().segment.max(first);
        let end = (u32::from(last) + 2).min(NUMBERS);
        debug_assert!(u32::from(last) < end, "H3: one more may have a name");
        Self { first, end }
    }

    /// Returns the extent of the heap that a generation replaced; `None` if its header does not say.
    pub(crate) fn replaced(header: Header<'_>) -> Option<Self> {
        let (first, end) = header.replaced_extent();
        let first = u16::try_from(first).ok()?;
        (end != 0 && end <= u64::from(NUMBERS) && u64::from(first) <= end).then_some(Self {
            first,
            end: end as u32,
        })
    }

    /// Stores in the header of a new generation that it replaces this extent.
    pub(crate) fn set_replaced(self, header: Header<'_>) {
        debug_assert!(u32::from(self.first) <= self.end && self.end <= NUMBERS);
        header.set_replaced_extent(self.first, self.end);
    }

    pub(crate) fn numbers(self) -> impl DoubleEndedIterator<Item = u16> {
        (u32::from(self.first)..self.end).map(|number| number as u16)
    }
}

/// Missing numbers in a row after which the search from that end stops.
const GAP: usize = 64;

/// Returns the numbers from `first` to `last` that have a file, from low to high.
///
/// Searches from both ends, up to a gap of [`GAP`] numbers: a damaged header may name sixty thousand
/// segments that do not exist.
pub(crate) fn present_numbers(names: &FileNames, first: u16, last: u16) -> Vec<u16> {
    let is_there = |number| {
        let has = |stage| is_there(&names.segment(number, stage));
        has(Stage::Final) || has(Stage::New)
    };
    let mut from_first = take_present(first..=last, &is_there);
    let reached = from_first.last().map_or(first, |&number| number);
    let rest = reached.max(first)..=last;
    let mut from_last = take_present(rest.rev(), &is_there);
    from_last.reverse();
    from_first.extend(from_last);
    from_first.dedup();
    debug_assert!(from_first.is_sorted_by(|one, next| one < next), "each once");
    from_first
}

fn take_present(numbers: impl Iterator<Item = u16>, is_there: &impl Fn(u16) -> bool) -> Vec<u16> {
    let mut missed = 0;
    let mut present = Vec::new();
    for number in numbers {
        if is_there(number) {
            missed = 0;
            present.push(number);
        } else {
            missed += 1;
            if missed == GAP {
                break;
            }
        }
    }
    present
}

/// Returns the numbers of segments that may have staged names, from low to high: those of `extent`,
/// and those from 0 up to the first that is missing, since a new heap begins at 0.
pub(crate) fn staged_numbers(names: &FileNames, extent: Extent) -> Vec<u16> {
    let staged = |&number: &u16| {
        let path = names.segment(number, Stage::New);
        path.symlink_metadata().is_ok()
    };
    let mut numbers: Vec<u16> = (0..=u16::MAX).take_while(staged).collect();
    let beyond = numbers.len();
    numbers.extend(
        extent
            .numbers()
            .filter(|&number| usize::from(number) >= beyond),
    );
    debug_assert!(numbers.is_sorted_by(|one, next| one < next), "each once");
    numbers
}

/// Returns a segment that a cache without an index left, if there is one.
///
/// Looks at the name of the first segment. It may have been removed by cleaning, so if `P.lock` says
/// that there was a cache before, lists the directory for the others.
pub(crate) fn left_segment(names: &FileNames, was_used: bool) -> Result<Option<u16>> {
    let is_there = |number| is_there(&names.segment(number, Stage::Final));
    if is_there(0) {
        return Ok(Some(0));
    }
    if !was_used {
        return Ok(None);
    }
    let mut all = names.segments()?.into_iter();
    Ok(all
        .find(|&(_, stage)| stage == Stage::Final)
        .map(|(number, _)| number))
}

/// Returns whether a path exists, also if it is only a dangling link.
pub(crate) fn is_there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::heap_addr::HeapAddr;
    use crate::format::index::word;
    use crate::index::redo::WORDS;
    use crate::sync::Word;

    fn page() -> Vec<Word> {
        (0..WORDS).map(|_| Word::new(0)).collect()
    }

    #[test]
    fn extent_ends_after_next_segment() {
        let page = page();
        let header = Header::new(&page).unwrap();
        header.clean_words().set_oldest(3);
        header.heap_end_words().set_reserved(HeapAddr {
            segment: 5,
            unit: 9,
        });
        let numbers: Vec<_> = Extent::of(header).numbers().collect();
        assert_eq!(numbers, [3, 4, 5, 6]);
        header.heap_end_words().set_reserved(HeapAddr {
            segment: u16::MAX,
            unit: 9,
        });
        assert_eq!(Extent::of(header).numbers().last(), Some(u16::MAX));
    }

    #[test]
    fn corrupt_header_costs_few_lookups() {
        let looked = std::cell::Cell::new(0);
        let is_there = |number| {
            looked.set(looked.get() + 1);
            [3, 4, 6, 70].contains(&number)
        };
        assert_eq!(take_present(3..=u16::MAX, &is_there), [3, 4, 6, 70]);
        assert_eq!(looked.get(), 68 + GAP);
    }

    #[test]
    fn corrupt_replaced_extent_is_unknown() {
        let page = page();
        let header = Header::new(&page).unwrap();
        assert_eq!(Extent::replaced(header), None, "a file of an older release");
        Extent::NONE.set_replaced(header);
        assert_eq!(
            Extent::replaced(header).map(|none| none.numbers().count()),
            Some(0)
        );
        for (first, end) in [(2, 1), (1 << 16, 1 << 16), (0, (1 << 16) + 1)] {
            header.corrupt(word::REPLACED_FIRST, first);
            header.corrupt(word::REPLACED_END, end);
            assert_eq!(Extent::replaced(header), None, "{first}..{end}");
        }
    }
}
