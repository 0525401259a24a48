//! Records of the oldest segment that are looked for in the index together, and moved together.
//!
//! Knows how they are gathered, and what they hold; not where they go.

use crate::error::Result;
use crate::format::record::{self, Kind};
use crate::format::slot::Place;
use crate::hash::Hash;
use crate::heap::{Blocks, Found, Segment, Walker};

use crate::engine::generation::Generation;

/// A record on its way to the newest segment, if an entry links to it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PendingMove {
    pub place: Place,
    pub header: record::Header,
    pub hash: Hash,
    /// The slot that links to it; none as long as that was not looked for, or where there is none.
    pub slot: Option<u32>,
    /// Where its key begins among the batch's bytes.
    at: usize,
}

/// Records whose cache lines in the index come at the same time.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub records: Vec<PendingMove>,
    /// Whether the walk met damage.
    pub damage: bool,
    /// Whether it came to its end.
    pub over: bool,
    /// The records' keys and, as far as they are small, values: as they were summed.
    bytes: Vec<u8>,
    /// The value of a large one.
    value: Vec<u8>,
}

impl Batch {
    const SIZE: usize = 16;
    /// Records up to this size are kept as they were summed. Larger ones may be dead: they are
    /// read when it is known that they are not.
    const SMALL: u64 = 1024;
    /// Memory that is kept for the next batch, of each kind.
    const KEPT: usize = 1 << 16;

    /// Begins a walk; the room of the last one is used again.
    pub(crate) fn begin(&mut self, damage: bool) {
        self.clear();
        self.damage = damage;
        self.over = false;
    }

    pub(crate) fn clear(&mut self) {
        self.records.clear();
        for bytes in [&mut self.bytes, &mut self.value] {
            bytes.clear();
            bytes.shrink_to(Self::KEPT);
        }
    }

    /// Walks on until the batch is full, or has come beyond a place, or the segment ends. What is
    /// known to be dead is passed over.
    pub(crate) fn fill(
        &mut self,
        generation: &Generation,
        walker: &mut Walker<'_>,
        dead: Option<&Blocks>,
        until: u64,
    ) -> Result<()> {
        while self.records.len() < Self::SIZE && u64::from(walker.unit()) <= until {
            if let Some(dead) = dead
                && walker.pass_dead(dead)?
            {
                continue;
            }
            let at = self.bytes.len();
            match walker.step_reading(Self::SMALL, &mut self.bytes)? {
                None => {
                    self.over = true;
                    return Ok(());
                }
                Some(Found::Damage { .. }) => self.damage = true,
                Some(Found::Record(place, header)) => self.push(generation, place, header, at),
            }
        }
        Ok(())
    }

    /// Takes one record from its place. What kind it is of; none where it does not verify.
    pub(crate) fn take(
        &mut self,
        generation: &Generation,
        segment: &Segment,
        place: Place,
    ) -> Result<Option<Kind>> {
        let at = self.bytes.len();
        let found = segment.read_small(place.unit, Self::SMALL, &mut self.bytes)?;
        Ok(found.map(|header| {
            self.push(generation, place, header, at);
            header.kind
        }))
    }

    fn push(&mut self, generation: &Generation, place: Place, header: record::Header, at: usize) {
        if header.kind != Kind::Entry {
            self.bytes.truncate(at);
            return;
        }
        let key = &self.bytes[at..at + usize::from(header.key_len)];
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

    /// Key and value of a record of the batch; none where it is damaged by now.
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
