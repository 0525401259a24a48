//! What every store must do, in the workloads' terms.
//!
//! A store is opened in its own directory. No operation syncs, except in the stores that are named
//! durable: the comparison is with a cache that survives a kill, and may lose recent writes in a
//! power loss. Some workloads sync everything once before they start.

use std::path::Path;

use crate::keys::Batch;

/// Why a store did not do what it was asked.
#[derive(Debug)]
pub(crate) enum Error {
    /// The store does not offer that; the reason becomes a footnote.
    Refused(&'static str),
    /// The store offers that, and failed.
    Failed(String),
}

impl<E: std::error::Error> From<E> for Error {
    fn from(error: E) -> Self {
        Self::Failed(error.to_string())
    }
}

pub(crate) type Result<T> = std::result::Result<T, Error>;

/// How a handle is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Access {
    /// Creates a new store.
    Create,
    Write,
    Read,
}

/// Which processes may use a store while one has it open.
#[allow(
    dead_code,
    reason = "some are only constructed by stores of optional features"
)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sharing {
    /// Other processes read, whether it writes or not.
    Beside,
    /// The same, and the store lives only as long as a process has it open.
    BesideWhileOpen,
    /// Other processes read, unless it may write.
    Readers,
    /// No other process.
    Alone,
    /// No other process, and the store ends with this one.
    Memory,
}

impl Sharing {
    /// Whether entries are still there when the store is opened again.
    pub(crate) fn lasts(self) -> bool {
        !matches!(self, Self::Memory | Self::BesideWhileOpen)
    }

    pub(crate) fn has_readers(self) -> bool {
        !matches!(self, Self::Memory | Self::Alone)
    }

    pub(crate) const fn has_readers_beside_a_writer(self) -> bool {
        matches!(self, Self::Beside | Self::BesideWhileOpen)
    }
}

/// Makes another handle of an open store, on the thread that will use it.
pub(crate) type Another<S> = Box<dyn FnOnce() -> Result<S> + Send>;

/// A key-value store, as one thread uses it.
pub(crate) trait Store: Sized + 'static {
    const SHARING: Sharing;
    /// Whether several processes may have it open for writing.
    const WRITERS: bool = Self::SHARING.has_readers_beside_a_writer();
    /// Whether many puts together cost less than single ones.
    const BATCHES: bool = true;

    /// Opens the store in `dir`, for about `entries` entries.
    fn open(dir: &Path, access: Access, entries: u64) -> Result<Self>;

    /// Stores a value under a new or an existing key.
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()>;

    /// Stores many values under one lock or transaction.
    fn put_many(&mut self, batch: &Batch) -> Result<()>;

    /// Shows the value of a key, in place or in a reused buffer. Returns false if there is none.
    fn get(&mut self, key: &[u8], see: impl FnMut(&[u8])) -> Result<bool>;

    /// Shows the values of many keys, in one call of the store. Returns how many were found.
    fn get_many(&mut self, _keys: &[&[u8]], _see: impl FnMut(&[u8])) -> Result<usize> {
        Err(Error::Refused("has no call that gets several keys"))
    }

    fn contains(&mut self, key: &[u8]) -> Result<bool>;

    fn delete(&mut self, key: &[u8]) -> Result<()>;

    /// Shows every key and value once, in any order. Returns how many there are.
    fn list(&mut self, see: impl FnMut(&[u8], &[u8])) -> Result<u64>;

    /// Makes another handle of the same store for another thread of this process.
    fn another(&mut self) -> Result<Another<Self>>;

    /// Makes all puts durable. The caller then writes back the page cache, so that a store without
    /// other work leaves this as it is.
    fn sync(&mut self) -> Result<()> {
        Ok(())
    }

    fn close(self) -> Result<()> {
        Ok(())
    }
}
