//! Keys and the items that they address.

use mmapcache::dict::{DictError, DictKey, KeyError, Result};

use super::fresh;

// Point 6. All ways to write a key address one item.
#[test]
fn key_spellings_address_one_item() -> Result<()> {
    let dict = fresh();
    let key = DictKey::new("k")?;
    dict.insert("k", 1)?;
    assert_eq!(dict.get(["k"])?, Some(1));
    assert_eq!(dict.get(("k", ()))?, Some(1));
    assert_eq!(dict.get(vec!["k".to_owned()])?, Some(1));
    assert_eq!(dict.get(&key)?, Some(1));
    assert_eq!(dict.get(Some(&key))?, Some(1));
    dict.insert(key, 2)?;
    assert_eq!(dict.get("k")?, Some(2));
    assert_eq!(dict.len()?, 1);
    Ok(())
}

// Point 6. A text is never split into parts.
#[test]
fn text_is_one_part() -> Result<()> {
    let dict = fresh();
    dict.insert(["a", "b"], 1)?;
    for joined in ["a.b", "a-b", "a=b", "ab"] {
        assert_eq!(dict.get(joined)?, None, "{joined}");
    }
    let error = dict.get("a/b").unwrap_err();
    let DictError::InvalidKey(KeyError::UnsafeChar { character, .. }) = error else {
        panic!("{error}");
    };
    assert_eq!(character, '/');
    Ok(())
}

// Point 4.
#[test]
fn item_operations_need_a_part() {
    let dict = fresh::<u32>();
    let none = |error| matches!(error, DictError::InvalidKey(KeyError::NoPart));
    assert!(none(dict.get(()).unwrap_err()));
    assert!(none(dict.insert(None::<DictKey>, 1).unwrap_err()));
    assert!(none(dict.remove(()).unwrap_err()));
    assert!(none(dict.etag(()).unwrap_err()));
    let sub = dict.subdict("a").unwrap();
    assert!(
        none(sub.insert((), 1).unwrap_err()),
        "not the prefix's own item"
    );
}

// Point 8. A key, and longer keys that begin with it, are separate items.
#[test]
fn key_and_longer_keys_coexist() -> Result<()> {
    let dict = fresh();
    dict.insert("p", 1)?;
    dict.insert(["p", "q"], 2)?;
    dict.insert(["p", "q", "r"], 3)?;
    assert_eq!(dict.get("p")?, Some(1));
    assert_eq!(dict.get(["p", "q"])?, Some(2));
    assert_eq!(dict.len()?, 3);

    assert!(dict.remove(["p", "q"])?);
    assert_eq!(dict.get("p")?, Some(1));
    assert_eq!(dict.get(["p", "q"])?, None);
    assert_eq!(dict.get(["p", "q", "r"])?, Some(3));
    assert!(dict.remove("p")?);
    assert_eq!(dict.get(["p", "q", "r"])?, Some(3));
    Ok(())
}

// Point 8. A key that longer keys begin with is absent.
#[test]
fn inner_prefix_of_key_is_absent() -> Result<()> {
    let dict = fresh();
    dict.insert(["a", "b", "c"], 1)?;
    for inner in [&["a"][..], &["a", "b"]] {
        assert!(!dict.contains(inner)?);
        assert!(!dict.remove(inner)?);
        assert_eq!(dict.take(inner)?, None);
    }
    assert_eq!(dict.get(["a", "b", "c"])?, Some(1));
    Ok(())
}

// Point 3.
#[test]
fn longest_key_works_in_dictionaries() -> Result<()> {
    let dict = fresh();
    let longest = DictKey::new(vec!["x".repeat(253); 255])?;
    dict.insert(&longest, 1)?;
    assert_eq!(dict.get(&longest)?, Some(1));
    assert_eq!(dict.keys().next().expect("a key")?, longest);
    let below = dict.subdict(vec!["x".repeat(253); 254])?;
    assert_eq!(below.get("x".repeat(253))?, Some(1));

    // The parts of the prefix count, too.
    let error = below.insert(["a", "b"], 1).unwrap_err();
    let DictError::InvalidKey(KeyError::TooManyParts { parts: 256 }) = error else {
        panic!("{error}");
    };
    Ok(())
}
