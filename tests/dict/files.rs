//! Dictionaries in files: they persist, processes share them, and files can be damaged.

use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use mmapcache::Update;
use mmapcache::dict::{DictError, Format, MmapDict, Result};
use mmapcache::{Error, ErrorKind, MmapCache, Options};

use crate::child::scratch::Scratch;

fn open(scratch: &Scratch) -> MmapDict<String> {
    MmapDict::open(&scratch.path).expect("a dictionary")
}

fn text(text: &str) -> String {
    text.to_owned()
}

/// Expects that the engine refused an operation with an error of this kind.
#[track_caller]
fn assert_backend<T: std::fmt::Debug>(
    outcome: Result<T>,
    is_expected: impl Fn(&ErrorKind) -> bool,
) {
    match outcome {
        Err(DictError::Backend { source, .. }) => {
            assert!(is_expected(source.kind()), "{source:?}");
        }
        other => panic!("{other:?}"),
    }
}

// Point 21. ETags continue to grow after a restart.
#[test]
fn items_and_tags_survive_restarts() -> Result<()> {
    let scratch = Scratch::new();
    let (kept, gone) = {
        let dict = open(&scratch);
        let kept = dict.insert(["a", "b"], text("kept"))?;
        let gone = dict.insert("c", text("gone"))?;
        dict.remove("c")?;
        (kept, gone)
    };
    let dict = open(&scratch);
    assert_eq!(dict.get(["a", "b"])?.as_deref(), Some("kept"));
    assert_eq!(dict.etag(["a", "b"])?, Some(kept));
    assert!(dict.insert("c", text("again"))? > gone.max(kept));
    Ok(())
}

// Point 33.
#[test]
fn other_handle_sees_writes_at_once() -> Result<()> {
    let scratch = Scratch::new();
    let (one, other) = (open(&scratch), open(&scratch));
    let etag = one.insert(["a", "b"], text("v"))?;
    assert_eq!(other.subdict("a")?.etag("b")?, Some(etag));
    other.clear()?;
    assert!(one.is_empty()?);
    assert_eq!(one.to_string(), other.to_string());
    assert_eq!(one.path(), Some(one.cache().path()));
    Ok(())
}

// Point 11. The policy is in the files, and holds for every handle.
#[test]
fn append_only_policy_is_stored() -> Result<()> {
    let scratch = Scratch::new();
    let options = Options::new().append_only(true).clone();
    let made = MmapDict::<String>::open_with(&scratch.path, Format::Json, &options)?;
    made.insert("k", text("v"))?;
    let dict = open(&scratch);
    assert!(dict.is_append_only());
    for error in [
        dict.insert("k", text("w")).unwrap_err(),
        dict.remove("k").unwrap_err(),
    ] {
        assert!(matches!(error, DictError::AppendOnly { .. }), "{error}");
    }
    let cache = MmapCache::open(&scratch.path).expect("a cache");
    assert!(matches!(
        cache.delete(b"json/k").as_ref().map_err(Error::kind),
        Err(ErrorKind::AppendOnly)
    ));
    assert!(matches!(
        cache.clear().as_ref().map_err(Error::kind),
        Err(ErrorKind::AppendOnly)
    ));
    assert_eq!(made.get("k")?.as_deref(), Some("v"));
    Ok(())
}

// An item is the entry whose key is its format and its parts.
#[test]
fn items_are_entries_of_their_format() -> Result<()> {
    let scratch = Scratch::new();
    let dict = open(&scratch);
    let etag = dict.insert(["users", "42"], text("Ada"))?;
    let packed = dict.with_format::<u8>(Format::MessagePack);
    packed.insert("k", 7)?;
    let cache = dict.cache();
    let entry = cache
        .entry(b"json/users/42")
        .expect("a look")
        .expect("it is there");
    assert_eq!(entry.value(), b"\"Ada\"");
    assert_eq!(entry.version().to_string(), etag.to_string());
    assert_eq!(
        cache.get(b"msgpack/k").expect("a look").as_deref(),
        Some(&[7][..])
    );
    Ok(())
}

