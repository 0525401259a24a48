//! The end of the heap: reserving room for a record, writing it, and rotating to a new segment.
//!
//! An appended record is complete but uncommitted: it is in `tail..reserved` until
//! [`commit_record`] advances `tail`, so a kill leaves at most one record to take back. This file
//! alone stores `tail`, `reserved`, `live_after`, `heap_base` and the last version. May call the
//! mutator and everything below it.

use crate::error::Corruption;
use std::sync::Arc;

use crate::format::heap_addr::HeapAddr;
use crate::format::record::{self, Kind};
use crate::format::segment::{HEADER_BYTES, LAST_NUMBER, first_place};
use crate::heap::Segment;
use crate::index::header::{Header, HeapEndWords};
use crate::sync::release_fence;

use crate::engine::create;
use crate::engine::generation::Generation;
use crate::engine::heap_presence;
use crate::engine::open;
use crate::engine::write::mutator::{Abort, At, Mutator, WriteResult};

/// Whether an appended record may use the heap's reserve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// It may not: the reserve is there so that deleting works on a full disk.
    Ordinary,
    Deletion,
}

/// Room for one record, announced as `reserved`.
pub(crate) struct Reservation<'a> {
    place: HeapAddr,
    segment: &'a Segment,
    words: HeapEndWords<'a>,
}

impl Reservation<'_> {
    /// Writes the record. It is then complete, but no entry links to it and `tail` is before it.
    #[inline]
    pub(crate) fn write(
        &self,
        header: record::RecordHeader,
        key: &[u8],
        value: &[u8],
    ) -> WriteResult<HeapAddr> {
        // H2: `room_for_record` has allocated every byte of it.
        if let Err(error) = self.segment.write(self.place.unit, header, key, value) {
            self.words.set_reserved(self.place);
            return Err(error.into());
        }
        // S1: the record comes before the link that the caller stores.
        release_fence();
        Ok(self.place)
    }
}

/// Announces the room of a record, and what the live bytes are after it.
#[inline]
pub(crate) fn reserve<'m>(
    mutator: &'m mut Mutator,
    header: &record::RecordHeader,
    live_after: u64,
    need: Need,
) -> WriteResult<Reservation<'m>> {
    let bytes = header.stored_bytes();
    let place = room_for_record(mutator, bytes, need)?;
    let shared = mutator.generation.header();
    let segment = mutator
        .generation
        .segment(place.segment)
        .ok_or(gone(place))?;
    let words = shared.heap_end_words();
    // A reservation of ids counts when it is on the disk.
    if header.kind != Kind::Reservation {
        // G3: versions never go back, also if the record is not committed.
        words.set_last_version(header.mtime.max(shared.last_version()));
    }
    let end = HeapAddr {
        unit: place.unit + (bytes / 8) as u32,
        ..place
    };
    debug_assert!(
        place == shared.tail() && place.unit < end.unit && end.bytes() <= segment.capacity(),
        "H1: {place:?} to {end:?}"
    );
    debug_assert!(bytes.is_multiple_of(8), "records are whole words");
    debug_assert!(
        end.bytes() <= segment.allocated(),
        "H2: {place:?} to {end:?}"
    );
    // H1: `reserved` is after the record before a byte of the record is stored.
    words.reserve(end, live_after);
    Ok(Reservation {
        place,
        segment,
        words,
    })
}

/// Appends a record: [`reserve`] and [`Reservation::write`] together.
pub(crate) fn append(
    mutator: &mut Mutator,
    header: record::RecordHeader,
    key: &[u8],
    value: &[u8],
    live_after: u64,
    need: Need,
) -> WriteResult<HeapAddr> {
    reserve(mutator, &header, live_after, need)?.write(header, key, value)
}

/// Commits the record that was just appended: the heap ends after it.
#[inline]
pub(crate) fn commit_record(header: Header<'_>) {
    let reserved = header.reserved();
    debug_assert!(
        reserved.to_word() >= header.tail().to_word(),
        "H1: the reserved end is never before the committed end"
    );
    // H1: the record is linked, or is never going to be.
    header.heap_end_words().set_tail(reserved);
}

/// Takes back what was reserved: the heap ends at `tail`.
pub(crate) fn take_back(header: Header<'_>, tail: HeapAddr) {
    debug_assert_eq!(
        tail,
        header.tail(),
        "H1: nothing is after the committed end"
    );
    header.heap_end_words().set_reserved(tail);
}

/// Commits the reserved end of a segment that was begun.
pub(crate) fn commit_segment(header: Header<'_>, first: HeapAddr) {
    debug_assert_eq!(first, first_place(first.segment));
    debug_assert_eq!(first, header.reserved(), "H3: it was named before");
    header.heap_end_words().set_tail(first);
}

/// Stores the bytes of all segments before the last one.
pub(crate) fn set_base(header: Header<'_>, bytes: u64) {
    header.heap_end_words().set_heap_base(bytes);
}

/// Stores the latest version that the records of a heap have.
pub(crate) fn set_last_version(header: Header<'_>, version: u64) {
    header.heap_end_words().set_last_version(version);
}

/// Stores where a heap ends whose segments were found in the directory.
pub(crate) fn set_end(header: Header<'_>, bytes_before: u64, end: HeapAddr) {
    let words = header.heap_end_words();
    words.set_heap_base(bytes_before);
    words.set_reserved(end);
    words.set_tail(end);
}

