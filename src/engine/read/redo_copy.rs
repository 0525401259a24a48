//! The redo copy, for readers that meet a record while a writer overwrites it.
//!
//! The writer, which may be stopped or dead, has committed a redo record that names the place, and the
//! whole new record is in the index header (W4). So no reader waits for it. May call `generation` and
//! everything below it.

use crate::format::heap_addr::HeapAddr;
use crate::format::record::RecordHeader;
use crate::heap::{Segment, WholeRecord};
use crate::index::header::Header;
use crate::index::redo::{Redo, RedoState};
use crate::sync::acquire_fence;

use crate::engine::generation::Generation;

/// Reads the record that a writer stores at a place now. `None` if none does, or the writer finished
/// during the call: then the record at the place is whole, unless it is damaged.
#[cold]
pub(crate) fn read(
    generation: &Generation,
    segment: &Segment,
    place: HeapAddr,
    out: &mut WholeRecord,
) -> Option<RecordHeader> {
    let header = generation.header();
    let (version, units) = overwrite_of(header, place)?;
    let copy = &header.redo_copy()[..units];
    let found = segment.read_copy(place.unit, copy, out)?;
    // W4: until the redo record is cleared, no writer stores to the copy.
    let is_whole = found.mtime == version && header.is_still_overwriting(version);
    is_whole.then_some(found)
}

/// Returns whether no writer has overwritten the record at a place since `changes` was loaded, and none
/// does now: what is wrong with it is damage.
#[cold]
pub(crate) fn is_settled(generation: &Generation, place: HeapAddr, changes: u64) -> bool {
    let header = generation.header();
    acquire_fence();
    // The redo record first: it is cleared after the change is counted.
    overwrite_of(header, place).is_none() && header.changes() == changes
}

/// Returns version and words of the record that a writer stores at a place now.
fn overwrite_of(header: Header<'_>, place: HeapAddr) -> Option<(u64, usize)> {
    match header.redo() {
        RedoState::Committed(Redo::Overwrite {
            place: of,
            version,
            units,
            ..
        }) if of == place => Some((version, units as usize)),
        _ => None,
    }
}
