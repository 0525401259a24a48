//! Interning in memory: a pool of byte strings, and a cache of decoded values.
//!
//! Touches no file; may call `lock`, `sync` and `error`, and `labels` for the pool of labels.

pub(crate) mod decode;
pub(crate) mod pool;

pub use decode::{DecodeCache, DecodeOptions, DecodeStats};
pub use pool::{
    Interned, Pool, PoolOptions, PoolStats, Retention, StoredHash, Top, TopBy, TypedInterned,
    TypedPool,
};
