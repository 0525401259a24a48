//! Stores many entries in batches.
//!
//! A batch is read completely before it takes the lock, and releases the lock when it is stored:
//! other writers wait for stores, never for files or pipes.

use mmapcache::{ErrorKind, MmapCache};

use crate::failure::Failure;
use crate::import_counts::ImportCounts;
use crate::output;
use crate::write_options::DroppedEntries;

/// The most entries in a batch.
const ENTRIES: usize = 256;
/// A batch with this many bytes of keys and values is full. A single entry may be larger.
const BYTES: usize = 4 << 20;

/// Entries that are not yet stored.
#[derive(Debug)]
pub(crate) struct Batch<'a> {
    cache: &'a MmapCache,
    waiting: Vec<(Vec<u8>, Vec<u8>)>,
    bytes: usize,
    dropped: DroppedEntries,
    /// Counts of everything so far.
    pub(crate) counts: ImportCounts,
}

impl<'a> Batch<'a> {
    pub(crate) fn new(cache: &'a MmapCache) -> Result<Self, Failure> {
        Ok(Self {
            cache,
            waiting: Vec::new(),
            bytes: 0,
            dropped: DroppedEntries::before(cache)?,
            counts: ImportCounts::default(),
        })
    }

    /// Adds an entry, and stores the batch if that fills it.
    pub(crate) fn push(&mut self, key: Vec<u8>, value: Vec<u8>) -> Result<(), Failure> {
        self.bytes += key.len() + value.len();
        self.waiting.push((key, value));
        if self.waiting.len() >= ENTRIES || self.bytes >= BYTES {
            self.store()?;
        }
        Ok(())
    }

    /// Counts and reports something that could not be read.
    pub(crate) fn unreadable(&mut self, failure: &Failure) {
        self.counts.unreadable += 1;
        output::report_error(failure);
    }

    /// Stores the last batch, and returns the counts.
    pub(crate) fn end(mut self) -> Result<ImportCounts, Failure> {
        self.store()?;
        self.counts.dropped = self.dropped.since(self.cache)?;
        Ok(self.counts)
    }

    fn store(&mut self) -> Result<(), Failure> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let mut writer = self.cache.writer()?;
        self.bytes = 0;
        for (key, value) in self.waiting.drain(..) {
            match writer.put(&key, &value) {
                Ok(_) => {
                    self.counts.stored += 1;
                    self.counts.bytes += value.len() as u64;
                }
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::ValueTooLarge { .. } | ErrorKind::KeyLength { .. }
                    ) =>
                {
                    self.counts.unfit += 1;
                    output::warn(&format!(
                        "{}: skipped: {}",
                        crate::key::show(&key),
                        output::chain(&error)
                    ));
                }
                Err(error) => return Err(error.into()),
            }
        }
        writer.commit()?;
        Ok(())
    }
}
