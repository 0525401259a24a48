//! Reads objects through the cache, chunk by chunk.
//!
//! May call `object`, `facts` and `keys`.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use async_io::Timer;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt, StreamExt, TryStreamExt};
use mmapcache::{Cache, ComputeError, ComputeOptions, InsertOptions, TypedCache};
use object_store::path::Path;
use object_store::{Error, GetOptions, ObjectStore, Result};

use crate::facts::Facts;
use crate::keys;
use crate::object::Object;

/// A store and its cache.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) inner: Arc<dyn ObjectStore>,
    pub(crate) facts: TypedCache<Facts>,
    /// What the keys of this store have in common.
    pub(crate) name: String,
    pub(crate) chunk_bytes: u64,
    /// How long facts are believed without asking the store.
    pub(crate) trust: Option<Duration>,
    /// How many chunks of one read are awaited at a time.
    pub(crate) parallel: usize,
    /// How long a read waits for another one that requests the same chunk.
    pub(crate) patience: Duration,
    pub(crate) lapses: Lapses,
}

/// Changes of objects whose facts could not be ended.
#[derive(Debug, Default)]
pub(crate) struct Lapses {
    failed: AtomicU64,
    /// How many of them were made up for.
    mended: AtomicU64,
}

impl Reading {
    pub(crate) fn cache(&self) -> &Cache {
        self.facts.cache()
    }

    /// Returns the present state of an object, as the store says, or as it said a moment ago if that is
    /// believed. The store decides about conditions.
    pub(crate) async fn object(&self, location: &Path, options: &GetOptions) -> Result<Object> {
        let trust = self.trust.filter(|_| is_plain(options));
        if trust.is_some()
            && let Some(object) = self.remembered(location, options)
        {
            return Ok(object);
        }
        let since = self.cache().last_version();
        let options = GetOptions {
            range: None,
            head: true,
            ..options.clone()
        };
        let found = self.inner.get_opts(location, options.clone()).await?;
        let object = Object::new(found.meta, found.attributes, &options);
        if let (Some(trust), Ok(since)) = (trust, since) {
            self.remember(&object, trust, since);
        }
        Ok(object)
    }

    fn remembered(&self, location: &Path, options: &GetOptions) -> Option<Object> {
        if !self.is_believable() {
            return None;
        }
        let facts = self.facts.get(keys::facts(&self.name, location.as_ref()));
        let facts = facts.inspect_err(|error| log::warn!("{error}")).ok()??;
        let (meta, attributes) = facts.into_parts(location)?;
        Some(Object::new(meta, attributes, options))
    }

    /// Stores the facts about an object, unless it was changed through a cache since the store was asked.
    fn remember(&self, object: &Object, trust: Duration, since: mmapcache::Version) {
        let Some(facts) = Facts::new(&object.meta, &object.attributes) else {
            return;
        };
        let location = object.meta.location.as_ref();
        // Without a grace period, which the files may have: it would prolong the trust.
        let options = InsertOptions::new()
            .ttl(trust)
            .stale_for(Duration::ZERO)
            .namespace(keys::namespace(&self.name))
            .tag(keys::tag(&self.name, location));
        let stored = self.facts.stored(&facts).and_then(|facts| {
            let key = keys::facts(&self.name, location);
            self.cache().insert_computed(key, facts, &options, since)
        });
        if let Err(error) = stored {
            log::warn!("{error}: the store is asked again");
        }
    }

    /// Forgets the facts about an object that was changed through this store. Also without trust: another
    /// process may believe them, or be about to store what it was told before the change.
    pub(crate) fn forget(&self, location: &Path) {
        let tag = keys::tag(&self.name, location.as_ref());
        if let Err(error) = self.cache().invalidate_tag(tag) {
            self.lapses.failed.fetch_add(1, SeqCst);
            log::error!(
                "{error}: other processes believe {location} unchanged until this one can write to \
                 the cache again, or the facts expire"
            );
        }
    }

    /// Returns whether facts count. After a change whose facts could not be ended they do not, until all
    /// facts about the store are ended.
    fn is_believable(&self) -> bool {
        let Lapses { failed, mended } = &self.lapses;
        let lapses = failed.load(SeqCst);
        if lapses == mended.load(SeqCst) {
            return true;
        }
        let namespace = keys::namespace(&self.name);
        match self.cache().invalidate_namespace(namespace) {
            Ok(()) => {
                mended.fetch_max(lapses, SeqCst);
                failed.load(SeqCst) == lapses
            }
            Err(error) => {
                log::warn!("{error}: the store is asked again");
                false
            }
        }
    }

