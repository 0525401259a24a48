//! [`CachingStore`]: any store, with a cache before it.
//!
//! May call `builder`, `change`, `reading`, `object` and `upload`.

use std::fmt;
use std::ops::Range;
use std::path::Path as FilePath;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};
use mmapcache::Cache;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetRange, GetResult, GetResultPayload, ListResult,
    MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, RenameOptions, Result,
};

use crate::builder::CachingStoreBuilder;
use crate::change::Change;
use crate::object::Object;
use crate::reading::{Reading, is_of_state};
use crate::upload::Upload;

/// An [`ObjectStore`] that keeps the chunks that were read of another one on disk, for any number of
/// threads and processes.
///
/// See the [documentation of the crate](crate) for what it promises. A clone is the same store.
#[derive(Clone, Debug)]
pub struct CachingStore {
    reading: Arc<Reading>,
}

impl fmt::Display for CachingStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CachingStore({})", self.reading.inner)
    }
}

impl CachingStore {
    /// Opens the cache at `path` before a store; creates it if there is none. Each read asks the store
    /// whether the object is as it was.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`CachingStoreBuilder::open`].
    pub fn open(
        inner: Arc<dyn ObjectStore>,
        path: impl AsRef<FilePath>,
    ) -> mmapcache::Result<Self> {
        Self::builder(inner, path).open()
    }

    /// Begins to open the cache at `path` before a store, with a bound and more.
    pub fn builder(inner: Arc<dyn ObjectStore>, path: impl AsRef<FilePath>) -> CachingStoreBuilder {
        CachingStoreBuilder::new(inner, path.as_ref())
    }

    pub(crate) fn new(reading: Reading) -> Self {
        Self {
            reading: Arc::new(reading),
        }
    }

    /// Returns the cache, for statistics, backups and [`clear`](Cache::clear).
    pub fn cache(&self) -> &Cache {
        self.reading.cache()
    }

    /// Reads a state of an object. `None` if the store tells no state by which chunks could be kept, or the
    /// range is none of the object: then the caller's own request is for the store.
    async fn read(&self, object: Object, options: &GetOptions) -> Result<Option<GetResult>> {
        let range = match (&options.range, options.head) {
            (Some(range), false) => range.as_range(object.meta.size).ok(),
            _ => Some(0..object.meta.size),
        };
        let (Some(range), true) = (range, object.state.is_some()) else {
            return Ok(None);
        };
        let (meta, attributes) = (object.meta.clone(), object.attributes.clone());
        let mut pieces = match options.head {
            true => stream::empty().boxed(),
            false => self.reading.pieces(object, range.clone()),
        };
        // Errors of the first requests are those of this call, which can still ask for another state.
        let parallel = self.reading.parallel;
        let first: Vec<Bytes> = pieces.by_ref().take(parallel).try_collect().await?;
        let (reading, location) = (Arc::clone(&self.reading), meta.location.clone());
        let rest = pieces.inspect_err(move |error| forget_failed(&reading, &location, error));
        let pieces = stream::iter(first.into_iter().map(Ok)).chain(rest);
        Ok(Some(GetResult {
            payload: GetResultPayload::Stream(pieces.boxed()),
            meta,
            range,
            attributes,
            extensions: object_store::Extensions::default(),
        }))
    }

    /// Reads several ranges of a state; `None` as for [`read`](Self::read).
    async fn read_ranges(
        &self,
        object: Object,
        ranges: &[Range<u64>],
    ) -> Result<Option<Vec<Bytes>>> {
        let size = object.meta.size;
        let mut within = Vec::with_capacity(ranges.len());
        for range in ranges {
            let Ok(range) = GetRange::Bounded(range.clone()).as_range(size) else {
                // A store may not check ranges that it reads together: it says what is wrong with one.
                let location = &object.meta.location;
                self.reading
                    .inner
                    .get_range(location, range.clone())
                    .await?;
                return Ok(None);
            };
            within.push(range);
        }
        if object.state.is_none() {
            return Ok(None);
        }
        self.reading.ranges(object, within).await.map(Some)
    }

    /// Returns what was read through the cache; `None` if the caller's own request is for the store. What
    /// is believed about an object that cannot be read so is forgotten.
    fn judge<T>(&self, location: &Path, read: Result<Option<T>>) -> Result<Option<T>> {
        let Err(error) = &read else {
            return read;
        };
        forget_failed(&self.reading, location, error);
        match is_of_state(error) {
            true => Ok(None),
            false => read,
        }
    }
}

/// Forgets what is believed about an object, if an error says that it has another state, or is gone.
fn forget_failed(reading: &Reading, location: &Path, error: &Error) {
    if is_of_state(error) || matches!(error, Error::NotFound { .. }) {
        reading.forget(location);
    }
}

/// Reads take what they can from the cache; all else is for the inner store. Changes end what is believed
/// about an object after the inner store made them.
#[async_trait]
impl ObjectStore for CachingStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        let _change = Change::new(&self.reading, [location]);
        self.reading.inner.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let upload = self
            .reading
            .inner
            .put_multipart_opts(location, opts)
            .await?;
        let reading = Arc::clone(&self.reading);
        Ok(Box::new(Upload::new(upload, reading, location.clone())))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        if options.head && self.reading.trust.is_none() {
            return self.reading.inner.get_opts(location, options).await;
        }
        let object = self.reading.object(location, &options).await?;
        let read = self.read(object, &options).await;
        match self.judge(location, read)? {
            Some(found) => Ok(found),
            None => self.reading.inner.get_opts(location, options).await,
        }
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let options = GetOptions::default();
        let object = self.reading.object(location, &options).await?;
        let read = self.read_ranges(object, ranges).await;
        match self.judge(location, read)? {
            Some(found) => Ok(found),
            None => self.reading.inner.get_ranges(location, ranges).await,
        }
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let change = Arc::new(Change::new(&self.reading, []));
        let begun = Arc::clone(&change);
        let locations = locations.inspect_ok(move |location| begun.begin(location));
        let deleted = self.reading.inner.delete_stream(locations.boxed());
        let deleted = deleted.inspect(move |deleted| match deleted {
            Ok(location) => change.end(location),
            // An error does not say of which object it is.
            Err(_) => change.forget_all(),
        });
        deleted.boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.reading.inner.list(prefix)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.reading.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.reading.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let _change = Change::new(&self.reading, [to]);
        self.reading.inner.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        let _change = Change::new(&self.reading, [from, to]);
        self.reading.inner.rename_opts(from, to, options).await
    }
}
