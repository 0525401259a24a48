//! Dictionaries in files with values in memory: which values are in memory, and for how long.

use std::sync::Arc;

use mmapcache::Update;
use mmapcache::dict::{CachedDict, Condition, Format, MmapDict, Result, Retrieve};

use crate::child::scratch::Scratch;

type Numbers = Vec<u32>;

/// Returns a dictionary in files, and the same with values in memory.
fn pair(scratch: &Scratch) -> Result<(MmapDict<Numbers>, CachedDict<Numbers>)> {
    let files = MmapDict::open(&scratch.path)?;
    Ok((files.clone(), CachedDict::new(files)))
}

// Point 40. A value is decoded once.
#[test]
fn cached_value_is_never_stale() -> Result<()> {
    let scratch = Scratch::new();
    let (files, cached) = pair(&scratch)?;
    let shared = || cached.get_shared(["a", "b"]);
    files.insert(["a", "b"], vec![1])?;
    let first = shared()?.expect("it is there");
    assert!(Arc::ptr_eq(&first, &shared()?.expect("it is there")));

    // Written by other handles, in every way.
    files.insert(["a", "b"], vec![2])?;
    assert_eq!(cached.get(["a", "b"])?, Some(vec![2]));
    files.update(["a", "b"], |_| Update::Put(vec![3]))?;
    let third = shared()?.expect("it is there");
    assert_eq!(*third, [3]);
    assert!(
        Arc::ptr_eq(&third, &shared()?.expect("it is there")),
        "held in place of the first"
    );
    files.remove(["a", "b"])?;
    assert_eq!(cached.get(["a", "b"])?, None);
    assert_eq!(shared()?, None);
    files.insert(["a", "b"], vec![4])?;
    assert_eq!(cached.entries().next().expect("an item")?.1, [4]);
    files.clear()?;
    assert_eq!(cached.get(["a", "b"])?, None);
    Ok(())
}

// Point 40.
#[test]
fn cached_dict_notices_foreign_rebuild() -> Result<()> {
    let scratch = Scratch::new();
    let (_, cached) = pair(&scratch)?;
    cached.insert("k", vec![1])?;
    assert_eq!(cached.get("k")?, Some(vec![1]));
    let other = MmapDict::<Numbers>::open(&scratch.path)?;
    let items = [Ok::<_, mmapcache::Error>((b"json/k", b"[2]"))];
    other.cache().atomic_rebuild(items).expect("a rebuild");
    assert_eq!(cached.get("k")?, Some(vec![2]));
    Ok(())
}

// Point 40.
#[test]
fn cached_update_starts_from_files() -> Result<()> {
    let scratch = Scratch::new();
    let (files, cached) = pair(&scratch)?;
    cached.insert("k", vec![1])?;
    cached.get("k")?;
    files.insert("k", vec![2])?;
    cached.update("k", |value| {
        let mut value = value.expect("it is there");
        value.push(3);
        Update::Put(value)
    })?;
    assert_eq!(files.get("k")?, Some(vec![2, 3]));
    Ok(())
}

#[test]
fn memory_holds_values_until_forgotten() -> Result<()> {
    let scratch = Scratch::new();
    let (files, cached) = pair(&scratch)?;
    for n in 0..10 {
        files.insert(["a".to_owned(), n.to_string()], vec![n])?;
    }
    assert_eq!(cached.held(), 0);
    assert_eq!(cached.values().count(), 10);
    assert_eq!(cached.held(), 10);
    let kept = cached.get_shared(["a", "7"])?.expect("it is there");
    cached.subdict("a")?.forget();
    assert_eq!(cached.held(), 0);
    assert_eq!(*kept, [7]);
    assert_eq!(cached.get(["a", "7"])?, Some(vec![7]));
    assert_eq!(cached.clone().held(), 1);
    Ok(())
}

// A write through the cached dictionary releases the value that it held.
#[test]
fn own_writes_release_held_values() -> Result<()> {
    let scratch = Scratch::new();
    let (_, cached) = pair(&scratch)?;
    let read = |key: &str| -> Result<()> {
        cached.insert(key, vec![1])?;
        cached.get(key)?;
        assert_eq!(cached.held(), 1);
        Ok(())
    };
    let gone = || assert_eq!(cached.held(), 0);
    let (any, absent, never) = (Condition::Any, None, Retrieve::Never);
    read("a")?;
    assert!(cached.remove("a")?);
    gone();
    read("b")?;
    cached.take("b")?;
    gone();
    read("c")?;
    assert!(cached.remove_if("c", any, absent)?.is_changed());
    gone();
    read("d")?;
    cached.insert("d", vec![2])?;
    gone();
    read("e")?;
    assert!(
        cached
            .set_if("e", Update::Put(vec![2]), any, absent, never)?
            .is_changed()
    );
    gone();
    read("f")?;
    cached.update("f", |_| Update::Put(vec![2]))?;
    gone();
    read("g")?;
    cached.clear()?;
    gone();
    Ok(())
}

#[test]
fn drained_queue_holds_no_memory() -> Result<()> {
    let scratch = Scratch::new();
    let (_, cached) = pair(&scratch)?;
    for n in 0..500 {
        cached.insert(["queue".to_owned(), n.to_string()], vec![n])?;
        cached.take_any()?.expect("an item");
    }
    assert_eq!(cached.held(), 0);
    Ok(())
}

#[test]
fn clearing_subdict_releases_only_its_items() -> Result<()> {
    let scratch = Scratch::new();
    let (_, cached) = pair(&scratch)?;
    let packed = cached.with_format::<u8>(Format::MessagePack);
    packed.insert(["a", "b"], 1)?;
    cached.extend([(["a", "b"], vec![1]), (["c", "d"], vec![2])])?;
    assert_eq!((cached.values().count(), packed.values().count()), (2, 1));
    assert_eq!(cached.held(), 3);
    cached.subdict("a")?.clear()?;
    assert_eq!(cached.held(), 2);
    Ok(())
}

#[test]
fn concurrent_first_readers_share_value() -> Result<()> {
    let scratch = Scratch::new();
    let (files, cached) = pair(&scratch)?;
    for round in 0..300 {
        files.insert("k", vec![round; 1_000])?;
        let barrier = std::sync::Barrier::new(2);
        let look = || {
            barrier.wait();
            cached
                .get_shared("k")
                .expect("a look")
                .expect("it is there")
        };
        let (one, other) = std::thread::scope(|scope| {
            let other = scope.spawn(look);
            (look(), other.join().expect("a thread"))
        });
        assert!(Arc::ptr_eq(&one, &other));
    }
    Ok(())
}
