//! A store in memory that counts what it is asked for.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::stream::BoxStream;
use mmapcache_object_store::CachingStore;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use tempfile::TempDir;

#[derive(Debug, Default)]
pub(crate) struct Counting {
    store: InMemory,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    heads: usize,
    ranges: Vec<Range<u64>>,
    /// What the store shows as ETag of all objects.
    e_tag: Option<Option<String>>,
    pause: Duration,
    ignores_conditions: bool,
}

impl Counting {
    /// Returns the number of requests for metadata, and the ranges that were asked for, since the last
    /// call.
    pub(crate) fn taken(&self) -> (usize, Vec<Range<u64>>) {
        let mut seen = self.seen.lock().unwrap();
        let mut ranges = std::mem::take(&mut seen.ranges);
        ranges.sort_by_key(|range| range.start);
        (std::mem::take(&mut seen.heads), ranges)
    }

    /// Shows all objects with this ETag, or without one.
    pub(crate) fn show_as(&self, e_tag: Option<String>) {
        self.seen.lock().unwrap().e_tag = Some(e_tag);
    }

    /// Answers from now on as if no request had a condition.
    pub(crate) fn ignore_conditions(&self) {
        self.seen.lock().unwrap().ignores_conditions = true;
    }

    pub(crate) fn slow_down(&self, pause: Duration) {
        self.seen.lock().unwrap().pause = pause;
    }
}

/// Opens a cache with chunks of 16 KiB.
pub(crate) fn open(inner: &Arc<Counting>, dir: &TempDir, trust: Option<Duration>) -> CachingStore {
    let inner: Arc<dyn ObjectStore> = Arc::<Counting>::clone(inner);
    let builder = CachingStore::builder(inner, dir.path().join("c")).chunk_bytes(16 << 10);
    let builder = match trust {
        Some(trust) => builder.trust_for(trust),
        None => builder,
    };
    builder.open().unwrap()
}

impl fmt::Display for Counting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Counting")
    }
}

#[async_trait::async_trait]
impl ObjectStore for Counting {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        self.store.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.store.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, mut options: GetOptions) -> Result<GetResult> {
        let head = options.head;
        {
            let mut seen = self.seen.lock().unwrap();
            seen.heads += usize::from(head);
            if seen.ignores_conditions {
                options.if_match = None;
            }
        }
        let mut found = self.store.get_opts(location, options).await?;
        let (e_tag, pause) = {
            let mut seen = self.seen.lock().unwrap();
            if !head {
                seen.ranges.push(found.range.clone());
            }
            (seen.e_tag.clone(), seen.pause)
        };
        if let Some(e_tag) = e_tag {
            found.meta.e_tag = e_tag;
        }
        tokio::time::sleep(pause).await;
        Ok(found)
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.store.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.store.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.store.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.store.copy_opts(from, to, options).await
    }
}
