//! Values that serde writes and reads.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;

use serde::{Deserialize, Serialize};

use super::{HOUR, assert_close, place, ttl};
use crate::cache::{Cache, ComputeError, InsertOptions, Obtained, Origin, TypedCache};
use crate::codec::Format;
use crate::engine::Update;
use crate::error::ErrorKind;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Page {
    title: String,
    words: Vec<u32>,
}

/// `Page`, as a later version of the program has it.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct NewPage {
    words: Vec<u32>,
    title: String,
    author: String,
}

fn page() -> Page {
    Page {
        title: "Ä".to_owned(),
        words: vec![1, 2, u32::MAX],
    }
}

fn on<V>(cache: &Arc<Cache>, format: Format) -> TypedCache<V> {
    TypedCache::on(Arc::clone(cache), format)
}

#[test]
fn typed_values_round_trip() {
    let (_dir, path) = place();
    let cache = Arc::new(Cache::open(&path).unwrap());
    for format in Format::ALL {
        let pages = on::<Page>(&cache, format);
        pages.insert("forever", &page()).unwrap();
        let version = pages.insert_with("hour", &page(), &ttl(HOUR)).unwrap();
        assert_eq!(pages.get("forever").unwrap(), Some(page()));
        let (value, entry) = pages.entry("hour").unwrap().unwrap();
        assert_eq!((value, entry.version()), (Some(page()), version));
        assert_close(entry.remaining(), HOUR);
        assert_eq!(pages.add("hour", &page(), &ttl(HOUR)).unwrap(), None);
        assert!(pages.remove("hour").unwrap());
        assert!(pages.add("hour", &page(), &ttl(HOUR)).unwrap().is_some());
        pages.cache().insert_absent("none", HOUR).unwrap();
        assert_eq!(pages.get("none").unwrap(), None);
        let (value, entry) = pages.entry("none").unwrap().unwrap();
        assert!(value.is_none() && entry.is_negative());
        assert_eq!((pages.undecoded(), pages.get("absent").unwrap()), (0, None));
    }
}

// A program of another version shares the cache: what it stored is a miss, and is counted.
#[test]
fn other_values_are_counted_misses() {
    let (_dir, path) = place();
    let cache = Arc::new(Cache::open(&path).unwrap());
    let pages = on::<Page>(&cache, Format::Json);
    pages.insert("page", &page()).unwrap();
    let new = on::<NewPage>(&cache, Format::Json);
    assert_eq!(new.get("page").unwrap(), None);
    assert_eq!(new.entry("page").unwrap().unwrap().0, None);
    assert_eq!((new.undecoded(), pages.undecoded()), (2, 0));
    // It is replaced like any other, and what has more fields can be read.
    let later = NewPage {
        words: vec![3],
        title: "new".to_owned(),
        author: "a".to_owned(),
    };
    new.insert("page", &later).unwrap();
    assert_eq!(new.get("page").unwrap(), Some(later));
    assert_eq!(pages.get("page").unwrap().unwrap().words, [3]);
    for raw in [&b""[..], b"j", b"5", b"{\"title\":", b"5jj"] {
        cache.insert("raw", raw).unwrap();
        assert_eq!(pages.get("raw").unwrap(), None, "{raw:?}");
    }
    assert_eq!(pages.undecoded(), 5);
}

// The text 5 in JSON is 53 in MessagePack.
#[test]
fn formats_do_not_mix() {
    let (_dir, path) = place();
    let cache = Arc::new(Cache::open(&path).unwrap());
    let json = on::<u32>(&cache, Format::Json);
    let packed = on::<u32>(&cache, Format::MessagePack);
    json.insert("number", &5).unwrap();
    assert_eq!(
        (json.get("number").unwrap(), packed.get("number").unwrap()),
        (Some(5), None)
    );
    packed.insert("number", &53).unwrap();
    assert_eq!(
        (json.get("number").unwrap(), packed.get("number").unwrap()),
        (None, Some(53))
    );
    assert_eq!((json.undecoded(), packed.undecoded()), (1, 1));
}

