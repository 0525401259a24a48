//! Tags: which write of an item this is.

use std::collections::BTreeSet;

use mmapcache::dict::{Dict, ETag, ETagState, Format, Result};

use super::fresh;

#[test]
fn point_21_a_tag_stays_until_the_item_is_written() -> Result<()> {
    let dict = fresh();
    assert_eq!(dict.etag("k")?, None);
    let first = dict.insert("k", 1)?;
    for _ in 0..3 {
        assert_eq!(dict.etag("k")?, Some(first));
        dict.get("k")?;
        dict.insert("other", 0)?;
    }
    assert_eq!(dict.get_with_etag("k")?.expect("it is there").etag, first);
    let second = dict.insert("k", 1)?;
    assert!(second > first, "the same value, written again");
    assert_eq!(dict.etag("k")?, Some(second));
    Ok(())
}

#[test]
fn point_21_no_two_writes_share_a_tag_and_later_ones_are_greater() -> Result<()> {
    let dict = fresh();
    let sub = dict.subdict("a")?;
    let packed = dict.with_format::<u32>(Format::MessagePack);
    let mut tags = Vec::new();
    for n in 0..200 {
        tags.push(dict.insert("k", n)?);
        tags.push(sub.insert("k", n)?);
        tags.push(packed.insert("k", n)?);
        if n % 10 == 0 {
            dict.discard("k")?;
        }
        if n % 50 == 0 {
            dict.clear()?;
        }
    }
    assert!(tags.is_sorted());
    assert_eq!(BTreeSet::from_iter(&tags).len(), tags.len());
    Ok(())
}

#[test]
fn point_21_an_item_that_was_deleted_and_put_again_has_another_tag() -> Result<()> {
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

#[test]
fn point_21_views_see_the_same_tags() -> Result<()> {
    let dict = fresh();
    let etag = dict.insert(["a", "b", "c"], 1)?;
    let sub = dict.subdict(["a", "b"])?;
    assert_eq!(sub.etag("c")?, Some(etag));
    let etag = sub.insert("c", 2)?;
    assert_eq!(dict.etag(["a", "b", "c"])?, Some(etag));
    Ok(())
}

#[test]
fn point_21_a_tag_can_be_handed_to_others_as_a_text() -> Result<()> {
    let dict = fresh();
    let etag = dict.insert("k", 1)?;
    let text = etag.to_string();
    assert!(text.bytes().all(|byte| byte.is_ascii_digit()), "{text}");
    assert_eq!(text.parse(), Ok(etag));
    for none in ["", "x", "-1", "1.5", "99999999999999999999"] {
        assert!(none.parse::<ETag>().is_err(), "{none:?}");
    }
    Ok(())
}

#[test]
fn point_22_absence_is_a_state_like_a_tag() -> Result<()> {
    let dict = fresh();
    let etag = dict.insert("k", 1)?;
    assert_eq!(ETagState::from(dict.etag("missing")?), ETagState::Absent);
    assert_eq!(ETagState::from(dict.etag("k")?), ETagState::Tag(etag));
    assert_eq!(ETagState::from(etag).tag(), Some(etag));
    assert_eq!(ETagState::default().tag(), None);
    Ok(())
}
