//! Which requests a read saves, seen by an inner store that counts them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use mmapcache_object_store::CachingStore;
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, Error, GetOptions, MultipartUpload, ObjectStore, ObjectStoreExt,
    PutMultipartOptions, PutOptions,
};
use tempfile::{TempDir, tempdir};

use crate::builder;
use crate::counting::{Counting, open};

const KIB: u64 = 1 << 10;

/// 100 KiB whose bytes tell where they are.
pub(crate) fn content(seed: u8) -> Vec<u8> {
    (0..100 * KIB).map(|at| (at % 251) as u8 ^ seed).collect()
}

pub(crate) fn path() -> Path {
    Path::from("dir/object")
}

/// An inner store with an object, and a cache of chunks of 16 KiB before it.
pub(crate) async fn place(trust: Option<Duration>) -> (TempDir, Arc<Counting>, CachingStore) {
    let dir = tempdir().unwrap();
    let inner = Arc::new(Counting::default());
    inner.put(&path(), content(0).into()).await.unwrap();
    let store = open(&inner, &dir, trust);
    (dir, inner, store)
}

pub(crate) async fn read(store: &CachingStore, range: std::ops::Range<u64>) -> Vec<u8> {
    let read = store.get_range(&path(), range).await;
    read.unwrap().to_vec()
}

#[tokio::test]
async fn kept_chunks_cost_one_head() {
    let (_dir, inner, store) = place(None).await;
    assert_eq!(
        read(&store, 10_000..40_000).await,
        content(0)[10_000..40_000]
    );
    assert_eq!(
        inner.taken(),
        (1, vec![0..16 * KIB, 16 * KIB..32 * KIB, 32 * KIB..48 * KIB])
    );
    assert_eq!(read(&store, 0..49_000).await, content(0)[..49_000]);
    assert_eq!(inner.taken(), (1, vec![]));
    // The last chunk is shorter.
    let all = store.get(&path()).await.unwrap().bytes().await.unwrap();
    assert_eq!(all, content(0));
    let rest = vec![
        48 * KIB..64 * KIB,
        64 * KIB..80 * KIB,
        80 * KIB..96 * KIB,
        96 * KIB..100 * KIB,
    ];
    assert_eq!(inner.taken(), (1, rest));
    let ranges = [0..10, 60_000..99_999, 102_390..102_500];
    let read = store.get_ranges(&path(), &ranges).await.unwrap();
    assert_eq!(read[1], content(0)[60_000..99_999]);
    assert_eq!(read[2], content(0)[102_390..]);
    assert_eq!(inner.taken(), (1, vec![]));
}

#[tokio::test]
async fn trusted_objects_cost_nothing() {
    let (dir, inner, store) = place(Some(Duration::from_secs(600))).await;
    let attributes = Attributes::from_iter([
        (Attribute::ContentType, "text/plain"),
        (Attribute::Metadata("owner".into()), "ada"),
    ]);
    let options = PutOptions::from(attributes.clone());
    store
        .put_opts(&path(), content(0).into(), options)
        .await
        .unwrap();
    read(&store, 0..10).await;
    inner.taken();
    assert_eq!(read(&store, 5..10_000).await, content(0)[5..10_000]);
    // Another handle, as another process has it.
    let other = open(&inner, &dir, Some(Duration::from_secs(600)));
    let found = other
        .get_opts(&path(), GetOptions::new().with_range(Some(0..9_u64)))
        .await;
    let found = found.unwrap();
    assert_eq!(
        (found.meta.size, &found.attributes),
        (100 * KIB, &attributes)
    );
    assert_eq!(
        other.head(&path()).await.unwrap(),
        inner.head(&path()).await.unwrap()
    );
    assert_eq!(inner.taken(), (1, vec![]));
    // A condition is the store's to judge.
    let tag = found.meta.e_tag;
    let conditional = GetOptions::new().with_if_none_match(tag.clone());
    let error = store.get_opts(&path(), conditional).await.unwrap_err();
    assert!(matches!(error, Error::NotModified { .. }), "{error}");
    let conditional = GetOptions::new()
        .with_if_match(tag)
        .with_range(Some(0..9_u64));
    let found = store.get_opts(&path(), conditional).await.unwrap();
    assert_eq!(found.bytes().await.unwrap(), content(0)[..9]);
    assert_eq!(inner.taken(), (2, vec![]));
}

