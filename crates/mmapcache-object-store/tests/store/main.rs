//! Tests of `CachingStore` before stores in memory and in files.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod contract;
mod counting;
mod processes;
mod requests;
mod trust;

use std::sync::Arc;
use std::time::Duration;

use mmapcache_object_store::{CachingStore, CachingStoreBuilder};
use object_store::ObjectStore;
use tempfile::TempDir;

/// Begins to open the cache in a folder, before a store.
fn builder(
    inner: Arc<dyn ObjectStore>,
    dir: &TempDir,
    trust: Option<Duration>,
) -> CachingStoreBuilder {
    let builder = CachingStore::builder(inner, dir.path().join("c"));
    match trust {
        Some(trust) => builder.trust_for(trust),
        None => builder,
    }
}
