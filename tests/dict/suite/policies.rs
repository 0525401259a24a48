//! Append-only dictionaries: the operations that they refuse and allow.

use mmapcache::Update;
use mmapcache::dict::{Condition, DictError, Format, Outcome, Result, Retrieve};

use super::{append_only, fresh};

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T>) {
    match result {
        Err(DictError::AppendOnly { .. }) => {}
        other => panic!("{other:?}"),
    }
}

// Point 11.
#[test]
fn append_only_dict_accepts_new_items() -> Result<()> {
    let dict = append_only();
    assert!(dict.is_append_only());
    assert!(!fresh::<u32>().is_append_only());
    dict.insert("a", 1)?;
    dict.extend([("b", 2)])?;
    assert_eq!(dict.get_or_insert("c", 3)?, 3);
    dict.insert("d", 4)?;
    dict.update("e", |none| {
        assert_eq!(none, None);
        Update::Put(5)
    })?;
    let (write, absent) = (Update::Put(6), None);
    let result = dict.set_if("f", write, Condition::Same, absent, Retrieve::Never)?;
    assert!(result.is_changed());
    let mut values: Vec<u32> = dict.values().collect::<Result<_>>()?;
    values.sort_unstable();
    assert_eq!(values, [1, 2, 3, 4, 5, 6]);
    Ok(())
}

// Point 11.
#[test]
fn append_only_dict_refuses_replacements() -> Result<()> {
    let dict = append_only();
    let etag = dict.insert("k", 1)?;
    refused(dict.insert("k", 2));
    refused(dict.insert("k", 1));
    refused(dict.extend([("k", 2)]));
    refused(dict.update("k", |_| Update::Put(2)));
    let write = Update::Put(2);
    refused(dict.set_if("k", write, Condition::Any, None, Retrieve::Never));
    refused(dict.set_if("k", write, Condition::Same, etag, Retrieve::Never));
    assert_eq!(dict.get("k")?, Some(1));
    assert_eq!(dict.etag("k")?, Some(etag));
    Ok(())
}

// Point 11.
#[test]
fn append_only_dict_refuses_deletions() -> Result<()> {
    let dict = append_only();
    let etag = dict.insert("k", 1)?;
    for key in ["k", "missing"] {
        refused(dict.remove(key));
        refused(dict.take(key));
    }
    refused(dict.take_any());
    refused(dict.clear());
    refused(dict.remove_if("k", Condition::Same, etag));
    refused(dict.remove_if("k", Condition::Any, None));
    let delete = Update::Delete;
    refused(dict.set_if("k", delete, Condition::Same, etag, Retrieve::Never));
    refused(dict.update("k", |_| Update::Delete));
    assert_eq!(dict.get("k")?, Some(1));
    assert_eq!(dict.len()?, 1);
    Ok(())
}

// Point 11.
#[test]
fn empty_append_only_dict_refuses_deletions() {
    let dict = append_only::<u32>();
    refused(dict.take_any());
    refused(dict.clear());
}

// Point 11. No policy refuses a write whose condition leaves the item as it is.
#[test]
fn append_only_dict_allows_no_ops() -> Result<()> {
    let dict = append_only();
    let (any, absent, never) = (Condition::Any, None, Retrieve::Never);
    let missing = dict.remove_if("missing", any, absent)?;
    assert_eq!(missing, Outcome::Absent { satisfied: true });
    let delete = Update::Delete;
    let missing = dict.set_if("missing", delete, any, absent, never)?;
    assert_eq!(missing, Outcome::Absent { satisfied: true });
    assert_eq!(dict.update("missing", |_| Update::Delete)?, None);

    let etag = dict.insert("k", 1)?;
    let unchanged = |satisfied| Outcome::Unchanged {
        satisfied,
        etag,
        value: None,
    };
    let unmet = dict.remove_if("k", Condition::Changed, etag)?;
    assert_eq!(unmet, unchanged(false));
    let unmet = dict.set_if("k", Update::Put(2), Condition::Changed, etag, never)?;
    assert_eq!(unmet, unchanged(false));
    let kept = dict.set_if("k", Update::Keep, any, absent, never)?;
    assert_eq!(kept, unchanged(true));
    let there = dict.get_or_insert_if("k", 2, any, absent, never)?;
    assert_eq!(there, unchanged(true));
    assert_eq!(dict.get_or_insert("k", 2)?, 1);
    assert_eq!(dict.update("k", |_| Update::Keep)?.expect("kept").0, 1);
    Ok(())
}

// Point 11. The policy holds in every sub-dictionary and format.
#[test]
fn append_only_holds_in_subdicts() -> Result<()> {
    let dict = append_only::<u32>();
    dict.insert(["a", "b"], 1)?;
    let sub = dict.subdict("a")?;
    assert!(sub.is_append_only());
    refused(sub.insert("b", 2));
    refused(sub.remove("b"));
    refused(sub.clear());
    refused(dict.clone().insert(["a", "b"], 2));

    let packed = dict.with_format::<u32>(Format::MessagePack);
    assert!(packed.is_append_only());
    packed.insert(["a", "b"], 3)?;
    refused(packed.insert(["a", "b"], 4));
    assert_eq!(dict.get(["a", "b"])?, Some(1));
    Ok(())
}

// Point 11.
#[test]
fn append_only_error_names_the_item() -> Result<()> {
    let dict = append_only();
    let sub = dict.subdict("a")?;
    sub.insert("b", 1)?;
    for error in [
        sub.insert("b", 2).unwrap_err(),
        sub.remove("b").unwrap_err(),
    ] {
        let DictError::AppendOnly { key: Some(key), .. } = &error else {
            panic!("{error:?}");
        };
        assert_eq!(key.as_str(), "a/b", "from the root of the storage");
        assert!(
            error.to_string().starts_with("a/b: the dictionary"),
            "{error}"
        );
    }
    let error = dict.clear().unwrap_err();
    assert!(
        matches!(error, DictError::AppendOnly { key: None, .. }),
        "{error}"
    );
    Ok(())
}