// Other entries of the same cache are not items, and remain.
#[test]
fn foreign_entries_are_no_items() -> Result<()> {
    let scratch = Scratch::new();
    let cache = Arc::new(MmapCache::open(&scratch.path).expect("a cache"));
    let dict = MmapDict::on(Arc::clone(&cache), Format::Json);
    for key in [&b"other"[..], b"json", b"jsonk", b"yaml/k", b"\xff/k"] {
        cache.put(key, b"\"mine\"").expect("a put");
    }
    assert!(dict.is_empty()?);
    assert_eq!(dict.len()?, 0);
    dict.insert("k", text("item"))?;
    assert_eq!(dict.len()?, 1);
    assert_eq!(dict.random_key()?.expect("a key").as_str(), "k");
    dict.clear()?;
    assert_eq!(cache.len(), 5);
    Ok(())
}

// Point 15. An entry in the namespace that is not an item is an error, and hides no item.
#[test]
fn malformed_entry_is_a_listing_error() -> Result<()> {
    let scratch = Scratch::new();
    let dict = open(&scratch);
    dict.insert("k", text("item"))?;
    let foreign = [
        &b"json/"[..],
        b"json/a//b",
        b"json/not safe",
        b"json/..",
        b"json/\xff",
    ];
    for key in foreign {
        dict.cache().put(key, b"\"theirs\"").expect("a put");
    }
    let (keys, errors): (Vec<_>, Vec<_>) = dict.keys().partition(Result::is_ok);
    assert_eq!(keys.len(), 1);
    assert_eq!(errors.len(), foreign.len());
    for error in errors {
        let error = error.unwrap_err();
        assert!(matches!(error, DictError::ForeignKey { .. }), "{error}");
        assert!(!error.is_corruption());
    }
    assert_eq!(dict.len()?, 1 + foreign.len() as u64);
    assert_eq!(dict.get("k")?.as_deref(), Some("item"));

    dict.clear().unwrap_err();
    assert_eq!(dict.get("k")?, None, "cleared nevertheless");
    assert_eq!(dict.cache().len(), foreign.len() as u64, "not deleted");
    Ok(())
}

/// Changes a byte of a value in the heap file.
fn damage(scratch: &Scratch, value: &str) {
    let path = scratch.path.with_extension("heap");
    let heap = std::fs::read(&path).expect("the heap");
    let mut places = heap.windows(value.len()).enumerate();
    let (at, _) = places
        .find(|(_, bytes)| *bytes == value.as_bytes())
        .expect("the value");
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(path)
        .expect("the heap");
    file.write_all_at(b"#", at as u64).expect("a write");
}

// Point 43. A corrupt item is an error of corruption, and can be replaced and deleted.
#[test]
fn corrupt_item_can_be_replaced() -> Result<()> {
    let scratch = Scratch::new();
    let dict = open(&scratch);
    for (key, value) in [
        ("a", "first-value"),
        ("b", "second-value"),
        ("c", "third-value"),
    ] {
        dict.insert(key, text(value))?;
        if key != "c" {
            damage(&scratch, value);
        }
    }
    let results = [
        dict.get("a").map(drop),
        dict.take("a").map(drop),
        dict.update("a", |_| Update::Keep).map(drop),
        dict.get_or_insert("a", text("default")).map(drop),
    ];
    for result in results {
        let error = result.unwrap_err();
        assert!(error.is_corruption(), "{error}");
        let DictError::Backend {
            key: Some(key),
            operation,
            ..
        } = &error
        else {
            panic!("{error}");
        };
        assert_eq!((key.as_str(), *operation), ("a", "read the item"));
    }
    assert_eq!(dict.len()?, 3, "its key is valid");
    assert_eq!(
        dict.iter().filter(Result::is_ok).count(),
        1,
        "and hides no other item"
    );
    dict.insert("a", text("new"))?;
    assert_eq!(dict.get("a")?.as_deref(), Some("new"));
    assert!(dict.remove("b")?);
    assert!(!dict.contains("b")?);
    assert_eq!(dict.get("c")?.as_deref(), Some("third-value"));
    Ok(())
}

