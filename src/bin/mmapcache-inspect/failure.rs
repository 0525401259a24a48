//! Why a command could not go on.
//!
//! Knows the exit code of each reason; the words are those of whoever failed.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use mmapcache::ErrorKind;

/// The reason for which a command ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The engine refused.
    #[error(transparent)]
    Engine(#[from] mmapcache::Error),
    /// There is something else than a cache at the path.
    #[error("{}: not a cache: neither this nor a file beside it has the header of one; check the path", path.display())]
    NoCache { path: PathBuf },
    /// The index is not there, but a segment of its heap is.
    #[error("{}: the index is missing, but {} of its heap is there; put the index back, or make it anew from the heap: `mmapcache-inspect repair {}`", path.display(), segment.display(), path.display())]
    LostIndex { path: PathBuf, segment: PathBuf },
    /// Standard output took no more.
    #[error("could not write to standard output")]
    Output(#[source] io::Error),
    /// The system refused a file that is no cache's.
    #[error("{}: could not {action}", path.display())]
    File {
        path: PathBuf,
        action: &'static str,
        source: io::Error,
    },
    /// What was asked for makes no sense, in words that say what does.
    #[error("{0}")]
    Request(String),
}

impl Failure {
    pub(crate) fn file(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File {
            path: path.to_owned(),
            action,
            source,
        }
    }

    /// Whether the reader of standard output has seen enough, which is no failure.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// Whether a cache's files are at fault.
    pub(crate) fn is_damage(&self) -> bool {
        match self {
            Self::Engine(error) => error.is_corruption(),
            Self::NoCache { .. } => true,
            _ => false,
        }
    }

    /// Whether the files are of another release, whose fields may mean something else.
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
