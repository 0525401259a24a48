//! What the fuzz targets share: where caches stand while they are fuzzed, and what a cache should
//! hold.

mod model;
mod scratch;

pub use model::{Contents, Effect, Model, contents};
pub use scratch::Scratch;
