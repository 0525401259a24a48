//! A value in the mapped heap, for callers who promise that no other program changes the files.
//!
//! Keeps the bytes mapped; it cannot keep other programs from writing to the files. May call
//! `lookup`, `os::mmap` and everything below them.
#![expect(unsafe_code, reason = "the promise is the caller's")]

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use crate::error::Result;
use crate::format::heap_addr::HeapAddr;
use crate::format::record::RecordHeader;
use crate::os::mmap;

use crate::engine::generation::Generation;
use crate::engine::handle::Handle;
use crate::engine::read::lookup::{Answer, find_in_place};
use crate::engine::version::Version;

/// A reference to a value in the mapped heap; returned by [`MmapCache::get_ref`](crate::MmapCache::get_ref).
///
/// It keeps its segment mapped, and the blocks of the segment allocated, until it is dropped.
pub struct ValueRef {
    generation: Arc<Generation>,
    place: HeapAddr,
    header: RecordHeader,
}

impl ValueRef {
    /// # Safety
    ///
    /// As [`MmapCache::get_ref`](crate::MmapCache::get_ref).
    pub(crate) unsafe fn find(handle: &Handle, key: &[u8]) -> Result<Option<Self>> {
        let is_valid = |generation: &Generation, place, header| {
            // SAFETY: M3: the caller's promise.
            !handle.options.verify || unsafe { is_valid(handle, generation, place, header) }
        };
        Ok(match find_in_place(handle, key, is_valid)? {
            Answer::Found((generation, link, header)) => Some(Self {
                generation,
                place: link.addr(),
                header,
            }),
            Answer::Absent | Answer::Damaged(_) => None,
        })
    }

    /// Returns the version of the value.
    pub fn version(&self) -> Version {
        Version(self.header.mtime)
    }
}

/// Verifies a record that a link leads to: in the mapped file, without a copy.
///
/// # Safety
///
/// As [`MmapCache::get_ref`](crate::MmapCache::get_ref).
unsafe fn is_valid(
    handle: &Handle,
    generation: &Generation,
    place: HeapAddr,
    header: RecordHeader,
) -> bool {
    let Some(segment) = generation.segment(place.segment) else {
        return false;
    };
    let Ok(Some(words)) = segment.record_words(place.unit) else {
        return false;
    };
    let end = HeapAddr {
        unit: place.unit + words.len() as u32,
        ..place
    };
    if end > generation.header().tail() || generation.is_from_elsewhere(handle.boot) {
        // A writer has just linked it; or the link is corrupt, and a writer is filling the place. After a
        // power loss it may be torn, and a writer that recovers covers it by a filler record.
        return segment
            .verify(place.unit)
            .is_ok_and(|found| found == Some(header));
    }
    // SAFETY: M3 (docs/design.md): no committed record is changed while it is mapped, and the caller
    // promised that no other program changes the files.
    let bytes = unsafe { mmap::as_bytes(words) };
    segment.is_valid_in_place(place.unit, header, bytes)
}

impl Deref for ValueRef {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let segment = self.generation.segment(self.place.segment);
        let record = segment.and_then(|segment| segment.record_words(self.place.unit).ok()?);
        let Some(words) = record else {
            return &[];
        };
        // SAFETY: M3 (docs/design.md): records are never changed while a generation that maps them lives,
        // and the caller of `get_ref` promised that no other program changes them either.
        let bytes = unsafe { mmap::as_bytes(words) };
        let at = self.header.variant.header_bytes() + usize::from(self.header.key_len);
        bytes
            .get(at..at + self.header.value_len as usize)
            .unwrap_or(&[])
    }
}

impl fmt::Debug for ValueRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ValueRef")
            .field("len", &self.header.value_len)
            .field("version", &self.version())
            .finish()
    }
}
