//! What is believed about an object ends when the object changes, whatever becomes of the change's answer.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use mmapcache::{Cache, Options};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use crate::builder;
use crate::counting::{Counting, Loss, open};
use crate::requests::{content, path, place, read};

const FOREVER: Option<Duration> = Some(Duration::MAX);
const PAUSE: Duration = Duration::from_millis(200);

// The store answers with the old metadata, and the object is changed before the answer arrives. Also by a
// process that believes nothing itself.
#[tokio::test]
async fn late_answer_is_not_believed() {
    for trust in [FOREVER, None] {
        let (dir, inner, reader) = place(FOREVER).await;
        let writer = open(&inner, &dir, trust);
        inner.slow_down(PAUSE);
        let late = reader.clone();
        // No bytes, whose request would find out that the object has changed.
        let asking = tokio::spawn(async move { late.head(&path()).await });
        tokio::time::sleep(PAUSE / 4).await;
        let old = inner.meta().await;
        writer.put(&path(), content(1).into()).await.unwrap();
        assert_eq!(asking.await.unwrap().unwrap(), old);
        inner.slow_down(Duration::ZERO);
        assert_eq!(reader.head(&path()).await.unwrap(), inner.meta().await);
        assert_eq!(read(&reader, 0..9).await, content(1)[..9]);
    }
}

// The store has made the change, and the caller gets an error, or gives up waiting.
#[tokio::test]
async fn unanswered_change_ends_trust() {
    for loss in [Loss::Error, Loss::Silence] {
        let (_dir, inner, store) = place(FOREVER).await;
        let (object, other) = (path(), Path::from("other"));
        store.put(&other, content(2).into()).await.unwrap();
        assert_eq!(read(&store, 0..9).await, content(0)[..9]);
        inner.lose_answers(loss);
        let put = store.put(&object, content(1).into());
        assert!(!matches!(tokio::time::timeout(PAUSE, put).await, Ok(Ok(_))));
        assert_eq!(read(&store, 0..9).await, content(1)[..9]);
        let copied = store.copy(&other, &object);
        assert!(!matches!(
            tokio::time::timeout(PAUSE, copied).await,
            Ok(Ok(_))
        ));
        assert_eq!(read(&store, 0..9).await, content(2)[..9]);
        let mut deleted = store.delete_stream(stream::iter([Ok(path())]).boxed());
        assert!(!matches!(deleted.next().await, Some(Ok(_))));
        // An error counts before the stream is dropped; without an answer, the drop does.
        let _held = matches!(loss, Loss::Error).then_some(deleted);
        let error = store.head(&path()).await.unwrap_err();
        assert!(
            matches!(error, object_store::Error::NotFound { .. }),
            "{error}"
        );
    }
}

// Another writer holds the lock of the files, so what is believed cannot be ended there. The change is made;
// this handle believes nothing until it can, and then ends it for the others too.
#[tokio::test]
async fn unwritable_cache_is_not_believed() {
    let (dir, inner, other) = place(FOREVER).await;
    let mut options = Options::new();
    options.lock_timeout(Some(Duration::from_millis(50)));
    let store = builder(inner.clone(), &dir, FOREVER).chunk_bytes(16 << 10);
    let store = store
        .configure(|cache| cache.options(&options))
        .open()
        .unwrap();
    assert_eq!(read(&store, 0..9).await, content(0)[..9]);
    assert_eq!(read(&other, 0..9).await, content(0)[..9]);
    let lock = Cache::open(dir.path().join("c")).unwrap();
    let lock = lock.writer().unwrap();
    store.put(&path(), content(1).into()).await.unwrap();
    assert_eq!(read(&store, 0..9).await, content(1)[..9]);
    lock.commit().unwrap();
    assert_eq!(read(&store, 0..9).await, content(1)[..9]);
    assert_eq!(read(&other, 0..9).await, content(1)[..9]);
    // From now on it believes again.
    inner.taken();
    assert_eq!(read(&store, 0..9).await, content(1)[..9]);
    assert_eq!(inner.taken(), (0, vec![]));
}

// A default of the files that serves entries after their deadline is not for what is believed.
#[tokio::test]
async fn trust_has_no_grace_period() {
    let dir = tempfile::tempdir().unwrap();
    let inner = Arc::new(Counting::default());
    inner.put(&path(), content(0).into()).await.unwrap();
    let hour = Duration::from_secs(3_600);
    let store = builder(inner.clone(), &dir, Some(PAUSE))
        .configure(|cache| cache.stale_while_revalidate(hour));
    let store = store.open().unwrap();
    assert_eq!(read(&store, 0..9).await, content(0)[..9]);
    inner.put(&path(), content(1).into()).await.unwrap();
    tokio::time::sleep(PAUSE).await;
    assert_eq!(read(&store, 0..9).await, content(1)[..9]);
}
