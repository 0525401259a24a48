//! An interned value: one allocation with its header, referenced by handles and tables.
//!
//! The lock of its shard orders when an entry is added and removed.

use std::sync::Weak;

use triomphe::ThinArc;

use crate::sync::Relaxed;
use crate::sync::count::Count;

use crate::intern::pool::shard::Shard;

/// The header before the bytes of a value.
#[derive(Debug)]
pub(super) struct Header {
    pub hash: u64,
    /// The shard that the last handle reports to; `None` if values are kept without handles.
    pub home: Option<Weak<Shard>>,
    /// Number of handles, if they are counted. The reference count of the allocation keeps the memory
    /// and orders accesses; this one only decides whether the table keeps the entry.
    pub handles: Count,
    /// Number of uses; changed under the lock of its shard.
    pub uses: Count,
}

/// A reference to an entry that is not counted as a handle: it keeps the memory alive only.
#[derive(Clone, Debug)]
pub(super) struct Entry(ThinArc<Header, u8>);

impl Entry {
    pub(super) fn new(hash: u64, home: Option<Weak<Shard>>, value: &[u8]) -> Self {
        let header = Header {
            hash,
            home,
            handles: Count::new(0),
            uses: Count::new(0),
        };
        Self(ThinArc::from_header_and_slice(header, value))
    }

    #[inline]
    pub(super) fn header(&self) -> &Header {
        &self.0.header.header
    }

    #[inline]
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0.slice
    }

    #[inline]
    pub(super) fn address(&self) -> usize {
        self.0.ptr().addr()
    }

    /// Returns the size of the allocation of a value: two counters of eight bytes, the header, the value.
    pub(super) fn size_for(value: &[u8]) -> u64 {
        (16 + size_of::<Header>() + value.len()).next_multiple_of(8) as u64
    }

    pub(super) fn size(&self) -> u64 {
        Self::size_for(self.bytes())
    }

    /// Returns the number of handles. Call it under the lock of the shard whose table holds the entry.
    pub(super) fn references(&self) -> u64 {
        match self.header().home {
            Some(_) => self.header().handles.load(Relaxed),
            None => ThinArc::strong_count(&self.0) as u64 - 1,
        }
    }

    pub(super) fn uses(&self) -> u64 {
        self.header().uses.load(Relaxed)
    }

    /// Counts one more use. A load and a store are enough under the lock of its shard.
    #[inline]
    pub(super) fn count_use(&self) {
        let uses = &self.header().uses;
        uses.store(uses.load(Relaxed) + 1, Relaxed);
    }
}
