//! Dictionaries in memory: shared values, a tree that is pruned, and conflicts.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use mmapcache::Update;
use mmapcache::dict::{Condition, DictError, Format, LocalDict, LocalOptions, Result, Retrieve};

// All callers get the same shared instance until the item is written.
#[test]
fn shared_value_lasts_until_written() -> Result<()> {
    let dict = LocalDict::new();
    dict.insert(["a", "b"], vec![1, 2])?;
    let shared = || Ok::<_, DictError>(dict.get_shared(["a", "b"])?.expect("it is there"));
    let first = shared()?;
    dict.get(["a", "b"])?;
    assert!(Arc::ptr_eq(&first, &shared()?));
    let below = dict.subdict("a")?.get_shared("b")?.expect("it is there");
    assert!(Arc::ptr_eq(&first, &below));

    dict.insert(["a", "b"], vec![1, 2])?;
    let second = shared()?;
    assert!(!Arc::ptr_eq(&first, &second));
    assert_eq!(first, second);
    dict.remove(["a", "b"])?;
    assert_eq!(dict.get_shared(["a", "b"])?, None);
    assert_eq!(*second, [1, 2], "valid while a caller holds it");
    Ok(())
}

// Threads that read a value first at the same time share one instance.
#[test]
fn concurrent_first_readers_share_memory() -> Result<()> {
    for _ in 0..200 {
        let dict = LocalDict::new();
        dict.insert("k", vec![7; 1_000])?;
        let barrier = std::sync::Barrier::new(2);
        let look = || {
            barrier.wait();
            dict.get_shared("k").expect("a look").expect("it is there")
        };
        let (one, other) = std::thread::scope(|scope| {
            let other = scope.spawn(look);
            (look(), other.join().expect("a thread"))
        });
        assert!(Arc::ptr_eq(&one, &other));
    }
    Ok(())
}

// A value that was read as one type can be read as another.
#[test]
fn value_can_change_its_type() -> Result<()> {
    let narrow = LocalDict::<u8>::new();
    let wide = narrow.with_format::<u64>(Format::Json);
    narrow.insert("k", 7)?;
    assert_eq!(narrow.get("k")?, Some(7));
    assert_eq!(wide.get("k")?, Some(7));
    assert_eq!(wide.get_shared("k")?.as_deref(), Some(&7));
    assert_eq!(narrow.get("k")?, Some(7));
    Ok(())
}

/// Stores and deletes an item below a node of its own, `times` times.
fn insert_and_remove(dict: &LocalDict<u32>, times: u32) -> Result<()> {
    for n in 0..times {
        let key = [format!("node{n}"), "leaf".to_owned()];
        dict.insert(&key, n)?;
        dict.remove(&key)?;
    }
    Ok(())
}

// Point 33.
#[test]
fn empty_nodes_go_after_deletions() -> Result<()> {
    let dict = LocalDict::with(LocalOptions::new().prune_interval(10));
    dict.insert(["stays", "a", "b"], 1)?;
    assert_eq!(dict.nodes(), 3);
    insert_and_remove(&dict, 9)?;
    assert_eq!(dict.nodes(), 3 + 9);
    insert_and_remove(&dict, 1)?;
    assert_eq!(dict.nodes(), 3);
    assert_eq!(dict.get(["stays", "a", "b"])?, Some(1));
    assert_eq!(LocalDict::<u32>::new().prune_interval(), Some(64));
    Ok(())
}

// Point 33. Empty nodes stay if no interval is set.
#[test]
fn empty_nodes_stay_by_default() -> Result<()> {
    let options = [
        LocalOptions::new().prune_interval(0).clone(),
        LocalOptions::new().prune_interval(None).clone(),
    ];
    for options in options {
        let dict = LocalDict::with(&options);
        assert_eq!(dict.prune_interval(), None);
        insert_and_remove(&dict, 200)?;
        assert_eq!(dict.nodes(), 1 + 200);
    }
    Ok(())
}

// Point 33.
#[test]
fn other_formats_keep_their_nodes() -> Result<()> {
    let json = LocalDict::<u32>::with(LocalOptions::new().prune_interval(1));
    let packed = json.with_format::<u32>(Format::MessagePack);
    json.insert(["a", "b"], 1)?;
    packed.insert(["a", "b"], 2)?;
    json.clear()?;
    assert_eq!(packed.get(["a", "b"])?, Some(2));
    assert_eq!(json.nodes(), 2);
    packed.clear()?;
    assert_eq!(json.nodes(), 1);
    Ok(())
}

