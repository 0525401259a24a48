//! The errors of a pool: it has no file, so they name no path.

/// An error of a [`Pool`](crate::intern::Pool), which is unchanged then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PoolError {
    /// The value is new and exceeds the limit. Values in the pool are found as before.
    #[error(
        "a pool of at most {limit} bytes holds {held}, and {needed} more are needed; drop handles and `shrink` it, `reset` it, or raise `max_bytes`"
    )]
    Full {
        /// The limit, in bytes.
        limit: u64,
        /// Bytes held now.
        held: u64,
        /// Bytes that the new value needs, growth of a table included.
        needed: u64,
    },
    /// This process is a forked child, and a thread of its parent was changing the shard of the value
    /// during the fork; see [`Pool`](crate::intern::Pool#after-a-fork).
    #[error(
        "a fork left this part of the pool half-changed; use another pool in this process, or fork while no thread uses this one"
    )]
    Forked,
    /// The retention policy of the pool forbids removing values.
    #[error("values of this pool stay {until}; make it with `Retention::UntilReset` to reset it")]
    Retained {
        /// Until when values are kept, as a phrase.
        until: &'static str,
    },
}
