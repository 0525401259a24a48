//! The contract of `ObjectStore`, by the tests that `object_store` has for those who implement it.

use std::sync::Arc;
use std::time::Duration;

use object_store::ObjectStore;
use object_store::integration;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use tempfile::tempdir;

use crate::builder;

/// What a store in memory does and a local one does not.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Inner {
    Memory,
    Local,
}

/// Runs the tests on a cache before an empty store, with small chunks, so that objects have several.
async fn keep_the_contract(inner: Arc<dyn ObjectStore>, kind: Inner, trust: Option<Duration>) {
    let dir = tempdir().unwrap();
    let store = builder(inner, &dir, trust).chunk_bytes(4 << 10);
    let store = store.open().unwrap();
    let in_memory = kind == Inner::Memory;
    // The order matters: some of them expect an empty store, and not all leave one.
    integration::put_get_delete_list(&store).await;
    if in_memory {
        integration::list_with_offset_exclusivity(&store).await;
    }
    integration::get_opts(&store).await;
    integration::list_uses_directories_correctly(&store).await;
    integration::list_with_delimiter(&store).await;
    integration::rename_and_copy(&store).await;
    integration::copy_if_not_exists(&store).await;
    integration::copy_rename_nonexistent_object(&store).await;
    integration::stream_get(&store).await;
    integration::put_opts(&store, in_memory).await;
    if in_memory {
        integration::put_get_attributes(&store).await;
    }
    assert!(store.cache().stats().unwrap().handle.insertions > 10);
}

#[tokio::test]
async fn memory_stores_keep_the_contract() {
    for trust in [None, Some(Duration::MAX)] {
        keep_the_contract(Arc::new(InMemory::new()), Inner::Memory, trust).await;
    }
}

#[tokio::test]
async fn local_stores_keep_the_contract() {
    for trust in [None, Some(Duration::MAX)] {
        let files = tempdir().unwrap();
        let inner = LocalFileSystem::new_with_prefix(files.path()).unwrap();
        keep_the_contract(Arc::new(inner), Inner::Local, trust).await;
    }
}