/// Stores up to where the heap of a new index reaches that has no committed end yet.
pub(crate) fn set_extent(header: Header<'_>, end: HeapAddr) {
    header.heap_end_words().set_reserved(end);
}

/// Returns the bytes of all segments up to the heap's end.
pub(crate) fn heap_bytes(generation: &Generation) -> u64 {
    let header = generation.header();
    header.heap_base().saturating_add(header.tail().bytes())
}

/// Returns the place of the next record. It is allocated and blank.
fn room_for_record(mutator: &mut Mutator, bytes: u64, need: Need) -> WriteResult<HeapAddr> {
    let mut tail = mutator.generation.header().tail();
    let spare = |capacity| match need {
        Need::Ordinary => margin(capacity),
        Need::Deletion => 0,
    };
    let segment = mutator.segment(tail.segment)?.ok_or(gone(tail))?;
    let mut capacity = segment.capacity();
    if tail.bytes() + bytes + spare(capacity) > capacity {
        rotate_whole(mutator, bytes)?;
        tail = mutator.generation.header().tail();
        let segment = mutator.segment(tail.segment)?;
        capacity = segment.ok_or(gone(tail))?.capacity();
    }
    let used = heap_bytes(&mutator.generation);
    // No deletions take more than what they delete, so a small heap needs a small reserve.
    let reserve = spare(capacity).min(used + bytes);
    let end = (tail.bytes() + bytes + reserve).min(capacity);
    let segment = mutator.generation.segment(tail.segment).ok_or(gone(tail))?;
    if end > segment.allocated() && end > segment.refresh()? {
        // H2: allocated before anything is stored there. At most a quarter more; what is needed if
        // that is too much for the disk. Where memory is short, zeros take 2 to 10 ms a MiB: a piece
        // at a time.
        let step = 1 << (used / 4).clamp(4096, 1 << 18).ilog2();
        let ahead = (end + 1).next_multiple_of(step);
        if segment.grow(ahead).is_err() {
            segment.grow(end)?;
        }
    }
    // H1: bytes after `tail` are zero.
    if !segment.is_blank(tail.unit)? {
        return Err(Abort::Recover(Corruption::BytesAfterTail, At::Heap(tail)));
    }
    Ok(tail)
}

/// As [`rotate`], for a heap whose segments must all be there. One that is missing would not be
/// counted, and the header would contradict itself.
pub(crate) fn rotate_whole(mutator: &mut Mutator, need: u64) -> WriteResult<()> {
    heap_presence::check_unmapped(&mutator.generation, &mutator.names)?;
    rotate(mutator, need)
}

/// Rotates to the next segment, for a record of `need` bytes or for what comes.
///
/// A kill between the stores of `reserved` and `tail` leaves a `tail` in the segment before, which
/// recovery moves on.
pub(crate) fn rotate(mutator: &mut Mutator, need: u64) -> WriteResult<()> {
    let shared = mutator.generation.header();
    let tail = shared.tail();
    let following = tail.segment.checked_add(1);
    // H3: numbers only go up, so none is used again within a heap.
    let next = following
        .filter(|&next| u32::from(next) <= LAST_NUMBER)
        .ok_or(Abort::Renumber)?;
    let before = open::heap_bytes_before(&mutator.generation, &mutator.names, next)?;
    // Cleaning is going to reclaim what dead records take: it must not make segments ever larger.
    let size = before.min(shared.counters().live.saturating_mul(2));
    let most = mutator.generation.table.geometry().max_segment_bytes;
    let capacity = match mutator.generation.bound() {
        // A removal frees one.
        Some(bound) => create::bounded_capacity(bound.segment().min(most), need + margin(most)),
        None => create::next_capacity(&mutator.generation, size, need + margin(most)),
    };
    let segment = create::segment(
        &mutator.generation,
        &mutator.names,
        next,
        capacity,
        mutator.stage,
        &mutator.access()?,
    )?;
    debug_assert!(segment.number() == next && segment.capacity() >= need);
    let generation = Arc::new(mutator.generation.with_segment(segment));
    debug_assert!(
        generation.is_within(first_place(next)),
        "H3: complete before it is named"
    );
    // H3: the segment is complete, under its final name, before `reserved` and `tail` name it.
    set_end(shared, before, first_place(next));
    mutator.generation = generation;
    follow_segment(&mutator.generation, next);
    Ok(())
}

/// Lets the versions of a `Cache` go on after the one in a segment's header: what has a higher version
/// than the last one has it than all before the segment, see `validity::has_groups_since`.
pub(crate) fn follow_segment(generation: &Generation, number: u16) {
    let header = generation.header();
    if let Some(segment) = generation.segment(number)
        && header.is_expiring()
    {
        // G3: it only rises.
        set_last_version(header, segment.created().max(header.last_version()));
    }
}

fn gone(place: HeapAddr) -> Abort {
    Abort::Recover(Corruption::LastSegmentMissing, At::Heap(place))
}

/// Returns the bytes at a segment's end that only deletions may use.
pub(crate) fn margin(capacity: u64) -> u64 {
    (capacity / 16).min(4096) & !7
}

/// Returns the largest value that a record with this key can have in a segment of at most
/// `max_segment_bytes`.
pub(crate) fn max_value(max_segment_bytes: u64, key_len: usize) -> u64 {
    let overhead = record::HEADER_BYTES as u64 + key_len as u64;
    let room = (max_segment_bytes - HEADER_BYTES - margin(max_segment_bytes)) & !7;
    room.saturating_sub(overhead).min(u64::from(u32::MAX) - 1)
}
