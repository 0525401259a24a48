//! The roster: for each position the slot number of a live entry, or a free-list entry.
//!
//! A position belongs to its entry for the entry's whole life (R1). May call `error`, `format`, `os`
//! and `sync`; independent of slots.

use std::sync::Arc;

use crate::error::{Corruption, Error, Result};
use crate::format::roster::{HEADER_BYTES, Position};
use crate::os::mapped_file::{MappedFile, StorePattern};
use crate::os::mmap::{MappedWords, WindowLayout, prefetch};
use crate::sync::{Word, acquire, load, publish};

/// Words of the first window at most, as a power of two: 64 MiB.
const FIRST_LOG2: u32 = 23;
/// Words for 2^31 positions.
const WORDS: u64 = 1 << 30;

/// The roster file, mapped.
#[derive(Debug)]
pub(crate) struct Roster {
    memory: MappedWords,
    file: Arc<MappedFile>,
}

impl Roster {
    /// Maps a roster file whose header was checked.
    pub(crate) fn new(file: Arc<MappedFile>) -> Result<Self> {
        let extent = WindowLayout {
            base: HEADER_BYTES,
            unit_bytes: 8,
            units: WORDS,
            first_log2: FIRST_LOG2,
            stores: StorePattern::Scattered,
        };
        let memory = MappedWords::new(Arc::clone(&file), extent)?;
        Ok(Self { memory, file })
    }

    pub(crate) fn file(&self) -> &Arc<MappedFile> {
        &self.file
    }

    /// Returns the positions that this process knows to be allocated.
    pub(crate) fn capacity(&self) -> u64 {
        self.memory.allocated() / 4
    }

    /// Returns the bytes of the file's blocks, if `positions` of it are in use: as far as this process
    /// knows.
    pub(crate) fn disk_bytes(&self, positions: u64) -> u64 {
        HEADER_BYTES + self.memory.allocated().max(positions.saturating_mul(4))
    }

    /// Returns the positions that are allocated now, asked of the system.
    pub(crate) fn refresh(&self) -> Result<u64> {
        Ok(self.memory.refresh()? / 4)
    }

    /// Allocates blocks for the first `count` positions.
    pub(crate) fn allocate(&self, count: u64) -> Result<()> {
        self.memory.grow((count * 4).next_multiple_of(8))
    }

    /// Returns a reference to a position.
    #[inline(always)]
    fn position_ref(&self, position: u32) -> Result<PositionRef<'_>> {
        // Most rosters are one window.
        let word = match self.memory.first().get(position as usize / 2) {
            Some(word) => word,
            None => self.word_anywhere(position)?,
        };
        Ok(PositionRef {
            word,
            shift: 32 * (position & 1),
        })
    }

    fn word_anywhere(&self, position: u32) -> Result<&Word> {
        if let Some(word) = self.word_within(position)? {
            return Ok(word);
        }
        self.memory.refresh()?;
        self.word_within(position)?
            .ok_or_else(|| self.corrupted(position, Corruption::PositionBeyondEnd))
    }

    /// Returns the error for a corrupt position, with its byte in the roster file.
    #[cold]
    pub(crate) fn corrupted(&self, position: u32, what: Corruption) -> Error {
        let at = HEADER_BYTES + u64::from(position) * 4;
        Error::corrupted(self.file.path(), what, at)
    }

    fn word_within(&self, position: u32) -> Result<Option<&Word>> {
        let word = u64::from(position) / 2;
        let (words, start) = self.memory.window(word)?;
        Ok(words.get((word - start) as usize))
    }

    /// Prefetches a position's cache line.
    #[inline]
    pub(crate) fn prefetch(&self, position: u32) {
        if let Ok(Some(word)) = self.word_within(position) {
            prefetch(word);
        }
    }

    #[inline(always)]
    pub(crate) fn get(&self, position: u32) -> Result<Position> {
        Ok(self.position_ref(position)?.get())
    }

    /// Returns a cursor for accessing many positions one after the other. Finding the window again for
    /// each one took a fifth of the time of moving an entry to another region.
    pub(crate) fn cursor(&self) -> RosterCursor<'_> {
        RosterCursor {
            roster: self,
            start: 0,
            words: &[],
        }
    }

    /// Stores to a position. Only the holder of the writer lock may (L3), because half of a word is
    /// changed by loading and storing the whole word.
    pub(crate) fn set(&self, position: u32, value: Position) -> Result<()> {
        self.position_ref(position)?.set(value);
        Ok(())
    }
}

