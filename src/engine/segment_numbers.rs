//! Which segment numbers a heap can have, known without a listing of the directory.
//!
//! The directory may have any number of other files, so a listing is left to repair and recovery.
//! It reads header words; it opens no segment.

use std::path::Path;

use crate::error::Result;
use crate::format::index::word;
use crate::index::header::Header;
use crate::os::files::{Names, Stage};

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

    /// From the oldest segment of a heap up to the one after the last that its header names: a
    /// writer may have been killed after it named that file, and before the header did.
    pub(crate) fn of(header: Header<'_>) -> Self {
        let first = header.oldest();
        let last = header.reserved().segment.max(first);
        Self {
            first,
            end: (u32::from(last) + 2).min(NUMBERS),
        }
    }

    /// That of the heap which a generation replaced; none where its header does not say.
    pub(crate) fn replaced(header: Header<'_>) -> Option<Self> {
        let (first, end) = (
            header.get(word::REPLACED_FIRST),
            header.get(word::REPLACED_END),
        );
        let first = u16::try_from(first).ok()?;
        (end != 0 && end <= u64::from(NUMBERS) && u64::from(first) <= end).then_some(Self {
            first,
            end: end as u32,
        })
    }

    /// Stores in the header of a new generation that this is what it replaces.
    pub(crate) fn set_replaced(self, header: Header<'_>) {
        header.set(word::REPLACED_FIRST, self.first.into());
        header.set(word::REPLACED_END, self.end.into());
    }

    pub(crate) fn numbers(self) -> impl DoubleEndedIterator<Item = u16> {
        (u32::from(self.first)..self.end).map(|number| number as u16)
    }
}

/// Missing numbers in a row after which no more are looked for from that end.
const GAP: usize = 64;

/// The numbers from `first` to `last` under which there is a file, from low to high.
///
/// Looked for from both ends, up to a gap of [`GAP`] numbers: a damaged header may name sixty
/// thousand segments that are not there.
pub(crate) fn present_numbers(names: &Names, first: u16, last: u16) -> Vec<u16> {
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

/// The numbers under which segments may have preliminary names, from low to high: those of
/// `extent`, and those from 0 up to the first that is not there, since a new heap begins at 0.
pub(crate) fn staged_numbers(names: &Names, extent: Extent) -> Vec<u16> {
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
    numbers
}

/// A segment that a cache without an index left; none where there is none.
///
/// The first segment is looked for by its name. It may have been cleaned away; the others are
/// looked for, by one listing, only where `P.lock` says that there was a cache here before.
pub(crate) fn left_segment(names: &Names, was_used: bool) -> Result<Option<u16>> {
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

/// Whether something has this name, if only a link that leads nowhere.
pub(crate) fn is_there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::slot::Place;
    use crate::index::header::WORDS;
    use crate::sync::Word;

    fn page() -> Vec<Word> {
        (0..WORDS).map(|_| Word::new(0)).collect()
    }

    #[test]
    fn extent_ends_after_next_segment() {
        let page = page();
        let header = Header::new(&page).unwrap();
        header.set_oldest(3);
        header.unreserve(Place {
            segment: 5,
            unit: 9,
        });
        let numbers: Vec<_> = Extent::of(header).numbers().collect();
        assert_eq!(numbers, [3, 4, 5, 6]);
        header.unreserve(Place {
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
            header.set(word::REPLACED_FIRST, first);
            header.set(word::REPLACED_END, end);
            assert_eq!(Extent::replaced(header), None, "{first}..{end}");
        }
    }
}
