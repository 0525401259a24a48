//! Durable string interning: each label has one id, in every process and after every restart.
//!
//! A label is the key of an entry without a value, and its id is the id of that entry; the engine
//! assigns ids and finds entries by them.

mod id;
mod iter;
#[cfg(not(loom))]
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::Path;

use crate::engine::ids;
use crate::engine::{Backup, DiskUsage, Options, Recovery, Verify, Writer};
use crate::error::{ErrorKind, Result};
use crate::format::record::Variant;
use crate::mmap_cache::MmapCache;

pub use crate::labels::id::LabelId;
pub use crate::labels::iter::LabelIter;

/// Durable string interning: each label has one id, in every thread and process that opens the same
/// files, and after every restart. Nothing is ever deleted.
///
/// Use it for strings that recur in records of which a database stores only a number: labels, topics
/// of messages, host names.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// use mmapcache::{LabelId, Labels};
///
/// let labels = Labels::open(dir.path().join("labels"))?;
/// let outfits = labels.get_or_intern("r/outfits")?;
/// assert_eq!(labels.get_or_intern("r/outfits")?, outfits);
/// assert_eq!(labels.get_or_intern("r/aww")?.number(), 1);
/// assert_eq!(labels.get("r/never seen")?, None);
/// assert_eq!(labels.resolve_str(outfits)?.as_deref(), Some("r/outfits"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Ids
///
/// Ids count up from 0 in the order of first insertion. An id that was returned never means another
/// label: not after a restart, a kill, growth or a recovery, nor after a power loss. A power loss may
/// take labels that were not [flushed](Labels::flush), but leaves their ids unused: gaps, for which
/// [`resolve`](Labels::resolve) returns `None`. A damaged label leaves a gap too, and gets a new id when
/// it is interned again.
///
/// # Concurrency
///
/// Lookups by label and by id take no lock, in any number of threads and processes. Interning a new
/// label takes the writer lock; if several threads or processes intern the same label at once, all get
/// the same id.
///
/// # Costs
///
/// On disk a label takes 12 bytes plus its length, rounded up to eight, and 22 to 45 bytes for its slot
/// and its id: 60 to 78 bytes for a label of 20, 69 on average. Memory is only the mapped pages of the
/// files, which the system can drop. Opening takes the same time for many labels as for few. Every
/// 16,384th new label waits for a sync of the disk.
///
/// The files are those of an [`MmapCache`] whose entries have an id instead of a value and never change.
/// An [`MmapCache`] can open them to list and verify them; overwriting, deleting and clearing is
/// [`ErrorKind::AppendOnly`].
pub struct Labels {
    cache: MmapCache,
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cache.handle().describe("Labels", f)
    }
}

