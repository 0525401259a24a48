//! [`Queue`]: changes that wait to be written, at most one for each hash.
//!
//! A later change of a hash replaces the earlier one, so a removal can neither be overtaken by the store
//! before it nor bring it back. A change stays visible to [`find`](Queue::find) until the files have it:
//! at no moment does a load see what was before it. No call waits for the disk. Calls nothing of this
//! crate; knows neither files nor foyer.

use std::collections::{HashMap, VecDeque};
use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_channel::oneshot::{self, Receiver, Sender};

/// Bytes that a change takes besides its entry: its slot, its step, and the record of foyer's memory tier.
const OVERHEAD: usize = 128;

/// Removals that may wait. Beyond, emptying the files is cheaper than remembering more: some 64 MiB.
const MAX_REMOVALS: usize = 1 << 20;

/// What is to happen to a hash.
#[derive(Clone, Debug)]
pub(crate) enum Change<T> {
    Store(T),
    Remove,
}

/// What a queue knows about a hash.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Pending<T> {
    /// It will be stored: this is its newest value.
    Store(T),
    /// It will be removed: whatever the files say, there is no value.
    Remove,
    /// Nothing: ask the files.
    Unknown,
}

/// Whether a queue took an item.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    Queued,
    /// There is no room. Nothing has changed.
    Full,
    /// The queue is closed. Nothing has changed.
    Closed,
}

/// What the writer is to do next.
#[derive(Debug)]
pub(crate) enum Work<T> {
    /// Write these, then call [`Queue::done`] or [`Queue::again`] for each.
    Changes(Vec<(u64, Change<T>)>),
    /// Empty the files, then call [`Queue::cleared`]. Everything that is asked for later is to stay.
    Clear,
    /// Everything that was asked for before has been tried.
    Reached(Sender<()>),
    /// The queue is closed and empty.
    End,
}

struct Slot<T> {
    change: Change<T>,
    bytes: usize,
    /// Whether a step leads here. If not, the writer has taken the change, and will report it as done.
    has_step: bool,
}

enum Step {
    Change(u64),
    Clear,
    Mark(Sender<()>),
}

struct State<T> {
    slots: HashMap<u64, Slot<T>>,
    steps: VecDeque<Step>,
    bytes: usize,
    removals: usize,
    /// Clearings that are asked for and not done: until then nothing that the files have counts.
    clearings: usize,
    emergency_clears: u64,
    closed: bool,
}

pub(crate) struct Queue<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
    /// Slots and clearings, for loads, most of which find none. Raised before the lock is released, so a
    /// load that begins after a change was asked for sees it.
    pending: AtomicUsize,
    max_bytes: usize,
}

impl<T> State<T> {
    fn replace(&mut self, hash: u64, change: Change<T>, bytes: usize) -> Option<Slot<T>> {
        if matches!(change, Change::Remove) {
            self.removals += 1;
        }
        self.bytes += bytes;
        let slot = Slot {
            change,
            bytes,
            has_step: true,
        };
        let old = self.slots.insert(hash, slot);
        if !old.as_ref().is_some_and(|old| old.has_step) {
            self.steps.push_back(Step::Change(hash));
        }
        old.inspect(|old| self.discount(old))
    }

    fn remove(&mut self, hash: u64) -> Option<Slot<T>> {
        let slot = self.slots.remove(&hash);
        slot.inspect(|slot| self.discount(slot))
    }

    fn discount(&mut self, slot: &Slot<T>) {
        self.bytes -= slot.bytes;
        self.removals -= usize::from(matches!(slot.change, Change::Remove));
    }

    /// Forgets all changes for a clearing. Returns them, to be dropped without the lock.
    fn clear(&mut self) -> HashMap<u64, Slot<T>> {
        self.clearings += 1;
        self.steps.retain(|step| !matches!(step, Step::Change(_)));
        self.steps.push_back(Step::Clear);
        (self.bytes, self.removals) = (0, 0);
        mem::take(&mut self.slots)
    }
}

