//! ETags: they identify the write of an item.

use std::collections::BTreeSet;

use mmapcache::dict::{Condition, ETag, Format, Result, Retrieve};

use super::fresh;

// Point 21.
#[test]
fn tag_lasts_until_next_write() -> Result<()> {
    let dict = fresh();
    assert_eq!(dict.etag("k")?, None);
    let first = dict.insert("k", 1)?;
    for _ in 0..3 {
        assert_eq!(dict.etag("k")?, Some(first));
        dict.get("k")?;
        dict.insert("other", 0)?;
    }
    assert_eq!(dict.get_with_etag("k")?.expect("it is there").1, first);
    let second = dict.insert("k", 1)?;
    assert!(second > first, "the same value, written again");
    assert_eq!(dict.etag("k")?, Some(second));
    Ok(())
}

// Point 21.
#[test]
fn tags_are_unique_and_grow() -> Result<()> {
    let dict = fresh();
    let sub = dict.subdict("a")?;
    let packed = dict.with_format::<u32>(Format::MessagePack);
    let mut tags = Vec::new();
    for n in 0..200 {
        tags.push(dict.insert("k", n)?);
        tags.push(sub.insert("k", n)?);
        tags.push(packed.insert("k", n)?);
        if n % 10 == 0 {
            dict.remove("k")?;
        }
        if n % 50 == 0 {
            dict.clear()?;
        }
    }
    assert!(tags.is_sorted());
    assert_eq!(BTreeSet::from_iter(&tags).len(), tags.len());
    Ok(())
}

// Point 21.
#[test]
fn reinserted_item_has_another_tag() -> Result<()> {
    let dict = fresh();
    let first = dict.insert("k", 1)?;
    dict.remove("k")?;
    assert_eq!(dict.etag("k")?, None);
    assert!(dict.insert("k", 1)? > first);
    let second = dict.etag("k")?.expect("it is there");
    dict.clear()?;
    assert!(dict.insert("k", 1)? > second);
    Ok(())
}

// Point 21.
#[test]
fn subdicts_see_the_same_tags() -> Result<()> {
    let dict = fresh();
    let etag = dict.insert(["a", "b", "c"], 1)?;
    let sub = dict.subdict(["a", "b"])?;
    assert_eq!(sub.etag("c")?, Some(etag));
    let etag = sub.insert("c", 2)?;
    assert_eq!(dict.etag(["a", "b", "c"])?, Some(etag));
    Ok(())
}

// Point 21.
#[test]
fn tags_round_trip_as_text() -> Result<()> {
    let dict = fresh();
    let etag = dict.insert("k", 1)?;
    let text = etag.to_string();
    assert!(text.bytes().all(|byte| byte.is_ascii_digit()), "{text}");
    assert_eq!(text.parse(), Ok(etag));
    let json = serde_json::to_string(&etag).expect("a text");
    assert_eq!(json, format!("\"{text}\""));
    assert_eq!(serde_json::from_str::<ETag>(&json).expect("a tag"), etag);
    assert!(serde_json::from_str::<ETag>("\"x\"").is_err());
    for none in ["", "x", "-1", "1.5", "99999999999999999999"] {
        assert!(none.parse::<ETag>().is_err(), "{none:?}");
    }
    Ok(())
}

// Point 22.
#[test]
fn absence_is_a_tag_state() -> Result<()> {
    let dict = fresh();
    let etag = dict.insert("k", 1)?;
    assert_eq!(dict.etag("missing")?, None);
    assert_eq!(dict.etag("k")?, Some(etag));
    // A condition takes an ETag, an optional ETag, or `None`.
    let (same, never) = (Condition::Same, Retrieve::Never);
    assert!(dict.get_if("k", same, etag, never)?.is_satisfied());
    assert!(dict.get_if("k", same, Some(etag), never)?.is_satisfied());
    assert!(dict.get_if("missing", same, None, never)?.is_satisfied());
    Ok(())
}
