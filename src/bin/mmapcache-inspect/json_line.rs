//! Entries as lines of JSON: bytes that are UTF-8 as text, others as base64.
//!
//! [`parse`] reads what [`write()`] writes, byte for byte.

use std::io::{self, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use crate::entry_terms::EntryTerms;
use crate::json_number;
use crate::portable_entry::PortableEntry;

/// Writes an entry as one line.
pub(crate) fn write(
    out: &mut dyn Write,
    key: &[u8],
    value: &[u8],
    terms: Option<EntryTerms>,
) -> io::Result<()> {
    out.write_all(b"{")?;
    write_field(out, "key", key)?;
    out.write_all(b",")?;
    write_field(out, "value", value)?;
    if let Some(terms) = terms {
        let mut object = Map::new();
        terms.insert(&mut object);
        let mut value = Value::Object(object);
        json_number::stringify_large(&mut value);
        // Without the brace that opens the object.
        let text = value.to_string();
        out.write_all(b",")?;
        out.write_all(&text.as_bytes()[1..text.len() - 1])?;
    }
    out.write_all(b"}\n")
}

/// Writes bytes as a member of an object.
pub(crate) fn write_field(out: &mut dyn Write, name: &str, bytes: &[u8]) -> io::Result<()> {
    match std::str::from_utf8(bytes) {
        Ok(text) => {
            write!(out, "\"{name}\":")?;
            Ok(serde_json::to_writer(out, text)?)
        }
        Err(_) => write!(out, "\"{name}_base64\":\"{}\"", STANDARD.encode(bytes)),
    }
}

/// Inserts bytes into an object in the same form.
pub(crate) fn insert(object: &mut Map<String, Value>, name: &str, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => object.insert(name.to_owned(), text.into()),
        Err(_) => object.insert(format!("{name}_base64"), STANDARD.encode(bytes).into()),
    };
}

/// Reads the entry of a line.
pub(crate) fn parse(line: &[u8]) -> Result<PortableEntry, String> {
    let mut value: Value = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    let object = value.as_object_mut().ok_or("not a JSON object")?;
    Ok(PortableEntry {
        key: take(object, "key")?,
        value: take(object, "value")?,
        terms: EntryTerms::parse(object)?,
    })
}

fn take(object: &mut Map<String, Value>, name: &str) -> Result<Vec<u8>, String> {
    let base64_name = format!("{name}_base64");
    match (object.remove(name), object.remove(&base64_name)) {
        (Some(Value::String(text)), None) => Ok(text.into_bytes()),
        (None, Some(Value::String(text))) => STANDARD
            .decode(text)
            .map_err(|error| format!("\"{base64_name}\" is not base64: {error}")),
        (None, None) => Err(format!("neither \"{name}\" nor \"{base64_name}\"")),
        (Some(_), Some(_)) => Err(format!("both \"{name}\" and \"{base64_name}\"")),
        _ => Err(format!("\"{name}\" or \"{base64_name}\" is not a string")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_round_trip_any_bytes() {
        let every: Vec<u8> = (0..=255).collect();
        for bytes in [
            &b"text"[..],
            b"",
            b"\"\\\n\0\x7f",
            &every,
            "\u{1f980}\u{2028}".as_bytes(),
        ] {
            let mut line = Vec::new();
            for terms in [None, Some(EntryTerms::default())] {
                line.clear();
                write(&mut line, bytes, bytes, terms).unwrap();
                assert_eq!(line.iter().filter(|&&byte| byte == b'\n').count(), 1);
                let entry = PortableEntry::plain(bytes.to_vec(), bytes.to_vec());
                assert_eq!(parse(&line), Ok(PortableEntry { terms, ..entry }));
            }
        }
    }

    #[test]
    fn ambiguous_lines_are_refused() {
        for wrong in [
            r#"[]"#,
            r#"{"key":"a"}"#,
            r#"{"key":"a","key_base64":"YQ==","value":""}"#,
            r#"{"key":"a","value":1}"#,
            r#"{"key":"a","value_base64":"*"}"#,
            r#"{"key":"a","value":""} x"#,
            r#"{"key":"\ud800","value":""}"#,
        ] {
            assert!(parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