#[test]
fn inexpressible_values_are_refused() {
    let (_dir, path) = place();
    let numbers = TypedCache::<f64>::open(&path).unwrap();
    let refused = numbers.insert("number", &f64::NAN).unwrap_err();
    assert!(matches!(
        refused.kind(),
        ErrorKind::Encode {
            type_name: "f64",
            format: "json",
            ..
        }
    ));
    let text = refused.to_string();
    assert!(text.starts_with(&path.display().to_string()), "{text}");
    assert_eq!(numbers.entry("number").unwrap(), None);
}

// Another result than the function's own would be returned as if it were computed.
#[test]
fn call_keys_differ() {
    let (_dir, path) = place();
    let cache = TypedCache::<u32>::open(&path).unwrap();
    let key = |name: &str, version, arguments: &str| {
        cache.call_key(name, version, &(arguments, 1)).unwrap()
    };
    assert_eq!(key("f", 1, "a"), key("f", 1, "a"));
    let keys = [
        key("f", 1, "a"),
        key("f", 1, "b"),
        key("f", 2, "a"),
        key("f", 11, "a"),
        key("f/1", 1, "a"),
        key("g", 1, "a"),
        cache.call_key("f", 1, &"a").unwrap(),
    ];
    assert_eq!(keys.iter().collect::<BTreeSet<_>>().len(), keys.len());
    cache
        .insert_with(&keys[0], &7, &InsertOptions::new())
        .unwrap();
    assert_eq!(cache.get(&keys[0]).unwrap(), Some(7));
    // The name of the second function has bytes that look like arguments of the first.
    let long = format!("{}/2/7", "x".repeat(126));
    let first = cache.call_key("f", 1, &long).unwrap();
    let name = format!("f/1/\u{642}{}", "x".repeat(126));
    let second = cache.call_key(&name, 2, &b'7').unwrap();
    let without_length = |key: &[u8]| key[..key.len() - 8].to_vec();
    assert_eq!(without_length(&first), without_length(&second));
    assert_ne!(first, second);
}

fn obtained<V>(value: V, origin: Origin) -> Obtained<V> {
    Obtained { value, origin }
}

// Programs of two versions share a cache: neither may be served the value of the other, nor compute for
// ever because of it.
#[test]
fn undecodable_values_are_computed_again() {
    let (_dir, path) = place();
    let cache = Arc::new(Cache::open(&path).unwrap());
    let numbers = on::<u32>(&cache, Format::Json);
    let texts = on::<String>(&cache, Format::Json);
    texts.insert("key", &"other".to_owned()).unwrap();
    let found = numbers.get_or_insert_with("key", ttl(HOUR), || 5).unwrap();
    assert_eq!(found, obtained(5, Origin::Computed));
    assert_eq!(
        (numbers.undecoded(), numbers.get("key").unwrap()),
        (1, Some(5))
    );
    let found = numbers.get_or_insert_with("key", ttl(HOUR), || panic!("it is stored"));
    assert_eq!(found.unwrap(), obtained(5, Origin::Stored));
    let stats = cache.stats().unwrap().handle;
    assert_eq!((stats.hits, stats.misses), (2, 1));
}

