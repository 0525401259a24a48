#![doc = include_str!("../README.md")]

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
