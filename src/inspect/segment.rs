//! A segment of the heap, and a walk over its records.
//!
//! The one place of this module that maps a file: the walk is the engine's own, by which cleaning
//! and recovery find their way behind damage. Whether anything links to a record it does not know.

use std::fmt;
use std::path::Path;

use crate::error::Result;
use crate::heap::segment;
use crate::heap::{Found, Walker};

use crate::inspect::changing::HeapPlace;
use crate::inspect::record::RecordKind;

/// A segment of the heap; made by [`Anatomy::segment`](crate::inspect::Anatomy::segment).
pub struct Segment {
    pub(super) inner: segment::Segment,
    pub(super) end: u32,
}

/// A record that a walk came by; it verifies.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Walked {
    /// Where it begins.
    pub place: HeapPlace,
    /// Bytes that it takes, the padding included.
    pub bytes: u64,
    /// What it is.
    pub kind: RecordKind,
    /// The key.
    pub key: Vec<u8>,
    /// Bytes of the value; 0 where it is numbered.
    pub value_len: u32,
    /// When it was written, in nanoseconds since the Unix epoch; or its number.
    pub version: u64,
}

/// What a walk came by.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stretch {
    /// A record.
    Record(Walked),
    /// Bytes that are none, where one should be.
    Damage {
        /// Where they begin.
        from: HeapPlace,
        /// How many they are, up to the next record.
        bytes: u64,
    },
}

/// A walk over the records of a segment; made by [`Segment::records`].
pub struct Records<'a> {
    walker: Walker<'a>,
    number: u16,
    key: Vec<u8>,
    failed: bool,
}

impl fmt::Debug for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Segment")
            .field("path", &self.inner.file().path())
            .field("number", &self.number())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Records<'_> {
    /// Without the key of the record that was walked last.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Records")
            .field("segment", &self.number)
            .field("unit", &self.walker.unit())
            .finish_non_exhaustive()
    }
}

impl Segment {
    /// Its number.
    pub fn number(&self) -> u16 {
        self.inner.number()
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        self.inner.file().path()
    }

    /// Where a walk ends: the heap's end, in the last segment of a sound cache; else the file's.
    pub fn end(&self) -> u64 {
        u64::from(self.end) * 8
    }

    /// The records, in the order of their places.
    ///
    /// Each is verified by its checksum, so the walk reads all of the segment once. It needs memory
    /// for one key.
    pub fn records(&self) -> Records<'_> {
        Records {
            walker: self.inner.walk(0, self.end),
            number: self.number(),
            key: Vec::new(),
            failed: false,
        }
    }
}

impl Records<'_> {
    /// Where the walk stands, in bytes from the segment's start.
    pub fn at(&self) -> u64 {
        u64::from(self.walker.unit()) * 8
    }

    /// Whether the walk ended before the segment did: what it stands in is so full of what looks
    /// like records and is none that to try all of it would take for ever.
    pub fn gave_up(&self) -> bool {
        self.walker.gave_up()
    }
}

impl Iterator for Records<'_> {
    type Item = Result<Stretch>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        self.key.clear();
        let found = match self.walker.step_reading(0, &mut self.key) {
            Ok(found) => found?,
            Err(error) => {
                self.failed = true;
                return Some(Err(error));
            }
        };
        Some(Ok(match found {
            Found::Record(place, header) => Stretch::Record(Walked {
                place: place.into(),
                bytes: header.stored_bytes(),
                kind: header.kind.into(),
                key: self.key.clone(),
                value_len: header.value_len,
                version: header.mtime,
            }),
            Found::Damage { from, to } => Stretch::Damage {
                from: HeapPlace {
                    segment: self.number,
                    at: u64::from(from) * 8,
                },
                bytes: u64::from(to - from) * 8,
            },
        }))
    }
}

impl std::iter::FusedIterator for Records<'_> {}