// Changes through one handle are seen by the other, which believes what it knows.
#[tokio::test]
async fn changes_end_the_trust() {
    let (dir, inner, store) = place(Some(Duration::MAX)).await;
    let other = open(&inner, &dir, Some(Duration::MAX));
    assert_eq!(read(&other, 0..9).await, content(0)[..9]);
    store.put(&path(), content(1).into()).await.unwrap();
    assert_eq!(read(&other, 0..9).await, content(1)[..9]);
    store
        .put(&Path::from("new"), content(2).into())
        .await
        .unwrap();
    store.copy(&Path::from("new"), &path()).await.unwrap();
    assert_eq!(read(&other, 0..9).await, content(2)[..9]);
    let options = PutMultipartOptions::default();
    let mut upload = store.put_multipart_opts(&path(), options).await.unwrap();
    upload.put_part(content(3).into()).await.unwrap();
    assert_eq!(read(&other, 0..9).await, content(2)[..9]);
    upload.complete().await.unwrap();
    assert_eq!(read(&other, 0..9).await, content(3)[..9]);
    store.rename(&Path::from("new"), &path()).await.unwrap();
    assert_eq!(read(&other, 0..9).await, content(2)[..9]);
    store.delete(&path()).await.unwrap();
    let error = other.get_range(&path(), 0..9).await.unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
}

// Who changes the inner store itself tells nobody: what is kept is served while it is believed, and no
// bytes of two states are mixed.
#[tokio::test]
async fn changes_behind_the_cache_never_mix() {
    let (_dir, inner, store) = place(Some(Duration::MAX)).await;
    assert_eq!(read(&store, 0..9).await, content(0)[..9]);
    inner.put(&path(), content(1).into()).await.unwrap();
    assert_eq!(read(&store, 0..9).await, content(0)[..9]);
    // The second chunk is not there, and the first of the new state neither.
    assert_eq!(read(&store, 0..20_000).await, content(1)[..20_000]);
    assert_eq!(read(&store, 0..9).await, content(1)[..9]);
    let (dir, inner, store) = place(None).await;
    read(&store, 0..9).await;
    inner.put(&path(), content(1).into()).await.unwrap();
    assert_eq!(read(&store, 0..9).await, content(1)[..9]);
    drop(dir);
}

// The store refuses to send what would be of no use; one that sends it all the same is found out.
#[tokio::test]
async fn other_states_are_not_taken() {
    for ignores_conditions in [false, true] {
        let (_dir, inner, store) = place(Some(Duration::MAX)).await;
        read(&store, 0..9).await;
        inner.put(&path(), content(1).into()).await.unwrap();
        if ignores_conditions {
            inner.ignore_conditions();
        }
        inner.taken();
        assert_eq!(read(&store, 0..20_000).await, content(1)[..20_000]);
        let (_, ranges) = inner.taken();
        match ignores_conditions {
            true => assert!(ranges.contains(&(16 * KIB..32 * KIB))),
            false => assert_eq!((ranges.len(), &ranges[0]), (1, &(0..20_000))),
        }
        assert!(ranges.contains(&(0..20_000)));
    }
}

// Pieces of the old state are with the caller already: the rest is an error, and the next read is right.
#[tokio::test]
async fn replaced_objects_end_the_stream() {
    let dir = tempdir().unwrap();
    let inner = Arc::new(Counting::default());
    inner.put(&path(), content(0).into()).await.unwrap();
    let store = builder(inner.clone(), &dir, Some(Duration::MAX)).chunk_bytes(16 * KIB);
    let store = store.parallel(1).open().unwrap();
    read(&store, 0..9).await;
    inner.put(&path(), content(1).into()).await.unwrap();
    let begun = store.get(&path()).await.unwrap();
    let error = begun.bytes().await.unwrap_err();
    assert!(matches!(error, Error::Precondition { .. }), "{error}");
    let again = store.get(&path()).await.unwrap().bytes().await.unwrap();
    assert_eq!(again, content(1));
}

#[tokio::test]
async fn objects_without_state_pass_through() {
    let (_dir, inner, store) = place(Some(Duration::MAX)).await;
    for hidden in [Some("W/\"1\"".to_owned()), None] {
        inner.show_as(hidden);
        for _ in 0..2 {
            assert_eq!(read(&store, 7..40_000).await, content(0)[7..40_000]);
        }
        let (_, ranges) = inner.taken();
        assert_eq!(ranges, [7..40_000, 7..40_000]);
        store.put(&path(), content(0).into()).await.unwrap();
    }
    assert_eq!(store.cache().stats().unwrap().handle.hits, 2);
}

