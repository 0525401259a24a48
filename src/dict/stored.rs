//! A value as a storage holds it.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, OnceLock};

use crate::codec::{CodecError, Format};
use crate::dict::conditional::ETag;
use crate::dict::value::Value;
use crate::lock::set_once;

/// A value as a storage returns it.
#[derive(Debug)]
pub(super) enum StoredValue {
    /// A copy of the encoded bytes.
    Encoded(Vec<u8>),
    /// A value that the storage keeps in memory.
    InMemory(Arc<MemoryValue>),
}

impl StoredValue {
    pub(super) fn decode<V: Value>(&self, format: Format) -> Result<V, CodecError> {
        match self {
            Self::Encoded(bytes) => format.decode(bytes),
            Self::InMemory(value) => value.decode(format),
        }
    }
}

/// An encoded value, and the decoded one after it was first read.
pub(super) struct MemoryValue {
    pub(super) etag: ETag,
    encoded: Box<[u8]>,
    /// A value of the type that was read first. Other types are decoded at each read.
    decoded: OnceLock<Arc<dyn Any + Send + Sync>>,
}

impl MemoryValue {
    pub(super) fn new(etag: ETag, encoded: &[u8]) -> Self {
        Self {
            etag,
            encoded: encoded.into(),
            decoded: OnceLock::new(),
        }
    }

    /// Returns the decoded value, the same instance for all callers that ask for the same type.
    pub(super) fn shared<V: Value>(&self, format: Format) -> Result<Arc<V>, CodecError> {
        if let Some(decoded) = self.decoded.get()
            && let Ok(value) = Arc::clone(decoded).downcast()
        {
            return Ok(value);
        }
        let value = Arc::new(format.decode::<V>(&self.encoded)?);
        // If another thread decoded it at the same time and was first, all use that instance.
        let decoded = set_once(&self.decoded, || Arc::clone(&value) as _);
        Ok(Arc::clone(decoded).downcast().unwrap_or(value))
    }

    fn decode<V: Value>(&self, format: Format) -> Result<V, CodecError> {
        if let Some(decoded) = self.decoded.get()
            && let Some(value) = decoded.downcast_ref::<V>()
        {
            return Ok(value.clone());
        }
        Ok((*self.shared::<V>(format)?).clone())
    }
}

impl fmt::Debug for MemoryValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "MemoryValue({}, {} bytes)",
            self.etag,
            self.encoded.len()
        )
    }
}
