//! Walking a segment record by record, and finding the way again behind damage.
//!
//! The one walker of cleaning, recovery and verification. It knows records, not whether anything
//! links to them.

use crate::error::Result;
use crate::format::record::Header;
use crate::format::slot::Place;
use crate::heap::{Blocks, Segment};
use crate::sync::load;

/// A walk over the records of a segment.
#[derive(Debug)]
pub(crate) struct Walker<'a> {
    segment: &'a Segment,
    unit: u32,
    end: u32,
    /// Bytes that may still be summed in vain: a hostile segment is full of lengths that lead
    /// nowhere.
    budget: u64,
}

/// What a walk came by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// A record that verifies.
    Record(Place, Header),
    /// A stretch of bytes that are no record, from here to there in units.
    Damage { from: u32, to: u32 },
}

impl<'a> Walker<'a> {
    pub(super) fn new(segment: &'a Segment, unit: u32, end: u32) -> Self {
        let end = end.min(segment.capacity_units());
        Self {
            segment,
            unit,
            end,
            budget: 8 * segment.allocated() + (1 << 16),
        }
    }

    /// Where the walk stands: everything before this was reported.
    pub(crate) fn unit(&self) -> u32 {
        self.unit
    }

    /// Whether the walk ended before its time, and does not know what lies behind.
    pub(crate) fn gave_up(&self) -> bool {
        self.budget == 0
    }

    /// Passes over the record here by its length alone if all of it is known to be dead. Whether it
    /// did.
    ///
    /// A damaged length leads nowhere else than to another place among the dead: the walk goes on
    /// there, and finds the way again as behind any damage.
    #[inline]
    pub(crate) fn pass_dead(&mut self, dead: &Blocks) -> Result<bool> {
        let Some((header, _)) = self.segment.record(self.unit)? else {
            return Ok(false);
        };
        let next = u64::from(self.unit) + header.stored_bytes() / 8;
        if next > u64::from(self.end) || !dead.cover(self.unit..next as u32) {
            return Ok(false);
        }
        self.unit = next as u32;
        Ok(true)
    }

    /// The next record or stretch of damage; none at the end.
    pub(crate) fn step(&mut self) -> Result<Option<Found>> {
        self.step_by(Segment::verify)
    }

    /// As [`Walker::step`]; of a record the key is appended to `out` and, if it takes no more than
    /// `most` bytes, the value.
    pub(crate) fn step_reading(&mut self, most: u64, out: &mut Vec<u8>) -> Result<Option<Found>> {
        let start = out.len();
        let found = self.step_by(|segment, unit| segment.read_small(unit, most, out))?;
        if !matches!(found, Some(Found::Record(..))) {
            out.truncate(start);
        }
        Ok(found)
    }

    #[inline(always)]
    fn step_by(
        &mut self,
        mut verify: impl FnMut(&Segment, u32) -> Result<Option<Header>>,
    ) -> Result<Option<Found>> {
        let from = self.unit;
        if let Some(header) = self.record_at(from, &mut verify)? {
            return Ok(Some(self.pass(header)));
        }
        let Some(next) = self.next_nonzero(from)? else {
            // Zeros to the end: what a rotate left over, or what was never written.
            self.unit = self.end;
            return Ok(None);
        };
        let mut at = next;
        while at < self.end && self.budget > 0 {
            if self.record_at(at, &mut verify)?.is_some() {
                break;
            }
            at += 1;
        }
        self.unit = if self.budget == 0 { self.end } else { at };
        Ok(Some(Found::Damage {
            from,
            to: self.unit,
        }))
    }

    fn pass(&mut self, header: Header) -> Found {
        let place = Place {
            segment: self.segment.number(),
            unit: self.unit,
        };
        self.unit += (header.stored_bytes() / 8) as u32;
        Found::Record(place, header)
    }

    /// A record that verifies and ends before the walk does.
    fn record_at(
        &mut self,
        unit: u32,
        mut verify: impl FnMut(&Segment, u32) -> Result<Option<Header>>,
    ) -> Result<Option<Header>> {
        if unit >= self.end {
            return Ok(None);
        }
        let Some((header, _)) = self.segment.record(unit)? else {
            self.budget = self.budget.saturating_sub(8);
            return Ok(None);
        };
        if u64::from(unit) + header.stored_bytes() / 8 > u64::from(self.end) {
            self.budget = self.budget.saturating_sub(8);
            return Ok(None);
        }
        let verified = verify(self.segment, unit)?;
        if verified.is_none() {
            self.budget = self.budget.saturating_sub(header.stored_bytes());
        }
        Ok(verified)
    }

