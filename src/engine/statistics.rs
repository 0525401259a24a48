//! What a handle of a `Cache` counts in memory: lookups, insertions, and what became of entries.
//!
//! A thread owns a shard, and counts there with a load and a store; threads beyond the first fifteen
//! share one. Now and then the counts are added to the file's. May call `generation`, `lock` and
//! everything below them.

use crate::format::index::{SHARDS, STATISTICS};
use crate::lock::{self, PerProcess};
use crate::sync::Relaxed;
use crate::sync::count::{Count, THREAD_NUMBERS, thread_number};

use crate::engine::generation::Generation;

/// Events of one kind and thread after which they are added to the file.
const KEPT: u64 = 1_024;

/// What is counted, in the order of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counter {
    /// Lookups that returned a fresh value.
    Hits,
    /// Lookups that returned a value after its deadline.
    StaleHits,
    /// Lookups that found a fresh negative entry.
    NegativeHits,
    /// All other lookups.
    Misses,
    /// Entries put.
    Insertions,
    /// Of these, those that replaced an entry.
    Replaced,
    /// Entries removed by a caller.
    Removed,
    /// Entries evicted to keep the limit of bytes.
    EvictedSize,
    /// Entries evicted to keep the limit of entries.
    EvictedNumber,
    /// Entries removed after their deadline.
    Expired,
    /// Entries removed after their group was invalidated.
    Invalidated,
}

impl Counter {
    /// All, in the order of the file.
    pub(crate) const ALL: [Self; STATISTICS] = [
        Self::Hits,
        Self::StaleHits,
        Self::NegativeHits,
        Self::Misses,
        Self::Insertions,
        Self::Replaced,
        Self::Removed,
        Self::EvictedSize,
        Self::EvictedNumber,
        Self::Expired,
        Self::Invalidated,
    ];
}

const _: () = assert!(Counter::Invalidated as usize + 1 == STATISTICS);

/// The counts of the threads that share a number. Two cache lines more than it needs, because
/// processors fetch them in pairs and neighbours would slow each other down.
#[derive(Debug)]
#[repr(align(128))]
struct Shard {
    /// Since the handle was opened.
    counted: [Count; STATISTICS],
    /// Of these, those that were added to the file.
    folded: [Count; STATISTICS],
}

/// The counts of one process.
#[derive(Debug)]
struct Counts([Shard; THREAD_NUMBERS + 1]);

impl Default for Counts {
    fn default() -> Self {
        let zeros = || std::array::from_fn(|_| Count::new(0));
        Self(std::array::from_fn(|_| Shard {
            counted: zeros(),
            folded: zeros(),
        }))
    }
}

/// The counts of one handle. A forked child begins with zeros: what it inherits, its parent adds.
#[derive(Debug)]
pub(crate) struct Statistics(Box<PerProcess<Counts>>);

impl Statistics {
    pub(crate) fn new() -> Self {
        Self(Box::new(PerProcess::new()))
    }

    /// Counts `more` events. Returns whether it is time to [fold](Self::fold).
    #[inline]
    pub(crate) fn add(&self, counter: Counter, more: u64) -> bool {
        let number = thread_number();
        let count = &self.0.0[number].counted[counter as usize];
        let before = if number < THREAD_NUMBERS {
            // No other thread stores to it.
            let before = count.load(Relaxed);
            count.store(before.wrapping_add(more), Relaxed);
            before
        } else {
            count.fetch_add(more, Relaxed)
        };
        before / KEPT != before.wrapping_add(more) / KEPT
    }

    /// Returns what this process has counted since the handle was opened.
    pub(crate) fn counted(&self) -> [u64; STATISTICS] {
        self.sums(|shard, at| shard.counted[at].load(Relaxed))
    }

    /// Returns what of it is not in the file.
    pub(crate) fn unfolded(&self) -> [u64; STATISTICS] {
        self.sums(|shard, at| {
            // In this order: the other one could find more folded than counted.
            let folded = shard.folded[at].load(Relaxed);
            shard.counted[at].load(Relaxed).saturating_sub(folded)
        })
    }

    fn sums(&self, of: impl Fn(&Shard, usize) -> u64) -> [u64; STATISTICS] {
        std::array::from_fn(|at| self.0.0.iter().map(|shard| of(shard, at)).sum())
    }

    /// Adds to the file what is not there yet, unless its file may not be stored to now: then a
    /// later call does.
    ///
    /// A store changes the time of the file, from which the next process that opens it learns
    /// whether another program has changed it. So the visit is noted, and nothing is stored while
    /// such a change is in doubt.
    #[cold]
    pub(crate) fn fold(&self, generation: &Generation) {
        let header = generation.header();
        let is_writable = generation.lock.is_some() && !header.poll().superseded();
        if !is_writable || generation.is_touched() || generation.own_blocks().is_err() {
            return;
        }
        let process = lock::process() as usize;
        let mut is_noted = false;
        for (at, shard) in self.0.0.iter().enumerate() {
            let more: [u64; STATISTICS] = std::array::from_fn(|counter| {
                take(&shard.counted[counter], &shard.folded[counter])
            });
            if more.iter().all(|&more| more == 0) {
                continue;
            }
            if !is_noted {
                generation.raise_visit();
                is_noted = true;
            }
            header.add_statistics(process.wrapping_add(at) % SHARDS, &more);
        }
        if is_noted {
            generation.raise_visit();
        }
    }
}

/// Returns what was counted since the last call for this count, to exactly one of those that ask at
/// the same time.
fn take(counted: &Count, folded: &Count) -> u64 {
    loop {
        let before = folded.load(Relaxed);
        let now = counted.load(Relaxed);
        let more = now.saturating_sub(before);
        let taken = more == 0
            || folded
                .compare_exchange(before, now, Relaxed, Relaxed)
                .is_ok();
        if taken {
            return more;
        }
    }
}