// Point 30. A closure that writes to the same files is refused; it would wait for itself.
#[test]
fn reentrant_write_is_refused() -> Result<()> {
    let scratch = Scratch::new();
    let dict = open(&scratch);
    let sub = dict.subdict("a")?;
    let packed = dict.with_format::<u8>(Format::MessagePack);
    dict.insert("k", text("before"))?;
    dict.update("k", |_| {
        let refusals = [
            sub.insert("b", text("inner")).map(drop),
            packed.insert("b", 1).map(drop),
            dict.remove("k").map(drop),
            dict.update("other", |_| Update::Delete).map(drop),
        ];
        for refusal in refusals {
            assert_backend(refusal, |kind| matches!(kind, ErrorKind::AlreadyWriting));
        }
        Update::Put(text("after"))
    })?;
    assert_eq!(dict.get("k")?.as_deref(), Some("after"));
    assert_eq!((dict.len()?, packed.len()?), (1, 0));
    Ok(())
}

// Point 43. A lock timeout is an error; readers do not wait.
#[test]
fn lock_timeout_is_an_error() -> Result<()> {
    let scratch = Scratch::new();
    let other = open(&scratch);
    let mut options = Options::new();
    options.lock_timeout(Some(Duration::from_millis(20)));
    let dict = MmapDict::<String>::open_with(&scratch.path, Format::Json, &options)?;
    dict.insert("k", text("v"))?;
    let writer = other.cache().writer().expect("the lock");
    // Another thread: in this one the error would be `AlreadyWriting`.
    let refusal = std::thread::scope(|scope| {
        let waits = scope.spawn(|| dict.insert("k", text("w")));
        waits.join().expect("a thread")
    });
    assert_backend(refusal, |kind| matches!(kind, ErrorKind::Locked { .. }));
    let (seen, _) = dict.get_with_etag("k")?.expect("it is there");
    assert_eq!(seen, "v");
    assert_eq!(
        dict.get_or_insert("k", text("w"))?,
        "v",
        "what changes nothing needs no lock"
    );
    writer.commit().expect("the end");
    dict.insert("k", text("w"))?;
    Ok(())
}

// Point 43.
#[test]
fn read_only_dict_refuses_changes() -> Result<()> {
    let scratch = Scratch::new();
    open(&scratch).insert("k", text("v"))?;
    let options = Options::new().read_only(true).clone();
    let dict = MmapDict::<String>::open_with(&scratch.path, Format::Json, &options)?;
    assert_eq!(dict.get("k")?.as_deref(), Some("v"));
    assert_eq!(dict.len()?, 1);
    for refused in [dict.insert("k", text("w")).map(drop), dict.clear()] {
        assert_backend(refused, |kind| matches!(kind, ErrorKind::ReadOnly));
    }
    Ok(())
}

// Point 21. Compacting keeps tags, and a rebuild gives greater ones.
#[test]
fn tags_grow_through_rebuilds() -> Result<()> {
    let scratch = Scratch::new();
    let dict = open(&scratch);
    dict.extend((0..200).map(|n| (format!("k{n}"), text("v"))))?;
    let etag = dict.etag("k7")?;
    dict.cache().compact().expect("a compaction");
    assert_eq!(dict.etag("k7")?, etag);

    let before = dict.newest_keys(Some(1))?;
    let last = dict.etag(&before[0])?;
    let cache = dict.cache();
    let mut writer = cache.writer().expect("the lock");
    writer
        .atomic_rebuild(cache.iter().expect("a listing"))
        .expect("a rebuild");
    drop(writer);
    assert_eq!(dict.len()?, 200);
    for item in dict.keys_and_etags() {
        assert!(Some(item?.1) > last);
    }
    Ok(())
}

