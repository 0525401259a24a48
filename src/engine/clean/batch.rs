//! Records of the oldest segment that are looked up in the index together, and moved together.
//!
//! `clean::evacuate` moves them. May call `engine::generation` and everything below it.

use crate::error::Result;
use crate::format::heap_addr::HeapAddr;
use crate::format::record::{self, Kind};
use crate::hash::Hash;
use crate::heap::{DeadBlocks, ScanItem, Scanner, Segment};

use crate::engine::generation::Generation;

/// A record that is evacuated to the newest segment if an entry links to it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PendingMove {
    pub place: HeapAddr,
    pub header: record::RecordHeader,
    pub hash: Hash,
    /// The slot that links to it; `None` before it was looked up, or if there is none.
    pub slot: Option<u32>,
    /// Where its key begins among the batch's bytes.
    at: usize,
}

/// Records whose cache misses in the index overlap.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub records: Vec<PendingMove>,
    /// Whether the walk met damage.
    pub damage: bool,
    /// Whether the walk came to its end.
    pub over: bool,
    /// Records that are looked up together, at most [`Self::SIZE`].
    pub size: usize,
    /// The records' keys, and the values of small ones, as their checksums covered them.
    bytes: Vec<u8>,
    /// The value of a large one.
    value: Vec<u8>,
}

impl Batch {
    pub(crate) const SIZE: usize = 16;
    /// Records up to this size are kept as read. Larger ones may be dead: they are read again when
    /// they are known to be live.
    const SMALL: u64 = 1024;
    /// Memory that is kept for the next batch, of each kind.
    const KEPT: usize = 1 << 16;

    /// Begins a walk, reusing the memory of the last one.
    pub(crate) fn begin(&mut self, damage: bool) {
        self.clear();
        self.damage = damage;
        self.over = false;
        self.size = Self::SIZE;
    }

    pub(crate) fn clear(&mut self) {
        self.records.clear();
        for bytes in [&mut self.bytes, &mut self.value] {
            bytes.clear();
            bytes.shrink_to(Self::KEPT);
        }
    }

    /// Walks until the batch is full, the place `until` is passed, or the segment ends. Passes over
    /// records that are known to be dead.
    pub(crate) fn fill(
        &mut self,
        generation: &Generation,
        scanner: &mut Scanner<'_>,
        dead: Option<&DeadBlocks>,
        until: u64,
    ) -> Result<()> {
        debug_assert!(!self.over, "a walk that came to its end begins again");
        while self.records.len() < self.size && u64::from(scanner.unit()) <= until {
            if let Some(dead) = dead
                && scanner.skip_dead(dead)?
            {
                continue;
            }
            let at = self.bytes.len();
            match scanner.next_item_reading(Self::SMALL, &mut self.bytes)? {
                None => {
                    self.over = true;
                    return Ok(());
                }
                Some(ScanItem::Corrupt { .. }) => self.damage = true,
                Some(ScanItem::Record(place, header)) => self.push(generation, place, header, at),
            }
        }
        Ok(())
    }

    /// Takes one record from its place. Returns its kind; `None` if it does not verify.
    pub(crate) fn take(
        &mut self,
        generation: &Generation,
        segment: &Segment,
        place: HeapAddr,
    ) -> Result<Option<Kind>> {
        let at = self.bytes.len();
        let found = segment.read_small(place.unit, Self::SMALL, &mut self.bytes)?;
        Ok(found.map(|header| {
            self.push(generation, place, header, at);
            header.kind
        }))
    }

    fn push(
        &mut self,
        generation: &Generation,
        place: HeapAddr,
        header: record::RecordHeader,
        at: usize,
    ) {
        if header.kind != Kind::Entry {
            self.bytes.truncate(at);
            return;
        }
        let key = &self.bytes[at..at + usize::from(header.key_len)];
        debug_assert!(
            self.records.len() < 2 * Self::SIZE,
            "a batch has few records"
        );
        let hash = generation.hasher.hash(key);
        generation.table.prefetch_search(hash);
        self.records.push(PendingMove {
            place,
            header,
            hash,
            slot: None,
            at,
        });
    }

    /// Returns the key of a record of the batch.
    pub(crate) fn key(&self, moving: PendingMove) -> &[u8] {
        &self.bytes[moving.at..moving.at + usize::from(moving.header.key_len)]
    }

    /// Returns key and value of a record of the batch; `None` if it is damaged by now.
    pub(crate) fn content(
        &mut self,
        segment: &Segment,
        moving: PendingMove,
    ) -> Result<Option<(&[u8], &[u8])>> {
        let value_at = moving.at + usize::from(moving.header.key_len);
        if moving.header.stored_bytes() > Self::SMALL {
            self.value.clear();
            let unit = moving.place.unit;
            let found = segment.read_any(unit, &mut Vec::new(), Some(&mut self.value))?;
            if found != Some(moving.header) {
                return Ok(None);
            }
            return Ok(Some((&self.bytes[moving.at..value_at], &self.value)));
        }
        let end = value_at + moving.header.value_len as usize;
        let (key, value) = (&self.bytes[moving.at..value_at], &self.bytes[value_at..end]);
        Ok(Some((key, value)))
    }
}
