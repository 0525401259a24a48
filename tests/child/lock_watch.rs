//! Which process holds the writer lock of a cache, and which one gets it next.
//!
//! Reads the words of the index whose offsets are in `docs/format.md`, and takes no lock.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Offsets in the index. The words `holder`, `lock` and `waiting` are adjacent.
const FLAGS: u64 = 76;
const HOLDER: u64 = 576;
/// The byte of the index that the owner id 0 would lock.
const FIRST_LIVENESS_BYTE: u64 = 1 << 62;

/// The process ids of the lock's holder and of the waiter that it is reserved for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Contenders {
    pub(crate) holder: Option<u32>,
    pub(crate) next: Option<u32>,
}

/// Watches the writer lock of one cache.
#[derive(Debug)]
pub(crate) struct LockWatch {
    path: PathBuf,
    /// The process of each owner id, also of those that are dead.
    processes: HashMap<u32, u32>,
}

impl LockWatch {
    pub(crate) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            processes: HashMap::new(),
        }
    }

    /// Adds the owner ids that processes have at the moment: another one for each index.
    pub(crate) fn find_owner_ids(&mut self, processes: impl Iterator<Item = u32>) {
        for process in processes {
            for id in owner_ids(process) {
                self.processes.insert(id, process);
            }
        }
    }

    /// Reads the words. A process whose owner id is unknown counts as none.
    pub(crate) fn read(&self) -> Contenders {
        let index = File::open(&self.path).expect("the index");
        let (mut flags, mut words) = ([0], [0; 24]);
        index.read_exact_at(&mut flags, FLAGS).expect("the flags");
        index.read_exact_at(&mut words, HOLDER).expect("the words");
        let half = |which: usize| {
            let bytes = words[which * 4..][..4].try_into().expect("four bytes");
            Some(u32::from_le_bytes(bytes)).filter(|&id| id != 0)
        };
        if flags[0] & 1 == 0 {
            // The upper half of `waiting` is the process of a contender for a `flock`.
            return Contenders {
                holder: half(0),
                next: half(5),
            };
        }
        let owner = half(2).map(|low| low & !(1 << 31)).filter(|&id| id != 0);
        let process = |id: u32| self.processes.get(&id).copied();
        Contenders {
            holder: owner.and_then(process),
            next: half(3).and_then(process),
        }
    }
}

/// Returns the owner ids of a process: it has locked a byte for each.
fn owner_ids(process: u32) -> Vec<u32> {
    let files = std::fs::read_dir(format!("/proc/{process}/fdinfo"));
    let files = files.into_iter().flatten().flatten();
    let texts = files.filter_map(|file| std::fs::read_to_string(file.path()).ok());
    let id_in = |line: &str| {
        let byte: u64 = line.split_whitespace().last()?.parse().ok()?;
        let id = byte.checked_sub(FIRST_LIVENESS_BYTE)?;
        line.contains("OFDLCK").then_some(id as u32)
    };
    texts
        .flat_map(|text| text.lines().filter_map(id_in).collect::<Vec<_>>())
        .collect()
}
