//! [`Error`]: what a call can fail with. Calls nothing.

use redis::{RedisError, RetryMethod};

/// The error of a [`NearCache`](crate::NearCache).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The local file could not be opened, read or written; the error names it.
    #[error("the local file of the near cache: {0}")]
    File(#[from] mmapcache::Error),
    /// The server cannot be reached, or did not answer in time. A write may have been executed, or may
    /// still be.
    #[error("{server} is not available ({reason}); the near cache goes on trying to connect")]
    Unavailable {
        /// The server's address.
        server: String,
        /// What happened last.
        reason: String,
    },
    /// The server refused a command, or the connection: wrong type, wrong password, no permission.
    #[error("{server} refused: {source}")]
    Refused {
        /// The server's address.
        server: String,
        /// What it said.
        #[source]
        source: RedisError,
    },
    /// The server cannot be used for a near cache.
    #[error("{server} cannot be used: {reason}")]
    Unsuitable {
        /// The server's address.
        server: String,
        /// Why, and what to do.
        reason: String,
    },
    /// An option has a value that it cannot have.
    #[error("the option `{option}`: {reason}")]
    InvalidOption {
        /// Its name.
        option: &'static str,
        /// What is wrong, and what is allowed.
        reason: String,
    },
    /// A thread could not be started.
    #[error("a thread for the near cache could not be started: {0}")]
    Thread(#[source] std::io::Error),
}

impl Error {
    /// Returns whether the server could not be reached or did not answer in time, so that the same call
    /// may succeed later.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }

    /// Returns whether the local file is damaged: [`mmapcache::Error::is_corruption`].
    pub fn is_corruption(&self) -> bool {
        matches!(self, Self::File(error) if error.is_corruption())
    }

    /// Returns the error for a command that failed: by the connection, or by the server's answer.
    pub(crate) fn of(server: &str, error: RedisError) -> Self {
        let server = server.to_owned();
        // A server that loads its data, or a replica without its primary, will answer later.
        let is_later = matches!(error.retry_method(), RetryMethod::WaitAndRetry);
        let is_lost = is_later
            || error.is_unrecoverable_error()
            || error.is_io_error()
            || error.is_timeout()
            || error.is_connection_dropped();
        if is_lost {
            return Self::Unavailable {
                server,
                reason: error.to_string(),
            };
        }
        Self::Refused {
            server,
            source: error,
        }
    }
}

#[cfg(test)]
mod tests {
    use redis::{ErrorKind, ServerErrorKind};

    use super::*;

    // A server that loads its data, or a replica without its primary, is a server that is away: the last
    // copy may be asked for. A missing permission stays.
    #[test]
    fn later_answer_is_unavailability() {
        let is_unavailable = |kind| {
            let error = RedisError::from((ErrorKind::Server(kind), "refused"));
            Error::of("server", error).is_unavailable()
        };
        for kind in [ServerErrorKind::BusyLoading, ServerErrorKind::MasterDown] {
            assert!(is_unavailable(kind), "{kind:?}");
        }
        assert!(!is_unavailable(ServerErrorKind::NoPerm));
    }
}
