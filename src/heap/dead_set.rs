//! The set of records that this process knows to be dead, so that cleaning skips them.
//!
//! A hint, in memory only: no power loss can leave it beside an older index, no corruption turns a
//! live record into a dead one, and no page of the heap is written for it. Records of other
//! processes are missing from it. May call `format`.

use std::ops::Range;

use crate::format::heap_addr::HeapAddr;

/// Units of heap per bit. A bit belongs to the record that covers the first of its units, and no record
/// is shorter, so each record has a bit of its own.
const BLOCK_UNITS: u32 = 4;
/// Words of bits that are allocated at once, for 16 MiB of heap.
const PIECE_WORDS: usize = 8 << 10;
/// Pieces at most: 64 MiB, for 16 GiB of heap.
const MOST_PIECES: usize = 1 << 10;

const _: () = assert!(crate::format::record::HEADER_BYTES < BLOCK_UNITS as usize * 8);

/// The known dead records of one generation's heap.
#[derive(Debug)]
pub(crate) struct DeadSet {
    /// The roster id of the generation. In another one, links may lead to older records again.
    roster_id: u64,
    /// The number of the first segment in `segments`.
    first: u16,
    segments: Vec<Option<DeadBlocks>>,
    /// Allocated pieces of all segments together.
    pieces: usize,
}

impl DeadSet {
    pub(crate) fn new(roster_id: u64) -> Self {
        Self {
            roster_id,
            first: 0,
            segments: Vec::new(),
            pieces: 0,
        }
    }

    pub(crate) fn roster_id(&self) -> u64 {
        self.roster_id
    }

    /// Adds a record, which stays dead for as long as the generation lasts.
    pub(crate) fn mark(&mut self, addr: HeapAddr, units: u32) {
        debug_assert!(units >= BLOCK_UNITS, "each record has a bit");
        if self.segments.is_empty() {
            self.first = addr.segment;
        }
        let Some(at) = addr.segment.checked_sub(self.first).map(usize::from) else {
            return self.mark_before(addr, units);
        };
        if at >= self.segments.len() {
            self.segments.resize_with(at + 1, || None);
        }
        let blocks = self.segments[at].get_or_insert_default();
        let units = addr.unit..addr.unit.saturating_add(units);
        blocks.set(units, &mut self.pieces);
    }

    #[cold]
    fn mark_before(&mut self, addr: HeapAddr, units: u32) {
        debug_assert!(addr.segment < self.first);
        let more = usize::from(self.first - addr.segment);
        self.segments
            .splice(0..0, std::iter::repeat_with(|| None).take(more));
        self.first = addr.segment;
        self.mark(addr, units);
    }

    /// Removes the records of all segments before `number`.
    pub(crate) fn forget_before(&mut self, number: u16) {
        if number <= self.first {
            return;
        }
        let gone = usize::from(number - self.first).min(self.segments.len());
        for blocks in self.segments.drain(..gone).flatten() {
            self.pieces -= blocks.0.iter().flatten().count();
        }
        self.first = number;
    }

    /// Returns the dead records of a segment. `None` if none is known.
    pub(crate) fn of(&self, number: u16) -> Option<&DeadBlocks> {
        let at = usize::from(number.checked_sub(self.first)?);
        self.segments.get(at)?.as_ref()
    }
}

/// A segment's dead records: a bit for each block whose first unit belongs to a dead record.
///
/// In pieces, each allocated when a record in it is marked, so that a corrupt size takes no memory.
#[derive(Debug, Default)]
pub(crate) struct DeadBlocks(Vec<Option<Box<[u64; PIECE_WORDS]>>>);

impl DeadBlocks {
    fn set(&mut self, units: Range<u32>, taken: &mut usize) {
        for (at, mask) in masks(&units) {
            match self.piece(at / PIECE_WORDS, taken) {
                Some(piece) => piece[at % PIECE_WORDS] |= mask,
                None => return,
            }
        }
    }

    /// Returns the piece to mark in. `None` if the limit of pieces is reached.
    fn piece(&mut self, at: usize, taken: &mut usize) -> Option<&mut [u64; PIECE_WORDS]> {
        if at >= self.0.len() {
            self.0.resize_with(at + 1, || None);
        }
        debug_assert!(*taken <= MOST_PIECES);
        let piece = &mut self.0[at];
        if piece.is_none() {
            if *taken == MOST_PIECES {
                return None;
            }
            *taken += 1;
            *piece = vec![0; PIECE_WORDS].try_into().ok();
        }
        piece.as_deref_mut()
    }

    fn word(&self, at: usize) -> u64 {
        let piece = self.0.get(at / PIECE_WORDS).and_then(Option::as_ref);
        piece.map_or(0, |piece| piece[at % PIECE_WORDS])
    }