// What the other type stored is gone after either, and is no value of this one.
#[test]
fn replaced_values_are_decoded() {
    let (_dir, path) = place();
    let cache = Arc::new(Cache::open(&path).unwrap());
    let numbers = on::<u32>(&cache, Format::Json);
    let texts = on::<String>(&cache, Format::Json);
    texts.insert("key", &"other".to_owned()).unwrap();
    assert_eq!(numbers.swap("key", &5, &ttl(HOUR)).unwrap(), None);
    assert_eq!(numbers.swap("key", &6, &ttl(HOUR)).unwrap(), Some(5));
    assert_eq!(numbers.get_and_renew("key", 2 * HOUR).unwrap(), Some(6));
    assert_close(cache.entry("key").unwrap().unwrap().remaining(), 2 * HOUR);
    assert_eq!(numbers.take("key").unwrap(), Some(6));
    assert_eq!(numbers.take("key").unwrap(), None);
    texts.insert("key", &"other".to_owned()).unwrap();
    assert_eq!(numbers.take("key").unwrap(), None);
    assert!(!cache.contains("key").unwrap());
    assert_eq!(numbers.undecoded(), 2);
    let mut batch = cache.writer().unwrap();
    batch.insert("key", numbers.stored(&7).unwrap()).unwrap();
    drop(batch);
    assert_eq!(numbers.get("key").unwrap(), Some(7));
}

// The future may move between threads, as most executors want it; it ends without a timer here.
#[test]
fn tasks_replace_undecodable_values() {
    fn ready<F: Future + Send>(future: F) -> F::Output {
        let mut future = std::pin::pin!(future);
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match future.as_mut().poll(&mut context) {
            std::task::Poll::Ready(output) => output,
            std::task::Poll::Pending => panic!("it waits"),
        }
    }
    let (_dir, path) = place();
    let cache = Arc::new(Cache::open(&path).unwrap());
    let numbers = on::<f64>(&cache, Format::Json);
    let sleep = |_| std::future::ready(());
    let compute = |result: Result<f64, u8>| {
        let f = || std::future::ready(result);
        ready(numbers.get_or_try_insert_async("key", ttl(HOUR), sleep, f))
    };
    cache.insert("key", "no number").unwrap();
    assert!(matches!(compute(Err(7)), Err(ComputeError::Failed(7))));
    let refused = compute(Ok(f64::NAN));
    assert!(matches!(refused, Err(ComputeError::NotStored { value, .. }) if value.is_nan()));
    assert_eq!(compute(Ok(0.5)).unwrap(), obtained(0.5, Origin::Computed));
    assert_eq!(compute(Err(7)).unwrap(), obtained(0.5, Origin::Stored));
    assert_eq!(numbers.undecoded(), 3);
}

#[test]
fn failures_keep_their_type() {
    let (_dir, path) = place();
    let numbers = TypedCache::<f64>::open(&path).unwrap();
    let failed = numbers.get_or_try_insert_with("key", ttl(HOUR), || Err::<f64, _>(7));
    assert!(matches!(failed, Err(ComputeError::Failed(7))));
    let refused = numbers.get_or_insert_with("key", ttl(HOUR), || f64::INFINITY);
    let Err(ComputeError::NotStored { value, error }) = refused else {
        panic!("{refused:?}");
    };
    assert!(value == f64::INFINITY && matches!(error.kind(), ErrorKind::Encode { .. }));
    let found = numbers
        .get_or_insert_with("key", ttl(HOUR), || 0.5)
        .unwrap();
    assert_eq!(found, obtained(0.5, Origin::Computed));
}

// What others store during a computation: a value that decodes stays, another one is replaced.
#[test]
fn newer_values_stay_if_decodable() {
    let (_dir, path) = place();
    let cache = Arc::new(Cache::open(&path).unwrap());
    let numbers = on::<u32>(&cache, Format::Json);
    let store_and_compute = |value: &str| {
        let found = numbers.get_or_insert_with("key", ttl(HOUR), || {
            cache.insert("key", value).unwrap();
            5
        });
        cache.remove("key").unwrap();
        found.unwrap()
    };
    assert_eq!(store_and_compute("7j"), obtained(7, Origin::Awaited));
    assert_eq!(
        store_and_compute("no number"),
        obtained(5, Origin::Computed)
    );
    numbers
        .get_or_insert_with("key", ttl(HOUR), || {
            cache.insert("key", "no number").unwrap();
            6
        })
        .unwrap();
    assert_eq!(numbers.get("key").unwrap(), Some(6));
}

