#![doc = include_str!("../README.md")]

mod codec;
mod key;
mod manager;
mod put;
mod reports;
mod store;

pub use http_cache;
pub use mmapcache;

pub use crate::manager::{ManagerStats, MmapManager, Threads};