// What the inner store refuses is its own error, with and without trust.
#[tokio::test]
async fn bad_ranges_are_errors() {
    for trust in [None, Some(Duration::MAX)] {
        let (_dir, inner, store) = place(trust).await;
        for range in [200_000..200_001, 9..9] {
            let expected = inner.get_range(&path(), range.clone()).await.unwrap_err();
            let error = store.get_range(&path(), range.clone()).await.unwrap_err();
            assert_eq!(error.to_string(), expected.to_string());
            assert!(store.get_ranges(&path(), &[0..1, range]).await.is_err());
        }
        store.put(&path(), Vec::new().into()).await.unwrap();
        let empty = store.get(&path()).await.unwrap();
        assert_eq!(empty.bytes().await.unwrap(), Vec::<u8>::new());
    }
}

#[tokio::test]
async fn tasks_share_a_request() {
    let (dir, inner, store) = place(Some(Duration::MAX)).await;
    let other = open(&inner, &dir, Some(Duration::MAX));
    inner.slow_down(Duration::from_millis(100));
    let tasks: Vec<_> = (0..8)
        .map(|number| {
            let store = if number % 2 == 0 {
                store.clone()
            } else {
                other.clone()
            };
            tokio::spawn(async move { read(&store, 0..9).await })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap(), content(0)[..9]);
    }
    let (_, ranges) = inner.taken();
    assert_eq!((ranges.len(), &ranges[0]), (1, &(0..16 * KIB)));
}

// Of one range or of several: a request takes its chunk of memory.
#[tokio::test]
async fn parallel_bounds_each_read() {
    let (dir, inner, _) = place(None).await;
    let store = builder(inner.clone(), &dir, None).chunk_bytes(4 << 10);
    let store = store.parallel(3).open().unwrap();
    inner.slow_down(Duration::from_millis(5));
    let ranges: Vec<_> = (0..8).map(|at| at * 12_000..at * 12_000 + 9_000).collect();
    let read = store.get_ranges(&path(), &ranges).await.unwrap();
    for (range, read) in ranges.into_iter().zip(read) {
        assert!(read == content(0)[range.start as usize..range.end as usize]);
    }
    let all = store.get(&path()).await.unwrap().bytes().await.unwrap();
    assert_eq!(all, content(0));
    assert_eq!(inner.most_at_once(), 3);
}

// A caller that reads the first pieces of a stream and then does something else has further requests under
// way, which nothing drives.
#[tokio::test]
async fn paused_reader_delays_others_once() {
    const PATIENCE: Duration = Duration::from_millis(300);
    let (dir, inner, _) = place(None).await;
    let store = builder(inner.clone(), &dir, None).chunk_bytes(4 << 10);
    let store = store.parallel(3).patience(PATIENCE).open().unwrap();
    inner.slow_down(Duration::from_millis(5));
    let mut paused = store.get(&path()).await.unwrap().into_stream();
    let mut pieces = Vec::new();
    for _ in 0..4 {
        pieces.push(paused.next().await.unwrap().unwrap());
    }
    let begun = Instant::now();
    let all = store.get(&path()).await.unwrap().bytes().await.unwrap();
    let took = begun.elapsed();
    assert_eq!(all, content(0));
    assert!(took >= PATIENCE, "no request was under way");
    assert!(took < PATIENCE * 10, "{took:?}");
    while let Some(piece) = paused.next().await {
        pieces.push(piece.unwrap());
    }
    assert_eq!(pieces.concat(), content(0));
}

// Three times as much as there is room for.
#[tokio::test]
async fn bounds_hold_by_eviction() {
    const BYTES: u64 = 2 << 20;
    let dir = tempdir().unwrap();
    let inner = Arc::new(Counting::default());
    let object = content(5).repeat(60);
    inner.put(&path(), object.clone().into()).await.unwrap();
    let store = builder(inner, &dir, None).chunk_bytes(64 * KIB);
    let store = store.max_bytes(BYTES).open().unwrap();
    let all = store.get(&path()).await.unwrap().bytes().await.unwrap();
    assert!(all == object);
    assert!(store.cache().disk_usage().unwrap().total() <= BYTES + (4 << 20));
    assert!(store.cache().stats().unwrap().handle.evicted_size > 30);
}
