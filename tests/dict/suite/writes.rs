//! The three answers of an update: put a value, keep the item, delete it.

use mmapcache::Update;
use mmapcache::dict::{Condition, DictError, Outcome, Result, Retrieve};

use super::fresh;

// Point 13.
#[test]
fn keep_changes_nothing() -> Result<()> {
    let dict = fresh();
    let etag = dict.insert("k", 1)?;
    let (any, absent) = (Condition::Any, None);
    let kept = dict.set_if("k", Update::Keep, any, absent, Retrieve::Always)?;
    let value = Some(1);
    let unchanged = Outcome::Unchanged {
        satisfied: true,
        etag,
        value,
    };
    assert_eq!(kept, unchanged);
    let none = dict.set_if("missing", Update::Keep, any, absent, Retrieve::Always)?;
    assert_eq!(none, Outcome::Absent { satisfied: true });
    let kept = dict.update("k", |_| Update::Keep)?.expect("it is there");
    assert_eq!(kept, (1, etag));
    assert_eq!(dict.update("missing", |_| Update::Keep)?, None);

    assert_eq!(dict.get("k")?, Some(1));
    assert_eq!(dict.etag("k")?, Some(etag), "no new tag");
    assert_eq!(dict.len()?, 1);
    Ok(())
}

// Point 13.
#[test]
fn delete_answer_deletes_the_item() -> Result<()> {
    let dict = fresh();
    let (any, absent) = (Condition::Any, None);
    dict.extend([("a", 1), ("b", 2), ("c", 3)])?;
    let deleted = dict.set_if("a", Update::Delete, any, absent, Retrieve::Never)?;
    assert!(deleted.is_changed());
    let before = dict.etag("b")?.expect("it is there");
    let deleted = dict.set_if("b", Update::Delete, any, absent, Retrieve::Always)?;
    assert_eq!(deleted, Outcome::Deleted { before });
    assert_eq!(dict.update("c", |_| Update::Delete)?, None);
    assert!(dict.is_empty()?);

    let none = dict.set_if("a", Update::Delete, any, absent, Retrieve::Always)?;
    assert_eq!(none, Outcome::Absent { satisfied: true });
    assert_eq!(dict.update("a", |_| Update::Delete)?, None);
    Ok(())
}

// Point 13. A key is checked even if there is nothing to do.
#[test]
fn no_ops_still_check_keys() {
    let dict = fresh::<u32>();
    for update in [Update::Keep, Update::Delete, Update::Put(1)] {
        let set = dict.set_if("not/safe", update, Condition::Any, None, Retrieve::Never);
        let error = set.unwrap_err();
        assert!(matches!(error, DictError::InvalidKey(_)), "{error}");
    }
}
