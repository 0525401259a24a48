#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]
// Table of contents. `builder` opens a `store`; `concurrent` and `tasks` implement the traits of `cached` on it, for
// threads and for tasks; `life` implements those about deadlines.

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
