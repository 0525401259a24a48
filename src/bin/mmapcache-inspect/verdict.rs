//! How a command ended that could do its work.
//!
//! Knows the exit codes; what they are given for, the commands decide.

use std::process::ExitCode;

/// What a command found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// All is well.
    Fine,
    /// There is damage, or the key that was asked for is not there.
    Wrong,
    /// A part of the work could not be done; each such part was reported.
    Incomplete,
}

impl Verdict {
    pub(crate) fn exit_code(self) -> ExitCode {
        match self {
            Self::Fine => ExitCode::SUCCESS,
            Self::Wrong => ExitCode::from(1),
            Self::Incomplete => ExitCode::from(2),
        }
    }

    /// The same, but not fine.
    pub(crate) fn and_wrong(self) -> Self {
        if self == Self::Fine {
            Self::Wrong
        } else {
            self
        }
    }

    /// Wrong if that is so, else fine.
    pub(crate) fn wrong_if(wrong: bool) -> Self {
        if wrong { Self::Wrong } else { Self::Fine }
    }
}
