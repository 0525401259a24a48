//! Labels and their ids, for good.
//!
//! Knows what a label is to its users; that its id is the number of an entry, and how numbers are
//! given and found, it leaves to the engine.

mod id;
mod iter;
#[cfg(not(loom))]
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::Path;

use crate::cache::MmapCache;
use crate::engine::{DiskUsage, HotCopy, Options, Recovery, Report};
use crate::error::{Error, Result};
use crate::format::record::Variant;

pub use crate::labels::id::LabelId;
pub use crate::labels::iter::LabelIter;

/// Strings that are interned for good: each label has one id, in every thread and process that
/// opens the same files, after every restart.
///
/// For the labels of records, the topics of messages, the names of hosts: strings that come again
/// and again, and of which a database is to hold a number only. Nothing is ever deleted.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// use mmapcache::{LabelId, Labels};
///
/// let labels = Labels::open(dir.path().join("labels"))?;
/// let outfits = labels.get_or_insert("r/outfits")?;
/// assert_eq!(labels.get_or_insert("r/outfits")?, outfits);
/// assert_eq!(labels.get_or_insert("r/aww")?.number(), 1);
/// assert_eq!(labels.get("r/never seen")?, None);
/// assert_eq!(labels.get_str_by_id(outfits)?.as_deref(), Some("r/outfits"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Ids
///
/// They count up from 0 in the order of first insertion. An id, once returned, is never another
/// label's: not after a restart, a kill, growth, a recovery, nor after a power loss, which may take
/// labels that were not [flushed](Labels::flush), but leaves their ids unused: holes, for which
/// [`get_by_id`](Labels::get_by_id) gives nothing. A damaged label is a hole too, and gets a new id
/// when it is inserted again.
///
/// # Concurrency
///
/// Labels that are there are found without a lock, by id and by name, by any number of threads and
/// processes. A new one takes the writer lock, and is inserted once however many race for it.
///
/// # Costs
///
/// On the disk a label takes 12 bytes and its own, rounded up to eight, and 22 to 45 for its slot
/// and its id: 60 to 78 bytes for one of 20, 69 on average. In memory it takes nothing of the process's own: pages
/// of the mapped files, which the system can drop. To open takes no longer for many labels than for
/// few. Every 16,384th new label waits for a sync of the disk.
///
/// The files are those of an [`MmapCache`] whose entries have no value and never change; the
/// documents call their records numbered. Opened as one they can be listed and verified;
/// overwriting, deleting and clearing is [`Error::AppendOnly`].
pub struct Labels {
    cache: MmapCache,
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cache.handle().describe("Labels", f)
    }
}

