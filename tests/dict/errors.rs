//! Errors: their types and their messages.

use std::error::Error as _;

use mmapcache::Update;
use mmapcache::dict::{
    Condition, DictError, DictKey, Format, KeyError, LocalDict, LocalOptions, Outcome, Retrieve,
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
    let conflict = texts.try_update("c", 0, |_| {
        texts.insert("c", "another".to_owned())?;
        Ok::<_, DictError>(Update::Keep)
    });
    let said = [
        (
            texts.require(["a", "c"]).unwrap_err(),
            "a/c: there is no such item; check the key",
        ),
        (
            texts.get("").unwrap_err(),
            "part 0 of the key is empty; remove it",
        ),
        (
            numbers.get(["a", "b"]).unwrap_err(),
            "a/b: cannot read a u32 from json; check",
        ),
        (
            fixed.insert("k", 2).unwrap_err(),
            "k: the dictionary is append-only; use",
        ),
        (
            fixed.clear().unwrap_err(),
            "the dictionary is append-only; use",
        ),
        (
            conflict.unwrap_err(),
            "c: other threads wrote the item during each of 1 attempts; try again",
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
    is_error(&KeyError::NoPart);
    assert!(matches!(error, DictError::InvalidKey(KeyError::NoPart)));
    assert_eq!(error.to_string(), KeyError::NoPart.to_string());
}

// Point 9.
#[test]
fn formats_are_known_by_name() {
    for format in Format::ALL {
        assert!(
            format
                .name()
                .parse()
                .is_ok_and(|parsed: Format| parsed == format)
        );
        assert_eq!(format.to_string(), format.name());
    }
    assert_eq!(Format::default().name(), "json");
    for unknown in ["", "pkl", "JSON", "json "] {
        let error = unknown.parse::<Format>().unwrap_err();
        assert!(
            matches!(&error, DictError::UnknownFormat { name } if name == unknown),
            "{error:?}"
        );
        assert!(error.to_string().contains("json or msgpack"), "{error}");
    }
}

// Point 44. States that are sentinels in persidict are types of their own.
#[test]
fn absence_is_a_type() {
    // A value that looks like a sentinel is a value.
    let dict = LocalDict::<Option<u32>>::new();
    dict.insert("k", None).unwrap();
    assert_eq!(dict.get("k").unwrap(), Some(None));
    assert_eq!(dict.get("missing").unwrap(), None);

    // An outcome distinguishes a value, a value that was not asked for, and an absent item.
    let look = |key, retrieve| dict.get_if(key, Condition::Any, None, retrieve).unwrap();
    assert_eq!(look("k", Retrieve::Always).into_value(), Some(None));
    let skipped = look("k", Retrieve::Never);
    assert!(matches!(skipped, Outcome::Unchanged { value: None, .. }));
    let missing = look("missing", Retrieve::Always);
    assert!(matches!(missing, Outcome::Absent { .. }));
}
