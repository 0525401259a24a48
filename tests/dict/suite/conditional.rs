//! Conditional operations: which condition holds when, and what each comes to.

use mmapcache::dict::{
    Condition, Conditional, Dict, ETag, ETagState, Fetched, Outcome, Result, Retrieve, Tagged,
    Write,
};

use super::fresh;

const ABSENT: ETagState = ETagState::Absent;

/// An item, a tag that it had before, and the one that it has.
fn written_twice(dict: &impl Dict<u32>) -> Result<(ETag, ETag)> {
    Ok((dict.insert("k", 1)?, dict.insert("k", 2)?))
}

#[track_caller]
fn came_to<V: PartialEq + std::fmt::Debug>(
    result: Conditional<V>,
    satisfied: bool,
    outcome: Outcome<V>,
) {
    assert_eq!(result, Conditional { satisfied, outcome });
}

// Point 22.
#[test]
fn conditions_hold_for_named_states() -> Result<()> {
    let dict = fresh();
    let (stale, now) = written_twice(&*dict)?;
    let table = [
        // The key, the tag that is expected, and whether `Any`, `Same` and `Changed` hold.
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
            assert_eq!(looked.satisfied, holds, "{key} {condition:?} {expected:?}");
            assert!(!looked.was_mutated());
        }
    }
    Ok(())
}

// Point 22. "Only if absent" and "only if present" are conditions too.
#[test]
fn presence_and_absence_are_conditions() -> Result<()> {
    let dict = fresh();
    let put =
        |key, n, condition| dict.set_if(key, Write::Value(n), condition, ABSENT, Retrieve::Never);
    assert!(!put("k", 1, Condition::Changed)?.satisfied);
    assert_eq!(dict.get("k")?, None);
    assert!(put("k", 2, Condition::Same)?.satisfied);
    assert!(!put("k", 3, Condition::Same)?.satisfied);
    assert_eq!(dict.get("k")?, Some(2));
    assert!(put("k", 4, Condition::Changed)?.satisfied);
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
            let outcome = Outcome::Unchanged { etag: now, value };
            assert_eq!(
                looked.outcome, outcome,
                "{condition:?} {retrieve:?} {expected:?}"
            );
        }
    }
    Ok(())
}

// Point 23.
#[test]
fn unrequested_values_are_not_read() -> Result<()> {
    let dict = fresh();
    let texts = dict.with_format::<String>(dict.format());
    let etag = texts.insert("k", "no number".to_owned())?;
    let looked = dict.get_if("k", Condition::Any, etag, Retrieve::IfChanged)?;
    assert_eq!(looked.value(), Fetched::<&u32>::NotRetrieved);
    let kept = dict.set_if(
        "k",
        Write::KeepCurrent,
        Condition::Same,
        etag,
        Retrieve::Never,
    )?;
    assert_eq!(kept.value(), Fetched::NotRetrieved);
    assert_eq!(
        dict.discard_if("k", Condition::Changed, etag)?.value(),
        Fetched::NotRetrieved
    );
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
    let put = |n| dict.set_if("k", Write::Value(n), any, ABSENT, Retrieve::Never);

    let absent = dict.get_if("k", any, ABSENT, Retrieve::Always)?;
    assert_eq!(
        (absent.actual_etag(), absent.resulting_etag()),
        (ABSENT, ABSENT)
    );
    assert_eq!(
        (absent.value(), absent.was_mutated()),
        (Fetched::Absent, false)
    );
    assert_eq!(absent.into_value(), Fetched::Absent);

    let first = put(1)?;
    let one = ETagState::from(dict.etag("k")?);
    assert_eq!((first.actual_etag(), first.resulting_etag()), (ABSENT, one));
    assert_eq!(
        (first.value(), first.was_mutated()),
        (Fetched::Value(&1), true)
    );

    let second = put(2)?;
    let two = ETagState::from(dict.etag("k")?);
    assert_eq!((second.actual_etag(), second.resulting_etag()), (one, two));
    assert_eq!(second.into_value().value(), Some(2));

    let unchanged = dict.set_if("k", Write::Value(3), same, one, Retrieve::Never)?;
    assert_eq!(
        (unchanged.actual_etag(), unchanged.resulting_etag()),
        (two, two)
    );
    assert_eq!(
        (unchanged.value(), unchanged.was_mutated()),
        (Fetched::NotRetrieved, false)
    );
    assert_eq!(unchanged.into_value().value(), None);

    let deleted = dict.discard_if("k", same, two)?;
    assert_eq!(
        (deleted.actual_etag(), deleted.resulting_etag()),
        (two, ABSENT)
    );
    assert_eq!(
        (deleted.value(), deleted.was_mutated()),
        (Fetched::Absent, true)
    );
    Ok(())
}

