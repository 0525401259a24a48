//! Scans a segment record by record, and resynchronizes after corruption.
//!
//! Cleaning, recovery and verification all use this scanner. May call `format` and `heap::segment`;
//! ignores whether a link leads to a record.

use crate::error::Result;
use crate::format::heap_addr::HeapAddr;
use crate::format::record::RecordHeader;
use crate::heap::{DeadBlocks, Segment};
use crate::sync::load;

/// A scan of the records of a segment.
#[derive(Debug)]
pub(crate) struct Scanner<'a> {
    segment: &'a Segment,
    unit: u32,
    end: u32,
    /// Bytes whose checksum may still fail: a hostile segment is full of lengths that lead nowhere.
    budget: u64,
}

/// An item that a scan finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ScanItem {
    /// A valid record.
    Record(HeapAddr, RecordHeader),
    /// A range of bytes without a valid record, in units.
    Corrupt { from: u32, to: u32 },
}

impl<'a> Scanner<'a> {
    pub(super) fn new(segment: &'a Segment, unit: u32, end: u32) -> Self {
        let end = end.min(segment.capacity_units());
        Self {
            segment,
            unit,
            end,
            budget: 8 * segment.allocated() + (1 << 16),
        }
    }

    /// Returns the position of the scan: everything before it was reported.
    pub(crate) fn unit(&self) -> u32 {
        self.unit
    }

    /// Lets the scan spend only what is left of another scan's budget.
    pub(crate) fn within(self, budget: u64) -> Self {
        let budget = budget.min(self.budget);
        Self { budget, ..self }
    }

    /// Returns what is left of the budget.
    pub(crate) fn budget(&self) -> u64 {
        self.budget
    }

    /// Returns whether the scan gave up before the end, and so did not see the rest.
    pub(crate) fn gave_up(&self) -> bool {
        self.budget == 0
    }

    /// Skips the record at the current position, by its length alone, if all of it is known to be
    /// dead. Returns whether it did.
    ///
    /// A corrupt length can only lead to another position within dead records. The scan continues
    /// there, and resynchronizes as after any corruption.
    #[inline]
    pub(crate) fn skip_dead(&mut self, dead: &DeadBlocks) -> Result<bool> {
        let Some((header, _)) = self.segment.record(self.unit)? else {
            return Ok(false);
        };
        let next = u64::from(self.unit) + header.stored_bytes() / 8;
        if next > u64::from(self.end) || !dead.covers(self.unit..next as u32) {
            return Ok(false);
        }
        debug_assert!(next > u64::from(self.unit), "a scan comes to an end");
        self.unit = next as u32;
        Ok(true)
    }

    /// Returns the next record or corrupt range. `None` at the end.
    pub(crate) fn next_item(&mut self) -> Result<Option<ScanItem>> {
        self.next_by(Segment::verify)
    }

    /// Returns the next item as [`Self::next_item`] does. Appends a record's key to `out` and, if the
    /// record takes no more than `most` bytes, its value.
    pub(crate) fn next_item_reading(
        &mut self,
        most: u64,
        out: &mut Vec<u8>,
    ) -> Result<Option<ScanItem>> {
        let start = out.len();
        let found = self.next_by(|segment, unit| segment.read_small(unit, most, out))?;
        if !matches!(found, Some(ScanItem::Record(..))) {
            out.truncate(start);
        }
        Ok(found)
    }