    /// Returns the bytes of a range, which lies within the object, in pieces.
    pub(crate) fn pieces(
        self: &Arc<Self>,
        object: Object,
        range: Range<u64>,
    ) -> BoxStream<'static, Result<Bytes>> {
        let requests = self.requests(&Arc::new(object), range);
        stream::iter(requests).buffered(self.parallel).boxed()
    }

    /// Returns the bytes of several ranges, each in one piece.
    pub(crate) async fn ranges(
        self: &Arc<Self>,
        object: Object,
        ranges: Vec<Range<u64>>,
    ) -> Result<Vec<Bytes>> {
        let object = Arc::new(object);
        let counts: Vec<usize> = ranges
            .iter()
            .map(|range| self.chunks(range).count())
            .collect();
        let requests: Vec<_> = (ranges.into_iter())
            .flat_map(|range| self.requests(&object, range))
            .collect();
        let mut pieces = stream::iter(requests).buffered(self.parallel);
        let mut read = Vec::with_capacity(counts.len());
        for count in counts {
            let mut of_range: Vec<Bytes> = pieces.by_ref().take(count).try_collect().await?;
            read.push(match of_range.len() {
                1 => of_range.swap_remove(0),
                _ => of_range.concat().into(),
            });
        }
        Ok(read)
    }

    /// Returns the numbers of the chunks of a range.
    fn chunks(&self, range: &Range<u64>) -> Range<u64> {
        match range.is_empty() {
            true => 0..0,
            false => range.start / self.chunk_bytes..(range.end - 1) / self.chunk_bytes + 1,
        }
    }

    /// Returns a future for each piece of a range: none has begun.
    fn requests(
        self: &Arc<Self>,
        object: &Arc<Object>,
        range: Range<u64>,
    ) -> impl Iterator<Item = BoxFuture<'static, Result<Bytes>>> + Send + use<> {
        let (reading, object) = (Arc::clone(self), Arc::clone(object));
        let chunk_bytes = self.chunk_bytes;
        self.chunks(&range).map(move |number| {
            let (reading, object) = (Arc::clone(&reading), Arc::clone(&object));
            let start = number * chunk_bytes;
            let wanted = range.start.max(start) - start..range.end.min(start + chunk_bytes) - start;
            let piece = async move {
                let chunk = reading.chunk(&object, number).await?;
                Ok(chunk.slice(wanted.start as usize..wanted.end as usize))
            };
            piece.boxed()
        })
    }

    /// Returns a chunk: from the cache, or from the store by one request, for all tasks and processes that
    /// want it.
    async fn chunk(&self, object: &Object, number: u64) -> Result<Bytes> {
        let start = number * self.chunk_bytes;
        let range = start..object.meta.size.min(start.saturating_add(self.chunk_bytes));
        let location = object.meta.location.as_ref();
        let state = object.state.as_deref().unwrap_or_default();
        let key = keys::chunk(&self.name, location, state, self.chunk_bytes, number);
        let sleep = |time| async move {
            Timer::after(time).await;
        };
        let fetch = || async {
            object
                .fetch(&self.inner, range.clone())
                .await
                .map(Vec::from)
        };
        // The other read makes no progress while its caller does not poll it.
        let options = ComputeOptions::new().patience(self.patience);
        let found = self
            .cache()
            .get_or_try_insert_async(key, options, sleep, fetch);
        match found.await {
            Ok(found) if found.value.len() as u64 == range.end - range.start => {
                Ok(found.value.into())
            }
            Ok(_) => object.fetch(&self.inner, range).await,
            Err(ComputeError::Failed(error)) => Err(error),
            Err(ComputeError::NotStored { value, error }) => {
                log::warn!("{error}: a chunk is not kept");
                Ok(value.into())
            }
            Err(error) => {
                log::warn!("{error}: a chunk is read from the store");
                object.fetch(&self.inner, range).await
            }
        }
    }
}

/// Returns whether a request asks for the present state, under no condition.
fn is_plain(options: &GetOptions) -> bool {
    options.if_match.is_none()
        && options.if_none_match.is_none()
        && options.if_modified_since.is_none()
        && options.if_unmodified_since.is_none()
        && options.version.is_none()
}

/// Returns whether an error says that this state of the object cannot be read in parts: the caller's own
/// request may succeed.
pub(crate) fn is_of_state(error: &Error) -> bool {
    matches!(
        error,
        Error::Precondition { .. } | Error::NotSupported { .. } | Error::NotImplemented { .. }
    )
}
