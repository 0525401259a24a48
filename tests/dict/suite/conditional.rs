//! Conditional operations: when each condition holds, and the result.

use mmapcache::Update;
use mmapcache::dict::{Condition, Dict, ETag, Outcome, Result, Retrieve, Store};

use super::fresh;

const ABSENT: Option<ETag> = None;

/// Writes an item twice, and returns both ETags.
fn written_twice(dict: &Dict<u32, impl Store>) -> Result<(ETag, ETag)> {
    Ok((dict.insert("k", 1)?, dict.insert("k", 2)?))
}

// Point 22.
#[test]
fn conditions_hold_for_named_states() -> Result<()> {
    let dict = fresh();
    let (stale, now) = written_twice(&*dict)?;
    let table = [
        // The key, the expected ETag, and whether `Any`, `Same` and `Changed` hold.
        ("k", now.into(), [true, true, false]),
        ("k", stale.into(), [true, false, true]),
        ("k", ABSENT, [true, false, true]),
        ("missing", ABSENT, [true, true, false]),
        ("missing", now.into(), [true, false, true]),
    ];
    let conditions = [Condition::Any, Condition::Same, Condition::Changed];
    for (key, expected, holds) in table {
        for (condition, holds) in conditions.into_iter().zip(holds) {
            let looked = dict.get_if(key, condition, expected, Retrieve::Never)?;
            assert_eq!(
                looked.is_satisfied(),
                holds,
                "{key} {condition:?} {expected:?}"
            );
            assert!(!looked.is_changed());
        }
    }
    Ok(())
}

// Point 22. "Only if absent" and "only if present" are conditions too.
#[test]
fn presence_and_absence_are_conditions() -> Result<()> {
    let dict = fresh();
    let put =
        |key, n, condition| dict.set_if(key, Update::Put(n), condition, ABSENT, Retrieve::Never);
    assert!(!put("k", 1, Condition::Changed)?.is_satisfied());
    assert_eq!(dict.get("k")?, None);
    assert!(put("k", 2, Condition::Same)?.is_satisfied());
    assert!(!put("k", 3, Condition::Same)?.is_satisfied());
    assert_eq!(dict.get("k")?, Some(2));
    assert!(put("k", 4, Condition::Changed)?.is_satisfied());
    assert_eq!(dict.get("k")?, Some(4));
    Ok(())
}

// Point 23.
#[test]
fn retrieve_decides_which_values_come() -> Result<()> {
    let dict = fresh();
    let (stale, now) = written_twice(&*dict)?;
    assert_eq!(Retrieve::default(), Retrieve::IfChanged);
    let table = [
        (Retrieve::Always, now.into(), Some(2)),
        (Retrieve::IfChanged, now.into(), None),
        (Retrieve::IfChanged, stale.into(), Some(2)),
        (Retrieve::IfChanged, ABSENT, Some(2)),
        (Retrieve::Never, stale.into(), None),
    ];
    for condition in [Condition::Any, Condition::Same, Condition::Changed] {
        for (retrieve, expected, value) in table {
            let looked = dict.get_if("k", condition, expected, retrieve)?;
            let seen = (looked.etag_after(), looked.into_value());
            let context = format!("{condition:?} {retrieve:?} {expected:?}");
            assert_eq!(seen, (Some(now), value), "{context}");
        }
    }
    Ok(())
}

// Point 23.
#[test]
fn unrequested_values_are_not_read() -> Result<()> {
    let dict = fresh::<u32>();
    let texts = dict.with_format::<String>(dict.format());
    let etag = texts.insert("k", "no number".to_owned())?;
    let looked = dict.get_if("k", Condition::Any, etag, Retrieve::IfChanged)?;
    assert_eq!((looked.value(), looked.etag_after()), (None, Some(etag)));
    let kept = dict.set_if("k", Update::Keep, Condition::Same, etag, Retrieve::Never)?;
    assert_eq!((kept.value(), kept.etag_after()), (None, Some(etag)));
    assert_eq!(dict.remove_if("k", Condition::Changed, etag)?.value(), None);
    assert!(
        dict.get_if("k", Condition::Any, etag, Retrieve::Always)
            .is_err()
    );
    Ok(())
}

