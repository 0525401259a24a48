//! Appending to the heap: room for a record, the record, and the next segment.
//!
//! A record that was appended is complete, and stands between `tail` and `reserved` until it is
//! closed. Knows in which order the heap's end moves, so that a kill leaves at most that one record
//! to take back; not what the record says, nor who links to it.

use std::sync::Arc;

use crate::format::index::word;
use crate::format::record::{self, Kind};
use crate::format::segment::{LAST_NUMBER, first_place};
use crate::format::slot::Place;
use crate::sync::release_fence;

use crate::engine::heap_presence;
use crate::engine::write::mutator::{Abort, At, Mutator, WriteResult};

/// Whether an appended record may use the heap's reserve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// It may not: the reserve is there so that deleting works on a full disk.
    Ordinary,
    Deletion,
}

impl Mutator {
    /// Appends a record, which is then complete but neither linked nor counted: the heap's end is
    /// announced as `reserved`, and `tail` follows when the operation is done.
    pub(crate) fn append(
        &mut self,
        header: record::Header,
        key: &[u8],
        value: &[u8],
        live_after: u64,
        need: Need,
    ) -> WriteResult<Place> {
        let bytes = header.stored_bytes();
        let place = self.room_in_heap(bytes, need)?;
        let shared = self.generation.header();
        let segment = self.generation.segment(place.segment).ok_or(gone(place))?;
        // A reservation counts when it is on the disk.
        if header.kind != Kind::Reservation {
            let last = shared.get(word::LAST_MTIME);
            shared.set(word::LAST_MTIME, header.mtime.max(last));
        }
        shared.reserve(
            Place {
                unit: place.unit + (bytes / 8) as u32,
                ..place
            },
            live_after,
        );
        if let Err(error) = segment.write(place.unit, header, key, value) {
            shared.unreserve(place);
            return Err(error.into());
        }
        release_fence();
        Ok(place)
    }

    /// The heap ends behind the record that was just appended.
    pub(crate) fn close_record(&self) {
        let shared = self.generation.header();
        shared.set_tail(shared.reserved());
    }

    /// Bytes of all segments up to the heap's end.
    pub(crate) fn heap_bytes(&self) -> u64 {
        let header = self.generation.header();
        header
            .get(word::HEAP_BASE)
            .saturating_add(header.tail().bytes())
    }

    /// The place of the next record; it is allocated, and nothing stands there.
    fn room_in_heap(&mut self, bytes: u64, need: Need) -> WriteResult<Place> {
        let mut tail = self.generation.header().tail();
        let spare = |capacity| {
            if need == Need::Ordinary {
                margin(capacity)
            } else {
                0
            }
        };
        let segment = self.segment(tail.segment)?.ok_or(gone(tail))?;
        let mut capacity = segment.capacity();
        if tail.bytes() + bytes + spare(capacity) > capacity {
            self.rotate_whole(bytes)?;
            tail = self.generation.header().tail();
            capacity = self.segment(tail.segment)?.ok_or(gone(tail))?.capacity();
        }
        let end = (tail.bytes() + bytes + spare(capacity)).min(capacity);
        let used = self.heap_bytes();
        let segment = self.generation.segment(tail.segment).ok_or(gone(tail))?;
        if end > segment.allocated() && end > segment.refresh()? {
            // A quarter more at most; where that is too much for the disk, what is needed. Where
            // memory is short, zeros take 2 to 10 ms a MiB: a piece at a time.
            let step = 1 << (used / 4).clamp(4096, 1 << 18).ilog2();
            let ahead = (end + 1).next_multiple_of(step);
            if segment.grow(ahead).is_err() {
                segment.grow(end)?;
            }
        }
        if !segment.is_blank(tail.unit)? {
            return Err(Abort::Recover(
                "something stands behind the heap's end",
                At::Heap(tail),
            ));
        }
        Ok(tail)
    }

    /// As [`Mutator::rotate`], where all segments are known to be there. One that is missing would not
    /// be counted, and the header would contradict itself.
    pub(crate) fn rotate_whole(&mut self, need: u64) -> WriteResult<()> {
        heap_presence::check_unmapped(&self.generation, &self.names)?;
        self.rotate(need)
    }

    /// Begins the next segment, for a record of `need` bytes or for what comes.
    ///
    /// The segment is complete, and its name final, before `reserved` and `tail` name it; a kill
    /// between the two leaves a `tail` in the segment before, which whoever comes next moves on.
    pub(crate) fn rotate(&mut self, need: u64) -> WriteResult<()> {
        let shared = self.generation.header();
        let tail = shared.tail();
        let following = tail.segment.checked_add(1);
        let next = following
            .filter(|&next| u32::from(next) <= LAST_NUMBER)
            .ok_or(Abort::Renumber)?;
        let before = self.generation.heap_bytes_before(&self.names, next)?;
        // What dead records take is going to be cleaned: it must not make the segments ever larger.
        let size = before.min(shared.counters().live.saturating_mul(2));
        let most = self.generation.table.geometry().max_segment_bytes;
        let capacity = self.generation.next_capacity(size, need + margin(most));
        let segment = self.generation.create_segment(
            &self.names,
            next,
            capacity,
            self.stage,
            &self.access()?,
        )?;
        let generation = Arc::new(self.generation.with_segment(segment));
        let first = first_place(next);
        shared.set(word::HEAP_BASE, before);
        shared.unreserve(first);
        shared.set_tail(first);
        self.generation = generation;
        Ok(())
    }
}

fn gone(place: Place) -> Abort {
    Abort::Recover("the last segment is gone", At::Heap(place))
}

/// Bytes at a segment's end that only deletions may use.
pub(crate) fn margin(capacity: u64) -> u64 {
    (capacity / 16).min(4096) & !7
}
