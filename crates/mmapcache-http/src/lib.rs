#![doc = include_str!("../README.md")]
// Table of contents. `manager` is the public type; `put` and `store` keep responses, as `codec` encodes them, under
// keys of `key`; `reports` writes to the log.

mod codec;
mod key;
mod manager;
mod put;
mod reports;
mod store;

pub use http_cache;
pub use mmapcache;

pub use crate::manager::{ManagerStats, MmapManager, Threads};