// Point 24.
#[test]
fn results_have_four_shapes() -> Result<()> {
    let dict = fresh();
    let (any, same) = (Condition::Any, Condition::Same);
    let put = |n| dict.set_if("k", Update::Put(n), any, ABSENT, Retrieve::Never);

    let absent = dict.get_if("k", any, ABSENT, Retrieve::Always)?;
    assert_eq!(
        (absent.etag_before(), absent.etag_after()),
        (ABSENT, ABSENT)
    );
    assert_eq!((absent.value(), absent.is_changed()), (None, false));
    assert_eq!(absent.into_value(), None);

    let first = put(1)?;
    let one = dict.etag("k")?;
    assert_eq!((first.etag_before(), first.etag_after()), (ABSENT, one));
    assert_eq!((first.value(), first.is_changed()), (Some(&1), true));

    let second = put(2)?;
    let two = dict.etag("k")?;
    assert_eq!((second.etag_before(), second.etag_after()), (one, two));
    assert_eq!(second.into_value(), Some(2));

    let unchanged = dict.set_if("k", Update::Put(3), same, one, Retrieve::Never)?;
    assert_eq!(
        (unchanged.etag_before(), unchanged.etag_after()),
        (two, two)
    );
    assert_eq!((unchanged.value(), unchanged.is_changed()), (None, false));
    assert_eq!(unchanged.into_value(), None);

    let deleted = dict.remove_if("k", same, two)?;
    assert_eq!((deleted.etag_before(), deleted.etag_after()), (two, ABSENT));
    assert_eq!((deleted.value(), deleted.is_changed()), (None, true));
    Ok(())
}

// Point 25.
#[test]
fn value_comes_with_its_tag() -> Result<()> {
    let dict = fresh();
    assert_eq!(dict.get_with_etag("k")?, None);
    let (_, etag) = written_twice(&*dict)?;
    assert_eq!(dict.get_with_etag("k")?, Some((2, etag)));
    Ok(())
}

// Point 26.
#[test]
fn get_if_changes_nothing() -> Result<()> {
    let dict = fresh();
    let (stale, etag) = written_twice(&*dict)?;
    for condition in [Condition::Any, Condition::Same, Condition::Changed] {
        for expected in [ABSENT, stale.into(), etag.into()] {
            let missing = dict.get_if("missing", condition, expected, Retrieve::Always)?;
            assert!(matches!(missing, Outcome::Absent { .. }), "{missing:?}");
            let there = dict.get_if("k", condition, expected, Retrieve::Always)?;
            assert!(!there.is_changed());
            assert_eq!(
                (there.etag_after(), there.into_value()),
                (Some(etag), Some(2))
            );
        }
    }
    assert_eq!(dict.etag("k")?, Some(etag));
    assert_eq!(dict.len()?, 1);
    Ok(())
}

// Point 27. A write whose condition fails leaves the item, and returns it.
#[test]
fn failed_set_if_returns_the_item() -> Result<()> {
    let dict = fresh();
    let (stale, etag) = written_twice(&*dict)?;
    for write in [Update::Put(9), Update::Keep, Update::Delete] {
        let result = dict.set_if("k", write, Condition::Same, stale, Retrieve::IfChanged)?;
        assert_eq!(
            result,
            Outcome::Unchanged {
                satisfied: false,
                etag,
                value: Some(2)
            }
        );
        let result = dict.set_if("k", write, Condition::Changed, etag, Retrieve::IfChanged)?;
        assert_eq!(
            result,
            Outcome::Unchanged {
                satisfied: false,
                etag,
                value: None
            }
        );
        let result = dict.set_if("missing", write, Condition::Same, etag, Retrieve::Always)?;
        assert_eq!(result, Outcome::Absent { satisfied: false });
    }
    assert_eq!(dict.get_with_etag("k")?, Some((2, etag)));
    assert_eq!(dict.len()?, 1);
    Ok(())
}

// Point 27. A write whose condition holds returns the item that it wrote.
#[test]
fn successful_set_if_returns_its_write() -> Result<()> {
    let dict = fresh();
    let (_, before) = written_twice(&*dict)?;
    for retrieve in [Retrieve::Always, Retrieve::IfChanged, Retrieve::Never] {
        let before = dict.etag("k")?;
        let result = dict.set_if("k", Update::Put(3), Condition::Same, before, retrieve)?;
        let etag = dict.etag("k")?.expect("it is there");
        assert_eq!(
            result,
            Outcome::Written {
                before,
                etag,
                value: 3,
            }
        );
    }
    assert!(dict.etag("k")? > Some(before));
    assert_eq!(dict.get("k")?, Some(3));
    Ok(())
}

