//! What one process measures: a store, a size, some workloads.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

/// The number of entries, and the bytes of each value.
#[derive(Args, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Size {
    #[arg(long)]
    pub(crate) entries: u64,
    #[arg(long)]
    pub(crate) value: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Workload {
    /// Puts of new keys, one by one.
    Load,
    /// Puts of new keys by 1,000.
    Batch,
    /// Gets, `contains`, listing.
    Read,
    /// Overwriting and deleting.
    Change,
    /// Bytes on the disk and in memory.
    Space,
    /// Opening to the first get, in a new process.
    Reopen,
    /// Two threads that read.
    Threads,
    /// Two processes that read; one that reads beside one that writes.
    Processes,
    /// Percentiles of single puts and gets.
    Latency,
    /// Stores of 1 to 1,000 entries: made and closed, opened and read.
    Small,
    /// Gets from the disk: drops the system's page cache, for which it needs root.
    Cold,
    /// 1 to 8 threads, then processes, that overwrite at once.
    Writers,
}

impl Workload {
    /// Whether the workload makes its own store. It then has its own process, too, whose memory is
    /// unused.
    pub(crate) fn stands_alone(self) -> bool {
        matches!(
            self,
            Self::Batch | Self::Latency | Self::Small | Self::Cold | Self::Writers
        )
    }

    /// Whether a map in memory can run it, and its figures are times to compare.
    pub(crate) fn has_a_limit(self) -> bool {
        matches!(
            self,
            Self::Load | Self::Batch | Self::Read | Self::Change | Self::Threads
        )
    }
}

#[derive(Args, Clone, Debug)]
pub(crate) struct Plan {
    #[arg(long)]
    pub(crate) store: String,
    #[command(flatten)]
    pub(crate) size: Size,
    /// The parent of the store's directory.
    #[arg(long)]
    pub(crate) dir: PathBuf,
    #[arg(long, value_enum, value_delimiter = ',')]
    pub(crate) workload: Vec<Workload>,
    /// Of reads and of small stores, only these figures; by default all.
    #[arg(long, value_delimiter = ',')]
    pub(crate) figure: Vec<String>,
}

impl Plan {
    pub(crate) fn wants(&self, workload: Workload) -> bool {
        self.workload.contains(&workload)
    }

    pub(crate) fn wants_any(&self, workloads: &[Workload]) -> bool {
        workloads.iter().any(|&workload| self.wants(workload))
    }

    pub(crate) fn asks_for(&self, figure: &str) -> bool {
        self.figure.is_empty() || self.figure.iter().any(|asked| asked == figure)
    }

    /// Reads in one timed turn.
    pub(crate) fn reads(&self) -> u64 {
        (4 * self.size.entries).min(400_000)
    }
}
