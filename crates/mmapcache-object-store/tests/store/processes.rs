//! Two processes before one store of files. The child is this test binary again.

use std::env;
use std::path::Path as FilePath;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use mmapcache_object_store::CachingStore;
use object_store::ObjectStoreExt;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use tempfile::tempdir;

/// The directory that the test gives to its child.
const DIR: &str = "MMAPCACHE_OBJECT_STORE_TEST_DIR";

fn open(dir: &FilePath) -> CachingStore {
    let inner = LocalFileSystem::new_with_prefix(dir.join("files")).unwrap();
    CachingStore::builder(Arc::new(inner), dir.join("c"))
        .trust_for(Duration::MAX)
        .open()
        .unwrap()
}

// The child finds what the parent read, and after the child's put the parent finds what it put, though
// both believe what they know for ever.
#[tokio::test]
async fn processes_share_chunks_and_changes() {
    let path = Path::from("object");
    if let Some(dir) = env::var_os(DIR) {
        let store = open(FilePath::new(&dir));
        assert_eq!(
            store.get_range(&path, 5..8).await.unwrap(),
            "old"[..].as_bytes()
        );
        let counts = store.cache().stats().unwrap().handle;
        assert_eq!((counts.hits, counts.misses), (2, 0));
        store.put(&path, "the new one".into()).await.unwrap();
        return;
    }
    let dir = tempdir().unwrap();
    std::fs::create_dir(dir.path().join("files")).unwrap();
    let store = open(dir.path());
    store.put(&path, "the, old one".into()).await.unwrap();
    assert_eq!(
        store.get_range(&path, 5..8).await.unwrap(),
        "old"[..].as_bytes()
    );
    let child = Command::new(env::current_exe().unwrap())
        .args([
            "--exact",
            "processes::processes_share_chunks_and_changes",
            "--nocapture",
        ])
        .env(DIR, dir.path())
        .status()
        .unwrap();
    assert!(child.success());
    let read = store.get(&path).await.unwrap().bytes().await.unwrap();
    assert_eq!(read, "the new one".as_bytes());
}
