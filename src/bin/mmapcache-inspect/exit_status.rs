//! How a command ended that could do its work.

use std::process::ExitCode;

/// The result of a command, which decides the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExitStatus {
    /// The command found no problem.
    Success,
    /// There is damage, or the requested key is absent.
    Problems,
    /// A part of the work could not be done; the command reported each such part.
    Incomplete,
}

impl ExitStatus {
    pub(crate) fn exit_code(self) -> ExitCode {
        match self {
            Self::Success => ExitCode::SUCCESS,
            Self::Problems => ExitCode::from(1),
            Self::Incomplete => ExitCode::from(2),
        }
    }

    /// Returns `Problems` instead of `Success`, and everything else unchanged.
    pub(crate) fn at_least_problems(self) -> Self {
        if self == Self::Success {
            Self::Problems
        } else {
            self
        }
    }

    /// Returns `Problems` if the condition holds, otherwise `Success`.
    pub(crate) fn problems_if(condition: bool) -> Self {
        if condition {
            Self::Problems
        } else {
            Self::Success
        }
    }
}