impl Labels {
    /// Opens the labels at `path` with the default [`Options`]; creates them if there are none.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`open_with`](Self::open_with).
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(path, &Options::new())
    }

    /// Opens labels with other options. [`Options::max_entries`] limits the number of ids. Options that
    /// concern values, changes and cleaning have no effect.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Options::open`], and [`ErrorKind::OptionMismatch`] if the files at the path
    /// are those of a cache with values.
    pub fn open_with(path: impl AsRef<Path>, options: &Options) -> Result<Self> {
        let options = Options {
            variant: Variant::Numbered,
            append_only: None,
            in_place: None,
            ..options.clone()
        };
        let cache = MmapCache::open_with(path.as_ref(), &options)?;
        // Another process may have created a cache with values there since.
        ids::ids_given(cache.handle())?;
        Ok(Self { cache })
    }

    /// Returns the path of the index, with all symbolic links resolved.
    pub fn path(&self) -> &Path {
        self.cache.path()
    }

    /// Returns the id of a label; assigns one if it has none.
    ///
    /// O(1). Takes no lock if the label has an id.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::KeyLength`] if the label is empty or longer than 65,535 bytes.
    /// - [`ErrorKind::IdsExhausted`] if all ids are assigned.
    /// - [`ErrorKind::ValueTooLarge`] if the label exceeds a segment.
    /// - The errors of [`MmapCache::writer`] if the label is new, [`ErrorKind::ReadOnly`] among them, and
    ///   [`ErrorKind::Contended`] if other writers changed its slot during each of many attempts.
    /// - [`ErrorKind::OptionMismatch`] if a cache with values has replaced the files.
    ///
    /// The label gets no id then.
    pub fn get_or_intern(&self, label: impl AsRef<[u8]>) -> Result<LabelId> {
        self.get_or_intern_bytes(label.as_ref())
    }

    fn get_or_intern_bytes(&self, label: &[u8]) -> Result<LabelId> {
        match self.number_of(label)? {
            Some(id) => Ok(id),
            None => self.cache.write(|writer| assign(writer, label)),
        }
    }

    /// Returns the ids of many labels, in their order; assigns ids to those that have none, under one
    /// lock.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`get_or_intern`](Self::get_or_intern). The labels before the one that
    /// failed have their ids then.
    pub fn get_or_intern_many<L: AsRef<[u8]>>(
        &self,
        labels: impl IntoIterator<Item = L>,
    ) -> Result<Vec<LabelId>> {
        let mut writer = None;
        let ids = labels
            .into_iter()
            .map(|label| {
                let label = label.as_ref();
                if let Some(id) = self.number_of(label)? {
                    return Ok(id);
                }
                let writer = match &mut writer {
                    Some(writer) => writer,
                    None => writer.insert(self.cache.writer()?),
                };
                assign(writer, label)
            })
            .collect::<Result<_>>()?;
        // Dropping the writer would sync as well, but not report that it failed.
        writer.map_or(Ok(()), Writer::commit)?;
        Ok(ids)
    }

    /// Returns the id of a label, or `None` if it has none. O(1), without a lock.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`MmapCache::get`], and [`ErrorKind::OptionMismatch`] if a cache with values
    /// has replaced the files.
    pub fn get(&self, label: impl AsRef<[u8]>) -> Result<Option<LabelId>> {
        self.number_of(label.as_ref())
    }

    fn number_of(&self, label: &[u8]) -> Result<Option<LabelId>> {
        let number = ids::id_of(self.cache.handle(), label)?;
        Ok(number.map(LabelId::from_engine))
    }

    /// Returns whether a label has an id. O(1), without a lock.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`get`](Self::get).
    pub fn contains(&self, label: impl AsRef<[u8]>) -> Result<bool> {
        self.get(label).map(|id| id.is_some())
    }

    /// Returns the label of an id, or `None` if no label has the id. O(1), without a lock.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`get`](Self::get), except [`ErrorKind::KeyLength`].
    pub fn resolve(&self, id: LabelId) -> Result<Option<Vec<u8>>> {
        let mut label = Vec::new();
        Ok(self.resolve_into(id, &mut label)?.then_some(label))
    }

    /// Replaces the contents of `label` by the label of an id. Returns whether there is one; if not,
    /// `label` is empty.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`resolve`](Self::resolve).
    pub fn resolve_into(&self, id: LabelId, label: &mut Vec<u8>) -> Result<bool> {
        label.clear();
        ids::key_of(self.cache.handle(), id.to_engine(), label)
    }

    /// Returns the label of an id as text, or `None` if no label has the id.
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::NotUtf8`] if the label is not UTF-8, and the errors of
    /// [`resolve`](Self::resolve).
    pub fn resolve_str(&self, id: LabelId) -> Result<Option<String>> {
        let Some(label) = self.resolve(id)? else {
            return Ok(None);
        };
        String::from_utf8(label)
            .map(Some)
            .map_err(|_| ErrorKind::NotUtf8 { id: id.number() }.at(&self.path()))
    }

    /// Returns the number of labels. One atomic load.
    pub fn len(&self) -> u64 {
        self.cache.len()
    }

    /// Returns whether there are no labels. One atomic load.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns an iterator over the labels that exist when it is called, in the order of their ids, each
    /// once.
    ///
    /// Skips damaged labels; a listing that found fewer labels than the index counted ends with
    /// [`ErrorKind::Incomplete`].
    ///
    /// # Errors
    ///
    /// Returns the errors of [`resolve`](Self::resolve). Items can also be [`ErrorKind::Incomplete`],
    /// [`ErrorKind::Corrupted`] if the list of ids was truncated, and [`ErrorKind::Superseded`] if files
    /// with fewer labels replaced these during the listing. Each of them ends it.
    pub fn iter(&self) -> Result<LabelIter<'_>> {
        LabelIter::new(&self.cache)
    }

    /// Syncs everything to the disk: a power loss after it loses no label interned before the call.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`MmapCache::flush`].
    pub fn flush(&self) -> Result<()> {
        self.cache.flush()
    }

    /// Prepares a verification of index, records and ids against each other; see [`Verify`].
    pub fn verify(&self) -> Verify<'_> {
        self.cache.verify()
    }

    /// Returns the result of the last recovery by this handle; see [`MmapCache::last_recovery`].
    pub fn last_recovery(&self) -> Option<Recovery> {
        self.cache.last_recovery()
    }

    /// Prepares an online backup of the labels and their ids, which runs while other processes intern;
    /// see [`Backup`].
    ///
    /// Ids that the original assigns after the backup, the backup assigns to other labels.
    pub fn backup(&self) -> Backup<'_> {
        self.cache.backup()
    }

    /// Returns the bytes that the files take on the disk.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`MmapCache::disk_usage`].
    pub fn disk_usage(&self) -> Result<DiskUsage> {
        self.cache.disk_usage()
    }
}

fn assign(writer: &mut Writer<'_>, label: &[u8]) -> Result<LabelId> {
    writer.id(label).map(LabelId::from_engine)
}
