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

/// A pool whose values go with their last handle, of one shard: everybody is in everybody's way.
#[cfg(not(loom))]
fn released() -> Pool {
    PoolOptions::new()
        .retention(Retention::UntilReleased)
        .shards(1)
        .seed(7)
        .build()
}
