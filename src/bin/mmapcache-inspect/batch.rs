//! Stores many entries in batches.
//!
//! A batch is read completely before it takes the lock, and releases the lock when it is stored:
//! other writers wait for stores, never for files or pipes.

use mmapcache::{CacheWriter, ErrorKind, Version};

use crate::either_cache::EitherCache;
use crate::entry_terms::EntryTerms;
use crate::failure::Failure;
use crate::import_counts::ImportCounts;
use crate::output;
use crate::portable_entry::PortableEntry;
use crate::write_options::DroppedEntries;

/// The most entries in a batch.
const ENTRIES: usize = 256;
/// A batch with this many bytes of keys and values is full. A single entry may be larger.
const BYTES: usize = 4 << 20;

/// Entries that are not yet stored.
#[derive(Debug)]
pub(crate) struct Batch<'a> {
    cache: &'a EitherCache,
    waiting: Vec<PortableEntry>,
    bytes: usize,
    dropped: DroppedEntries,
    /// Counts of everything so far.
    pub(crate) counts: ImportCounts,
}

impl<'a> Batch<'a> {
    pub(crate) fn new(cache: &'a EitherCache) -> Result<Self, Failure> {
        Ok(Self {
            cache,
            waiting: Vec::new(),
            bytes: 0,
            dropped: DroppedEntries::before_import(cache)?,
            counts: ImportCounts::default(),
        })
    }

    /// Adds an entry, and stores the batch if that fills it.
    pub(crate) fn push(&mut self, entry: PortableEntry) -> Result<(), Failure> {
        self.bytes += entry.bytes();
        self.waiting.push(entry);
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
        self.counts.dropped = self.dropped.since_import(self.cache)?;
        Ok(self.counts)
    }

    fn store(&mut self) -> Result<(), Failure> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        self.bytes = 0;
        let waiting = std::mem::take(&mut self.waiting);
        match self.cache {
            EitherCache::Engine(cache) => {
                let mut writer = cache.writer()?;
                for entry in waiting {
                    if !entry.terms.is_none_or(EntryTerms::are_none) {
                        let what = "has a deadline or a group, which only a `Cache` keeps";
                        self.unfit(&entry.key, what);
                        continue;
                    }
                    let stored = writer.put(&entry.key, &entry.value);
                    self.count(&entry, stored)?;
                }
                writer.commit()?;
            }
            EitherCache::Expiring(cache) => {
                let mut writer = cache.writer()?;
                for entry in waiting {
                    if entry.terms.is_some_and(EntryTerms::have_ended) {
                        self.counts.expired += 1;
                        continue;
                    }
                    let stored = store_expiring(&mut writer, &entry);
                    self.count(&entry, stored)?;
                }
                writer.commit()?;
            }
        }
        Ok(())
    }

    /// Counts an entry that was stored, or that the cache cannot hold.
    fn count(
        &mut self,
        entry: &PortableEntry,
        stored: mmapcache::Result<Version>,
    ) -> Result<(), Failure> {
        match stored {
            Ok(_) => {
                self.counts.stored += 1;
                self.counts.bytes += entry.value.len() as u64;
            }
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::ValueTooLarge { .. } | ErrorKind::KeyLength { .. }
                ) =>
            {
                self.unfit(&entry.key, &output::chain(&error));
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn unfit(&mut self, key: &[u8], what: &str) {
        self.counts.unfit += 1;
        output::warn(&format!("{}: skipped: {what}", crate::key::show(key)));
    }
}

fn store_expiring(
    writer: &mut CacheWriter<'_>,
    entry: &PortableEntry,
) -> mmapcache::Result<Version> {
    match entry.terms {
        None => writer.insert(&entry.key, &entry.value),
        Some(terms) if terms.is_negative => writer.insert_absent(&entry.key, terms.remaining()),
        Some(terms) => writer.insert_with(&entry.key, &entry.value, &terms.options()),
    }
}
