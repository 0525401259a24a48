//! One state of an object: what identifies it, and requests for parts of it.
//!
//! Calls nothing of this crate.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use object_store::{
    Attributes, Error, Extensions, GetOptions, GetRange, ObjectMeta, ObjectStore, Result,
};

/// An object as it was at one moment. Its bytes never change: those of a later state have another name.
#[derive(Clone, Debug)]
pub(crate) struct Object {
    pub(crate) meta: ObjectMeta,
    pub(crate) attributes: Attributes,
    pub(crate) state: Option<String>,
    /// The version that the caller asked for, and what its requests carry.
    pub(crate) version: Option<String>,
    pub(crate) extensions: Extensions,
}

impl Object {
    pub(crate) fn new(meta: ObjectMeta, attributes: Attributes, options: &GetOptions) -> Self {
        Self {
            state: state(&meta),
            meta,
            attributes,
            version: options.version.clone(),
            extensions: options.extensions.clone(),
        }
    }

    /// Asks the store for a part of this state; an error if the object has another one by now.
    pub(crate) async fn fetch(
        &self,
        inner: &Arc<dyn ObjectStore>,
        range: Range<u64>,
    ) -> Result<Bytes> {
        let options = GetOptions {
            if_match: self.meta.e_tag.clone(),
            range: Some(GetRange::Bounded(range.clone())),
            version: self.version.clone(),
            extensions: self.extensions.clone(),
            ..GetOptions::default()
        };
        let result = inner.get_opts(&self.meta.location, options).await?;
        // A store may ignore the condition.
        if state(&result.meta) != self.state || result.range != range {
            return Err(self.changed());
        }
        let bytes = result.bytes().await?;
        match bytes.len() as u64 == range.end - range.start {
            true => Ok(bytes),
            false => Err(self.changed()),
        }
    }

    fn changed(&self) -> Error {
        Error::Precondition {
            path: self.meta.location.to_string(),
            source: "the object was replaced while it was read; read it again".into(),
        }
    }
}

/// Returns what no other state of the object has; `None` if the store tells no such thing. A weak ETag is
/// none: the bytes of two states with the same one may differ.
fn state(meta: &ObjectMeta) -> Option<String> {
    match (&meta.version, &meta.e_tag) {
        (Some(version), _) => Some(format!("v{version}")),
        (None, Some(e_tag)) if !e_tag.starts_with("W/") => Some(format!("e{e_tag}")),
        _ => None,
    }
}
