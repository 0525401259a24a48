//! A file of numbers in which a process acknowledges its work, and which outlives its kill.
//!
//! A written number is acknowledged: the system keeps it after the process ends.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Numbers in a log.
pub(crate) const NUMBERS: usize = 4;

#[derive(Debug)]
pub(crate) struct AckLog(File);

impl AckLog {
    /// Opens the log at a path; in a new one all numbers are zero.
    pub(crate) fn open(path: &Path) -> Self {
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false);
        let file = options.open(path).expect("a log");
        let bytes = (NUMBERS * 8) as u64;
        if file.metadata().expect("its length").len() < bytes {
            file.set_len(bytes).expect("room for the numbers");
        }
        Self(file)
    }

    /// Writes a number in one call.
    pub(crate) fn write(&self, which: usize, number: u64) {
        let at = (which * 8) as u64;
        let done = self.0.write_all_at(&number.to_le_bytes(), at);
        done.expect("a number written down");
    }

    pub(crate) fn read(&self, which: usize) -> u64 {
        let mut bytes = [0; 8];
        let done = self.0.read_exact_at(&mut bytes, (which * 8) as u64);
        done.expect("a number that was written down");
        u64::from_le_bytes(bytes)
    }
}