// Point 43.
#[test]
fn opening_errors_say_why() {
    let scratch = Scratch::new();
    let options = Options::new().create(false).clone();
    let error = MmapDict::<u32>::open_with(&scratch.path, Format::Json, &options).unwrap_err();
    let DictError::Backend {
        source,
        operation,
        key: None,
    } = &error
    else {
        panic!("{error}");
    };
    assert!(matches!(source.kind(), ErrorKind::NotFound), "{error}");
    assert_eq!(*operation, "open the cache");
    assert!(std::error::Error::source(&error).is_some());
}

/// A value within itself.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
enum Nested {
    Within(Box<Nested>),
    List(Vec<Nested>),
}

// Point 43. A forged value that never ends is an error, and does not exhaust the stack.
#[test]
fn endless_forged_value_is_refused() -> Result<()> {
    let scratch = Scratch::new();
    let files = open(&scratch).with_format::<Nested>(Format::MessagePack);
    let json = files.with_format::<Nested>(Format::Json);
    let forged = [
        [&b"\x81\xa6Within"[..], b"msgpack/k"],
        [b"\x91", b"msgpack/k"],
        [b"{\"Within\":", b"json/k"],
        [b"[", b"json/k"],
    ];
    for [level, key] in forged {
        files
            .cache()
            .put(key, &level.repeat(300_000))
            .expect("a put");
        let dict = if key == b"json/k" { &json } else { &files };
        let error = dict.get("k").unwrap_err();
        assert!(matches!(error, DictError::Decode { .. }), "{error}");
        dict.remove("k")?;
    }
    Ok(())
}

#[test]
fn malformed_entries_do_not_block_taking() -> Result<()> {
    let scratch = Scratch::new();
    let dict = open(&scratch);
    dict.cache()
        .put(b"json/a//b", b"\"theirs\"")
        .expect("a put");
    assert!(dict.is_empty()?);
    assert_eq!(dict.take_any()?, None);
    for n in 0..100 {
        dict.insert(["k".to_owned(), n.to_string()], text("item"))?;
    }
    let mut taken = 0;
    while dict.take_any()?.is_some() {
        taken += 1;
    }
    assert_eq!((taken, dict.cache().len()), (100, 1));
    Ok(())
}

/// The rows of a table in `docs/format.md`.
fn rows_below(heading: &str) -> Vec<Vec<String>> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/format.md");
    let document = std::fs::read_to_string(path).expect("the document");
    let lines = document.lines().skip_while(|line| *line != heading);
    let rows = lines
        .skip_while(|line| !line.starts_with('|'))
        .take_while(|line| line.starts_with('|'));
    let cells = |row: &str| {
        row.trim_matches('|')
            .split('|')
            .map(|it| it.trim().to_owned())
            .collect()
    };
    rows.skip(2).map(cells).collect()
}

#[test]
fn engine_keys_match_the_document() -> Result<()> {
    let rows = rows_below("## Keys of dictionaries");
    assert_eq!(rows.len(), Format::ALL.len());
    for (format, row) in Format::ALL.into_iter().zip(rows) {
        let scratch = Scratch::new();
        let dict = MmapDict::<String>::open_with(&scratch.path, format, &Options::new())?;
        let etag = dict.insert(["users", "42"], text("v"))?;
        let cache = MmapCache::open(&scratch.path).expect("a cache");
        let first = cache.entries().expect("entries").next();
        let (key, entry) = first.expect("an entry").expect("it is right");
        let beginning = row[1].trim_matches('`');
        assert_eq!(key, format!("{beginning}users/42").into_bytes());
        assert_eq!(entry.version().as_nanos().to_string(), etag.to_string());
        let expected: &[u8] = match format {
            Format::Json => b"\"v\"",
            _ => b"\xa1v",
        };
        assert_eq!(entry.value(), expected);
    }
    Ok(())
}
