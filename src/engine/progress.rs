//! The progress of a long operation: one type for backups, repairs and verifications.

/// The progress of a [`Backup`](crate::Backup), a [`Repair`](crate::Repair) or a
/// [`Verify`](crate::Verify), passed to the function that its `on_progress` sets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Bytes processed so far. A backup processes each byte of the heap twice: it copies the heap, then
    /// reads the copy to index it.
    pub done_bytes: u64,
    /// Bytes to process in all. An estimate while other processes write.
    pub total_bytes: u64,
    /// Records with a valid checksum so far. 0 in a verification whose level does not read records.
    pub records: u64,
}
