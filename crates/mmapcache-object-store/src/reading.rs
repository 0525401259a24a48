//! Reads objects through the cache, chunk by chunk.
//!
//! May call `object`, `facts` and `keys`.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_io::Timer;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};
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
        let options = InsertOptions::new()
            .ttl(trust)
            .tag(keys::tag(&self.name, location));
        let stored = self.facts.stored(&facts).and_then(|facts| {
            let key = keys::facts(&self.name, location);
            self.cache().insert_computed(key, facts, &options, since)
        });
        if let Err(error) = stored {
            log::warn!("{error}: the store is asked again");
        }
    }

    /// Forgets the facts about an object that was changed through this store.
    pub(crate) fn forget(&self, location: &Path) {
        let forgotten = match self.trust {
            Some(_) => (self.cache()).invalidate_tag(keys::tag(&self.name, location.as_ref())),
            // Another process may believe them.
            None => (self.cache())
                .remove(keys::facts(&self.name, location.as_ref()))
                .map(|_| ()),
        };
        if let Err(error) = forgotten {
            log::error!("{error}: {location} is believed unchanged until its facts expire");
        }
    }

    /// Returns the bytes of a range, which lies within the object, in pieces.
    pub(crate) fn pieces(
        self: &Arc<Self>,
        object: Object,
        range: Range<u64>,
    ) -> BoxStream<'static, Result<Bytes>> {
        let chunk_bytes = self.chunk_bytes;
        let chunks = match range.is_empty() {
            true => 0..0,
            false => range.start / chunk_bytes..(range.end - 1) / chunk_bytes + 1,
        };
        let (reading, object) = (Arc::clone(self), Arc::new(object));
        let pieces = stream::iter(chunks).map(move |number| {
            let (reading, object) = (Arc::clone(&reading), Arc::clone(&object));
            let start = number * chunk_bytes;
            let wanted = range.start.max(start) - start..range.end.min(start + chunk_bytes) - start;
            async move {
                let chunk = reading.chunk(&object, number).await?;
                Ok(chunk.slice(wanted.start as usize..wanted.end as usize))
            }
        });
        pieces.buffered(self.parallel).boxed()
    }

    /// Returns the bytes of a range in one piece.
    pub(crate) async fn bytes(
        self: &Arc<Self>,
        object: Object,
        range: Range<u64>,
    ) -> Result<Bytes> {
        let mut pieces: Vec<Bytes> = self.pieces(object, range).try_collect().await?;
        match pieces.len() {
            1 => Ok(pieces.swap_remove(0)),
            _ => Ok(pieces.concat().into()),
        }
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
        let options = ComputeOptions::new();
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
