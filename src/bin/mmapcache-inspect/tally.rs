//! What became of the things that an import came by.

use std::time::Duration;

use serde_json::{Value, json};

use crate::units;
use crate::verdict::Verdict;

/// Counts of an import.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    /// Entries stored.
    pub(crate) stored: u64,
    /// Bytes of their values.
    pub(crate) bytes: u64,
    /// Links, devices and other things that are no regular files, and the cache's own files.
    pub(crate) passed: u64,
    /// Entries that do not fit into a segment, or whose keys are too long or empty.
    pub(crate) unfit: u64,
    /// Files or lines that could not be read.
    pub(crate) unreadable: u64,
    /// Entries that the cache gave up meanwhile, because their records are damaged or gone.
    pub(crate) dropped: u64,
    /// Whether the walk ended at the limit that it was given.
    pub(crate) cut: bool,
}

impl Tally {
    pub(crate) fn verdict(&self) -> Verdict {
        if self.unfit + self.unreadable > 0 {
            Verdict::Incomplete
        } else {
            Verdict::wrong_if(self.dropped > 0)
        }
    }

    pub(crate) fn json(&self, time: Duration) -> Value {
        json!({
            "stored": self.stored,
            "bytes": self.bytes,
            "passed": self.passed,
            "unfit": self.unfit,
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
                "passed over: no regular files, or this cache's own",
            ),
            (self.unfit, "skipped: the cache cannot hold them"),
            (self.unreadable, "skipped: could not be read"),
            (
                self.dropped,
                "entries of the cache given up: their records are damaged or gone",
            ),
        ] {
            if count > 0 {
                text.push_str(&format!("\n{} {what}", units::count(count)));
            }
        }
        text
    }
}
