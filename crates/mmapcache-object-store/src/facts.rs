//! What is stored about an object: its metadata and attributes.
//!
//! Calls nothing of this crate.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use object_store::path::Path;
use object_store::{Attribute, Attributes, ObjectMeta};
use serde::{Deserialize, Serialize};

/// The metadata and attributes of an object, as serde writes them.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Facts {
    size: u64,
    seconds: i64,
    nanos: u32,
    e_tag: Option<String>,
    version: Option<String>,
    attributes: Vec<(Kind, String, String)>,
}

#[derive(Debug, Serialize, Deserialize)]
enum Kind {
    Disposition,
    Encoding,
    Language,
    Type,
    CacheControl,
    StorageClass,
    /// With a name.
    Metadata,
}

impl Facts {
    /// Returns `None` if the object has an attribute that a later release of `object_store` knows: it must
    /// not be lost.
    pub(crate) fn new(meta: &ObjectMeta, attributes: &Attributes) -> Option<Self> {
        let attributes = attributes.iter().map(|(attribute, value)| {
            let (kind, name) = match attribute {
                Attribute::ContentDisposition => (Kind::Disposition, ""),
                Attribute::ContentEncoding => (Kind::Encoding, ""),
                Attribute::ContentLanguage => (Kind::Language, ""),
                Attribute::ContentType => (Kind::Type, ""),
                Attribute::CacheControl => (Kind::CacheControl, ""),
                Attribute::StorageClass => (Kind::StorageClass, ""),
                Attribute::Metadata(name) => (Kind::Metadata, name.as_ref()),
                _ => return None,
            };
            Some((kind, name.to_owned(), value.to_string()))
        });
        Some(Self {
            size: meta.size,
            seconds: meta.last_modified.timestamp(),
            nanos: meta.last_modified.timestamp_subsec_nanos(),
            e_tag: meta.e_tag.clone(),
            version: meta.version.clone(),
            attributes: attributes.collect::<Option<_>>()?,
        })
    }

    /// Returns what was stored of the object at `location`; `None` for a time that does not exist.
    pub(crate) fn into_parts(self, location: &Path) -> Option<(ObjectMeta, Attributes)> {
        let last_modified: DateTime<Utc> = DateTime::from_timestamp(self.seconds, self.nanos)?;
        let attributes = self.attributes.into_iter().map(|(kind, name, value)| {
            let attribute = match kind {
                Kind::Disposition => Attribute::ContentDisposition,
                Kind::Encoding => Attribute::ContentEncoding,
                Kind::Language => Attribute::ContentLanguage,
                Kind::Type => Attribute::ContentType,
                Kind::CacheControl => Attribute::CacheControl,
                Kind::StorageClass => Attribute::StorageClass,
                Kind::Metadata => Attribute::Metadata(Cow::Owned(name)),
            };
            (attribute, value)
        });
        let meta = ObjectMeta {
            location: location.clone(),
            last_modified,
            size: self.size,
            e_tag: self.e_tag,
            version: self.version,
        };
        Some((meta, attributes.collect()))
    }
}
