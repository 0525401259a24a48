//! Which records of the heap this process knows to be dead, so that cleaning passes over them.
//!
//! A hint, kept in memory and never in a file: no power loss can leave it beside an older index, no
//! damage turns a live record into a dead one, and no page of the heap is written for it. Knows
//! places and lengths, not why a record is dead, nor what other processes know.

use std::ops::Range;

use crate::format::slot::Place;

/// Units of heap for which there is one bit, that of the record which covers the first of them. No
/// record is shorter, so each has a bit of its own.
const BLOCK_UNITS: u32 = 4;
/// Words of bits that are taken at once, for 16 MiB of heap.
const PIECE_WORDS: usize = 8 << 10;
/// Pieces that are kept at most: 64 MiB, for 16 GiB of heap.
const MOST_PIECES: usize = 1 << 10;

const _: () = assert!(crate::format::record::HEADER_BYTES < BLOCK_UNITS as usize * 8);

/// The dead records of one generation's heap, as far as they are known.
#[derive(Debug)]
pub(crate) struct Dead {
    /// The id of the generation. In another one, older records may have been linked to again.
    generation: u64,
    /// The number of the first segment in `segments`.
    first: u16,
    segments: Vec<Option<Blocks>>,
    /// That are taken, of all segments together.
    pieces: usize,
}

impl Dead {
    pub(crate) fn new(generation: u64) -> Self {
        Self {
            generation,
            first: 0,
            segments: Vec::new(),
            pieces: 0,
        }
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// A record is dead, and will be for as long as the generation lasts.
    pub(crate) fn mark(&mut self, place: Place, units: u32) {
        if self.segments.is_empty() {
            self.first = place.segment;
        }
        let Some(at) = place.segment.checked_sub(self.first).map(usize::from) else {
            return self.mark_before(place, units);
        };
        if at >= self.segments.len() {
            self.segments.resize_with(at + 1, || None);
        }
        let blocks = self.segments[at].get_or_insert_default();
        let units = place.unit..place.unit.saturating_add(units);
        blocks.set(units, &mut self.pieces);
    }

    #[cold]
    fn mark_before(&mut self, place: Place, units: u32) {
        let more = usize::from(self.first - place.segment);
        self.segments
            .splice(0..0, std::iter::repeat_with(|| None).take(more));
        self.first = place.segment;
        self.mark(place, units);
    }

    /// Forgets what is known of the segments before one.
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

    /// What is known of a segment.
    pub(crate) fn of(&self, number: u16) -> Option<&Blocks> {
        let at = usize::from(number.checked_sub(self.first)?);
        self.segments.get(at)?.as_ref()
    }
}

/// A segment's dead records: a bit for each block whose first unit is one of a dead record's.
///
/// In pieces, each taken when something in it is marked: what a file says of its size takes no
/// memory.
#[derive(Debug, Default)]
pub(crate) struct Blocks(Vec<Option<Box<[u64; PIECE_WORDS]>>>);

impl Blocks {
    fn set(&mut self, units: Range<u32>, taken: &mut usize) {
        for (at, mask) in masks(&units) {
            match self.piece(at / PIECE_WORDS, taken) {
                Some(piece) => piece[at % PIECE_WORDS] |= mask,
                None => return,
            }
        }
    }

    /// A piece to mark in; none where there are as many as may be.
    fn piece(&mut self, at: usize, taken: &mut usize) -> Option<&mut [u64; PIECE_WORDS]> {
        if at >= self.0.len() {
            self.0.resize_with(at + 1, || None);
        }
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

    /// Whether no record that is not known to be dead covers a block's first unit here. Since each
    /// record covers one, whoever passes over such a range misses nothing that is live, whatever
    /// made it believe that a record reaches so far.
    pub(crate) fn cover(&self, units: Range<u32>) -> bool {
        !units.is_empty() && masks(&units).all(|(at, mask)| self.word(at) & mask == mask)
    }
}

/// The words, and the bits in them, of the blocks that begin in a range.
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

    fn place(segment: u16, unit: u32) -> Place {
        Place { segment, unit }
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
        let mut known = Dead::new(1);
        for (units, dead) in &records {
            if *dead {
                known.mark(place(3, units.start), units.len() as u32);
            }
        }
        let blocks = known.of(3).unwrap();
        for (units, dead) in &records {
            assert_eq!(blocks.cover(units.clone()), *dead, "{units:?}");
        }
        for pair in records.windows(2) {
            let both = pair[0].0.start..pair[1].0.end;
            assert_eq!(blocks.cover(both), pair[0].1 && pair[1].1, "{pair:?}");
        }
        assert!(!blocks.cover(unit - 4..u32::MAX));
        assert!(!blocks.cover(20..20));
    }

    // Segments may be marked in any order; their marks last until they are forgotten.
    #[test]
    fn dead_marks_last_until_forgotten() {
        let mut known = Dead::new(1);
        for number in [7, 9, 4] {
            known.mark(place(number, 100), 50);
        }
        let knows = |known: &Dead, number| known.of(number).is_some_and(|it| it.cover(100..150));
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
        known.mark(place(601, 100), 50);
        assert!(knows(&known, 601));
    }

    /// Units of heap to a piece.
    const PIECE_UNITS: u32 = BLOCK_UNITS * 64 * PIECE_WORDS as u32;

    #[test]
    fn dead_set_respects_memory_limit() {
        let mut known = Dead::new(1);
        let knows = |known: &Dead, number, unit| {
            let blocks = known.of(number);
            blocks.is_some_and(|blocks| blocks.cover(unit..unit + 50))
        };
        for number in 0..3 {
            for piece in 0..MOST_PIECES as u32 * 2 / 3 {
                known.mark(place(number, piece * PIECE_UNITS + 100), 50);
            }
        }
        assert_eq!(known.pieces, MOST_PIECES);
        assert!(knows(&known, 0, 100) && knows(&known, 1, 100) && !knows(&known, 2, 100));
        known.forget_before(1);
        known.mark(place(2, 100), 50);
        assert!(knows(&known, 2, 100));
    }

    #[test]
    fn distant_mark_takes_one_piece() {
        let mut known = Dead::new(1);
        known.mark(place(0, u32::MAX - 99), 50);
        assert_eq!(known.pieces, 1);
        assert!(known.of(0).unwrap().cover(u32::MAX - 99..u32::MAX - 49));
    }

    #[test]
    fn dead_record_may_span_pieces() {
        let mut known = Dead::new(1);
        let units = PIECE_UNITS - 10..PIECE_UNITS + 30;
        known.mark(place(0, units.start), 40);
        assert_eq!(known.pieces, 2);
        assert!(known.of(0).unwrap().cover(units));
    }
}
