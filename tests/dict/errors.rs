//! What errors are as types, and what they say.

use std::error::Error as _;

use mmapcache::dict::{
    Dict, DictError, DictKey, Fetched, Format, KeyError, LocalDict, LocalOptions, Policy, Retries,
    UnknownFormat, Write,
};

fn is_error<E: std::error::Error + Send + Sync + 'static>(_: &E) {}

// Point 43.
#[test]
fn errors_name_place_and_remedy() -> Result<(), DictError> {
    let texts = LocalDict::<String>::new();
    let numbers = texts.with_format::<u32>(Format::Json);
    texts.insert(["a", "b"], "text".to_owned())?;
    let fixed = LocalDict::<u32>::with(LocalOptions::new().append_only(true));
    fixed.insert("k", 1)?;
    let conflict = texts.try_transform("c", Retries::Times(0), |_| {
        texts.insert("c", "another".to_owned())?;
        Ok::<_, DictError>(Write::KeepCurrent)
    });
    let said = [
        (
            texts.require(["a", "c"]).unwrap_err(),
            "a/c: no such item; check the key",
        ),
        (
            texts.get("").unwrap_err(),
            "segment 0 is empty; leave it out",
        ),
        (
            numbers.get(["a", "b"]).unwrap_err(),
            "a/b: could not be read as u32 in json; check",
        ),
        (
            fixed.insert("k", 2).unwrap_err(),
            "k: refused by the policy: append-only; use",
        ),
        (
            fixed.clear().unwrap_err(),
            "refused by the policy: append-only; use",
        ),
        (
            conflict.unwrap_err(),
            "c: changed by others in each of 1 attempts; try again",
        ),
    ];
    for (error, beginning) in said {
        is_error(&error);
        assert!(error.to_string().starts_with(beginning), "{error}");
        assert!(!error.is_corruption(), "{error}");
    }
    Ok(())
}

// Point 43.
#[test]
fn unreadable_value_keeps_its_cause() -> Result<(), DictError> {
    let texts = LocalDict::<String>::new();
    texts.insert("k", "text".to_owned())?;
    let error = texts.with_format::<u32>(Format::Json).get("k").unwrap_err();
    let cause = error.source().expect("a cause");
    assert!(cause.is::<serde_json::Error>(), "{cause}");
    assert!(cause.to_string().contains("expected u32"), "{cause}");
    Ok(())
}

// Point 43.
#[test]
fn key_errors_become_dict_errors() {
    let error = DictError::from(DictKey::new(()).unwrap_err());
    is_error(&KeyError::NoSegment);
    assert!(matches!(error, DictError::InvalidKey(KeyError::NoSegment)));
    assert_eq!(error.to_string(), KeyError::NoSegment.to_string());
    assert_eq!(Policy::AppendOnly.to_string(), "append-only");
}

// Point 9.
#[test]
fn formats_are_known_by_name() {
    for format in Format::ALL {
        assert_eq!(format.name().parse(), Ok(format));
        assert_eq!(format.to_string(), format.name());
    }
    assert_eq!(Format::default().name(), "json");
    for unknown in ["", "pkl", "JSON", "json "] {
        let error: UnknownFormat = unknown.parse::<Format>().unwrap_err();
        is_error(&error);
        assert!(error.to_string().contains("json and msgpack"), "{error}");
    }
}

// Point 44. States that are sentinels in persidict are types of their own.
#[test]
fn absence_is_a_type() {
    // A value that looks like a sentinel is a value.
    let fetched = [
        Fetched::Value(None::<u32>),
        Fetched::NotRetrieved,
        Fetched::Absent,
    ];
    assert_eq!(fetched.map(Fetched::value), [Some(None), None, None]);
    let dict = LocalDict::<Option<u32>>::new();
    dict.insert("k", None).unwrap();
    assert_eq!(dict.get("k").unwrap(), Some(None));
    assert_eq!(dict.get("missing").unwrap(), None);
}
