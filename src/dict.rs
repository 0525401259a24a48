//! Dictionaries with hierarchical keys, values of any serde type, ETags, conditional operations and
//! an append-only policy.
//!
//! [`Dict`] has all operations. [`LocalDict`] stores its items in memory, [`MmapDict`] in the files of
//! an [`MmapCache`](crate::MmapCache), and [`CachedDict`] in files with decoded values in memory; all
//! three behave the same. `docs/dictionary.md` in the repository is their guide.

mod cached;
mod conditional;
mod dictionary;
mod error;
mod item_key;
mod key;
mod key_part;
mod local;
mod mmap;
mod newest;
mod sample;
mod semantics;
mod store;
mod stored;
mod value;

pub use cached::{Cached, CachedDict};
pub use conditional::{Condition, ETag, Outcome, Retrieve};
pub use dictionary::Dict;
pub use error::{DictError, Result};
pub use key::{DictKey, KeyParts};
pub use key_part::{KeyError, is_safe_char, replace_unsafe_chars, safe_chars};
pub use local::{Local, LocalDict, LocalOptions};
pub use mmap::{Mmap, MmapDict};
pub use store::Store;
pub use value::Value;

pub use crate::codec::Format;
