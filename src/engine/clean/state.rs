//! Where log-structured cleaning is: which segments are in use, which are evacuated, and up to
//! where the heap must be synced before those are removed.
//!
//! All of it is in the index header, so it makes no difference which handle takes the next step.
//! This file alone stores those words. May call `engine::generation` and everything below it.

use crate::format::heap_addr::{CleanCursor, HeapAddr, Replaced};
use crate::format::segment::first_place;
use crate::index::header::Header;

use crate::engine::version;

/// Returns how far cleaning has come. The segments from the oldest up to the one before this
/// place's are evacuated: they hold nothing live, and wait for their removal.
pub(crate) fn cursor(header: Header<'_>) -> CleanCursor {
    let (oldest, last) = (header.oldest(), header.tail().segment);
    header
        .clean_cursor()
        .filter(|cursor| (oldest..=last).contains(&cursor.addr.segment))
        .unwrap_or(CleanCursor::at(first_place(oldest)))
}

/// Returns whether an evacuated segment waits for its removal.
pub(crate) fn has_evacuated(header: Header<'_>) -> bool {
    let oldest = header.oldest();
    // Every write asks this, and mostly the two are the same.
    header
        .clean_cursor()
        .is_some_and(|cursor| cursor.addr.segment != oldest)
        && cursor(header).addr.segment != oldest
}

/// Stores how far cleaning has come within a segment.
pub(crate) fn set_cursor(header: Header<'_>, cursor: CleanCursor) {
    debug_assert!(
        cursor.addr.segment >= header.oldest(),
        "the cursor is in a segment in use"
    );
    header.clean_words().set_cursor(cursor);
}

/// Stores that a segment holds nothing live any more: the cursor is after it.
pub(crate) fn mark_evacuated(header: Header<'_>, number: u16) {
    debug_assert!(
        cfg!(loom) || number < header.tail().segment,
        "H4: records are appended to the last segment"
    );
    // H4: no link leads into the segment; it waits for its removal before the cursor.
    let next = CleanCursor::at(first_place(number.saturating_add(1)));
    header.clean_words().set_cursor(next);
}

/// Stores that all segments before the last one hold nothing live.
pub(crate) fn set_all_evacuated(header: Header<'_>, last: u16) {
    debug_assert_eq!(last, header.tail().segment, "H4: only those before it");
    header
        .clean_words()
        .set_cursor(CleanCursor::at(first_place(last)));
}

/// Stores that the segment `number`, the oldest, is removed: the next one is the oldest now.
pub(crate) fn set_removed(header: Header<'_>, number: u16) {
    let next = number.saturating_add(1);
    let words = header.clean_words();
    if cursor(header).addr.segment == number {
        words.set_cursor(CleanCursor::at(first_place(next)));
    }
    // H5: deletion records of the segment are gone with everything that is older.
    words.set_oldest(next);
}

/// Stores which segment is the oldest of a heap that was found in the directory, and that none of
/// it is evacuated.
pub(crate) fn begin_at(header: Header<'_>, oldest: u16) {
    let words = header.clean_words();
    words.set_oldest(oldest);
    words.set_cursor(CleanCursor::at(first_place(oldest)));
}

/// Stores which segment is the oldest of a heap whose copy is not indexed yet.
pub(crate) fn set_oldest(header: Header<'_>, oldest: u16) {
    header.clean_words().set_oldest(oldest);
}

/// Returns the stored place before which the heap must be synced so that the evacuated segment
/// `number` may be removed; `None` if none is stored for it.
pub(crate) fn replaced(header: Header<'_>, number: u16) -> Option<Replaced> {
    let replaced = header.replaced();
    let counts = number < replaced.below
        && replaced.below <= cursor(header).addr.segment
        && replaced.upto <= header.tail();
    counts.then_some(replaced)
}

/// Returns whether everything that replaces the records of an evacuated segment is synced.
pub(crate) fn is_replaced(header: Header<'_>, number: u16) -> bool {
    let synced = header.synced_to();
    replaced(header, number).is_some_and(|replaced| replaced.upto <= synced)
}

/// Stores that all that replaces the records of the segments that are evacuated now is before the
/// tail.
pub(crate) fn note_replaced(header: Header<'_>) {
    let upto: HeapAddr = header.tail();
    // H4: the last link into these segments was gone when the heap ended here.
    header.clean_words().set_replaced(Replaced {
        below: cursor(header).addr.segment,
        upto,
    });
}

/// Stores that all dead records are reclaimed now.
pub(crate) fn note_compacted(header: Header<'_>) {
    header.clean_words().set_compacted(version::now());
}
