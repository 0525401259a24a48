//! [`close_in_parts`]: closing a cache whose memory tier is larger than the queue. Calls nothing of this
//! crate.

use std::fmt::Debug;
use std::hash::BuildHasher;

use foyer::{HybridCache, StorageKey, StorageValue};

/// Bytes that an entry takes in the queue besides its encoding.
const OVERHEAD: usize = 128;

/// Closes a cache after its memory tier was written in parts of some `part_bytes`, each of which waits for
/// the one before: nothing is dropped, however large the memory tier is. Take a quarter of the
/// [queue](crate::MmapEngineConfig::with_queue_bytes), so that others may insert at the same time.
///
/// `HybridCache::close` hands over the memory tier at once, and what exceeds the queue is not stored. With
/// the policy `WriteOnInsertion` everything is on the disk already: call `close`.
///
/// Walks the table of the memory tier once for each part, 0.1 s for ten million entries, and locks one of
/// its shards for that time. Entries that are in use by the program are written too. Works with any engine.
///
/// # Errors
///
/// Returns the errors of `HybridCache::close`.
pub async fn close_in_parts<K, V, S>(
    cache: &HybridCache<K, V, S>,
    part_bytes: usize,
) -> foyer::Result<()>
where
    K: StorageKey,
    V: StorageValue,
    S: BuildHasher + Debug + Send + Sync + 'static,
{
    loop {
        let mut bytes = 0;
        cache
            .flush_if(|key, value| {
                let is_taken = bytes < part_bytes.max(1);
                if is_taken {
                    bytes += key.estimated_size() + value.estimated_size() + OVERHEAD;
                }
                is_taken
            })
            .await;
        if bytes == 0 {
            return cache.close().await;
        }
    }
}