// Point 25.
#[test]
fn value_comes_with_its_tag() -> Result<()> {
    let dict = fresh();
    assert_eq!(dict.get_with_etag("k")?, None);
    let (_, etag) = written_twice(&*dict)?;
    assert_eq!(dict.get_with_etag("k")?, Some(Tagged { value: 2, etag }));
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
            assert_eq!(missing.outcome, Outcome::Absent);
            let there = dict.get_if("k", condition, expected, Retrieve::Always)?;
            assert_eq!(
                there.outcome,
                Outcome::Unchanged {
                    etag,
                    value: Some(2)
                }
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
    for write in [Write::Value(9), Write::KeepCurrent, Write::DeleteCurrent] {
        let result = dict.set_if("k", write, Condition::Same, stale, Retrieve::IfChanged)?;
        came_to(
            result,
            false,
            Outcome::Unchanged {
                etag,
                value: Some(2),
            },
        );
        let result = dict.set_if("k", write, Condition::Changed, etag, Retrieve::IfChanged)?;
        came_to(result, false, Outcome::Unchanged { etag, value: None });
        let result = dict.set_if("missing", write, Condition::Same, etag, Retrieve::Always)?;
        came_to(result, false, Outcome::Absent);
    }
    assert_eq!(dict.get_with_etag("k")?, Some(Tagged { value: 2, etag }));
    assert_eq!(dict.len()?, 1);
    Ok(())
}

// Point 27. A write whose condition holds returns the item that it wrote.
#[test]
fn successful_set_if_returns_its_write() -> Result<()> {
    let dict = fresh();
    let (_, before) = written_twice(&*dict)?;
    for retrieve in [Retrieve::Always, Retrieve::IfChanged, Retrieve::Never] {
        let before = ETagState::from(dict.etag("k")?);
        let result = dict.set_if("k", Write::Value(3), Condition::Same, before, retrieve)?;
        let etag = dict.etag("k")?.expect("it is there");
        came_to(
            result,
            true,
            Outcome::Written {
                before,
                etag,
                value: 3,
            },
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
    let kept = dict.set_if("k", Write::KeepCurrent, same, etag, Retrieve::Always)?;
    came_to(
        kept,
        true,
        Outcome::Unchanged {
            etag,
            value: Some(2),
        },
    );
    let kept = dict.set_if("k", Write::KeepCurrent, same, etag, Retrieve::IfChanged)?;
    came_to(kept, true, Outcome::Unchanged { etag, value: None });
    let deleted = dict.set_if("k", Write::DeleteCurrent, same, etag, Retrieve::Always)?;
    came_to(deleted, true, Outcome::Deleted { before: etag });
    let nothing = dict.set_if("k", Write::DeleteCurrent, same, ABSENT, Retrieve::Always)?;
    came_to(nothing, true, Outcome::Absent);
    Ok(())
}

// Point 28. A default is put if there is no item and the condition holds.
#[test]
fn setdefault_if_needs_absence_and_condition() -> Result<()> {
    let dict = fresh();
    let (any, same, changed) = (Condition::Any, Condition::Same, Condition::Changed);
    let result = dict.setdefault_if("k", 1, changed, ABSENT, Retrieve::Always)?;
    came_to(result, false, Outcome::Absent);
    assert!(dict.is_empty()?);
    let result = dict.setdefault_if("k", 1, same, ABSENT, Retrieve::Never)?;
    let etag = dict.etag("k")?.expect("it is there");
    came_to(
        result,
        true,
        Outcome::Written {
            before: ABSENT,
            etag,
            value: 1,
        },
    );
    let result = dict.setdefault_if("l", 2, any, etag, Retrieve::Never)?;
    assert!(result.was_mutated());
    assert_eq!(dict.get("l")?, Some(2));
    Ok(())
}

// Point 28.
#[test]
fn setdefault_if_keeps_existing_item() -> Result<()> {
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
        let result = dict.setdefault_if("k", 9, condition, expected, Retrieve::IfChanged)?;
        let value = (expected != etag.into()).then_some(2);
        came_to(result, satisfied, Outcome::Unchanged { etag, value });
    }
    assert_eq!(dict.etag("k")?, Some(etag));
    Ok(())
}

// Point 29.
#[test]
fn discard_if_needs_its_condition() -> Result<()> {
    let dict = fresh();
    let (stale, etag) = written_twice(&*dict)?;
    came_to(
        dict.discard_if("missing", Condition::Same, etag)?,
        false,
        Outcome::Absent,
    );
    came_to(
        dict.discard_if("missing", Condition::Same, ABSENT)?,
        true,
        Outcome::Absent,
    );
    let unchanged = || Outcome::Unchanged { etag, value: None };
    came_to(
        dict.discard_if("k", Condition::Same, stale)?,
        false,
        unchanged(),
    );
    came_to(
        dict.discard_if("k", Condition::Changed, etag)?,
        false,
        unchanged(),
    );
    assert_eq!(dict.get("k")?, Some(2));
    came_to(
        dict.discard_if("k", Condition::Same, etag)?,
        true,
        Outcome::Deleted { before: etag },
    );
    assert_eq!(dict.get("k")?, None);
    Ok(())
}
