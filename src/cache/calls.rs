//! The calls of a cache that may compute: the lookup before the computation, and the counting after it.
//!
//! May call `cache`, its siblings and `engine`.

#[cfg(feature = "serde")]
use std::time::Duration;

use crate::cache::compute::{self, Obtain, Reply};
use crate::cache::{Cache, ComputeError, ComputeOptions, Obtained, Origin, found};
use crate::engine::read::lookup::{self, Answer};
use crate::engine::statistics::Counter;
use crate::error;

/// Finds a fresh value whose record says all, for a call that computes: most calls need no more. Not
/// for calls that may recompute it early or renew it.
#[inline]
pub(super) fn find_at_once(
    cache: &Cache,
    key: &[u8],
    options: &ComputeOptions,
) -> error::Result<Option<Obtained>> {
    if options.beta() > 0.0 || options.renewal().is_some() {
        return Ok(None);
    }
    let (handle, mut value) = (cache.cache.handle(), Vec::new());
    match lookup::read_terms(handle, key, &mut value)? {
        Answer::Found(terms) if found::is_plainly_fresh(&terms, value.len()) => {
            handle.count(Counter::Hits, 1);
            let origin = Origin::Stored;
            Ok(Some(Obtained { value, origin }))
        }
        _ => Ok(None),
    }
}

/// Returns the value of a key or computes it, for a caller that reads values: those that it cannot read
/// count as absent, and are replaced. `f` returns a value, and what `read` would return for it.
#[cfg(feature = "serde")]
pub(super) fn obtain_read<T, E>(
    cache: &Cache,
    key: &[u8],
    options: &ComputeOptions,
    mut read: impl FnMut(&[u8]) -> Option<T>,
    f: impl FnOnce() -> Result<(Vec<u8>, T), E>,
) -> Obtain<T, E> {
    let accept = |stored: Option<&[u8]>| stored.and_then(&mut read);
    let f = || f().map(|(value, read)| (Some(value), read));
    count(cache, compute::obtain(cache, key, options, accept, f))
}

/// As [`obtain_read`], as a task.
#[cfg(feature = "serde")]
pub(super) async fn obtain_read_async<T, E, D, F>(
    cache: &Cache,
    key: &[u8],
    options: &ComputeOptions,
    mut read: impl FnMut(&[u8]) -> Option<T>,
    sleep: impl Fn(Duration) -> D,
    f: impl FnOnce() -> F,
) -> Obtain<T, E>
where
    D: Future<Output = ()>,
    F: Future<Output = Result<(Vec<u8>, T), E>>,
{
    let accept = |stored: Option<&[u8]>| stored.and_then(&mut read);
    let f = || async { f().await.map(|(value, read)| (Some(value), read)) };
    let reply = compute::obtain_async(cache, key, options, accept, sleep, f).await;
    count(cache, reply)
}

/// Counts a lookup that may have computed, by where its value came from.
fn count<T, E>(cache: &Cache, reply: Obtain<T, E>) -> Obtain<T, E> {
    let counter = match &reply {
        Ok(reply) if reply.origin == Origin::Stored && reply.value.is_none() => {
            Counter::NegativeHits
        }
        Ok(reply) if reply.origin == Origin::Stored => Counter::Hits,
        Ok(reply) if reply.origin == Origin::Stale => Counter::StaleHits,
        _ => Counter::Misses,
    };
    cache.cache.handle().count(counter, 1);
    cache.report_removals();
    reply
}

/// Counts a lookup, and takes the value out of an error.
pub(super) fn end<E>(cache: &Cache, reply: Obtain<(), E>) -> Result<Reply<()>, ComputeError<E>> {
    count(cache, reply).map_err(|error| match error {
        ComputeError::Failed(error) => ComputeError::Failed(error),
        ComputeError::NotStored { value, error } => ComputeError::NotStored {
            value: value.into_obtained().value,
            error,
        },
        ComputeError::Cache(error) => ComputeError::Cache(error),
    })
}
