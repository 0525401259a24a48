//! What an append-only dictionary refuses, and what it allows.

use mmapcache::dict::{
    Condition, Dict, DictError, ETagState, Format, Outcome, Policy, Result, Retrieve, Write,
};

use super::{append_only, fresh};

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T>) {
    match result {
        Err(DictError::MutationPolicy {
            policy: Policy::AppendOnly,
            ..
        }) => {}
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
    dict.update([("b", 2)])?;
    assert_eq!(dict.setdefault("c", 3)?, 3);
    dict.write("d", Write::Value(4))?;
    dict.transform("e", |none| {
        assert_eq!(none, None);
        Write::Value(5)
    })?;
    let (write, absent) = (Write::Value(6), ETagState::Absent);
    let result = dict.set_if("f", write, Condition::Same, absent, Retrieve::Never)?;
    assert!(result.was_mutated());
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
    refused(dict.write("k", Write::Value(2)));
    refused(dict.update([("k", 2)]));
    refused(dict.transform("k", |_| Write::Value(2)));
    let write = Write::Value(2);
    refused(dict.set_if(
        "k",
        write,
        Condition::Any,
        ETagState::Absent,
        Retrieve::Never,
    ));
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
        refused(dict.discard(key));
        refused(dict.remove(key));
        refused(dict.pop(key));
        refused(dict.write(key, Write::DeleteCurrent));
    }
    refused(dict.pop_item());
    refused(dict.clear());
    refused(dict.discard_if("k", Condition::Same, etag));
    refused(dict.discard_if("k", Condition::Any, ETagState::Absent));
    let delete = Write::DeleteCurrent;
    refused(dict.set_if("k", delete, Condition::Same, etag, Retrieve::Never));
    refused(dict.transform("k", |_| Write::DeleteCurrent));
    assert_eq!(dict.get("k")?, Some(1));
    assert_eq!(dict.len()?, 1);
    Ok(())
}

// Point 11.
#[test]
fn empty_append_only_dict_refuses_deletions() {
    let dict = append_only::<u32>();
    refused(dict.pop_item());
    refused(dict.clear());
}

// Point 11. No policy refuses a write whose condition leaves the item as it is.
#[test]
fn append_only_dict_allows_no_ops() -> Result<()> {
    let dict = append_only();
    let (any, absent, never) = (Condition::Any, ETagState::Absent, Retrieve::Never);
    let missing = dict.discard_if("missing", any, absent)?;
    assert!(missing.satisfied);
    assert_eq!(missing.outcome, Outcome::Absent);
    let delete = Write::DeleteCurrent;
    let missing = dict.set_if("missing", delete, any, absent, never)?;
    assert_eq!(missing.outcome, Outcome::Absent);
    assert_eq!(dict.transform("missing", |_| Write::DeleteCurrent)?, None);

    let etag = dict.insert("k", 1)?;
    let unchanged = Outcome::Unchanged { etag, value: None };
    let unmet = dict.discard_if("k", Condition::Changed, etag)?;
    assert_eq!((unmet.satisfied, &unmet.outcome), (false, &unchanged));
    let unmet = dict.set_if("k", Write::Value(2), Condition::Changed, etag, never)?;
    assert_eq!((unmet.satisfied, &unmet.outcome), (false, &unchanged));
    let kept = dict.set_if("k", Write::KeepCurrent, any, absent, never)?;
    assert_eq!((kept.satisfied, &kept.outcome), (true, &unchanged));
    let there = dict.setdefault_if("k", 2, any, absent, never)?;
    assert_eq!((there.satisfied, &there.outcome), (true, &unchanged));
    assert_eq!(dict.setdefault("k", 2)?, 1);
    dict.write("k", Write::KeepCurrent)?;
    assert_eq!(
        dict.transform("k", |_| Write::KeepCurrent)?
            .expect("kept")
            .value,
        1
    );
    Ok(())
}

// Point 11. The policy holds in every view and format.
#[test]
fn append_only_holds_in_subdicts() -> Result<()> {
    let dict = append_only::<u32>();
    dict.insert(["a", "b"], 1)?;
    let sub = dict.subdict("a")?;
    assert!(sub.is_append_only());
    refused(sub.insert("b", 2));
    refused(sub.discard("b"));
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
        sub.discard("b").unwrap_err(),
    ] {
        let DictError::MutationPolicy { key: Some(key), .. } = &error else {
            panic!("{error:?}");
        };
        assert_eq!(key.as_str(), "a/b", "from the root of the storage");
        assert!(error.to_string().starts_with("a/b: refused"), "{error}");
    }
    let error = dict.clear().unwrap_err();
    assert!(
        matches!(error, DictError::MutationPolicy { key: None, .. }),
        "{error}"
    );
    Ok(())
}
