//! Bytes on the disk and in memory.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::store::{Error, Result};

/// Returns the bytes of the blocks of a directory's files: holes take none.
pub(crate) fn disk(dir: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        // Stores with their own threads remove files while they are counted.
        let metadata = match entry.metadata() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            metadata => metadata?,
        };
        bytes += if metadata.is_dir() {
            disk(&entry.path())?
        } else {
            metadata.blocks() * 512
        };
    }
    Ok(bytes)
}

/// This process's memory, in megabytes.
pub(super) struct Memory {
    /// Memory that no other process can share: no page of a file.
    pub(super) private: f64,
    /// Everything that is mapped and in memory, including pages of files.
    pub(super) resident: f64,
}

impl Memory {
    pub(super) fn now() -> Result<Self> {
        let status = fs::read_to_string("/proc/self/status")?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok())
                .map(|kib| kib * 1024.0 / 1e6)
                .ok_or_else(|| Error::Failed(format!("/proc/self/status has no {name}")))
        };
        Ok(Self {
            private: field("RssAnon:")?,
            resident: field("VmRSS:")?,
        })
    }
}
