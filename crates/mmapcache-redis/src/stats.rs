//! What a near cache counts. Calls nothing.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Declares the counters and their copy for callers.
macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counts since a [`NearCache`](crate::NearCache) was opened, of this handle only.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct NearStats {
            $($(#[$doc])* pub $name: u64,)*
        }

        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: AtomicU64,)*
        }

        impl Counters {
            pub(crate) fn snapshot(&self) -> NearStats {
                NearStats {
                    $($name: self.$name.load(Relaxed),)*
                }
            }
        }
    };
}

counters! {
    /// Lookups that were answered by the local file.
    local_hits,
    /// Lookups that asked the server.
    fetches,
    /// Copies that were stored.
    stored,
    /// Replies that were not stored, because an invalidation, a flush or a lost connection came since the
    /// request, or because another caller was fetching the same key.
    not_stored,
    /// Copies that could not be written to the file: it is full, locked or damaged.
    store_failures,
    /// Keys that the server named as changed.
    invalidated_keys,
    /// Copies that were removed because the server named their key.
    dropped,
    /// Messages that told to drop everything.
    flushes,
    /// Times that the queue of messages was full, which drops everything.
    overflows,
    /// Connections that were made.
    connections,
    /// Epochs that this handle began.
    epochs_begun,
    /// Epochs of other processes that this handle joined.
    epochs_joined,
}

pub(crate) fn count(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Relaxed);
}
