//! The options of a handle, as keyword arguments.

use std::path::PathBuf;

use mmapcache::{Durability, Options};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::keywords::Keywords;
use crate::seconds::Seconds;
use crate::waiting::Patience;

/// The options of a handle. What is `None` has the engine's default, or its stored value.
#[derive(Clone, Debug, Default)]
pub(crate) struct OpenOptions {
    pub read_only: bool,
    pub exclusive: bool,
    create: bool,
    create_new: bool,
    allow_network_fs: bool,
    append_only: Option<bool>,
    syncs: bool,
    capacity: Option<u64>,
    /// For `MmapCache` and `Labels`; that of a `Cache` is a setting of its files.
    pub max_entries: Option<u64>,
    max_segment_bytes: Option<u64>,
    compaction_threshold: Option<(u32, u64)>,
    pub patience: Patience,
    file_mode: Option<u32>,
    heap_path: Option<PathBuf>,
}

impl OpenOptions {
    /// Takes the options out of the keyword arguments; all but `max_entries`, which means something else
    /// to each class.
    pub(crate) fn take(keywords: &Keywords<'_>) -> PyResult<Self> {
        let flag = |name, default| Ok::<_, PyErr>(keywords.take(name)?.unwrap_or(default));
        Ok(Self {
            read_only: flag("read_only", false)?,
            exclusive: flag("exclusive", false)?,
            create: flag("create", true)?,
            create_new: flag("create_new", false)?,
            allow_network_fs: flag("allow_network_fs", false)?,
            append_only: keywords.take("append_only")?,
            syncs: syncs(keywords.take("durability")?)?,
            capacity: keywords.take("capacity")?,
            max_entries: None,
            max_segment_bytes: keywords.take("max_segment_bytes")?,
            compaction_threshold: keywords.take("compaction_threshold")?,
            patience: keywords
                .take::<Seconds>("lock_timeout")?
                .map_or_else(Patience::default, Patience::new),
            file_mode: keywords.take("file_mode")?,
            heap_path: keywords.take("heap_path")?,
        })
    }

    /// Returns the engine's options. A wait for the lock is cut into pieces, see [`Patience`].
    pub(crate) fn engine(&self) -> Options {
        let mut options = Options::new();
        options
            .read_only(self.read_only)
            .exclusive(self.exclusive)
            .create(self.create)
            .create_new(self.create_new)
            .allow_network_fs(self.allow_network_fs)
            .lock_timeout(Some(self.patience.piece()));
        if self.syncs {
            options.durability(Durability::Sync);
        }
        if let Some(append_only) = self.append_only {
            options.append_only(append_only);
        }
        if let Some(capacity) = self.capacity {
            options.capacity(capacity);
        }
        if let Some(entries) = self.max_entries {
            options.max_entries(entries);
        }
        if let Some(bytes) = self.max_segment_bytes {
            options.max_segment_bytes(bytes);
        }
        if let Some((percent, floor)) = self.compaction_threshold {
            options.compaction_threshold(percent, floor);
        }
        if let Some(mode) = self.file_mode {
            options.file_mode(mode);
        }
        if let Some(path) = &self.heap_path {
            options.heap_path(path);
        }
        options
    }

    /// Refuses to describe a handle that no second one can be opened beside.
    pub(crate) fn refuse_exclusive(&self) -> PyResult<()> {
        match self.exclusive {
            true => Err(PyTypeError::new_err(
                "an exclusive handle is not pickled or copied: no other could write beside it",
            )),
            false => Ok(()),
        }
    }

    /// Returns the keyword arguments that open such a handle again, in another process too. Not
    /// `create_new`: the files exist.
    pub(crate) fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        dict.set_item("read_only", self.read_only)?;
        dict.set_item("create", self.create)?;
        dict.set_item("allow_network_fs", self.allow_network_fs)?;
        dict.set_item("append_only", self.append_only)?;
        dict.set_item("durability", if self.syncs { "sync" } else { "none" })?;
        dict.set_item("capacity", self.capacity)?;
        dict.set_item("max_segment_bytes", self.max_segment_bytes)?;
        dict.set_item("compaction_threshold", self.compaction_threshold)?;
        dict.set_item("lock_timeout", self.patience.seconds())?;
        dict.set_item("file_mode", self.file_mode)?;
        let heap_path = self.heap_path.as_ref().map(|path| path.as_os_str());
        dict.set_item("heap_path", heap_path)?;
        Ok(dict)
    }
}

fn syncs(durability: Option<String>) -> PyResult<bool> {
    match durability.as_deref() {
        None | Some("none") => Ok(false),
        Some("sync") => Ok(true),
        Some(other) => Err(PyValueError::new_err(format!(
            "durability {other:?}; it is \"none\" or \"sync\""
        ))),
    }
}
