#![doc = include_str!("../README.md")]
// Table of contents. `config` builds an `engine`; the engine hands changes to the `queue`, whose thread
// (`writer`) stores each as a `record`.

mod close;
mod config;
mod counts;
mod engine;
mod error;
mod expiring;
mod fresh;
mod queue;
mod record;
mod writer;

pub use crate::close::close_in_parts;
pub use crate::config::MmapEngineConfig;
pub use crate::counts::{Counts, Monitor};
pub use crate::expiring::Expiring;
pub use crate::fresh::FreshEntries;
