//! Counts of what an import stored and what it skipped.

use std::time::Duration;

use serde_json::{Value, json};

use crate::exit_status::ExitStatus;
use crate::units;

/// Counts of an import.
#[derive(Clone, Debug, Default)]
pub(crate) struct ImportCounts {
    /// Entries stored.
    pub(crate) stored: u64,
    /// Bytes of their values.
    pub(crate) bytes: u64,
    /// Links, devices and other things that are not regular files, and files of the cache itself.
    pub(crate) passed: u64,
    /// Entries that do not fit into a segment, or whose key is too long or empty.
    pub(crate) unfit: u64,
    /// Entries that expired before they were stored.
    pub(crate) expired: u64,
    /// Files or lines that could not be read.
    pub(crate) unreadable: u64,
    /// Entries that the cache dropped during the import because their records are damaged or missing.
    pub(crate) dropped: u64,
    /// Whether the walk stopped at its limit.
    pub(crate) cut: bool,
}

impl ImportCounts {
    pub(crate) fn exit_status(&self) -> ExitStatus {
        if self.unfit + self.unreadable > 0 {
            ExitStatus::Incomplete
        } else {
            ExitStatus::problems_if(self.dropped > 0)
        }
    }

    pub(crate) fn json(&self, time: Duration) -> Value {
        json!({
            "stored": self.stored,
            "bytes": self.bytes,
            "passed": self.passed,
            "unfit": self.unfit,
            "expired": self.expired,
            "unreadable": self.unreadable,
            "dropped": self.dropped,
            "seconds": time.as_secs_f64(),
        })
    }

    pub(crate) fn text(&self, time: Duration) -> String {
        let mut text = format!(
            "stored {} entries, {} of values, in {} ({} entries/s, {}/s)",
            units::count(self.stored),
            units::bytes(self.bytes),
            units::duration(time),
            units::count(units::rate(self.stored, time)),
            units::bytes(units::rate(self.bytes, time)),
        );
        for (count, what) in [
            (
                self.passed,
                "skipped: not regular files, or files of this cache",
            ),
            (self.unfit, "skipped: the cache cannot hold them"),
            (self.expired, "skipped: expired"),
            (self.unreadable, "skipped: could not be read"),
            (
                self.dropped,
                "entries of the cache dropped: their records are damaged or missing",
            ),
        ] {
            if count > 0 {
                text.push_str(&format!("\n{} {what}", units::count(count)));
            }
        }
        text
    }
}
