//! What is asked of every store, in the words that the workloads use.
//!
//! A store is opened in a directory of its own. No operation syncs, except those of the stores that
//! are named durable: what is compared is a cache that survives a kill, and may lose recent writes
//! to a power loss. Some workloads sync everything once before they start.

use std::path::Path;

use crate::keys::Batch;

/// Why a store did not do what it was asked.
#[derive(Debug)]
pub(crate) enum Error {
    /// It does not offer that; the reason goes into a footnote.
    Refused(&'static str),
    /// It offers that, and failed.
    Failed(String),
}

impl<E: std::error::Error> From<E> for Error {
    fn from(error: E) -> Self {
        Self::Failed(error.to_string())
    }
}

pub(crate) type Result<T> = std::result::Result<T, Error>;

/// What a handle is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Access {
    /// A store that is not there yet.
    Create,
    Write,
    Read,
}

/// Who may use a store while one process has it open.
#[allow(
    dead_code,
    reason = "some are only constructed by stores behind features"
)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sharing {
    /// Other processes read, whether it writes or not.
    Beside,
    /// The same, and the store lives only as long as somebody has it open.
    BesideWhileOpen,
    /// Other processes read, unless it may write.
    Readers,
    /// No other process.
    Alone,
    /// No other process, and none after it either.
    Memory,
}

impl Sharing {
    /// Whether what was put is there when the store is opened again.
    pub(crate) fn lasts(self) -> bool {
        !matches!(self, Self::Memory | Self::BesideWhileOpen)
    }

    pub(crate) fn has_readers(self) -> bool {
        !matches!(self, Self::Memory | Self::Alone)
    }

    pub(crate) fn has_readers_beside_a_writer(self) -> bool {
        matches!(self, Self::Beside | Self::BesideWhileOpen)
    }
}

/// Makes another handle of an open store, on the thread that will use it.
pub(crate) type Another<S> = Box<dyn FnOnce() -> Result<S> + Send>;

/// A key-value store, as one thread sees it.
pub(crate) trait Store: Sized + 'static {
    const SHARING: Sharing;
    /// Whether many puts together cost it less than each by itself.
    const BATCHES: bool = true;

    /// Opens the store in `dir`. Who needs to know how much it will hold is told by `entries`.
    fn open(dir: &Path, access: Access, entries: u64) -> Result<Self>;

    /// Stores a value, whether there was one or not.
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()>;

    /// Stores many values for the price of one lock or transaction.
    fn put_many(&mut self, batch: &Batch) -> Result<()>;

    /// Shows the value of a key, where it lies or in a buffer that is used again. False where there
    /// is none.
    fn get(&mut self, key: &[u8], see: impl FnMut(&[u8])) -> Result<bool>;

    /// Shows the values of many keys, in one call of the store's own. The number of those found.
    fn get_many(&mut self, _keys: &[&[u8]], _see: impl FnMut(&[u8])) -> Result<usize> {
        Err(Error::Refused("has no call that gets several keys"))
    }

    fn contains(&mut self, key: &[u8]) -> Result<bool>;

    fn delete(&mut self, key: &[u8]) -> Result<()>;

    /// Shows every key and value once, in any order. The number of them.
    fn list(&mut self, see: impl FnMut(&[u8], &[u8])) -> Result<u64>;

    /// Another handle of the same store for another thread of this process.
    fn another(&mut self) -> Result<Another<Self>>;

    /// Makes everything durable that was put. The caller writes back the page cache afterwards, so a
    /// store that has nothing else to do leaves this as it is.
    fn sync(&mut self) -> Result<()> {
        Ok(())
    }

    fn close(self) -> Result<()> {
        Ok(())
    }
}