    /// Returns whether each block that begins in this range has a dead record at its first unit.
    /// Since each record covers the first unit of a block, a scan that skips such a range misses no
    /// live record, even if a corrupt length told it how far to skip.
    pub(crate) fn covers(&self, units: Range<u32>) -> bool {
        !units.is_empty() && masks(&units).all(|(at, mask)| self.word(at) & mask == mask)
    }
}

/// Returns the words, and the bits in them, of the blocks that begin in a range.
fn masks(units: &Range<u32>) -> impl Iterator<Item = (usize, u64)> + use<> {
    let (from, to) = (
        units.start.div_ceil(BLOCK_UNITS),
        units.end.div_ceil(BLOCK_UNITS),
    );
    let words = from / 64..to.div_ceil(64).max(from / 64);
    words.map(move |at| {
        let low = from.saturating_sub(at * 64).min(63);
        let above = (at * 64 + 64).saturating_sub(to);
        let mask = (u64::MAX << low) & u64::MAX.checked_shr(above).unwrap_or(0);
        (at as usize, mask)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(segment: u16, unit: u32) -> HeapAddr {
        HeapAddr { segment, unit }
    }

    #[test]
    fn exactly_the_marked_records_are_dead() {
        // Lengths around a block's and a word's, at all distances from their beginnings.
        let lengths = [4, 5, 6, 7, 8, 9, 19, 255, 256, 257, 4, 300, 4, 4, 1021];
        let mut records = Vec::new();
        let mut unit = 16;
        for turn in 0..40_u32 {
            for (at, length) in (0..).zip(lengths) {
                let dead = (turn * 7 + at * turn + at * at) % 3 != 0;
                records.push((unit..unit + length, dead));
                unit += length;
            }
        }
        let mut known = DeadSet::new(1);
        for (units, dead) in &records {
            if *dead {
                known.mark(addr(3, units.start), units.len() as u32);
            }
        }
        let blocks = known.of(3).unwrap();
        for (units, dead) in &records {
            assert_eq!(blocks.covers(units.clone()), *dead, "{units:?}");
        }
        for pair in records.windows(2) {
            let both = pair[0].0.start..pair[1].0.end;
            assert_eq!(blocks.covers(both), pair[0].1 && pair[1].1, "{pair:?}");
        }
        assert!(!blocks.covers(unit - 4..u32::MAX));
        assert!(!blocks.covers(20..20));
    }

    // Segments may be marked in any order; their marks last until they are forgotten.
    #[test]
    fn dead_marks_last_until_forgotten() {
        let mut known = DeadSet::new(1);
        for number in [7, 9, 4] {
            known.mark(addr(number, 100), 50);
        }
        let knows =
            |known: &DeadSet, number| known.of(number).is_some_and(|it| it.covers(100..150));
        assert_eq!(
            (0..12).filter(|&at| knows(&known, at)).collect::<Vec<_>>(),
            [4, 7, 9]
        );
        known.forget_before(8);
        assert_eq!(
            (0..12).filter(|&at| knows(&known, at)).collect::<Vec<_>>(),
            [9]
        );
        known.forget_before(600);
        assert_eq!(known.pieces, 0);
        known.mark(addr(601, 100), 50);
        assert!(knows(&known, 601));
    }

    /// Units of heap to a piece.
    const PIECE_UNITS: u32 = BLOCK_UNITS * 64 * PIECE_WORDS as u32;

    #[test]
    fn dead_set_respects_memory_limit() {
        let mut known = DeadSet::new(1);
        let knows = |known: &DeadSet, number, unit| {
            let blocks = known.of(number);
            blocks.is_some_and(|blocks| blocks.covers(unit..unit + 50))
        };
        for number in 0..3 {
            for piece in 0..MOST_PIECES as u32 * 2 / 3 {
                known.mark(addr(number, piece * PIECE_UNITS + 100), 50);
            }
        }
        assert_eq!(known.pieces, MOST_PIECES);
        assert!(knows(&known, 0, 100) && knows(&known, 1, 100) && !knows(&known, 2, 100));
        known.forget_before(1);
        known.mark(addr(2, 100), 50);
        assert!(knows(&known, 2, 100));
    }

    #[test]
    fn distant_mark_takes_one_piece() {
        let mut known = DeadSet::new(1);
        known.mark(addr(0, u32::MAX - 99), 50);
        assert_eq!(known.pieces, 1);
        assert!(known.of(0).unwrap().covers(u32::MAX - 99..u32::MAX - 49));
    }

    #[test]
    fn dead_record_may_span_pieces() {
        let mut known = DeadSet::new(1);
        let units = PIECE_UNITS - 10..PIECE_UNITS + 30;
        known.mark(addr(0, units.start), 40);
        assert_eq!(known.pieces, 2);
        assert!(known.of(0).unwrap().covers(units));
    }
}
