//! A value that is held in memory.
//!
//! Knows its bytes, and what they were decoded to first.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, OnceLock};

use crate::dict::error::Result;
use crate::dict::etag::ETag;
use crate::dict::format::Value;
use crate::dict::store::{Place, Stored};
use crate::lock::set_once;

/// An encoded value, and the decoded one once it was asked for.
pub struct Held {
    pub(super) etag: ETag,
    encoded: Box<[u8]>,
    /// As the type that was first asked for; other types are decoded each time.
    decoded: OnceLock<Arc<dyn Any + Send + Sync>>,
}

impl Held {
    pub(super) fn new(etag: ETag, encoded: &[u8]) -> Self {
        Self {
            etag,
            encoded: encoded.into(),
            decoded: OnceLock::new(),
        }
    }

    pub(in crate::dict) fn shared<V: Value>(&self, at: &Place) -> Result<Arc<V>> {
        if let Some(decoded) = self.decoded.get()
            && let Ok(value) = Arc::clone(decoded).downcast()
        {
            return Ok(value);
        }
        let value = Arc::new(at.decode::<V>(&self.encoded)?);
        // Who decoded it at the same time, and was first, has set it: then all get that.
        let decoded = set_once(&self.decoded, || Arc::clone(&value) as _);
        Ok(Arc::clone(decoded).downcast().unwrap_or(value))
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Held({}, {} bytes)", self.etag, self.encoded.len())
    }
}

impl Stored for Arc<Held> {
    fn decode<V: Value>(&self, at: &Place) -> Result<V> {
        if let Some(decoded) = self.decoded.get()
            && let Some(value) = decoded.downcast_ref::<V>()
        {
            return Ok(value.clone());
        }
        Ok((*self.shared::<V>(at)?).clone())
    }
}
