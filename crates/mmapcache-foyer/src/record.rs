//! The bytes that the engine stores for an entry: a format number, the length of the key, key and value.
//!
//! The key of the file is foyer's hash alone, so the key itself is stored with the value, and a load
//! compares it. Calls nothing of this crate.

use foyer::{Code, StorageKey, StorageValue};
use xxhash_rust::xxh3::xxh3_64;

/// Bytes before the key: format number and length of the key, each a little-endian `u32`.
const HEADER: usize = 8;

/// A number of the encoding of keys and values: records of another one are not decoded.
///
/// foyer's decoders trust the bytes that they get. Those of a `String` that were a `u64` may ask for any
/// amount of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Format(u32);

impl Format {
    /// The format that has a name. 32 bits of a hash.
    pub(crate) fn named(name: &str) -> Self {
        let [a, b, c, d, ..] = xxh3_64(name.as_bytes()).to_le_bytes();
        Self(u32::from_le_bytes([a, b, c, d]))
    }

    /// The format of two types, by the names that the compiler gives them.
    pub(crate) fn of_types<K, V>() -> Self {
        let (key, value) = (std::any::type_name::<K>(), std::any::type_name::<V>());
        Self::named(&format!("{key} -> {value}"))
    }
}

/// Replaces the contents of `record` by those of an entry.
pub(crate) fn encode<K: StorageKey, V: StorageValue>(
    format: Format,
    key: &K,
    value: &V,
    record: &mut Vec<u8>,
) -> foyer::Result<()> {
    record.clear();
    record.extend_from_slice(&format.0.to_le_bytes());
    record.extend_from_slice(&[0; 4]);
    key.encode(record)?;
    let key_len = u32::try_from(record.len() - HEADER).map_err(|_| {
        foyer::Error::new(
            foyer::ErrorKind::OutOfRange,
            "the encoded key has 4 GiB or more; use shorter keys",
        )
    })?;
    record[4..HEADER].copy_from_slice(&key_len.to_le_bytes());
    value.encode(record)
}

/// Returns the entry of a record; `None` if it is of another format, or does not decode to its last byte.
pub(crate) fn decode<K: StorageKey, V: StorageValue>(
    format: Format,
    record: &[u8],
) -> Option<(K, V)> {
    let (header, body) = record.split_at_checked(HEADER)?;
    let (found, key_len) = header.split_at(4);
    if found != format.0.to_le_bytes() {
        return None;
    }
    let key_len = u32::from_le_bytes(key_len.try_into().ok()?);
    let (key, value) = body.split_at_checked(usize::try_from(key_len).ok()?)?;
    Some((decode_all(key)?, decode_all(value)?))
}

/// Decodes a value that takes all the bytes.
fn decode_all<T: Code>(mut bytes: &[u8]) -> Option<T> {
    let value = T::decode(&mut bytes).ok()?;
    bytes.is_empty().then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(format: Format) -> Vec<u8> {
        let mut record = vec![9; 3];
        encode(format, &"key".to_owned(), &"value".to_owned(), &mut record).unwrap();
        record
    }

    #[test]
    fn record_decodes_to_its_entry() {
        let format = Format::of_types::<String, String>();
        let entry = decode::<String, String>(format, &record(format));
        assert_eq!(entry, Some(("key".to_owned(), "value".to_owned())));
    }

    #[test]
    fn other_format_is_not_decoded() {
        let written = Format::of_types::<String, String>();
        let asked = Format::of_types::<String, Vec<u8>>();
        assert_eq!(decode::<String, Vec<u8>>(asked, &record(written)), None);
    }

    /// Every shorter or longer record is refused, and none panics or reads beyond its end.
    #[test]
    fn other_lengths_are_not_decoded() {
        let format = Format::named("test");
        let mut record = record(format);
        for len in 0..record.len() {
            // A String shorter than its length says: `decode` reports the end of the bytes.
            assert_eq!(decode::<String, String>(format, &record[..len]), None);
        }
        record.push(0);
        assert_eq!(decode::<String, String>(format, &record), None);
    }
}
