#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod builder;
mod concurrent;
mod life;
mod store;
#[cfg(feature = "async")]
mod tasks;

pub use builder::MmapStoreBuilder;
/// The crate whose errors, formats and settings this one uses.
pub use mmapcache;
pub use store::MmapStore;