impl<T: Clone> Queue<T> {
    /// Returns an empty queue for items of so many bytes in all. One item is taken, however large.
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self {
            state: Mutex::new(State {
                slots: HashMap::new(),
                steps: VecDeque::new(),
                bytes: 0,
                removals: 0,
                clearings: 0,
                emergency_clears: 0,
                closed: false,
            }),
            changed: Condvar::new(),
            pending: AtomicUsize::new(0),
            max_bytes,
        }
    }

    /// Asks for an item to be stored, in place of any change of the same hash that waits.
    pub(crate) fn store(&self, hash: u64, item: T, bytes: usize) -> Admission {
        let bytes = bytes.saturating_add(OVERHEAD);
        let mut state = self.lock();
        if state.closed {
            return Admission::Closed;
        }
        if !self.has_room(&state, bytes) {
            return Admission::Full;
        }
        let old = state.replace(hash, Change::Store(item), bytes);
        self.release(state);
        // A value may have a `drop` of its own, which may use the cache: no lock may be held.
        drop(old);
        Admission::Queued
    }

    /// Asks for a hash to be removed, in place of any change of it that waits. Returns whether the queue
    /// is open. If too many removals wait, asks for the files to be emptied instead: costs misses, where
    /// forgetting a removal would bring back a value.
    pub(crate) fn remove(&self, hash: u64) -> bool {
        let mut state = self.lock();
        if state.closed {
            return false;
        }
        let old = state.replace(hash, Change::Remove, 0);
        let all = (state.removals > MAX_REMOVALS).then(|| {
            state.emergency_clears += 1;
            state.clear()
        });
        self.release(state);
        drop((old, all));
        true
    }

    /// Asks for everything to be removed that was asked for before, and that the files have. Returns
    /// whether the queue is open.
    pub(crate) fn clear(&self) -> bool {
        let mut state = self.lock();
        if state.closed {
            return false;
        }
        let all = state.clear();
        self.release(state);
        drop(all);
        true
    }

    /// Returns what the queue knows about a hash. One atomic load if nothing waits, else a lock that is
    /// held for the time of a table lookup.
    pub(crate) fn find(&self, hash: u64) -> Pending<T> {
        if self.pending.load(Ordering::Acquire) == 0 {
            return Pending::Unknown;
        }
        let state = self.lock();
        match state.slots.get(&hash) {
            Some(slot) => match &slot.change {
                Change::Store(item) => Pending::Store(item.clone()),
                Change::Remove => Pending::Remove,
            },
            None if state.clearings > 0 => Pending::Remove,
            None => Pending::Unknown,
        }
    }

    /// Returns whether an item of so many bytes has no room.
    pub(crate) fn is_full_for(&self, bytes: usize) -> bool {
        !self.has_room(&self.lock(), bytes.saturating_add(OVERHEAD))
    }

    /// Returns a receiver that is answered when everything that was asked for before has been tried, or
    /// cancelled if the queue ends earlier.
    pub(crate) fn mark(&self) -> Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.lock();
        if !state.closed {
            state.steps.push_back(Step::Mark(sender));
        }
        self.release(state);
        receiver
    }

    /// Refuses all further changes. The writer still gets those that wait. Returns how many: after a
    /// [`mark`](Self::mark), those whose attempts failed.
    pub(crate) fn close(&self) -> usize {
        let mut state = self.lock();
        state.closed = true;
        let waiting = state.slots.len() + state.clearings;
        self.release(state);
        waiting
    }

    /// Waits for work, and takes it: changes of at most so many hashes.
    pub(crate) fn take(&self, max: usize) -> Work<T> {
        let mut state = self.lock();
        loop {
            match state.steps.pop_front() {
                Some(Step::Mark(sender)) => return Work::Reached(sender),
                Some(Step::Clear) => return Work::Clear,
                Some(Step::Change(hash)) => {
                    let changes = Self::take_changes(&mut state, hash, max);
                    if !changes.is_empty() {
                        return Work::Changes(changes);
                    }
                }
                None if state.closed => return Work::End,
                None => state = wait(self.changed.wait(state)),
            }
        }
    }

    fn take_changes(state: &mut State<T>, first: u64, max: usize) -> Vec<(u64, Change<T>)> {
        let mut changes = Vec::new();
        let mut next = Some(first);
        while let Some(hash) = next {
            if let Some(slot) = state.slots.get_mut(&hash) {
                slot.has_step = false;
                changes.push((hash, slot.change.clone()));
            }
            next = match state.steps.front() {
                Some(&Step::Change(hash)) if changes.len() < max => {
                    state.steps.pop_front();
                    Some(hash)
                }
                _ => None,
            };
        }
        changes
    }

    /// Ends changes that the writer took: the files have them.
    pub(crate) fn done(&self, hashes: impl IntoIterator<Item = u64>) {
        let mut state = self.lock();
        let ended: Vec<_> = hashes
            .into_iter()
            .filter_map(|hash| {
                // A slot with a step has a later change, which the writer has yet to take.
                let is_current = !state.slots.get(&hash)?.has_step;
                is_current.then(|| state.remove(hash))?
            })
            .collect();
        self.release(state);
        drop(ended);
    }

    /// Puts a change that the writer took back to the end of the queue, as another change if it says so;
    /// a later change of the hash stays. Drops it if the queue is closed, and returns false then.
    pub(crate) fn again(&self, hash: u64, change: Change<T>) -> bool {
        let mut state = self.lock();
        let is_current = state.slots.get(&hash).is_some_and(|slot| !slot.has_step);
        let mut old = None;
        if is_current && state.closed {
            old = state.remove(hash);
        } else if is_current {
            let bytes = match change {
                Change::Store(_) => state.slots[&hash].bytes,
                Change::Remove => 0,
            };
            old = state.replace(hash, change, bytes);
        }
        let kept = !(is_current && state.closed);
        self.release(state);
        drop(old);
        kept
    }

    /// Nothing that waits can be written at present. Cancels the marks: what is before them would fail for
    /// the same reason, each time after a wait for the lock. If the queue is closed, the writer is handed
    /// nothing more; returns how many changes that concerns. Loads still find them.
    pub(crate) fn give_up(&self) -> Option<usize> {
        let mut state = self.lock();
        let is_closed = state.closed;
        let (ended, steps): (VecDeque<_>, _) = mem::take(&mut state.steps)
            .into_iter()
            .partition(|step| is_closed || matches!(step, Step::Mark(_)));
        state.steps = steps;
        let waiting = is_closed.then_some(state.slots.len() + state.clearings);
        self.release(state);
        drop(ended);
        waiting
    }

    /// Closes the queue because its writer has ended. What is asked for now is lost, so nothing that the
    /// files have counts from now on.
    pub(crate) fn break_off(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.clearings += 1;
        let steps = mem::take(&mut state.steps);
        self.release(state);
        drop(steps);
    }

    /// Ends a clearing, or asks for it again.
    pub(crate) fn cleared(&self, succeeded: bool) {
        let mut state = self.lock();
        if succeeded {
            state.clearings -= 1;
        } else {
            // Those who wait are told by the loss of their mark.
            state.steps.retain(|step| !matches!(step, Step::Mark(_)));
            if !state.closed {
                // First, so that it cannot take what was stored since.
                state.steps.push_front(Step::Clear);
            }
        }
        self.release(state);
    }

    /// Returns whether a clearing is asked for and not done.
    pub(crate) fn is_clearing(&self) -> bool {
        self.lock().clearings > 0
    }

    /// Takes the number of times that too many removals waited.
    pub(crate) fn take_emergency_clears(&self) -> u64 {
        mem::take(&mut self.lock().emergency_clears)
    }

    /// Waits until the queue is closed, for a time at most.
    pub(crate) fn pause(&self, time: Duration) {
        let state = self.lock();
        let closed = self
            .changed
            .wait_timeout_while(state, time, |state| !state.closed);
        drop(closed);
    }

    fn has_room(&self, state: &State<T>, bytes: usize) -> bool {
        state.bytes == 0 || state.bytes.saturating_add(bytes) <= self.max_bytes
    }

    /// A thread that panics with the lock leaves a state in which every change is still complete.
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        wait(self.state.lock())
    }

    fn release(&self, state: MutexGuard<'_, State<T>>) {
        let pending = state.slots.len() + state.clearings;
        self.pending.store(pending, Ordering::Release);
        drop(state);
        self.changed.notify_one();
    }
}

fn wait<G>(result: Result<G, PoisonError<G>>) -> G {
    result.unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
