//! Sub-dictionaries: the items below a prefix.

use mmapcache::dict::{DictError, DictKey, Format, Result};

use super::fresh;

// Point 33.
#[test]
fn subdict_and_dict_share_writes() -> Result<()> {
    let dict = fresh();
    let sub = dict.subdict("a")?;
    dict.insert(["a", "b"], 1)?;
    assert_eq!(sub.get("b")?, Some(1));
    sub.insert(["c", "d"], 2)?;
    assert_eq!(dict.get(["a", "c", "d"])?, Some(2));
    sub.remove("b")?;
    assert_eq!(dict.get(["a", "b"])?, None);
    dict.clear()?;
    assert!(sub.is_empty()?);
    sub.insert("b", 3)?;
    assert_eq!(dict.get(["a", "b"])?, Some(3));
    Ok(())
}

// Point 33.
#[test]
fn empty_prefix_gives_whole_dict() -> Result<()> {
    let dict = fresh();
    dict.extend([(vec!["a"], 1), (vec!["b", "c"], 2)])?;
    let all = dict.subdict(dict.prefix())?;
    assert_eq!(dict.subdict(())?.prefix(), None);
    assert!(all.same_items(&*dict)?);
    assert_eq!(all.to_string(), dict.to_string());
    Ok(())
}

// Point 33.
#[test]
fn empty_subdict_leaves_no_trace() -> Result<()> {
    let dict = fresh::<u32>();
    let sub = dict.subdict(["none", "at", "all"])?;
    assert!(sub.is_empty()?);
    assert_eq!(sub.len()?, 0);
    assert_eq!(sub.keys().count(), 0);
    assert_eq!(sub.get("k")?, None);
    assert!(!sub.remove("k")?);
    sub.clear()?;
    assert!(dict.subdicts()?.is_empty());
    assert!(dict.is_empty()?);
    Ok(())
}

// Point 33.
#[test]
fn subdict_inherits_type_and_parameters() -> Result<()> {
    let dict = fresh::<u32>();
    let sub = dict.subdict("a")?;
    assert_eq!((sub.kind(), sub.format()), (dict.kind(), dict.format()));
    assert_eq!(sub.path(), dict.path());
    let without_prefix = sub.to_string().replace("prefix=\"a\"", "prefix=\"\"");
    assert_eq!(without_prefix, dict.to_string());
    Ok(())
}

// Point 33.
#[test]
fn subdicts_nest_with_longer_prefixes() -> Result<()> {
    let dict = fresh();
    dict.insert(["a", "b", "c", "d"], 1)?;
    let nested = dict.subdict("a")?.subdict(("b", "c"))?;
    assert_eq!(nested.get("d")?, Some(1));
    assert_eq!(nested.prefix(), Some(&DictKey::new(["a", "b", "c"])?));
    assert_eq!(dict.subdict(["a", "b", "c"])?.get("d")?, Some(1));
    let other = nested.with_format::<String>(Format::MessagePack);
    assert_eq!(other.prefix(), nested.prefix());
    other.insert("d", "text".to_owned())?;
    assert_eq!(nested.len()?, 1);
    Ok(())
}

// Point 33. A sub-dictionary outlives its items, and the dictionary that made it.
#[test]
fn subdict_outlives_items_and_dict() -> Result<()> {
    let dict = fresh();
    let root = dict.clone();
    let sub = {
        let parent = dict.subdict("a")?;
        parent.insert(["b", "c"], 1)?;
        parent.subdict("b")?
    };
    // Enough deletions for any storage to remove empty nodes or clean.
    for n in 0..200_u32 {
        root.insert(["a", "b", "c"], n)?;
        root.remove(["a", "b", "c"])?;
    }
    sub.insert("c", 2)?;
    assert_eq!(root.get(["a", "b", "c"])?, Some(2));
    Ok(())
}

// Point 33.
#[test]
fn only_whole_parts_are_prefixes() -> Result<()> {
    let dict = fresh();
    dict.extend([
        (["ab", "x"], 1),
        (["a", "x"], 2),
        (["a-", "x"], 3),
        (["a.b", "x"], 4),
    ])?;
    let sub = dict.subdict("a")?;
    assert_eq!(sub.len()?, 1);
    assert_eq!(sub.values().collect::<Result<Vec<_>>>()?, [2]);
    Ok(())
}

// Point 33.
#[test]
fn subdict_prefixes_are_checked() {
    let dict = fresh::<u32>();
    let error = dict.subdict("not/safe").unwrap_err();
    assert!(matches!(error, DictError::InvalidKey(_)), "{error}");
}

// Point 34.
#[test]
fn first_parts_have_subdicts() -> Result<()> {
    let dict = fresh();
    dict.extend([
        (vec!["a", "x"], 1),
        (vec!["a", "y"], 2),
        (vec!["b", "z", "z"], 3),
    ])?;
    let subdicts = dict.subdicts()?;
    assert!(subdicts.keys().eq(["a", "b"]));
    assert_eq!(subdicts["a"].len()?, 2);
    assert_eq!(subdicts["b"].get(["z", "z"])?, Some(3));
    subdicts["b"].insert("new", 4)?;
    assert_eq!(dict.get(["b", "new"])?, Some(4));
    let below = dict.subdict("b")?.subdicts()?;
    assert!(below.keys().eq(["new", "z"]));
    Ok(())
}

// Point 34.
#[test]
fn leaf_item_gives_empty_subdict() -> Result<()> {
    let dict = fresh();
    dict.extend([(vec!["leaf"], 1), (vec!["both"], 2), (vec!["both", "x"], 3)])?;
    let subdicts = dict.subdicts()?;
    assert!(subdicts.keys().eq(["both", "leaf"]));
    assert!(subdicts["leaf"].is_empty()?);
    assert_eq!(subdicts["both"].len()?, 1);
    Ok(())
}

// Point 34.
#[test]
fn other_formats_give_no_subdicts() -> Result<()> {
    let dict = fresh::<u32>();
    let packed = dict.with_format::<u32>(Format::MessagePack);
    packed.insert(["only", "packed"], 1)?;
    assert!(dict.subdicts()?.is_empty());
    assert!(packed.subdicts()?.keys().eq(["only"]));
    Ok(())
}

// Point 35.
#[test]
fn subdict_keys_omit_the_prefix() -> Result<()> {
    let dict = fresh();
    dict.insert(["a", "b", "c"], 1)?;
    let sub = dict.subdict("a")?;
    let expected = DictKey::new(["b", "c"])?;
    assert_eq!(sub.keys().next().expect("a key")?, expected);
    assert_eq!(sub.entries().next().expect("an item")?.0, expected);
    assert_eq!(sub.newest_keys(None)?.first(), Some(&expected));
    assert_eq!(sub.random_key()?, Some(expected.clone()));
    assert_eq!(sub.take_any()?, Some((expected, 1)));
    Ok(())
}
