//! What a call that computes returns: a value and where it came from, or an error.
//!
//! May call `error`.

use crate::error::Error;

/// A value that was found, awaited or computed. `V` is another type for typed caches.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Obtained<V = Vec<u8>> {
    /// The value.
    pub value: V,
    /// Where it came from.
    pub origin: Origin,
}

/// Where the value of an [`Obtained`] came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Origin {
    /// It was in the cache, fresh.
    Stored,
    /// This call computed it, and stored it unless a group of it was invalidated during the computation.
    Computed,
    /// Another thread, task or process computed it during this call.
    Awaited,
    /// It is stale, and another thread or process is computing a new one.
    Stale,
    /// It is stale, and the computation of a new one failed.
    StaleOnError,
}

/// The error of a call that computes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ComputeError<E, V = Vec<u8>> {
    /// The computation failed, and no value may stand in for it. Nothing was stored.
    #[error("the computation failed")]
    Failed(#[source] E),
    /// The value was computed, and could not be stored.
    #[error("computed, and not stored")]
    NotStored {
        /// The computed value.
        value: V,
        /// The reason.
        #[source]
        error: Error,
    },
    /// The cache could not be read or locked. Nothing was computed.
    #[error(transparent)]
    Cache(#[from] Error),
}
