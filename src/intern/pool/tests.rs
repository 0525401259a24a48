//! What a pool promises, to the threads of one process.

#[cfg(not(loom))]
mod forked;
#[cfg(loom)]
mod loom;
#[cfg(not(loom))]
mod retention;
#[cfg(all(feature = "serde", not(loom)))]
mod serial;
#[cfg(not(loom))]
mod values;

#[cfg(not(loom))]
use crate::intern::pool::*;

/// A pool that removes a value with its last handle, with one shard: all threads share one lock.
#[cfg(not(loom))]
fn released() -> Pool {
    PoolOptions::new()
        .retention(Retention::UntilReleased)
        .shards(1)
        .seed(7)
        .build()
}
