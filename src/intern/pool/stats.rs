//! Statistics of a pool: sums over the shards, and rankings of their entries.

use std::cmp::Reverse;

use crate::intern::pool::entry::Entry;
use crate::intern::pool::handle::Interned;
use crate::intern::pool::shard::{Shard, State};

/// Counters of a [`Pool`](crate::intern::Pool), read shard by shard: while other threads intern,
/// they may be of slightly different moments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolStats {
    /// Calls that found the value.
    pub hits: u64,
    /// Calls that added the value.
    pub misses: u64,
    /// Values in the pool now.
    pub entries: u64,
    /// Bytes that the pool holds now: values, their headers, hash tables.
    pub bytes_held: u64,
    /// Sum of the lengths of all values found so far: the bytes that copies of them would have taken,
    /// without the overhead of an allocator.
    pub bytes_saved: u64,
}

impl PoolStats {
    /// Returns the share of calls that were hits, from 0 to 1; 0 if there were no calls.
    pub fn hit_rate(&self) -> f64 {
        match self.hits + self.misses {
            0 => 0.0,
            all => self.hits as f64 / all as f64,
        }
    }

    pub(super) fn add(&mut self, state: &State) {
        self.hits += state.tally.hits;
        self.misses += state.tally.misses;
        self.entries += state.table.len() as u64;
        self.bytes_held += state.entry_bytes + state.table_bytes();
        self.bytes_saved += state.tally.saved;
    }
}

/// The counters of an entry, each read once: other threads change the counts of handles.
#[derive(Clone, Copy)]
pub(super) struct Counts {
    pub(super) references: u64,
    pub(super) uses: u64,
}

/// Returns the first `count` entries of a shard by descending `rank`, unordered.
fn of_shard(shard: &Shard, count: usize, rank: fn(Counts) -> u64) -> Vec<(Interned, u64)> {
    let Ok(state) = shard.lock() else {
        return Vec::new();
    };
    let ranked = |entry| {
        let (references, uses) = (Entry::references(entry), Entry::uses(entry));
        (Reverse(rank(Counts { references, uses })), entry)
    };
    let mut all: Vec<(Reverse<u64>, &Entry)> = state.table.iter().map(ranked).collect();
    if count < all.len() {
        all.select_nth_unstable_by(count, |(a, a_entry), (b, b_entry)| {
            (a, a_entry.bytes()).cmp(&(b, b_entry.bytes()))
        });
        all.truncate(count);
    }
    all.into_iter()
        .map(|(Reverse(rank), entry)| (Interned::adopt(entry), rank))
        .collect()
}

/// Returns the first `count` entries by descending `rank`; ties in the order of the bytes.
pub(super) fn top<'a>(
    shards: impl Iterator<Item = &'a Shard>,
    count: usize,
    rank: fn(Counts) -> u64,
) -> Vec<(Interned, u64)> {
    let mut first: Vec<(Interned, u64)> = Vec::new();
    for shard in shards {
        first.extend(of_shard(shard, count, rank));
        first.sort_by(|(a, a_rank), (b, b_rank)| (Reverse(a_rank), a).cmp(&(Reverse(b_rank), b)));
        // Drops handles: no lock is held here.
        first.truncate(count);
    }
    first
}
