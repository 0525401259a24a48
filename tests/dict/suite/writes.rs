//! The three things that can become of an item: a value, nothing, or what it is.

use mmapcache::dict::{Condition, Dict, DictError, ETagState, Outcome, Result, Retrieve, Write};

use super::fresh;

// Point 13.
#[test]
fn keep_current_changes_nothing() -> Result<()> {
    let dict = fresh();
    let etag = dict.insert("k", 1)?;
    let (any, absent) = (Condition::Any, ETagState::Absent);
    dict.write("k", Write::KeepCurrent)?;
    dict.write("missing", Write::KeepCurrent)?;
    let kept = dict.set_if("k", Write::KeepCurrent, any, absent, Retrieve::Always)?;
    let value = Some(1);
    assert!(kept.satisfied);
    assert_eq!(kept.outcome, Outcome::Unchanged { etag, value });
    let none = dict.set_if("missing", Write::KeepCurrent, any, absent, Retrieve::Always)?;
    assert_eq!(none.outcome, Outcome::Absent);
    let kept = dict
        .transform("k", |_| Write::KeepCurrent)?
        .expect("it is there");
    assert_eq!((kept.value, kept.etag), (1, etag));
    assert_eq!(dict.transform("missing", |_| Write::KeepCurrent)?, None);

    assert_eq!(dict.get("k")?, Some(1));
    assert_eq!(dict.etag("k")?, Some(etag), "no new tag");
    assert_eq!(dict.len()?, 1);
    Ok(())
}

// Point 13.
#[test]
fn delete_current_deletes_the_item() -> Result<()> {
    let dict = fresh();
    let (any, absent) = (Condition::Any, ETagState::Absent);
    dict.update([("a", 1), ("b", 2), ("c", 3)])?;
    dict.write("a", Write::DeleteCurrent)?;
    let before = dict.etag("b")?.expect("it is there");
    let deleted = dict.set_if("b", Write::DeleteCurrent, any, absent, Retrieve::Always)?;
    assert_eq!(deleted.outcome, Outcome::Deleted { before });
    assert_eq!(dict.transform("c", |_| Write::DeleteCurrent)?, None);
    assert!(dict.is_empty()?);

    dict.write("a", Write::DeleteCurrent)?;
    let none = dict.set_if("a", Write::DeleteCurrent, any, absent, Retrieve::Always)?;
    assert!(none.satisfied);
    assert_eq!(none.outcome, Outcome::Absent);
    assert_eq!(dict.transform("a", |_| Write::DeleteCurrent)?, None);
    Ok(())
}

// Point 13. A key is checked even if there is nothing to do.
#[test]
fn no_ops_still_check_keys() {
    let dict = fresh::<u32>();
    for write in [Write::KeepCurrent, Write::DeleteCurrent, Write::Value(1)] {
        let error = dict.write("not/safe", write).unwrap_err();
        assert!(matches!(error, DictError::InvalidKey(_)), "{error}");
    }
}
