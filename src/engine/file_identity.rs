//! What the file system says of a cache's files at the moment at which they are opened.
//!
//! A restored file is the last writer's in name only: it may have the same path, and even the same
//! inode. But no program can set the time of its last change (`ctime`), and a writer's own stores
//! never move that beyond the moment that the writer notes in the index. Knows times of files, not
//! what is done about them.

use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::time::UNIX_EPOCH;

use crate::format::index::word;
use crate::format::record::Variant;
use crate::index::header::Header;
use crate::os::files::{Names, Stage};

/// Nanoseconds by which a file's time may exceed what its last writer noted: a tick of the clock of
/// file systems is at most 10 ms.
const SLACK: u64 = 50_000_000;
/// The same where the last writer was killed at work: it may have waited for the disk.
const SLACK_KILLED: u64 = 1_000_000_000;
/// Segments before the last one whose times are looked at too.
const SEGMENTS: u16 = 7;

/// The times of one file, in nanoseconds since the epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Times {
    /// When anything of it was changed, its name and its rights included. No program can set it.
    pub changed: u64,
    /// When its contents were changed, or what a program that copied it has set.
    pub written: u64,
}

/// The times of a cache's files when they were opened for writing; zeros for readers, who have no
/// use for them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    pub index: Times,
    pub roster: Times,
    /// Those of the last segment.
    pub tail: Times,
    /// The latest change of any of these files, and of some segments before the last.
    pub latest: u64,
    /// When the index file was created; 0 where the file system does not say.
    pub born: u64,
    /// Whether the files need not be looked through for holes: a writer of this boot has them.
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

    /// Of a file that cannot be looked at there is nothing to be said.
    fn of_file(file: &File) -> Self {
        file.metadata()
            .map_or(Self::default(), |meta| Self::of(&meta))
    }
}

impl Seen {
    /// Of a file that is being made nobody else knows yet.
    pub(crate) fn of_new(index: &File) -> Self {
        let born = index.metadata().ok().and_then(|meta| meta.created().ok());
        let born = born.and_then(|born| born.duration_since(UNIX_EPOCH).ok());
        Self {
            born: born.map_or(0, |born| born.as_nanos() as u64),
            ..Self::default()
        }
    }

    /// Looks at an index that is open and at the files that it names. Before anything is stored to
    /// them: that would move the times.
    pub(crate) fn of(names: &Names, index: &File, header: Header<'_>) -> Self {
        let path = |path: &std::path::Path| {
            std::fs::symlink_metadata(path).map_or(Times::default(), |meta| Times::of(&meta))
        };
        let last = header.reserved().segment;
        let before = (header.oldest().max(last.saturating_sub(SEGMENTS))..last)
            .map(|number| path(&names.segment(number, Stage::Final)).changed)
            .max();
        let mut seen = Self {
            index: Times::of_file(index),
            roster: path(&names.roster(Stage::Final)),
            tail: path(&names.segment(last, Stage::Final)),
            ..Self::of_new(index)
        };
        let files = [seen.index, seen.roster, seen.tail].map(|times| times.changed);
        seen.latest = files.into_iter().chain(before).max().unwrap_or(0);
        seen
    }
}

/// The latest time that the last writer's own stores can have given a file.
pub(crate) fn last_visit(header: Header<'_>, variant: Variant) -> u64 {
    let visited = header.get(word::VISITED);
    if header.get(word::HOLDER) == 0 {
        return visited.saturating_add(SLACK);
    }
    // Killed at work, it noted no end. Its last record has the time; a number is none.
    let last = match variant {
        Variant::Versioned => header.get(word::LAST_MTIME),
        Variant::Numbered => 0,
    };
    visited.max(last).saturating_add(SLACK_KILLED)
}
