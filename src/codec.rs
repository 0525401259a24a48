//! Formats of values that serde can write and read, for dictionaries and typed caches.
//!
//! Functions over bytes: nothing here knows a cache. Calls no other module.

mod depth;
mod finite;
mod format;

pub use crate::codec::format::Format;

#[cfg(feature = "dict")]
pub(crate) use crate::codec::format::CodecError;
