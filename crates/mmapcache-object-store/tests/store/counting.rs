//! A store in memory that counts what it is asked for.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use mmapcache_object_store::CachingStore;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use tempfile::TempDir;

use crate::builder;
use crate::requests::path;

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
    /// Changes are made and answered by an error, or never.
    loses_answers: Option<Loss>,
    running: usize,
    most_at_once: usize,
}

/// What a caller gets for a change that was made.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Loss {
    Error,
    Silence,
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

    /// Makes changes from now on without a proper answer.
    pub(crate) fn lose_answers(&self, loss: Loss) {
        self.seen.lock().unwrap().loses_answers = Some(loss);
    }

    /// Returns the metadata of the object of the tests, at once.
    pub(crate) async fn meta(&self) -> ObjectMeta {
        self.store.head(&path()).await.unwrap()
    }

    /// Returns the largest number of requests for ranges that ran at the same time.
    pub(crate) fn most_at_once(&self) -> usize {
        self.seen.lock().unwrap().most_at_once
    }

    /// Waits as long as a slow store would. Counts requests for ranges while they run.
    async fn pause(&self, pause: Duration, head: bool) {
        let counted = usize::from(!head);
        {
            let mut seen = self.seen.lock().unwrap();
            seen.running += counted;
            seen.most_at_once = seen.most_at_once.max(seen.running);
        }
        tokio::time::sleep(pause).await;
        self.seen.lock().unwrap().running -= counted;
    }

    /// Answers a change that was made.
    async fn answer<T>(&self, made: T) -> Result<T> {
        let loss = self.seen.lock().unwrap().loses_answers;
        match loss {
            None => Ok(made),
            Some(Loss::Error) => Err(lost()),
            Some(Loss::Silence) => std::future::pending().await,
        }
    }
}

fn lost() -> object_store::Error {
    object_store::Error::Generic {
        store: "Counting",
        source: "the answer was lost".into(),
    }
}

/// Opens a cache with chunks of 16 KiB.
pub(crate) fn open(inner: &Arc<Counting>, dir: &TempDir, trust: Option<Duration>) -> CachingStore {
    let builder = builder(Arc::<Counting>::clone(inner), dir, trust);
    builder.chunk_bytes(16 << 10).open().unwrap()
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
        let put = self.store.put_opts(location, payload, opts).await?;
        self.answer(put).await
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
        self.pause(pause, head).await;
        Ok(found)
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let loss = self.seen.lock().unwrap().loses_answers;
        let deleted = self.store.delete_stream(locations);
        match loss {
            None => deleted,
            Some(Loss::Error) => deleted.map(|_| Err(lost())).boxed(),
            Some(Loss::Silence) => deleted.filter(|_| std::future::ready(false)).boxed(),
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.store.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.store.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.store.copy_opts(from, to, options).await?;
        self.answer(()).await
    }
}