impl Labels {
    /// Opens the labels at `path`, creating them where there are none.
    ///
    /// # Errors
    ///
    /// As [`Options::open`], and [`Error::Mismatch`] where the files at the path are those of a
    /// cache with values.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(path, &Options::new())
    }

    /// Opens labels with other options than the default ones. [`Options::max_entries`] is the number
    /// of ids; those that concern values, changes and cleaning have nothing to say here.
    ///
    /// # Errors
    ///
    /// As [`Labels::open`].
    pub fn open_with(path: impl AsRef<Path>, options: &Options) -> Result<Self> {
        let options = Options {
            variant: Variant::Numbered,
            inline_key: None,
            append_only: None,
            ..options.clone()
        };
        let cache = MmapCache::open_with(path.as_ref(), &options)?;
        // Another process may have made a cache there since.
        cache.handle().numbers_given()?;
        Ok(Self { cache })
    }

    /// The path of the index, every symbolic link followed.
    pub fn path(&self) -> &Path {
        self.cache.path()
    }

    /// The id of a label, which gets one now if it has none.
    ///
    /// O(1). Without a lock where the label is there.
    ///
    /// # Errors
    ///
    /// [`Error::KeyLength`] (labels have 1 to 65,535 bytes), [`Error::IdsExhausted`],
    /// [`Error::DiskFull`], [`Error::Locked`], [`Error::ReadOnly`], [`Error::SyncFailed`],
    /// [`Error::Io`]: the label has no id then.
    pub fn get_or_insert(&self, label: impl AsRef<[u8]>) -> Result<LabelId> {
        let label = label.as_ref();
        if let Some(id) = self.get(label)? {
            return Ok(id);
        }
        let number = self.cache.writer()?.number(label)?;
        Ok(LabelId::from_engine(number))
    }

    /// The ids of many labels, which get one now where they have none: under one lock, if there is
    /// any need for it.
    ///
    /// # Errors
    ///
    /// As [`Labels::get_or_insert`]; of the labels before the one that failed, each has its id.
    pub fn get_or_insert_many<L: AsRef<[u8]>>(
        &self,
        labels: impl IntoIterator<Item = L>,
    ) -> Result<Vec<LabelId>> {
        let mut writer = None;
        labels
            .into_iter()
            .map(|label| {
                let label = label.as_ref();
                if let Some(id) = self.get(label)? {
                    return Ok(id);
                }
                let writer = match &mut writer {
                    Some(writer) => writer,
                    None => writer.insert(self.cache.writer()?),
                };
                writer.number(label).map(LabelId::from_engine)
            })
            .collect()
    }

    /// The id of a label, if it has one. O(1), without a lock.
    ///
    /// # Errors
    ///
    /// [`Error::KeyLength`], [`Error::Io`] where a file could not be opened anew.
    pub fn get(&self, label: impl AsRef<[u8]>) -> Result<Option<LabelId>> {
        let number = self.cache.handle().number_of(label.as_ref())?;
        Ok(number.map(LabelId::from_engine))
    }

    /// Whether a label has an id. As [`Labels::get`].
    ///
    /// # Errors
    ///
    /// As [`Labels::get`].
    pub fn contains(&self, label: impl AsRef<[u8]>) -> Result<bool> {
        self.get(label).map(|id| id.is_some())
    }

    /// The label of an id; nothing where nobody has it. O(1), without a lock.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] where a file could not be opened anew, [`Error::Contended`] where other writers
    /// changed the label's slot each time that it was looked at.
    pub fn get_by_id(&self, id: LabelId) -> Result<Option<Vec<u8>>> {
        let mut label = Vec::new();
        Ok(self.get_by_id_into(id, &mut label)?.then_some(label))
    }

    /// Puts the label of an id into a buffer, in place of what is there; false, and an empty buffer,
    /// where nobody has the id.
    ///
    /// # Errors
    ///
    /// As [`Labels::get_by_id`].
    pub fn get_by_id_into(&self, id: LabelId, label: &mut Vec<u8>) -> Result<bool> {
        label.clear();
        self.cache.handle().key_of(id.to_engine(), label)
    }

    /// The label of an id as text.
    ///
    /// # Errors
    ///
    /// As [`Labels::get_by_id`], and [`Error::NotText`] where the label is no UTF-8.
    pub fn get_str_by_id(&self, id: LabelId) -> Result<Option<String>> {
        let Some(label) = self.get_by_id(id)? else {
            return Ok(None);
        };
        String::from_utf8(label)
            .map(Some)
            .map_err(|_| Error::NotText {
                path: self.path().to_owned(),
                id: id.number(),
            })
    }

    /// Labels that have an id.
    pub fn len(&self) -> u64 {
        self.cache.len()
    }

    /// Whether there is no label.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All labels in the order of their ids: those that were there when it began, each once.
    ///
    /// Damaged labels are passed over; a listing that found fewer labels than the index counts then
    /// ends with [`Error::Incomplete`].
    ///
    /// # Errors
    ///
    /// As [`Labels::get_by_id`]. Items can also be [`Error::Incomplete`], [`Error::Damaged`] where the
    /// list of ids was cut, and [`Error::Superseded`] where the files were replaced meanwhile by ones
    /// with fewer labels.
    pub fn iter(&self) -> Result<LabelIter<'_>> {
        LabelIter::new(&self.cache)
    }

    /// Everything to the disk: no power loss takes what was inserted before.
    ///
    /// # Errors
    ///
    /// As [`MmapCache::flush`].
    pub fn flush(&self) -> Result<()> {
        self.cache.flush()
    }

    /// Compares index, records and ids with each other; see [`MmapCache::verify`].
    ///
    /// # Errors
    ///
    /// As [`MmapCache::verify`].
    pub fn verify(&self) -> Result<Report> {
        self.cache.verify()
    }

    /// What this handle's last recovery came to, as
    /// [`MmapCache::last_recovery`](crate::MmapCache::last_recovery).
    pub fn last_recovery(&self) -> Option<Recovery> {
        self.cache.last_recovery()
    }

    /// A copy of these labels, with their ids, while others go on inserting: where to, and more, its
    /// methods say.
    ///
    /// Ids that are given here afterwards, the copy gives to other labels.
    pub fn hot_copy(&self) -> HotCopy<'_> {
        self.cache.hot_copy()
    }

    /// Bytes on the disk, by file.
    ///
    /// # Errors
    ///
    /// As [`MmapCache::disk_usage`].
    pub fn disk_usage(&self) -> Result<DiskUsage> {
        self.cache.disk_usage()
    }
}
