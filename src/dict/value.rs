//! The types that values of a dictionary may have. Calls no other module.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The values of a dictionary: any type that serde can serialize and deserialize, and that threads
/// can share. Implemented for all of them.
pub trait Value: Serialize + DeserializeOwned + Clone + Send + Sync + 'static {}

impl<V: Serialize + DeserializeOwned + Clone + Send + Sync + 'static> Value for V {}