// A waiter of another type computes its own value after the one that it waited for.
#[test]
fn waiters_decode_what_they_get() {
    let (_dir, path) = place();
    let cache = Arc::new(Cache::open(&path).unwrap());
    let (begun, wait) = mpsc::channel();
    let origins = thread::scope(|scope| {
        let numbers = || on::<u32>(&cache, Format::Json);
        let texts = || on::<String>(&cache, Format::Json);
        let first = scope.spawn(move || {
            let found = numbers().get_or_insert_with("key", ttl(HOUR), || {
                begun.send(()).unwrap();
                thread::sleep(std::time::Duration::from_millis(100));
                5
            });
            found.unwrap()
        });
        wait.recv().unwrap();
        let other = scope.spawn(move || {
            let found = texts().get_or_insert_with("key", ttl(HOUR), || "text".to_owned());
            found.unwrap()
        });
        let same = numbers()
            .get_or_insert_with("key", ttl(HOUR), || 6)
            .unwrap();
        assert!(same.value == 5 || same.origin == Origin::Computed);
        assert_eq!(first.join().unwrap(), obtained(5, Origin::Computed));
        other.join().unwrap()
    });
    assert_eq!(origins.value, "text");
}

#[test]
fn updates_decide_on_decoded_values() {
    let (_dir, path) = place();
    let cache = Arc::new(Cache::open(&path).unwrap());
    let pages = on::<Page>(&cache, Format::Json);
    let seen = pages.insert_with("page", &page(), &ttl(HOUR)).unwrap();
    let stored = pages.update("page", |found| {
        let (value, entry) = found.unwrap();
        assert_eq!(entry.version(), seen);
        let mut value = value.unwrap();
        value.words.push(7);
        Update::Put((value, entry.insert_options()))
    });
    let (value, entry) = pages.entry("page").unwrap().unwrap();
    assert_eq!(value.unwrap().words, [1, 2, u32::MAX, 7]);
    assert_eq!(Some(entry.version()), stored.unwrap());
    assert_close(entry.remaining(), HOUR);
    assert_eq!(
        pages.insert_if("page", &page(), seen, &ttl(HOUR)).unwrap(),
        None
    );
    let exchanged = pages.insert_if("page", &page(), entry.version(), &ttl(HOUR));
    assert!(exchanged.unwrap().is_some());
    assert_eq!(pages.peek("page").unwrap(), Some(page()));
    // What does not decode is no value, and there all the same.
    cache.insert("page", "{").unwrap();
    assert_eq!((pages.peek("page").unwrap(), pages.undecoded()), (None, 0));
    let removed = pages.update("page", |found| {
        assert!(found.unwrap().0.is_none());
        Update::Delete
    });
    assert_eq!((removed.unwrap(), pages.undecoded()), (None, 1));
    assert_eq!(cache.get("page").unwrap(), None);
    let absent = pages.update("page", |found| {
        assert!(found.is_none());
        Update::Keep
    });
    assert_eq!(absent.unwrap(), None);
}

// The decision had been made; the entry stays as it was.
#[test]
fn inexpressible_updates_change_nothing() {
    let (_dir, path) = place();
    let numbers = TypedCache::<f64>::open(&path).unwrap();
    let seen = numbers.insert("key", &1.5).unwrap();
    let infinite = || Update::Put((f64::NAN, ttl(HOUR)));
    let refused = numbers.update("key", |_| infinite()).unwrap_err();
    assert!(matches!(refused.kind(), ErrorKind::Encode { .. }));
    let refused = numbers.insert_if("key", &f64::NAN, seen, &ttl(HOUR));
    assert!(matches!(
        refused.unwrap_err().kind(),
        ErrorKind::Encode { .. }
    ));
    let (value, entry) = numbers.entry("key").unwrap().unwrap();
    assert_eq!((value, entry.version()), (Some(1.5), seen));
}
