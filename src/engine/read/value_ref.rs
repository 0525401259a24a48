//! Reading a value where it lies, for those who can promise that nobody damages it meanwhile.
//!
//! Knows how long the bytes stay mapped; it cannot know who else writes to the files.
#![expect(unsafe_code, reason = "the promise is the caller's")]

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use crate::error::Result;
use crate::format::record;
use crate::format::slot::Place;
use crate::os::mmap;

use crate::engine::generation::Generation;
use crate::engine::handle::Handle;
use crate::engine::read::lookup::Answer;
use crate::engine::version::Version;

/// A value in the mapped heap; made by [`MmapCache::get_in_place`](crate::MmapCache::get_in_place).
///
/// It keeps its segment mapped, and the blocks of the segment's file taken, until it is dropped.
pub struct ValueRef {
    generation: Arc<Generation>,
    place: Place,
    header: record::Header,
}

impl ValueRef {
    /// # Safety
    ///
    /// As [`MmapCache::get_in_place`](crate::MmapCache::get_in_place).
    pub(crate) unsafe fn find(handle: &Handle, key: &[u8]) -> Result<Option<Self>> {
        Ok(match handle.find_in_place(key)? {
            Answer::Found((generation, link, header)) => Some(Self {
                generation,
                place: link.place(),
                header,
            }),
            Answer::Absent | Answer::Damaged(_) => None,
        })
    }

    /// The version that the value was written under.
    pub fn version(&self) -> Version {
        Version(self.header.mtime)
    }
}

impl Deref for ValueRef {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let segment = self.generation.segment(self.place.segment);
        let found = segment.and_then(|segment| {
            segment
                .value_words(self.place.unit, self.header)
                .ok()
                .flatten()
        });
        let Some((words, skip)) = found else {
            return &[];
        };
        // SAFETY: M3 (docs/design.md): records are never changed while a generation that maps them lives,
        // and the caller of `get_in_place` promised that no other program changes them either.
        let bytes = unsafe { mmap::as_bytes(words) };
        bytes
            .get(skip..skip + self.header.value_len as usize)
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
