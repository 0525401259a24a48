//! Entries on their way into a cache, some at a time.
//!
//! What is read from slow places is gathered before the lock is taken, and the lock is given back
//! after each batch: other writers wait for stores, never for files or pipes. Knows not where
//! entries come from.

use mmapcache::{ErrorKind, MmapCache};

use crate::change::Losses;
use crate::failure::Failure;
use crate::output;
use crate::tally::Tally;

/// Entries in a batch at most.
const ENTRIES: usize = 256;
/// Bytes of keys and values after which a batch is full. A single entry may be larger.
const BYTES: usize = 4 << 20;

/// Entries that wait to be stored.
#[derive(Debug)]
pub(crate) struct Batch<'a> {
    cache: &'a MmapCache,
    waiting: Vec<(Vec<u8>, Vec<u8>)>,
    bytes: usize,
    losses: Losses,
    /// What became of everything so far.
    pub(crate) tally: Tally,
}

impl<'a> Batch<'a> {
    pub(crate) fn new(cache: &'a MmapCache) -> Result<Self, Failure> {
        Ok(Self {
            cache,
            waiting: Vec::new(),
            bytes: 0,
            losses: Losses::before(cache)?,
            tally: Tally::default(),
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

    /// Counts something that could not be read, and says so.
    pub(crate) fn unreadable(&mut self, failure: &Failure) {
        self.tally.unreadable += 1;
        output::complain(failure);
    }

    /// Stores what still waits, and returns the tally.
    pub(crate) fn end(mut self) -> Result<Tally, Failure> {
        self.store()?;
        self.tally.dropped = self.losses.since(self.cache)?;
        Ok(self.tally)
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
                    self.tally.stored += 1;
                    self.tally.bytes += value.len() as u64;
                }
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::ValueTooLarge { .. } | ErrorKind::KeyLength { .. }
                    ) =>
                {
                    self.tally.unfit += 1;
                    output::remark(&format!(
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
