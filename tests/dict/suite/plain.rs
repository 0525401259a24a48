//! The operations of every map: get, put, delete, and those made of them.

use std::collections::BTreeMap;

use mmapcache::dict::{DictError, DictKey, Format, Result};

use super::{fresh, in_format};

// Point 14.
#[test]
fn item_lasts_until_its_deletion() -> Result<()> {
    let dict = fresh();
    assert_eq!(dict.get("k")?, None);
    assert!(!dict.contains("k")?);
    dict.insert("k", "v".to_owned())?;
    assert_eq!(dict.get("k")?.as_deref(), Some("v"));
    assert_eq!(dict.require("k")?, "v");
    assert!(dict.contains("k")?);
    dict.insert("k", "w".to_owned())?;
    assert_eq!(dict.get("k")?.as_deref(), Some("w"));
    dict.remove("k")?;
    assert_eq!(dict.get("k")?, None);
    assert!(!dict.contains("k")?);
    Ok(())
}

// Point 14. Requiring an item that does not exist is an error with its key.
#[test]
fn missing_item_error_names_key() -> Result<()> {
    let dict = fresh::<u32>();
    let key = DictKey::new(["a", "b"])?;
    let error = dict.require(&key).unwrap_err();
    let DictError::KeyNotFound { key: named } = error else {
        panic!("{error}");
    };
    assert_eq!(named, key);
    assert!(!dict.remove(&key)?, "an answer, not an error");
    Ok(())
}

// Point 14.
#[test]
fn len_agrees_with_is_empty() -> Result<()> {
    let dict = fresh();
    assert!(dict.is_empty()?);
    for n in 0..100_u32 {
        dict.insert(["k".to_owned(), n.to_string()], n)?;
        assert_eq!(dict.len()?, u64::from(n) + 1);
    }
    assert!(!dict.is_empty()?);
    dict.insert(["k", "7"], 7)?;
    assert_eq!(dict.len()?, 100, "replaced, not added");
    for n in 0..100 {
        dict.remove(["k".to_owned(), n.to_string()])?;
    }
    assert_eq!(dict.len()?, 0);
    assert!(dict.is_empty()?);
    Ok(())
}

// Point 16.
#[test]
fn get_or_insert_keeps_existing_item() -> Result<()> {
    let dict = fresh();
    assert_eq!(dict.get_or_insert("k", 1)?, 1);
    let etag = dict.etag("k")?;
    assert_eq!(dict.get_or_insert("k", 2)?, 1);
    assert_eq!(dict.get("k")?, Some(1));
    assert_eq!(dict.etag("k")?, etag, "nothing was written");
    Ok(())
}

// Point 16.
#[test]
fn take_deletes_and_returns() -> Result<()> {
    let dict = fresh();
    dict.insert(["a", "b"], 1)?;
    assert_eq!(dict.take(["a", "b"])?, Some(1));
    assert_eq!(dict.take(["a", "b"])?, None);
    assert!(dict.is_empty()?);
    Ok(())
}

// Point 16.
#[test]
fn take_any_returns_each_once() -> Result<()> {
    let dict = fresh();
    let mut expected = BTreeMap::new();
    for n in 0..20_u32 {
        let key = DictKey::new(("k", n.to_string()))?;
        dict.insert(&key, n)?;
        expected.insert(key, n);
    }
    let taken: BTreeMap<_, _> =
        std::iter::from_fn(|| dict.take_any().transpose()).collect::<Result<_>>()?;
    assert_eq!(taken, expected);
    assert_eq!(dict.take_any()?, None);
    Ok(())
}

// Point 16.
#[test]
fn extend_inserts_and_replaces() -> Result<()> {
    let dict = fresh();
    dict.insert("a", 1)?;
    dict.extend([("a", 10), ("b", 20)])?;
    dict.extend(BTreeMap::from([(vec!["c", "d"], 30)]))?;
    assert_eq!(dict.get("a")?, Some(10));
    assert_eq!(dict.get("b")?, Some(20));
    assert_eq!(dict.get(["c", "d"])?, Some(30));
    Ok(())
}

// Point 16.
#[test]
fn failed_extend_keeps_earlier_items() -> Result<()> {
    let dict = fresh();
    let error = dict
        .extend([("a", 1), ("not/safe", 2), ("c", 3)])
        .unwrap_err();
    assert!(matches!(error, DictError::InvalidKey(_)), "{error}");
    assert_eq!(dict.get("a")?, Some(1));
    assert_eq!(dict.len()?, 1);
    Ok(())
}

// Point 17.
#[test]
fn clear_deletes_only_its_format() -> Result<()> {
    let json = in_format::<u32>(Format::Json);
    let packed = json.with_format::<u32>(Format::MessagePack);
    for n in 0..600_u32 {
        json.insert(["j".to_owned(), n.to_string()], n)?;
    }
    packed.insert(["j", "1"], 1)?;
    json.clear()?;
    assert!(json.is_empty()?);
    assert_eq!(json.len()?, 0);
    assert_eq!(packed.get(["j", "1"])?, Some(1));
    json.clear()?;
    json.insert("again", 1)?;
    assert_eq!(json.len()?, 1);
    Ok(())
}

// Point 17.
#[test]
fn subdict_clear_deletes_only_below() -> Result<()> {
    let dict = fresh();
    dict.extend([
        (vec!["a"], 1),
        (vec!["a", "b"], 2),
        (vec!["a", "b", "c"], 3),
        (vec!["ab"], 4),
    ])?;
    dict.subdict("a")?.clear()?;
    assert_eq!(
        dict.get("a")?,
        Some(1),
        "the item at its beginning is not below it"
    );
    assert_eq!(dict.get("ab")?, Some(4));
    assert_eq!(dict.len()?, 2);
    Ok(())
}

// Point 17.
#[test]
fn remove_says_whether_item_existed() -> Result<()> {
    let dict = fresh();
    assert!(!dict.remove("k")?);
    dict.insert("k", 1)?;
    assert!(dict.remove("k")?);
    assert!(!dict.remove("k")?);
    assert!(!dict.contains("k")?);
    Ok(())
}

// Point 18.
#[test]
fn dictionaries_compare_item_by_item() -> Result<()> {
    let (one, other) = (fresh(), in_format(Format::MessagePack));
    assert!(one.same_items(&*other)?);
    one.extend([(["a", "b"], 1), (["a", "c"], 2)])?;
    other.extend([(["a", "c"], 2), (["a", "b"], 1)])?;
    assert!(
        one.same_items(&*other)?,
        "whatever the order and the format"
    );
    assert!(one.same_items(&*one)?);

    other.insert("more", 3)?;
    assert!(!one.same_items(&*other)?);
    assert!(!other.same_items(&*one)?);
    one.insert("more", 4)?;
    assert!(!one.same_items(&*other)?, "another value");
    one.remove("more")?;
    one.insert("else", 3)?;
    assert!(!one.same_items(&*other)?, "another key");
    Ok(())
}
