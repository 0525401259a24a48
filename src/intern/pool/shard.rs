//! A part of the pool, under a lock of its own: finds, adds and removes entries.
//!
//! Knows tables and counts; which part a value belongs to is the pool's business.
//!
//! No handle is ever dropped under the lock: the last one of a value takes it.

use std::sync::{Arc, Weak};

use hashbrown::HashTable;

use crate::error::PoolError;
use crate::lock::{Lock, Locked, Lost};
use crate::sync::Relaxed;
use crate::sync::count::{Check, holds};

use crate::intern::pool::budget::Budget;
use crate::intern::pool::entry::Entry;
use crate::intern::pool::handle::Interned;
use crate::intern::pool::options::Retention;

/// Two cache lines, which processors fetch together: shards disturb each other least so.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Shard {
    retention: Retention,
    budget: Option<Arc<Budget>>,
    state: Lock<State>,
}

/// What the lock guards.
#[derive(Debug, Default)]
pub(super) struct State {
    pub table: HashTable<Entry>,
    pub tally: Tally,
    /// Bytes of all entries.
    pub entry_bytes: u64,
}

/// What was counted.
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
            state: Lock::new(State::default()),
        }
    }

    /// What is here, unless this is a forked child and a thread of its parent was changing it.
    #[inline]
    pub(super) fn lock(&self) -> Result<Locked<'_, State>, Lost> {
        self.state.lock()
    }

    #[inline]
    pub(super) fn intern(self: &Arc<Self>, hash: u64, value: &[u8]) -> Result<Interned, PoolError> {
        let mut state = self.lock().map_err(|Lost| PoolError::Forked)?;
        if let Some(handle) = state.take_up(hash, value) {
            return Ok(handle);
        }
        self.add(&mut state, hash, value)
    }

    #[inline]
    pub(super) fn lookup(&self, hash: u64, value: &[u8]) -> Option<Interned> {
        self.lock().ok()?.take_up(hash, value)
    }

    #[cold]
    fn add(
        self: &Arc<Self>,
        state: &mut State,
        hash: u64,
        value: &[u8],
    ) -> Result<Interned, PoolError> {
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

    /// Strikes out an entry whose last handle is gone, unless somebody took it up again since.
    ///
    /// The count leaves zero only under this lock, so what it says here stands until the lock is
    /// given back. Two may come for one entry, if it was taken up between them: the second one
    /// finds nothing, or another entry with the same value.
    #[cold]
    pub(super) fn release(&self, entry: &Entry) {
        let Ok(mut state) = self.lock() else {
            return;
        };
        if !holds(
            Check::StillUnheld,
            entry.header().handles.load(Relaxed) == 0,
        ) {
            return;
        }
        let is_this = |other: &Entry| {
            other.bytes() == entry.bytes()
                && holds(Check::SameEntry, other.address() == entry.address())
        };
        if let Ok(found) = state.table.find_entry(entry.header().hash, is_this) {
            // The caller has a reference to the entry: nothing is freed under the lock.
            found.remove();
            state.entry_bytes -= entry.size();
            self.give(entry.size());
        }
    }

    /// Empties the shard, and gives back what its table held.
    pub(super) fn reset(&self) -> Result<HashTable<Entry>, Lost> {
        let mut state = self.lock()?;
        let bytes = state.entry_bytes + state.table_bytes();
        state.entry_bytes = 0;
        self.give(bytes);
        Ok(std::mem::take(&mut state.table))
    }

    /// Gives back spare room, and what nobody has a handle of where it need not stay. What is to be
    /// freed is returned, for the caller to do it without the lock.
    pub(super) fn shrink(&self) -> Vec<Entry> {
        let Ok(mut state) = self.lock() else {
            return Vec::new();
        };
        let before = state.entry_bytes + state.table_bytes();
        let mut unheld = Vec::new();
        if self.retention == Retention::UntilReset {
            // Without handles there is nobody to make one of, but under this lock.
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
    /// A handle of a value that is there. Under the lock, the count may leave zero.
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

    /// By how much the table grows at most with one more entry: it doubles, or begins.
    fn growth(&self) -> u64 {
        if self.table.len() < self.table.capacity() {
            0
        } else {
            self.table_bytes().max(64)
        }
    }
}

/// Where handles report whose shard is gone.
pub(super) fn release(home: &Weak<Shard>, entry: &Entry) {
    if let Some(shard) = home.upgrade() {
        shard.release(entry);
    }
}