// Point 30. An update runs again after a conflict, and fails if it has no retry left.
#[test]
fn update_retries_then_conflict() -> Result<()> {
    for (retries, expected) in [(Some(0), 1), (Some(3), 4), (None, 7)] {
        let dict = LocalDict::new();
        let mut runs = 0;
        // The closure itself is the other writer.
        let mut interfere = |_| {
            runs += 1;
            dict.insert(["a", "b"], runs).expect("an insertion");
            Update::Put(0)
        };
        let failed = match retries {
            Some(_) => dict.try_update(["a", "b"], retries, |value| Ok(interfere(value))),
            None => dict.update(["a", "b"], interfere),
        };
        let error = failed.unwrap_err();
        let DictError::Conflict { key, attempts } = &error else {
            panic!("{error}");
        };
        assert_eq!((key.as_str(), *attempts, runs), ("a/b", expected, expected));
        assert_eq!(
            dict.get(["a", "b"])?,
            Some(expected),
            "what the others wrote"
        );
    }
    Ok(())
}

// Point 30. After a conflict the closure sees the value that was written in between.
#[test]
fn update_retry_sees_new_value() -> Result<()> {
    let dict = LocalDict::new();
    let mut seen = Vec::new();
    let done = dict.try_update("k", None, |value| {
        seen.push(value);
        match seen.len() {
            1 => drop(dict.insert("k", 10)?),
            2 => drop(dict.remove("k")?),
            3 => drop(dict.insert("k", 30)?),
            _ => {}
        }
        Ok::<_, DictError>(Update::Put(value.unwrap_or(0) + 1))
    })?;
    assert_eq!(seen, [None, Some(10), None, Some(30)]);
    assert_eq!(done.expect("it was put").0, 31);
    assert_eq!(dict.get("k")?, Some(31));
    Ok(())
}

// Point 12. Dictionaries in memory are separate unless they are clones.
#[test]
fn memory_dicts_share_only_clones() -> Result<()> {
    let (one, other) = (LocalDict::new(), LocalDict::default());
    one.insert("k", 1)?;
    assert!(other.is_empty()?);
    assert_eq!(one.to_string(), other.to_string());
    assert!(
        !one.same_items(&other)?,
        "compared by items, not by parameters"
    );
    Ok(())
}

/// The tree that has the [`Reentrant`] values, and their counter.
static TREE: LazyLock<LocalDict<u32>> = LazyLock::new(LocalDict::new);

fn count() {
    let counted = TREE.update("count", |count| Update::Put(count.unwrap_or(0) + 1));
    counted.expect("an update");
}

/// A value whose code uses the dictionary that has the value.
struct Reentrant;

impl Clone for Reentrant {
    fn clone(&self) -> Self {
        count();
        Self
    }
}

impl Drop for Reentrant {
    fn drop(&mut self) {
        count();
    }
}

impl Serialize for Reentrant {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        count();
        serializer.serialize_unit()
    }
}

impl<'de> Deserialize<'de> for Reentrant {
    fn deserialize<D: Deserializer<'de>>(input: D) -> std::result::Result<Self, D::Error> {
        count();
        <()>::deserialize(input)?;
        Ok(Self)
    }
}

fn use_everything(dict: &LocalDict<Reentrant>) -> Result<()> {
    dict.insert(["a", "b"], Reentrant)?;
    let shared = dict.get_shared(["a", "b"])?;
    dict.insert(["a", "b"], Reentrant)?;
    drop(shared);
    dict.get(["a", "b"])?;
    let (write, absent) = (Update::Put(Reentrant), None);
    let put = dict.set_if(["a", "b"], write, Condition::Any, absent, Retrieve::Always)?;
    assert!(put.is_changed());
    dict.get_or_insert(["a", "b"], Reentrant)?;
    dict.update(["a", "b"], |_| Update::Put(Reentrant))?;
    dict.update(["a", "b"], |_| Update::Keep)?;
    assert_eq!(dict.values().count(), 1);
    dict.take(["a", "b"])?;
    for n in 0..100 {
        dict.insert(["a".to_owned(), n.to_string()], Reentrant)?;
        dict.get_shared(["a".to_owned(), n.to_string()])?;
    }
    dict.clear()
}

#[test]
fn value_code_may_reenter_tree() {
    let (done, waits) = std::sync::mpsc::channel();
    // If the thread waits for itself, the test fails without it.
    std::thread::spawn(move || {
        let used = use_everything(&TREE.with_format(Format::MessagePack));
        done.send(used).expect("the test waits");
    });
    let used = waits.recv_timeout(Duration::from_secs(30));
    used.expect("it waits for its own lock")
        .expect("all went well");
    let counted = TREE.get("count").expect("a look").expect("it was used");
    assert!(counted > 300, "{counted}");
}
