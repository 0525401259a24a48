//! Updates: a closure decides what happens to an item.

use mmapcache::Update;
use mmapcache::dict::{DictError, Format, Result};

use super::fresh;

// Point 30.
#[test]
fn update_closure_decides_the_outcome() -> Result<()> {
    let dict = fresh();
    let put = dict.update("k", |none| {
        assert_eq!(none, None);
        Update::Put(1)
    })?;
    let (value, etag) = put.expect("it was put");
    assert_eq!((value, Some(etag)), (1, dict.etag("k")?));

    let grown = dict.update("k", |one| Update::Put(one.expect("it is there") + 1))?;
    assert_eq!(grown, dict.get_with_etag("k")?);
    assert_eq!(grown.expect("it is there").0, 2);
    assert_eq!(dict.update("k", |_| Update::Delete)?, None);
    assert!(dict.is_empty()?);
    Ok(())
}

// Point 30.
#[test]
fn keeping_returns_value_and_tag() -> Result<()> {
    let dict = fresh();
    let etag = dict.insert("k", 7)?;
    let kept = dict.update("k", |_| Update::Keep)?;
    assert_eq!(kept, Some((7, etag)));
    assert_eq!(dict.etag("k")?, Some(etag));
    Ok(())
}

#[derive(Debug)]
enum Failure {
    Mine(u32),
    Dict(DictError),
}

impl From<DictError> for Failure {
    fn from(error: DictError) -> Self {
        Self::Dict(error)
    }
}

// Point 30. The closure's own error is returned.
#[test]
fn update_error_changes_nothing() -> Result<()> {
    let dict = fresh();
    let etag = dict.insert("k", 7)?;
    let failed = dict.try_update("k", 6, |value| {
        Err(Failure::Mine(value.expect("it is there")))
    });
    let Err(Failure::Mine(7)) = failed else {
        panic!("{failed:?}");
    };
    assert_eq!(dict.get_with_etag("k")?, Some((7, etag)));
    let failed = dict.try_update("not/safe", 6, |_| Ok::<_, Failure>(Update::Put(1)));
    let Err(Failure::Dict(DictError::InvalidKey(_))) = failed else {
        panic!("{failed:?}");
    };
    // The storage is as usable as before.
    dict.insert("k", 8)?;
    Ok(())
}

// Point 30. A closure that panics changes nothing, and leaves no lock held.
#[test]
fn update_panic_releases_the_lock() -> Result<()> {
    let dict = fresh();
    let etag = dict.insert("k", 7)?;
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _ = dict.update("k", |_| std::panic::resume_unwind(Box::new("mine")));
    }));
    assert_eq!(caught.unwrap_err().downcast_ref(), Some(&"mine"));
    assert_eq!(dict.etag("k")?, Some(etag));
    dict.insert("k", 8)?;
    Ok(())
}

// Point 30.
#[test]
fn update_closure_may_read_storage() -> Result<()> {
    let dict = fresh();
    let packed = dict.with_format::<u32>(Format::MessagePack);
    dict.extend([(["a", "b"], 1), (["a", "c"], 2)])?;
    packed.insert("d", 4)?;
    let sub = dict.subdict("a")?;
    dict.update("sum", |_| {
        let here: u32 = sub.values().map(|value| value.expect("a value")).sum();
        let there = packed.get("d").expect("a look").expect("it is there");
        assert_eq!(dict.len().expect("a count"), 2);
        assert_eq!(dict.get("sum").expect("a look"), None);
        Update::Put(here + there)
    })?;
    assert_eq!(dict.get("sum")?, Some(7));
    Ok(())
}

// Point 30.
#[test]
fn update_works_within_subdicts() -> Result<()> {
    let dict = fresh();
    let sub = dict.subdict(["a", "b"])?;
    for n in 1..=10_u32 {
        let put = sub.update("count", |count| Update::Put(count.unwrap_or(0) + 1))?;
        assert_eq!(put.expect("it was put").0, n);
    }
    assert_eq!(dict.get(["a", "b", "count"])?, Some(10));
    assert_eq!(dict.len()?, 1);
    Ok(())
}
