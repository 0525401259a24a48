//! What the fuzz targets share: directories for caches, and a model of their contents.

mod model;
mod scratch;

pub use model::{Contents, Effect, Model, contents};
pub use scratch::Scratch;
