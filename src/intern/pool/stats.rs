//! Statistics of a pool: sums over the shards, and rankings of their entries.

use std::cmp::Reverse;

use crate::intern::pool::entry::Entry;
use crate::intern::pool::handle::Interned;
use crate::intern::pool::shard::{Shard, State};

/// Counters of a [`Pool`](crate::intern::Pool), read shard by shard: while other threads intern, they may be
/// of slightly different moments.
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

/// The order of [`Pool::top`](crate::intern::Pool::top).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TopBy {
    /// By the number of handles now.
    References,
    /// By the number of `intern` and `get` calls that returned the value since it was added.
    Uses,
}

/// A value and its counters; returned by [`Pool::top`](crate::intern::Pool::top).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopEntry {
    /// A handle of the value.
    pub handle: Interned,
    /// Handles at that moment, this one not counted.
    pub references: u64,
    /// Calls that returned the value.
    pub uses: u64,
}

impl TopEntry {
    /// Sorts in descending order; ties in the order of the bytes.
    fn sort(all: &mut [Self], by: TopBy) {
        all.sort_by(|a, b| {
            let rank = |top: &Self| match by {
                TopBy::References => top.references,
                TopBy::Uses => top.uses,
            };
            (Reverse(rank(a)), &a.handle).cmp(&(Reverse(rank(b)), &b.handle))
        });
    }
}

/// Returns the first `count` entries of a shard, unordered.
fn of_shard(shard: &Shard, count: usize, by: TopBy) -> Vec<TopEntry> {
    let Ok(state) = shard.lock() else {
        return Vec::new();
    };
    // Other threads change the counts of handles: each is read once.
    let counted = |entry| (Entry::references(entry), Entry::uses(entry), entry);
    let mut all: Vec<(u64, u64, &Entry)> = state.table.iter().map(counted).collect();
    if count < all.len() {
        let rank = |counted: &(u64, u64, &Entry)| match by {
            TopBy::References => Reverse(counted.0),
            TopBy::Uses => Reverse(counted.1),
        };
        all.select_nth_unstable_by(count, |a, b| {
            (rank(a), a.2.bytes()).cmp(&(rank(b), b.2.bytes()))
        });
        all.truncate(count);
    }
    let top = |(references, uses, entry)| TopEntry {
        handle: Interned::adopt(entry),
        references,
        uses,
    };
    all.into_iter().map(top).collect()
}

pub(super) fn top<'a>(
    shards: impl Iterator<Item = &'a Shard>,
    count: usize,
    by: TopBy,
) -> Vec<TopEntry> {
    let mut first = Vec::new();
    for shard in shards {
        first.extend(of_shard(shard, count, by));
        TopEntry::sort(&mut first, by);
        // Drops handles: no lock is held here.
        first.truncate(count);
    }
    first
}
