//! An interned value: one allocation with its header, which handles and tables point to.
//!
//! Knows what the header holds; when an entry comes and goes is decided under the lock of its shard.

use std::sync::Weak;

use triomphe::ThinArc;

use crate::sync::Relaxed;
use crate::sync::count::Count;

use crate::intern::pool::shard::Shard;

/// What stands before the bytes of a value.
#[derive(Debug)]
pub(super) struct Header {
    pub hash: u64,
    /// Where the last handle reports; none where values stay without handles.
    pub home: Option<Weak<Shard>>,
    /// Handles, where they are counted. They keep the memory by a count of its own, which orders
    /// everything; this one decides only whether the pool still lists the entry.
    pub handles: Count,
    /// How often it was asked for; changed under the lock of its shard.
    pub uses: Count,
}

/// A reference to an entry that is no handle: it keeps the memory and nothing else.
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

    /// Bytes of the allocation of a value: two counts of eight bytes, the header, the value.
    pub(super) fn size_for(value: &[u8]) -> u64 {
        (16 + size_of::<Header>() + value.len()).next_multiple_of(8) as u64
    }

    pub(super) fn size(&self) -> u64 {
        Self::size_for(self.bytes())
    }

    /// Handles that there are. Under the lock of its shard, for an entry that the table holds.
    pub(super) fn references(&self) -> u64 {
        match self.header().home {
            Some(_) => self.header().handles.load(Relaxed),
            None => ThinArc::strong_count(&self.0) as u64 - 1,
        }
    }

    pub(super) fn uses(&self) -> u64 {
        self.header().uses.load(Relaxed)
    }

    /// Counts one more use. The lock of its shard makes a load and a store enough.
    #[inline]
    pub(super) fn count_use(&self) {
        let uses = &self.header().uses;
        uses.store(uses.load(Relaxed) + 1, Relaxed);
    }
}
