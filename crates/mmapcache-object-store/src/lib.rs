#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]
// Table of contents. `builder` makes a `store`, the public type; `reading` and `upload` are its requests, about an
// `object` with its `facts`, under keys of `keys`; a `change` ends the facts.

mod builder;
mod change;
mod facts;
mod keys;
mod object;
mod reading;
mod store;
mod upload;

pub use builder::CachingStoreBuilder;
/// The crate whose errors and settings this one uses.
pub use mmapcache;
pub use store::CachingStore;