/// Access to positions that remembers the window of the last one.
#[derive(Debug)]
pub(crate) struct RosterCursor<'a> {
    roster: &'a Roster,
    /// The index of the first of `words` in the roster.
    start: usize,
    words: &'a [Word],
}

impl<'a> RosterCursor<'a> {
    /// Returns a reference to a position.
    #[inline(always)]
    pub(crate) fn at(&mut self, position: u32) -> Result<PositionRef<'a>> {
        let within = (position as usize / 2).wrapping_sub(self.start);
        let word = match self.words.get(within) {
            Some(word) => word,
            None => self.load_window(position)?,
        };
        Ok(PositionRef {
            word,
            shift: 32 * (position & 1),
        })
    }

    #[cold]
    fn load_window(&mut self, position: u32) -> Result<&'a Word> {
        let word = self.roster.word_anywhere(position)?;
        let (words, start) = self.roster.memory.window(u64::from(position) / 2)?;
        (self.words, self.start) = (words, start as usize);
        let within = (position as usize / 2).wrapping_sub(self.start);
        debug_assert!(within < words.len(), "the window has the position");
        Ok(word)
    }
}

/// A reference to one position.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PositionRef<'a> {
    word: &'a Word,
    shift: u32,
}

impl PositionRef<'_> {
    #[inline(always)]
    pub(crate) fn prefetch(self) {
        prefetch(self.word);
    }

    #[inline(always)]
    pub(crate) fn get(self) -> Position {
        Position::from_disk((acquire(self.word) >> self.shift) as u32)
    }

    /// Stores to the position, as [`Roster::set`] does.
    #[inline(always)]
    pub(crate) fn set(self, value: Position) {
        // R1: the other half of the word belongs to another entry and stays as it is.
        let kept = load(self.word) & !(0xffff_ffff << self.shift);
        publish(self.word, kept | (u64::from(value.to_disk()) << self.shift));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // A cursor moves back and forth over the end of a window.
    #[test]
    fn walk_crosses_window_ends() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(HEADER_BYTES + (8 << FIRST_LOG2) + 64).unwrap();
        let roster = Roster::new(MappedFile::new(file, std::path::Path::new("r"), true)).unwrap();
        let first = 2 << FIRST_LOG2;
        let positions = [first - 1, first, 5, first + 9, first - 2, first + 15];
        let mut cursor = roster.cursor();
        for position in positions {
            cursor.at(position).unwrap().set(Position::Free(position));
        }
        for position in positions {
            assert_eq!(roster.get(position).unwrap(), Position::Free(position));
            assert_eq!(
                cursor.at(position).unwrap().get(),
                Position::Free(position),
                "{position}"
            );
        }
        assert!(
            cursor
                .at(first + 16)
                .is_err_and(|error| error.is_corruption())
        );
    }

    #[test]
    fn neighbouring_positions_are_independent() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(64).unwrap();
        let roster = Roster::new(MappedFile::new(file, std::path::Path::new("r"), true)).unwrap();
        roster.allocate(10).unwrap();
        for position in 0..10 {
            roster
                .set(position, Position::Slot(100 + position))
                .unwrap();
        }
        roster.set(4, Position::Free(9)).unwrap();
        roster.set(5, Position::Free(0)).unwrap();
        let all: Vec<_> = (0..10)
            .map(|position| roster.get(position).unwrap())
            .collect();
        // R1: a store to one position leaves its neighbour in the same word alone.
        assert_eq!(all[3], Position::Slot(103));
        assert_eq!(all[4], Position::Free(9));
        assert_eq!(all[5], Position::Free(0));
        assert_eq!(all[6], Position::Slot(106));
        assert!(roster.get(10).is_err_and(|error| error.is_corruption()));
    }
}
