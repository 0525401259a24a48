//! Overwriting a record where it is, in a cache that was created for it.
//!
//! No record is appended, so nothing becomes dead. The steps, in [`overwrite`]:
//!
//! 1. Store the version (G3).
//! 2. Write the new record into the redo copy, which no reader uses yet (W4).
//! 3. Commit the redo record: from here on recovery makes step 4 again.
//! 4. Store the record at its place (W3): readers that meet it half done take the redo copy.
//! 5. Count the change, and clear the redo record.
//!
//! A kill before step 3 leaves the old value, a kill after it the new one. Only records that no sync
//! covers are overwritten (W2). May call `publish`, `heap_end` and everything below them.

use crate::error::Result;
use crate::format::heap_addr::HeapAddr;
use crate::format::index::REDO_COPY_WORDS;
use crate::format::record::{Kind, RecordHeader};
use crate::heap::{ScanItem, Segment, WholeRecord};
use crate::index::header::Header;
use crate::index::redo::{Redo, RedoState};
use crate::index::table::Table;

use crate::engine::generation::Generation;
use crate::engine::write::mutator::{Mutator, Target, WriteResult};
use crate::engine::write::{heap_end, publish};

/// Returns whether the record of an entry may be replaced where it is by one with this header.
pub(crate) fn can_overwrite(mutator: &Mutator, target: &Target<'_>, new: &RecordHeader) -> bool {
    let generation = &mutator.generation;
    let header = generation.header();
    let place = target.link.addr();
    let (Some(old), Some(frozen)) = (target.record, header.frozen_to()) else {
        return false;
    };
    // W1: key, size and kind stay, so a scan finds the next record whatever this one holds.
    let is_alike = old.kind == Kind::Entry
        && old.key_len == new.key_len
        && old.stored_bytes() == new.stored_bytes()
        && new.stored_bytes() <= REDO_COPY_WORDS as u64 * 8;
    // W4: the version tells this overwrite from every other.
    let is_newer = new.mtime > header.last_version();
    // W2: before `frozen` lies what a sync, a backup or another generation covers.
    let is_free = place >= frozen && place < header.tail();
    // A listing may have passed over a damaged record already.
    let is_valid = |segment: &Segment| {
        old.is_short() || segment.verify(place.unit).is_ok_and(|it| it.is_some())
    };
    let is_fit = |segment: &Segment| segment.may_be_overwritten() && is_valid(segment);
    is_alike && is_newer && is_free && generation.segment(place.segment).is_some_and(is_fit)
}

/// Overwrites the record of an entry where it is: steps 1 to 5.
pub(crate) fn overwrite(
    mutator: &Mutator,
    table: &Table,
    place: HeapAddr,
    new: RecordHeader,
    (key, value): (&[u8], &[u8]),
) -> WriteResult<()> {
    let shared = table.header();
    let units = (new.stored_bytes() / 8) as u32;
    let Some(segment) = mutator.generation.segment(place.segment) else {
        debug_assert!(false, "it was found a moment ago");
        return Ok(());
    };
    // 1. G3: versions never go back, also if the redo record is not committed.
    heap_end::set_last_version(shared, new.mtime);
    // 2. W4: no redo record names the copy.
    debug_assert!(!shared.has_redo(), "one change at a time");
    let copy = &shared.redo_copy()[..units as usize];
    segment.write_copy(place.unit, copy, new, key, value);
    // 3.
    publish::commit_redo(
        shared,
        Redo::Overwrite {
            place,
            version: new.mtime,
            units,
            after: shared.counters(),
        },
    );
    // 4. W3.
    segment.overwrite(place.unit, copy)?;
    // 5.
    publish::count_change(shared);
    publish::count_overwrite(shared);
    publish::clear_redo(shared);
    Ok(())
}

/// Completes the overwrite that a header has a redo record of, in the segments of a generation. Returns
/// false if the redo copy is damaged, or the record at the place has another size.
///
/// Before a rebuild from the heap the header may be older than the heap. Then the record at the place is
/// at least as new as the redo copy, and stays.
pub(crate) fn complete(header: Header<'_>, generation: &Generation) -> Result<bool> {
    let RedoState::Committed(Redo::Overwrite {
        place,
        version,
        units,
        ..
    }) = header.redo()
    else {
        return Ok(true);
    };
    let segment = generation.segment(place.segment);
    let Some(segment) = segment.filter(|_| generation.is_in_place()) else {
        return Ok(false);
    };
    let copy = &header.redo_copy()[..units as usize];
    let mut record = WholeRecord::default();
    let found = segment.read_copy(place.unit, copy, &mut record);
    if !found.is_some_and(|found| found.kind == Kind::Entry && found.mtime == version) {
        return Ok(false);
    }
    match segment.verify(place.unit)? {
        Some(known) if known.mtime >= version => return Ok(true),
        Some(known) if known.stored_bytes() != u64::from(units) * 8 => return Ok(false),
        Some(_) => {}
        None if holds_others(segment, place.unit, units)? => return Ok(false),
        None => {}
    }
    segment.overwrite(place.unit, copy)?;
    Ok(true)
}

/// Returns whether a place is blank, or another record begins before the end of the one that should be
/// there: the heap is not the one of the header.
fn holds_others(segment: &Segment, unit: u32, units: u32) -> Result<bool> {
    if segment.is_blank(unit)? {
        return Ok(true);
    }
    let mut scanner = segment.scan(unit, unit.saturating_add(units));
    while let Some(found) = scanner.next_item()? {
        if matches!(found, ScanItem::Record(..)) {
            return Ok(true);
        }
    }
    Ok(false)
}