// Point 27.
#[test]
fn set_if_may_keep_or_delete() -> Result<()> {
    let dict = fresh();
    let (_, etag) = written_twice(&*dict)?;
    let same = Condition::Same;
    let kept = dict.set_if("k", Update::Keep, same, etag, Retrieve::Always)?;
    assert_eq!(
        kept,
        Outcome::Unchanged {
            satisfied: true,
            etag,
            value: Some(2)
        }
    );
    let kept = dict.set_if("k", Update::Keep, same, etag, Retrieve::IfChanged)?;
    assert_eq!(
        kept,
        Outcome::Unchanged {
            satisfied: true,
            etag,
            value: None
        }
    );
    let deleted = dict.set_if("k", Update::Delete, same, etag, Retrieve::Always)?;
    assert_eq!(deleted, Outcome::Deleted { before: etag });
    let nothing = dict.set_if("k", Update::Delete, same, ABSENT, Retrieve::Always)?;
    assert_eq!(nothing, Outcome::Absent { satisfied: true });
    Ok(())
}

// Point 28. A default is put if there is no item and the condition holds.
#[test]
fn insertion_needs_absence_and_condition() -> Result<()> {
    let dict = fresh();
    let (any, same, changed) = (Condition::Any, Condition::Same, Condition::Changed);
    let result = dict.get_or_insert_if("k", 1, changed, ABSENT, Retrieve::Always)?;
    assert_eq!(result, Outcome::Absent { satisfied: false });
    assert!(dict.is_empty()?);
    let result = dict.get_or_insert_if("k", 1, same, ABSENT, Retrieve::Never)?;
    let etag = dict.etag("k")?.expect("it is there");
    assert_eq!(
        result,
        Outcome::Written {
            before: ABSENT,
            etag,
            value: 1,
        }
    );
    let result = dict.get_or_insert_if("l", 2, any, etag, Retrieve::Never)?;
    assert!(result.is_changed());
    assert_eq!(dict.get("l")?, Some(2));
    Ok(())
}

// Point 28.
#[test]
fn get_or_insert_if_keeps_item() -> Result<()> {
    let dict = fresh();
    let (stale, etag) = written_twice(&*dict)?;
    let table = [
        (Condition::Any, ABSENT, true),
        (Condition::Same, etag.into(), true),
        (Condition::Same, ABSENT, false),
        (Condition::Changed, stale.into(), true),
        (Condition::Changed, etag.into(), false),
    ];
    for (condition, expected, satisfied) in table {
        let result = dict.get_or_insert_if("k", 9, condition, expected, Retrieve::IfChanged)?;
        let value = (expected != etag.into()).then_some(2);
        assert_eq!(
            result,
            Outcome::Unchanged {
                satisfied,
                etag,
                value
            }
        );
    }
    assert_eq!(dict.etag("k")?, Some(etag));
    Ok(())
}

// Point 29.
#[test]
fn remove_if_needs_its_condition() -> Result<()> {
    let dict = fresh();
    let (stale, etag) = written_twice(&*dict)?;
    assert_eq!(
        dict.remove_if("missing", Condition::Same, etag)?,
        Outcome::Absent { satisfied: false }
    );
    assert_eq!(
        dict.remove_if("missing", Condition::Same, ABSENT)?,
        Outcome::Absent { satisfied: true }
    );
    let unchanged = || Outcome::Unchanged {
        satisfied: false,
        etag,
        value: None,
    };
    assert_eq!(dict.remove_if("k", Condition::Same, stale)?, unchanged());
    assert_eq!(dict.remove_if("k", Condition::Changed, etag)?, unchanged());
    assert_eq!(dict.get("k")?, Some(2));
    assert_eq!(
        dict.remove_if("k", Condition::Same, etag)?,
        Outcome::Deleted { before: etag }
    );
    assert_eq!(dict.get("k")?, None);
    Ok(())
}
