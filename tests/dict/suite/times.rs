//! The times and the order of writes.

use std::time::{Duration, SystemTime};

use mmapcache::dict::{DictKey, Result};

use super::fresh;

fn names(keys: &[DictKey]) -> Vec<&str> {
    keys.iter().map(DictKey::as_str).collect()
}

// Point 20.
#[test]
fn timestamp_is_the_last_write() -> Result<()> {
    let dict = fresh();
    assert_eq!(dict.timestamp("k")?, None);
    // The clock of file systems may be some milliseconds late.
    let early = SystemTime::now() - Duration::from_millis(50);
    dict.insert("k", 1)?;
    let first = dict.timestamp("k")?.expect("it is there");
    assert!(early < first && first < SystemTime::now() + Duration::from_millis(50));
    assert_eq!(dict.timestamp("k")?, Some(first));
    std::thread::sleep(Duration::from_millis(30));
    dict.insert("k", 1)?;
    let second = dict.timestamp("k")?.expect("it is there");
    assert!(
        second > first + Duration::from_millis(10),
        "the same value, written again"
    );
    Ok(())
}

// Point 20.
#[test]
fn oldest_and_newest_are_ordered() -> Result<()> {
    let dict = fresh();
    dict.extend([("a", 1), ("b", 2), ("c", 3), ("d", 4)])?;
    dict.insert("b", 20)?;
    assert_eq!(names(&dict.oldest_keys(None)?), ["a", "c", "d", "b"]);
    assert_eq!(names(&dict.newest_keys(None)?), ["b", "d", "c", "a"]);
    assert_eq!(names(&dict.oldest_keys(Some(2))?), ["a", "c"]);
    assert_eq!(names(&dict.newest_keys(Some(2))?), ["b", "d"]);
    // Values in this order: by their entries' tags.
    let mut entries: Vec<_> = dict.entries().collect::<Result<_>>()?;
    entries.sort_by_key(|&(_, _, etag)| etag);
    let values: Vec<_> = entries.iter().map(|&(_, value, _)| value).collect();
    assert_eq!(values, [1, 3, 4, 20]);
    Ok(())
}

// Point 20. The caller may ask for no keys, or for more than exist.
#[test]
fn oldest_respects_zero_and_excess() -> Result<()> {
    let dict = fresh();
    assert!(dict.oldest_keys(None)?.is_empty());
    dict.extend([("a", 1), ("b", 2)])?;
    assert!(dict.oldest_keys(Some(0))?.is_empty());
    assert!(dict.newest_keys(Some(0))?.is_empty());
    assert_eq!(names(&dict.oldest_keys(Some(usize::MAX))?), ["a", "b"]);
    assert_eq!(names(&dict.newest_keys(Some(3))?), ["b", "a"]);
    Ok(())
}

// Point 20. The oldest few of many items are returned, also in a sub-dictionary.
#[test]
fn oldest_few_of_many_are_right() -> Result<()> {
    let dict = fresh();
    for n in 0..400_u32 {
        // An order that is not that of names.
        let name = format!("{:03}", n * 263 % 400);
        dict.insert(["a".to_owned(), name], n)?;
        dict.insert(["b".to_owned(), n.to_string()], n)?;
    }
    let sub = dict.subdict("a")?;
    let values = |keys: Vec<DictKey>| -> Result<Vec<u32>> {
        keys.into_iter().map(|key| sub.require(key)).collect()
    };
    assert_eq!(values(sub.oldest_keys(5)?)?, [0, 1, 2, 3, 4]);
    assert_eq!(values(sub.newest_keys(5)?)?, [399, 398, 397, 396, 395]);
    assert!(values(sub.oldest_keys(None)?)?.into_iter().eq(0..400));
    Ok(())
}
