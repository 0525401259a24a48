//! Several threads use one dictionary.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use mmapcache::Update;
use mmapcache::dict::{Condition, DictError, Outcome, Result, Retrieve};

use super::fresh;

// Point 31. Value and tag are of one write while other threads write.
#[test]
fn value_and_tag_are_consistent() -> Result<()> {
    let dict = fresh();
    dict.insert("k", 0_u64)?;
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let tags: Result<Vec<_>> = (1..=3_000_u64).map(|n| dict.insert("k", n)).collect();
            done.store(true, Ordering::Relaxed);
            tags
        });
        let mut seen = BTreeSet::new();
        while !done.load(Ordering::Relaxed) {
            let (value, etag) = dict.get_with_etag("k")?.expect("it is always there");
            seen.insert((etag, value));
            let looked = dict.get_if("k", Condition::Any, None, Retrieve::Always)?;
            let Outcome::Unchanged {
                etag,
                value: Some(value),
                ..
            } = looked
            else {
                panic!("{looked:?}");
            };
            seen.insert((etag, value));
        }
        let tags = writer.join().expect("the writer")?;
        for (etag, value) in seen {
            let of_write = value.checked_sub(1).map(|n| tags[n as usize]);
            assert!(of_write.is_none_or(|expected| expected == etag), "{value}");
        }
        Ok(())
    })
}

// Point 32.
#[test]
fn concurrent_insertions_have_one_winner() -> Result<()> {
    let dict = fresh();
    for round in 0..50_u32 {
        let key = format!("k{round}");
        let won: u32 = thread::scope(|scope| {
            let all: Vec<_> = (0..4_u32)
                .map(|n| {
                    let (dict, key) = (&dict, &key);
                    scope.spawn(move || {
                        let (write, absent) = (Update::Put(n), None);
                        dict.set_if(key, write, Condition::Same, absent, Retrieve::Never)
                    })
                })
                .collect();
            let results = all.into_iter().map(|one| one.join().expect("a thread"));
            results
                .map(|result| u32::from(result.expect("an answer").is_satisfied()))
                .sum()
        });
        assert_eq!(won, 1, "{key}");
    }
    Ok(())
}

// Point 16.
#[test]
fn concurrent_get_or_inserts_agree() -> Result<()> {
    let dict = fresh();
    for round in 0..50_u32 {
        let key = format!("k{round}");
        let values: BTreeSet<u32> = thread::scope(|scope| {
            let all: Vec<_> = (0..4_u32)
                .map(|n| {
                    let (dict, key) = (&dict, &key);
                    scope.spawn(move || dict.get_or_insert(key, n).expect("a value"))
                })
                .collect();
            all.into_iter()
                .map(|one| one.join().expect("a thread"))
                .collect()
        });
        assert_eq!(values.len(), 1, "{values:?}");
    }
    Ok(())
}

// Point 16.
#[test]
fn threads_take_each_item_once() -> Result<()> {
    let dict = fresh();
    for n in 0..300_u32 {
        dict.insert(["queue".to_owned(), n.to_string()], n)?;
    }
    let taken: Vec<u32> = thread::scope(|scope| {
        let all: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let next = || dict.take_any().expect("an answer");
                    std::iter::from_fn(next)
                        .map(|(_, value)| value)
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        all.into_iter()
            .flat_map(|one| one.join().expect("a thread"))
            .collect()
    });
    assert_eq!(taken.len(), 300);
    assert_eq!(BTreeSet::from_iter(taken).len(), 300);
    assert!(dict.is_empty()?);
    Ok(())
}

// Point 30.
#[test]
fn concurrent_updates_lose_nothing() -> Result<()> {
    let dict = fresh();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let grow =
                    |count: Option<u32>| Ok::<_, DictError>(Update::Put(count.unwrap_or(0) + 1));
                for _ in 0..500 {
                    let grown = dict.try_update(["a", "count"], None, grow);
                    assert!(grown.expect("an answer").is_some());
                }
            });
        }
    });
    assert_eq!(dict.get(["a", "count"])?, Some(2_000));
    Ok(())
}
