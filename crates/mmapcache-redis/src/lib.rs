#![doc = include_str!("../README.md")]
// Table of contents. `builder` opens a `near_cache`, the public type. `session` keeps the connection to the `server`,
// `pushes` reads what it tells, `applier` removes `copies` for it; `epochs` says which copies count; `compute` runs one
// computation for a key.

mod answer;
mod applier;
mod builder;
mod clock;
mod compute;
mod copies;
mod epochs;
mod error;
mod near_cache;
mod pushes;
mod server;
mod session;
mod state;
mod stats;

pub use answer::{Answer, Source};
pub use builder::NearCacheBuilder;
pub use compute::{ComputeError, ComputeOptions};
pub use error::Error;
pub use near_cache::NearCache;
pub use server::Server;
pub use stats::NearStats;

// The crates whose types are in this interface.
pub use mmapcache;
pub use redis;