    #[inline(always)]
    fn next_by(
        &mut self,
        mut verify: impl FnMut(&Segment, u32) -> Result<Option<RecordHeader>>,
    ) -> Result<Option<ScanItem>> {
        let from = self.unit;
        if let Some(header) = self.record_at(from, &mut verify)? {
            return Ok(Some(self.advance(header)));
        }
        let Some(next) = self.next_nonzero(from)? else {
            // Zeros to the end: left by a rotation to a new segment, or never written (H1).
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
        Ok(Some(ScanItem::Corrupt {
            from,
            to: self.unit,
        }))
    }

    fn advance(&mut self, header: RecordHeader) -> ScanItem {
        let addr = HeapAddr {
            segment: self.segment.number(),
            unit: self.unit,
        };
        // Not asserted of the record's end: another program may change the record while it is scanned.
        debug_assert!(self.unit < self.end, "the record begins in the scan");
        self.unit += (header.stored_bytes() / 8) as u32;
        ScanItem::Record(addr, header)
    }

    /// Returns the header of a valid record that ends before the scan does.
    fn record_at(
        &mut self,
        unit: u32,
        mut verify: impl FnMut(&Segment, u32) -> Result<Option<RecordHeader>>,
    ) -> Result<Option<RecordHeader>> {
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

    fn scan(segment: &Segment) -> Vec<ScanItem> {
        let mut scanner = segment.scan(0, segment.capacity_units());
        std::iter::from_fn(|| scanner.next_item().unwrap()).collect()
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
        let found = scan(&segment);
        // H1: bytes after the last record are zero, and end the scan.
        assert_eq!(found.len(), 10);
        for (found, &start) in found.iter().zip(&starts) {
            assert!(matches!(found, ScanItem::Record(addr, _) if addr.unit == start));
        }
    }

    #[test]
    fn walk_finds_records_after_corruption() {
        for damaged in 0..10 {
            for word in 0..4 {
                let (segment, starts) = filled();
                let target = segment.word(starts[damaged] as usize + word);
                store(target, !load(target));
                let found = scan(&segment);
                let records = found
                    .iter()
                    .filter(|found| matches!(found, ScanItem::Record(..)))
                    .count();
                assert_eq!(records, 9, "record {damaged}, word {word}");
                let corrupt = ScanItem::Corrupt {
                    from: starts[damaged],
                    to: starts[damaged + 1],
                };
                assert!(found.contains(&corrupt) || damaged == 9, "{found:?}");
            }
        }
    }

    #[test]
    fn zeroed_page_hides_only_itself() {
        let (segment, starts) = filled();
        segment.erase(starts[3], starts[6]).unwrap();
        let found = scan(&segment);
        assert_eq!(
            found
                .iter()
                .filter(|found| matches!(found, ScanItem::Record(..)))
                .count(),
            7
        );
        assert!(found.contains(&ScanItem::Corrupt {
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
                scan(&segment)
                    .iter()
                    .any(|found| matches!(found, ScanItem::Corrupt { .. }))
            );
            segment.write_filler(second, third).unwrap();
            let kinds: Vec<_> = scan(&segment)
                .into_iter()
                .map(|found| match found {
                    ScanItem::Record(_, header) => header.kind,
                    ScanItem::Corrupt { .. } => panic!("{value_len}: {found:?}"),
                })
                .collect();
            let fillers = kinds.iter().filter(|&&kind| kind == Kind::Filler).count();
            assert_eq!(kinds.len(), fillers + 2, "{value_len}");
            assert!(fillers > value_len >> 16, "{value_len}: {fillers}");
        }
    }

    #[test]
    fn hostile_segment_costs_bounded_work() {
        let segment = Segment::plain(1 << 16);
        let header = RecordHeader {
            variant: crate::format::record::Variant::Versioned,
            value_len: 30_000,
            mtime: 1,
            key_len: 8,
            kind: crate::format::record::Kind::Entry,
            life: crate::format::life::Life::NONE,
            traits: crate::format::record::Traits::NONE,
        };
        for unit in (16..segment.capacity_units() - 3).step_by(3) {
            for (at, word) in header.to_words().into_iter().enumerate() {
                store(segment.word(unit as usize + at), word);
            }
        }
        let found = scan(&segment);
        assert!(
            found
                .iter()
                .all(|found| matches!(found, ScanItem::Corrupt { .. }))
        );
    }
}
