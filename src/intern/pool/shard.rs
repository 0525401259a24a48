//! A shard of a pool, with a lock of its own: finds, adds and removes entries.
//!
//! No handle may be dropped under the lock: dropping the last handle of a value takes it (P4).

use std::sync::{Arc, Weak};

use hashbrown::HashTable;

use crate::error::PoolError;
use crate::lock::{Abandoned, ForkSafeMutex, ForkSafeMutexGuard};
use crate::sync::Relaxed;
use crate::sync::count::{ModelCheck, holds};

use crate::intern::pool::budget::Budget;
use crate::intern::pool::entry::Entry;
use crate::intern::pool::handle::Interned;
use crate::intern::pool::options::Retention;

/// Aligned to two cache lines, which processors fetch together, against false sharing.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Shard {
    retention: Retention,
    budget: Option<Arc<Budget>>,
    state: ForkSafeMutex<State>,
}

/// The state that the lock protects.
#[derive(Debug, Default)]
pub(super) struct State {
    pub table: HashTable<Entry>,
    pub tally: Tally,
    /// Sum of the sizes of all entries.
    pub entry_bytes: u64,
}

/// Counters.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub hits: u64,
    pub misses: u64,
    pub saved: u64,
}

impl Shard {
    pub(super) fn new(retention: Retention, budget: Option<Arc<Budget>>) -> Self {
        Self {
            retention,
            budget,
            state: ForkSafeMutex::new(State::default()),
        }
    }

    /// Locks the state. Fails in a forked child if a thread of its parent was changing it.
    #[inline]
    pub(super) fn lock(&self) -> Result<ForkSafeMutexGuard<'_, State>, Abandoned> {
        self.state.lock()
    }

    #[inline]
    pub(super) fn intern(self: &Arc<Self>, hash: u64, value: &[u8]) -> Result<Interned, PoolError> {
        let mut state = self.lock().map_err(|Abandoned| PoolError::Forked)?;
        if let Some(handle) = state.take_up(hash, value) {
            return Ok(handle);
        }
        self.add(&mut state, hash, value)
    }

    #[inline]
    pub(super) fn get(&self, hash: u64, value: &[u8]) -> Option<Interned> {
        self.lock().ok()?.take_up(hash, value)
    }

    #[cold]
    fn add(
        self: &Arc<Self>,
        state: &mut State,
        hash: u64,
        value: &[u8],
    ) -> Result<Interned, PoolError> {
        // P1: the lock is held since the search that found none.
        debug_assert!(
            state
                .table
                .find(hash, |entry| entry.bytes() == value)
                .is_none(),
            "P1: one entry for equal bytes"
        );
        let (size, growth) = (Entry::size_for(value), state.growth());
        if let Some(budget) = &self.budget {
            budget.take(size + growth)?;
        }
        let counted = self.retention == Retention::UntilReleased;
        let entry = Entry::new(hash, counted.then(|| Arc::downgrade(self)), value);
        let before = state.table_bytes();
        let added = state
            .table
            .insert_unique(hash, entry, |entry| entry.header().hash);
        added.get().count_use();
        let handle = Interned::adopt(added.get());
        state.tally.misses += 1;
        state.entry_bytes += size;
        if let Some(budget) = &self.budget {
            budget.give(growth - (state.table_bytes() - before).min(growth));
        }
        Ok(handle)
    }

    /// Removes an entry whose last handle was dropped, unless another thread made a new handle since.
    ///
    /// The count leaves zero only under this lock, so it cannot change here until the lock is
    /// released. Two threads may call this for one entry, if a handle was made between their drops:
    /// the second one finds no entry, or another entry with the same value.
    #[cold]
    pub(super) fn release(&self, entry: &Entry) {
        let Ok(mut state) = self.lock() else {
            return;
        };
        // P3: no thread has made a handle since.
        if !holds(
            ModelCheck::StillUnheld,
            entry.header().handles.load(Relaxed) == 0,
        ) {
            return;
        }
        // P3: this very entry, and not another one with the same bytes.
        let is_this = |other: &Entry| {
            other.bytes() == entry.bytes()
                && holds(ModelCheck::SameEntry, other.address() == entry.address())
        };
        if let Ok(found) = state.table.find_entry(entry.header().hash, is_this) {
            // The caller has a reference to the entry: nothing is freed under the lock.
            found.remove();
            debug_assert!(state.entry_bytes >= entry.size(), "P3: removed once");
            state.entry_bytes -= entry.size();
            self.give(entry.size());
        }
    }

    /// Empties the shard and returns its table, for the caller to free it without the lock.
    pub(super) fn reset(&self) -> Result<HashTable<Entry>, Abandoned> {
        let mut state = self.lock()?;
        let bytes = state.entry_bytes + state.table_bytes();
        state.entry_bytes = 0;
        self.give(bytes);
        Ok(std::mem::take(&mut state.table))
    }

    /// Releases spare room and, if the policy allows, the entries without handles. Returns these, for
    /// the caller to free them without the lock.
    pub(super) fn shrink(&self) -> Vec<Entry> {
        let Ok(mut state) = self.lock() else {
            return Vec::new();
        };
        let before = state.entry_bytes + state.table_bytes();
        let mut unheld = Vec::new();
        if self.retention == Retention::UntilReset {
            // An entry without handles gets a new one only under this lock.
            unheld.extend(state.table.extract_if(|entry| entry.references() == 0));
        }
        state.entry_bytes -= unheld.iter().map(Entry::size).sum::<u64>();
        state.table.shrink_to_fit(|entry| entry.header().hash);
        self.give(before - (state.entry_bytes + state.table_bytes()));
        unheld
    }

    fn give(&self, bytes: u64) {
        if let Some(budget) = &self.budget {
            budget.give(bytes);
        }
    }
}

impl State {
    /// Returns a handle of a value that is in the table. The count may leave zero: the lock is held (P2).
    #[inline]
    fn take_up(&mut self, hash: u64, value: &[u8]) -> Option<Interned> {
        let entry = self.table.find(hash, |entry| entry.bytes() == value)?;
        entry.count_use();
        self.tally.hits += 1;
        self.tally.saved += value.len() as u64;
        Some(Interned::adopt(entry))
    }

    pub(super) fn table_bytes(&self) -> u64 {
        self.table.allocation_size() as u64
    }

    /// Returns by how many bytes the table grows at most with one more entry: it doubles, or is made.
    fn growth(&self) -> u64 {
        if self.table.len() < self.table.capacity() {
            0
        } else {
            self.table_bytes().max(64)
        }
    }
}

/// Reports a dropped last handle to its shard, if the pool still exists.
pub(super) fn release(home: &Weak<Shard>, entry: &Entry) {
    if let Some(shard) = home.upgrade() {
        shard.release(entry);
    }
}
