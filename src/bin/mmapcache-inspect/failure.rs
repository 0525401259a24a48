//! Errors that end a command, and their exit codes.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use mmapcache::ErrorKind;

/// The error that ended a command.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The library returned an error.
    #[error(transparent)]
    Engine(#[from] mmapcache::Error),
    /// The file at the path is not a cache.
    #[error("{}: not a cache: neither this nor a file beside it has the header of one; check the path", path.display())]
    NoCache { path: PathBuf },
    /// The index is missing, but a segment of its heap exists.
    #[error("{}: the index is missing, but {} of its heap is there; restore the index, or rebuild it from the heap: `mmapcache-inspect repair {}`", path.display(), segment.display(), path.display())]
    LostIndex { path: PathBuf, segment: PathBuf },
    /// Writing to standard output failed.
    #[error("could not write to standard output")]
    Output(#[source] io::Error),
    /// An operation failed on a file that does not belong to a cache.
    #[error("{}: could not {action}", path.display())]
    File {
        path: PathBuf,
        action: &'static str,
        source: io::Error,
    },
    /// The request is invalid; the text says what to do instead.
    #[error("{0}")]
    Request(String),
}

impl Failure {
    /// Returns a function that adds a path and the failed action to an error of the system.
    pub(crate) fn file(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File {
            path: path.to_owned(),
            action,
            source,
        }
    }

    /// Returns whether the reader of standard output closed the pipe, which is not an error.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// Returns whether the files of a cache are damaged.
    pub(crate) fn is_damage(&self) -> bool {
        match self {
            Self::Engine(error) => error.is_corruption(),
            Self::NoCache { .. } => true,
            _ => false,
        }
    }

    /// Returns whether the files are of another release, whose fields may have another meaning.
    pub(crate) fn is_other_release(&self) -> bool {
        match self {
            Self::Engine(error) => matches!(error.kind(), ErrorKind::UnsupportedVersion { .. }),
            _ => false,
        }
    }

    /// Returns whether there is no index at the path.
    pub(crate) fn is_absence(&self) -> bool {
        match self {
            Self::Engine(error) => matches!(error.kind(), ErrorKind::NotFound),
            Self::LostIndex { .. } => true,
            _ => false,
        }
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        if self.is_broken_pipe() {
            ExitCode::SUCCESS
        } else if self.is_damage() {
            ExitCode::from(1)
        } else {
            ExitCode::from(2)
        }
    }
}