    fn next_nonzero(&self, from: u32) -> Result<Option<u32>> {
        let words = self.segment.memory.first();
        let end = words.len().min(self.end as usize);
        let rest = words.get(from as usize..end).unwrap_or(&[]);
        Ok(rest
            .iter()
            .position(|word| load(word) != 0)
            .map(|ahead| from + ahead as u32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::record::Kind;
    use crate::sync::store;

    fn walk(segment: &Segment) -> Vec<Found> {
        let mut walker = segment.walk(0, segment.capacity_units());
        std::iter::from_fn(|| walker.step().unwrap()).collect()
    }

    fn filled() -> (Segment, Vec<u32>) {
        let segment = Segment::plain(8192);
        let mut starts = vec![16];
        for i in 0..10_u8 {
            let next = segment.put(starts[i as usize], &[i + 1; 9], &vec![i; 10 * i as usize]);
            starts.push(next);
        }
        (segment, starts)
    }

    #[test]
    fn walk_visits_records_until_zeros() {
        let (segment, starts) = filled();
        let found = walk(&segment);
        assert_eq!(found.len(), 10);
        for (found, &start) in found.iter().zip(&starts) {
            assert!(matches!(found, Found::Record(place, _) if place.unit == start));
        }
    }

    #[test]
    fn walk_finds_records_after_corruption() {
        for damaged in 0..10 {
            for word in 0..4 {
                let (segment, starts) = filled();
                let target = segment.word(starts[damaged] as usize + word);
                store(target, !load(target));
                let found = walk(&segment);
                let records = found
                    .iter()
                    .filter(|found| matches!(found, Found::Record(..)))
                    .count();
                assert_eq!(records, 9, "record {damaged}, word {word}");
                let stretch = Found::Damage {
                    from: starts[damaged],
                    to: starts[damaged + 1],
                };
                assert!(found.contains(&stretch) || damaged == 9, "{found:?}");
            }
        }
    }

    #[test]
    fn zeroed_page_hides_only_itself() {
        let (segment, starts) = filled();
        segment.erase(starts[3], starts[6]).unwrap();
        let found = walk(&segment);
        assert_eq!(
            found
                .iter()
                .filter(|found| matches!(found, Found::Record(..)))
                .count(),
            7
        );
        assert!(found.contains(&Found::Damage {
            from: starts[3],
            to: starts[6]
        }));
    }

    #[test]
    fn filler_record_of_any_length_passes() {
        for value_len in [10, 60_000, 65_500, 65_536, 150_000] {
            let segment = Segment::plain(1 << 19);
            let second = segment.put(16, b"first", b"1");
            let third = segment.put(second, b"second", &vec![7; value_len]);
            segment.put(third, b"third", b"3");
            store(segment.word(second as usize), 0);
            assert!(
                walk(&segment)
                    .iter()
                    .any(|found| matches!(found, Found::Damage { .. }))
            );
            segment.fill_gap(second, third).unwrap();
            let kinds: Vec<_> = walk(&segment)
                .into_iter()
                .map(|found| match found {
                    Found::Record(_, header) => header.kind,
                    Found::Damage { .. } => panic!("{value_len}: {found:?}"),
                })
                .collect();
            let gaps = kinds.iter().filter(|&&kind| kind == Kind::Gap).count();
            assert_eq!(kinds.len(), gaps + 2, "{value_len}");
            assert!(gaps > value_len >> 16, "{value_len}: {gaps}");
        }
    }

    #[test]
    fn hostile_segment_costs_bounded_work() {
        let segment = Segment::plain(1 << 16);
        let header = Header {
            variant: crate::format::record::Variant::Versioned,
            value_len: 30_000,
            mtime: 1,
            key_len: 8,
            kind: crate::format::record::Kind::Entry,
        };
        for unit in (16..segment.capacity_units() - 3).step_by(3) {
            for (at, word) in header.to_words().into_iter().enumerate() {
                store(segment.word(unit as usize + at), word);
            }
        }
        let found = walk(&segment);
        assert!(
            found
                .iter()
                .all(|found| matches!(found, Found::Damage { .. }))
        );
    }
}
