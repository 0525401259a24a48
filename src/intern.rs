//! Interning in memory: equal byte strings share one allocation, equal encodings one decoded value.
//!
//! - [`Pool`] stores each byte string once and returns a handle ([`Interned`]) that is one pointer
//!   wide, compared by its address; [`TypedPool`] is a pool for one type.
//! - [`DecodeCache`] is an LRU cache of decoded values, keyed by the bytes that they were decoded
//!   from; concurrent misses of the same bytes decode once (single flight).
//!
//! Both live in one process and use no file. [`Labels`](crate::Labels) intern strings durably, for
//! all processes.
// May call `lock`, `sync` and `error`, and `labels` for the pool of labels.

mod decode;
mod pool;

pub use crate::error::PoolError;
pub use decode::{DecodeCache, DecodeOptions, DecodeStats};
pub use pool::{
    Interned, Pool, PoolOptions, PoolStats, Retention, StoredHash, TypedInterned, TypedPool,
};
