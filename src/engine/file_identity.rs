//! The times of a cache's files when they are opened, which reveal a restored or copied file.
//!
//! A restored file may have the path and even the inode of the file that the last writer wrote. But
//! no program can set the time of its last change (`ctime`), and a writer's own stores never move
//! that beyond the time that the writer notes in the index. May call `index::header` and `os`.

use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::time::UNIX_EPOCH;

use crate::format::record::Variant;
use crate::index::header::Header;
use crate::os::file_names::{FileNames, Stage};

/// Nanoseconds by which a file's time may exceed the time that its last writer noted: a tick of the
/// clock of file systems is at most 10 ms.
const SLACK: u64 = 50_000_000;
/// The same if the last writer was killed at work: it may have waited for the disk.
const SLACK_KILLED: u64 = 1_000_000_000;
/// Segments before the last one whose times are read too.
const SEGMENTS: u16 = 7;

/// The times of one file, in nanoseconds since the epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Times {
    /// When the file was last changed, its name and permissions included. No program can set it.
    pub changed: u64,
    /// When its contents were last changed, or the time that a copying program has set.
    pub written: u64,
}

/// The times of a cache's files when they were opened for writing; zeros for readers, which do not
/// use them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FileTimes {
    pub index: Times,
    pub roster: Times,
    /// The times of the last segment.
    pub tail: Times,
    /// The latest change of any of these files, and of some segments before the last.
    pub latest: u64,
    /// When the index file was created; 0 if the file system does not say.
    pub born: u64,
    /// The first of these segments, and one past the last, that were there and not changed since the
    /// tick of the clock in which the last writer left.
    pub left: (u16, u16),
    /// Whether the files are as a writer of this boot left them. Then they need not be searched for
    /// holes: it has filled them.
    pub is_filled: bool,
}

impl Times {
    pub(crate) fn of(meta: &Metadata) -> Self {
        let nanos = |seconds: i64, nanos: i64| {
            let seconds = u64::try_from(seconds).unwrap_or(0);
            seconds
                .saturating_mul(1_000_000_000)
                .saturating_add(nanos as u64)
        };
        Self {
            changed: nanos(meta.ctime(), meta.ctime_nsec()),
            written: nanos(meta.mtime(), meta.mtime_nsec()),
        }
    }
}

impl FileTimes {
    /// Returns the times for an index that is being created: only when it was created.
    pub(crate) fn of_new(index: &File) -> Self {
        Self {
            born: index.metadata().map_or(0, |meta| born(&meta)),
            ..Self::default()
        }
    }

    /// Reads the times of an open index and of the files that it names. The caller has not stored to
    /// them yet, which would change the times.
    pub(crate) fn of(names: &FileNames, index: &File, header: Header<'_>) -> Self {
        let meta = |path: &std::path::Path| std::fs::symlink_metadata(path).ok();
        let times = |meta: Option<&Metadata>| meta.map_or(Times::default(), Times::of);
        let last = header.reserved().segment;
        let first = header.oldest().max(last.saturating_sub(SEGMENTS));
        let (mut left, mut before, mut tail) = ((first, first), 0, Times::default());
        for number in first..=last {
            before = before.max(tail.changed);
            let segment = meta(&names.segment(number, Stage::Final));
            tail = times(segment.as_ref());
            let is_left =
                segment.is_some_and(|meta| meta.is_file()) && tail.changed < header.visited();
            if is_left && left.1 == number {
                left.1 = number.saturating_add(1);
            }
        }
        let index = index.metadata().ok();
        let mut seen = Self {
            index: times(index.as_ref()),
            roster: times(meta(&names.roster(Stage::Final)).as_ref()),
            tail,
            left,
            born: index.as_ref().map_or(0, born),
            ..Self::default()
        };
        let files = [seen.index, seen.roster, seen.tail].map(|times| times.changed);
        seen.latest = files.into_iter().fold(before, u64::max);
        seen
    }
}

/// Returns when a file was created; 0 if the file system does not say.
fn born(meta: &Metadata) -> u64 {
    let born = meta.created().ok();
    let born = born.and_then(|born| born.duration_since(UNIX_EPOCH).ok());
    born.map_or(0, |born| born.as_nanos() as u64)
}

/// Returns the latest time that the last writer's own stores can have given a file.
pub(crate) fn last_visit(header: Header<'_>, variant: Variant) -> u64 {
    let visited = header.visited();
    if header.holder_word() == 0 {
        return visited.saturating_add(SLACK);
    }
    // A writer that was killed at work noted no end. Its last record has the time, unless versions
    // are ids.
    let last = match variant {
        Variant::Versioned | Variant::Expiring => header.last_version(),
        Variant::Numbered => 0,
    };
    visited.max(last).saturating_add(SLACK_KILLED)
}
