//! What a pool tells of itself.
//!
//! Adds up what the shards have counted, and ranks their entries.

use std::cmp::Reverse;

use crate::intern::pool::entry::Entry;
use crate::intern::pool::handle::Interned;
use crate::intern::pool::shard::{Shard, State};

/// Numbers of a [`Pool`](crate::Pool) at one moment, shard by shard: while others intern, one number
/// may be a step ahead of another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolStats {
    /// Calls that found the value there.
    pub hits: u64,
    /// Calls that added it.
    pub misses: u64,
    /// Values that are there now.
    pub entries: u64,
    /// Bytes that the pool holds now: values, headers, tables.
    pub bytes_held: u64,
    /// Bytes of the values that were found, so far: what copies of them would have held, without
    /// what an allocator adds to each.
    pub bytes_saved: u64,
}

impl PoolStats {
    /// Hits of all calls that found or added a value, from 0 to 1.
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

/// What [`Pool::top`](crate::Pool::top) ranks by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TopBy {
    /// Handles that there are at this moment.
    References,
    /// How often `intern` and `lookup` gave the value out since it was added.
    Uses,
}

/// A value and what is counted of it; made by [`Pool::top`](crate::Pool::top).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Top {
    /// A handle of the value.
    pub handle: Interned,
    /// Handles that there were, this one not counted.
    pub references: u64,
    /// How often it was given out.
    pub uses: u64,
}

impl Top {
    /// Greatest first; of the same rank, in the order of the bytes.
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

/// The first `count` of a shard, in no order.
fn of_shard(shard: &Shard, count: usize, by: TopBy) -> Vec<Top> {
    let Ok(state) = shard.lock() else {
        return Vec::new();
    };
    // Counts of handles change meanwhile: each is read once.
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
    let top = |(references, uses, entry)| Top {
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
) -> Vec<Top> {
    let mut first = Vec::new();
    for shard in shards {
        first.extend(of_shard(shard, count, by));
        Top::sort(&mut first, by);
        // No lock is held: handles may be dropped.
        first.truncate(count);
    }
    first
}
