//! The bytes of an entry.
//!
//! ```text
//! | body | head: a MessagePack map | length of the head: u32 | format: u16 | 0: u16 | magic: 8 bytes |
//! ```
//!
//! Numbers are little-endian. The body comes first, so that neither side copies it: a writer appends the
//! rest to it, a reader cuts the rest off. A large body is in a record of its own, and none is here.
//!
//! The head is a map of named fields, [`Head`]. Readers ignore names that they do not know, so a field
//! may be added within a format; anything else needs a new [`FORMAT`]. The policy is what
//! http-cache-semantics 3 serialises, by its names; a policy of another major version needs a new
//! [`FORMAT`] too. Calls nothing of this crate.

use std::collections::{BTreeMap, HashMap};

use http_cache::{HttpHeaders, HttpResponse, HttpVersion, url_parse};
use http_cache_semantics::CachePolicy;
use serde::{Deserialize, Serialize};

const MAGIC: [u8; 8] = *b"mmaphttp";
const FORMAT: u16 = 1;
/// The bytes after the head.
const TRAILER: usize = 16;

/// What is stored of a response besides its body. The names of the fields are part of the format.
#[derive(Serialize, Deserialize)]
struct Head {
    status: u16,
    version: String,
    url: String,
    headers: BTreeMap<String, Vec<String>>,
    #[serde(default, with = "serde_bytes", skip_serializing_if = "Option::is_none")]
    metadata: Option<Vec<u8>>,
    policy: CachePolicy,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    body: Option<BodyRecord>,
}

/// Names the record of a body that is apart from its entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BodyRecord {
    pub(crate) len: u64,
    /// Of the body, by XXH3, as two halves, for MessagePack has no number of 128 bits.
    digest: (u64, u64),
}

impl BodyRecord {
    pub(crate) fn of(body: &[u8]) -> Self {
        let digest = xxhash_rust::xxh3::xxh3_128(body);
        Self {
            len: body.len() as u64,
            digest: (digest as u64, (digest >> 64) as u64),
        }
    }

    pub(crate) fn digest(&self) -> u128 {
        u128::from(self.digest.0) | u128::from(self.digest.1) << 64
    }
}

/// A decoded entry. Its response has no body if that has a record of its own.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) response: HttpResponse,
    pub(crate) policy: CachePolicy,
    /// The key of http-cache, if the entry's key is its hash.
    pub(crate) key: Option<String>,
    pub(crate) body: Option<BodyRecord>,
}

/// Why a value is no entry that this version can read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unreadable {
    #[error("another program stored it")]
    Foreign,
    #[error("it has format {0}, of another version of mmapcache-http, and this one reads format 1")]
    OtherFormat(u16),
    #[error("it does not decode: {0}")]
    Malformed(String),
}

/// Appends to a body what makes it the bytes of an entry. If the body has a record of its own, `bytes`
/// is empty. On an error `bytes` is as it was.
pub(crate) fn append(
    bytes: &mut Vec<u8>,
    response: &HttpResponse,
    policy: &CachePolicy,
    key: Option<String>,
    body: Option<BodyRecord>,
) -> Result<(), rmp_serde::encode::Error> {
    let headers: HashMap<String, Vec<String>> = response.headers.clone().into();
    let head = rmp_serde::to_vec_named(&Head {
        status: response.status,
        version: response.version.to_string(),
        url: response.url.to_string(),
        headers: headers.into_iter().collect(),
        metadata: response.metadata.clone(),
        policy: policy.clone(),
        key,
        body,
    })?;
    let Ok(len) = u32::try_from(head.len()) else {
        let what = "the headers and metadata have more than 4 GiB".to_owned();
        return Err(rmp_serde::encode::Error::Syntax(what));
    };
    bytes.reserve_exact(head.len() + TRAILER);
    bytes.extend_from_slice(&head);
    bytes.extend_from_slice(&len.to_le_bytes());
    bytes.extend_from_slice(&FORMAT.to_le_bytes());
    bytes.extend_from_slice(&[0; 2]);
    bytes.extend_from_slice(&MAGIC);
    Ok(())
}

/// Decodes an entry. Its body keeps the memory of `bytes`.
pub(crate) fn decode(mut bytes: Vec<u8>) -> Result<Entry, Unreadable> {
    let (before, format, len) = split_trailer(&bytes).ok_or(Unreadable::Foreign)?;
    if format != FORMAT {
        return Err(Unreadable::OtherFormat(format));
    }
    let begin = before
        .len()
        .checked_sub(len)
        .ok_or_else(|| Unreadable::Malformed("its head is longer than it".to_owned()))?;
    let head: Head = rmp_serde::from_slice(&before[begin..])
        .map_err(|error| Unreadable::Malformed(error.to_string()))?;
    bytes.truncate(begin);
    head.into_entry(bytes)
}

/// Returns what comes before the trailer, the format, and the length of the head; `None` if there is no
/// trailer.
fn split_trailer(bytes: &[u8]) -> Option<(&[u8], u16, usize)> {
    let (before, trailer) = bytes.split_last_chunk::<TRAILER>()?;
    let [l0, l1, l2, l3, f0, f1, _, _, magic @ ..] = *trailer;
    if magic != MAGIC {
        return None;
    }
    let len = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
    Some((before, u16::from_le_bytes([f0, f1]), len))
}

impl Head {
    fn into_entry(self, body: Vec<u8>) -> Result<Entry, Unreadable> {
        let mut headers = HttpHeaders::new();
        for (name, values) in self.headers {
            for value in values {
                headers.append(name.clone(), value);
            }
        }
        let version = version(&self.version)
            .ok_or_else(|| Unreadable::Malformed(format!("its version is {:?}", self.version)))?;
        let url = url_parse(&self.url)
            .map_err(|error| Unreadable::Malformed(format!("its URL does not parse: {error}")))?;
        Ok(Entry {
            response: HttpResponse {
                body,
                headers,
                status: self.status,
                url,
                version,
                metadata: self.metadata,
            },
            policy: self.policy,
            key: self.key,
            body: self.body,
        })
    }
}

fn version(name: &str) -> Option<HttpVersion> {
    use HttpVersion::{H2, H3, Http09, Http10, Http11};
    [Http09, Http10, Http11, H2, H3]
        .into_iter()
        .find(|version| version.to_string() == name)
}

#[cfg(test)]
mod tests;
