//! The contract of `ObjectStore`, by the tests that `object_store` has for those who implement it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::Arc;
use std::time::Duration;

use mmapcache_object_store::CachingStore;
use object_store::ObjectStore;
use object_store::integration;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use tempfile::{TempDir, tempdir};

fn open(inner: Arc<dyn ObjectStore>, trust: Option<Duration>) -> (TempDir, CachingStore) {
    let dir = tempdir().unwrap();
    let builder = CachingStore::builder(inner, dir.path().join("c")).chunk_bytes(4 << 10);
    let builder = match trust {
        Some(trust) => builder.trust_for(trust),
        None => builder,
    };
    let store = builder.open().unwrap();
    (dir, store)
}

#[tokio::test]
async fn memory_stores_keep_the_contract() {
    for trust in [None, Some(Duration::MAX)] {
        let (_dir, store) = open(Arc::new(InMemory::new()), trust);
        // The order matters: some of them expect an empty store, and not all leave one.
        integration::put_get_delete_list(&store).await;
        integration::list_with_offset_exclusivity(&store).await;
        integration::get_opts(&store).await;
        integration::list_uses_directories_correctly(&store).await;
        integration::list_with_delimiter(&store).await;
        integration::rename_and_copy(&store).await;
        integration::copy_if_not_exists(&store).await;
        integration::copy_rename_nonexistent_object(&store).await;
        integration::stream_get(&store).await;
        integration::put_opts(&store, true).await;
        integration::put_get_attributes(&store).await;
        assert!(store.cache().stats().unwrap().handle.insertions > 10);
    }
}

#[tokio::test]
async fn local_stores_keep_the_contract() {
    for trust in [None, Some(Duration::MAX)] {
        let files = tempdir().unwrap();
        let inner = LocalFileSystem::new_with_prefix(files.path()).unwrap();
        let (_dir, store) = open(Arc::new(inner), trust);
        integration::put_get_delete_list(&store).await;
        integration::get_opts(&store).await;
        integration::list_uses_directories_correctly(&store).await;
        integration::list_with_delimiter(&store).await;
        integration::rename_and_copy(&store).await;
        integration::copy_if_not_exists(&store).await;
        integration::copy_rename_nonexistent_object(&store).await;
        integration::stream_get(&store).await;
        integration::put_opts(&store, false).await;
        assert!(store.cache().stats().unwrap().handle.insertions > 10);
    }
}
