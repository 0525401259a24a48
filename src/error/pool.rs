//! What a pool refuses: it has no file, so its errors name no path.

/// Why a [`Pool`](crate::Pool) refused; the pool is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PoolError {
    /// The value is new, and there is no room for it. What is there is found as ever.
    #[error(
        "a pool of at most {limit} bytes holds {held}, and {needed} more are needed; drop handles and `shrink` it, `reset` it, or raise `max_bytes`"
    )]
    Full {
        /// The limit, in bytes.
        limit: u64,
        /// Bytes held now.
        held: u64,
        /// Bytes that the new value takes, with its share of a table.
        needed: u64,
    },
    /// This process is a forked child, and a thread of its parent was changing the part of the pool
    /// that the value belongs to; see [`Pool`](crate::Pool#after-a-fork).
    #[error(
        "a fork left this part of the pool half-changed; use another pool in this process, or fork while no thread uses this one"
    )]
    Forked,
    /// The pool promised to keep its values.
    #[error("values of this pool stay {until}; make it with `Retention::UntilReset` to reset it")]
    Kept {
        /// How long they stay.
        until: &'static str,
    },
}
