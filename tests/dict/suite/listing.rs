//! Iterating over keys, values and times.

use std::collections::{BTreeMap, BTreeSet};

use mmapcache::dict::{DictKey, Format, Result};

use super::{fresh, in_format};

fn key(n: u32) -> DictKey {
    DictKey::new([format!("group-{}", n % 7), format!("{n}")]).expect("a key")
}

// Point 15.
#[test]
fn iterators_show_the_same_items() -> Result<()> {
    let dict = fresh();
    let mut expected = BTreeMap::new();
    for n in 0..500 {
        let etag = dict.insert(key(n), n)?;
        expected.insert(key(n), (n, etag));
    }
    let entries: Vec<_> = dict.entries().collect::<Result<_>>()?;
    assert_eq!(entries.len(), 500, "each once");
    let listed: BTreeMap<_, _> = entries
        .into_iter()
        .map(|(key, value, etag)| (key, (value, etag)))
        .collect();
    assert_eq!(listed, expected);

    let keys: BTreeSet<_> = dict.keys().collect::<Result<_>>()?;
    assert!(keys.iter().eq(expected.keys()));
    let mut values: Vec<_> = dict.values().collect::<Result<_>>()?;
    values.sort_unstable();
    assert!(values.into_iter().eq(0..500));
    let items: BTreeMap<_, _> = dict.iter().collect::<Result<_>>()?;
    assert!(items.iter().all(|(key, value)| expected[key].0 == *value));
    for item in dict.keys_and_etags() {
        let (key, etag) = item?;
        assert_eq!(expected[&key].1, etag);
    }
    Ok(())
}

// Point 15.
#[test]
fn times_match_keys_and_values() -> Result<()> {
    let dict = fresh();
    for n in 0..20 {
        dict.insert(key(n), n)?;
    }
    let mut seen = 0;
    for entry in dict.entries() {
        let (key, value, etag) = entry?;
        assert_eq!(dict.timestamp(&key)?, Some(etag.time()));
        assert_eq!(dict.get(&key)?, Some(value));
        seen += 1;
    }
    assert_eq!(seen, 20);
    for item in dict.keys_and_etags() {
        let (key, etag) = item?;
        assert_eq!(dict.timestamp(&key)?, Some(etag.time()));
    }
    Ok(())
}

// Point 15.
#[test]
fn dict_may_change_during_iteration() -> Result<()> {
    let dict = fresh();
    for n in 0..300 {
        dict.insert(key(n), n)?;
    }
    let mut seen = BTreeSet::new();
    for item in dict.iter() {
        let (at, n) = item?;
        assert!(seen.insert(n) || n >= 300, "{n} came twice");
        if n % 2 == 1 && n < 300 {
            dict.remove(&at)?;
        }
        if n < 300 {
            dict.insert(["new".to_owned(), n.to_string()], 1_000 + n)?;
        }
    }
    assert!(
        (0..300).all(|n| seen.contains(&n)),
        "all that was there came"
    );
    assert_eq!(dict.len()?, 150 + 300);
    Ok(())
}

// Point 15. An item that is deleted before the iterator reaches it is skipped.
#[test]
fn deleted_items_are_skipped() -> Result<()> {
    let dict = fresh();
    for n in 0..300 {
        dict.insert(key(n), n)?;
    }
    let mut values = dict.values();
    values.next().expect("a value")?;
    dict.clear()?;
    // A storage may have copied some before.
    let rest = values.collect::<Result<Vec<u32>>>()?.len();
    assert!(rest < 150, "{rest} of 299");
    Ok(())
}

// Point 15. A value that cannot be read does not end the iteration.
#[test]
fn unreadable_value_continues_the_iteration() -> Result<()> {
    let texts = fresh::<String>();
    let numbers = texts.with_format::<u32>(Format::Json);
    texts.insert("bad", "text".to_owned())?;
    for n in 0..100 {
        numbers.insert(key(n), n)?;
    }
    let (good, bad): (Vec<_>, Vec<_>) = numbers.iter().partition(Result::is_ok);
    assert_eq!((good.len(), bad.len()), (100, 1));
    assert_eq!(numbers.keys().filter(Result::is_ok).count(), 101);
    Ok(())
}

// Point 19.
#[test]
fn random_keys_of_dict_are_uniform() -> Result<()> {
    let dict = fresh::<u32>();
    assert_eq!(dict.random_key()?, None);
    let keys: Vec<_> = (0..8).map(key).collect();
    for (key, n) in keys.iter().zip(0..) {
        dict.insert(key, n)?;
    }
    let mut drawn = BTreeMap::<_, u32>::new();
    for _ in 0..8_000 {
        *drawn.entry(dict.random_key()?.expect("a key")).or_default() += 1;
    }
    assert!(drawn.keys().eq(keys.iter().collect::<BTreeSet<_>>()));
    // 1,000 each are expected; a uniform choice is 170 off once in some millions of tests.
    assert!(
        drawn.values().all(|count| (830..=1_170).contains(count)),
        "{drawn:?}"
    );
    Ok(())
}

// Point 19.
#[test]
fn random_key_respects_subdict_and_format() -> Result<()> {
    let dict = in_format::<u32>(Format::Json);
    let packed = dict.with_format::<u32>(Format::MessagePack);
    for n in 0..500 {
        packed.insert(key(n), n)?;
    }
    assert_eq!(dict.random_key()?, None);
    dict.insert(["a", "b"], 1)?;
    dict.insert(["a", "c"], 2)?;
    dict.insert("other", 3)?;
    let sub = dict.subdict("a")?;
    let drawn: BTreeSet<_> = (0..64)
        .map(|_| Ok(sub.random_key()?.expect("a key").to_string()))
        .collect::<Result<_>>()?;
    assert!(drawn.iter().eq(["b", "c"]), "{drawn:?}");
    assert_eq!(dict.subdict("none")?.random_key()?, None);
    Ok(())
}
