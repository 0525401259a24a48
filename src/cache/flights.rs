//! The computations of one handle in this process, each with the threads and tasks that wait for it
//! (single flight).
//!
//! Decides which caller in the process computes; `key_lock` decides between processes. Belongs to one
//! process: a forked child has neither the threads that compute nor those that wait. May call `lock`.

use std::collections::{BTreeMap, HashMap};
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread::ThreadId;
use std::time::Instant;

#[cfg(loom)]
use loom::sync::{Condvar, Mutex, MutexGuard};
#[cfg(not(loom))]
use std::sync::{Condvar, Mutex, MutexGuard};

use crate::lock;

#[cfg(test)]
mod tests;

/// What a flight of `T` ended with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome<T> {
    Done(T),
    /// The leader failed, panicked or lost the key to another one: each waiter begins again.
    Failed,
}

/// One computation of the value of one key.
#[derive(Debug)]
pub(super) struct Flight<T> {
    /// The thread that computes; `None` for a task, which may move between threads.
    leader: Option<ThreadId>,
    state: Mutex<State<T>>,
    ended: Condvar,
}

#[derive(Debug)]
struct State<T> {
    outcome: Option<Outcome<T>>,
    /// The wakers of waiting tasks, by a number.
    wakers: BTreeMap<u64, Waker>,
    next_waker: u64,
}

type ByKey<T> = HashMap<Box<[u8]>, Arc<Flight<T>>>;

/// The flights of one handle, by key.
#[derive(Debug)]
pub(super) struct Flights<T> {
    epoch: u64,
    by_key: Mutex<ByKey<T>>,
}

/// What a caller does about a key.
#[derive(Debug)]
pub(super) enum Joined<T> {
    Lead(Lead<T>),
    Wait(Arc<Flight<T>>),
    /// This thread leads the flight, and would wait for itself.
    Own,
}

/// The duty to end a flight. Dropping it ends the flight as failed.
#[derive(Debug)]
pub(super) struct Lead<T> {
    flights: Arc<Flights<T>>,
    key: Box<[u8]>,
    flight: Arc<Flight<T>>,
    has_ended: bool,
}

/// No code that can panic runs while a lock of this file is held.
fn open<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T> Default for Flights<T> {
    fn default() -> Self {
        Self {
            epoch: lock::epoch(),
            by_key: Mutex::new(HashMap::new()),
        }
    }
}

#[cfg(not(loom))]
impl<T> Drop for Flights<T> {
    /// Leaks the contents in a forked child: a thread of the parent may have been changing them.
    fn drop(&mut self) {
        if self.epoch != lock::epoch() {
            let by_key = self.by_key.get_mut();
            std::mem::forget(std::mem::take(
                by_key.unwrap_or_else(PoisonError::into_inner),
            ));
        }
    }
}

impl<T> Flights<T> {
    /// Joins the flight of a key, or begins one. `leader` is this thread, or `None` for a task.
    ///
    /// A flight for which the caller has waited too long is `stuck`: the caller begins another in its
    /// place, and the other waiters of that one are woken to join it.
    pub(super) fn join(
        self: &Arc<Self>,
        key: &[u8],
        leader: Option<ThreadId>,
        stuck: Option<&Arc<Flight<T>>>,
    ) -> Joined<T> {
        debug_assert_eq!(self.epoch, lock::epoch(), "a table of this process");
        let flight = Arc::new(Flight::new(leader));
        let mut by_key = open(&self.by_key);
        let replaced = match by_key.get(key) {
            Some(current) if leader.is_some() && current.leader == leader => return Joined::Own,
            Some(current) if stuck.is_none_or(|stuck| !Arc::ptr_eq(stuck, current)) => {
                return Joined::Wait(Arc::clone(current));
            }
            current => current.cloned(),
        };
        by_key.insert(key.into(), Arc::clone(&flight));
        drop(by_key);
        if let Some(replaced) = replaced {
            replaced.end(Outcome::Failed);
        }
        Joined::Lead(Lead {
            flights: Arc::clone(self),
            key: key.into(),
            flight,
            has_ended: false,
        })
    }

    #[cfg(all(test, not(loom)))]
    pub(super) fn len(&self) -> usize {
        open(&self.by_key).len()
    }
}

impl<T> Lead<T> {
    /// Ends the flight with a value, which its waiters take. The cache must have the value already,
    /// if it can be stored: a caller that comes later looks there.
    pub(super) fn end(mut self, value: T) {
        self.finish(Outcome::Done(value));
    }

    fn finish(&mut self, outcome: Outcome<T>) {
        if std::mem::replace(&mut self.has_ended, true) || self.flights.epoch != lock::epoch() {
            // In a forked child the flight is the parent's.
            return;
        }
        let mut by_key = open(&self.flights.by_key);
        let is_current = by_key
            .get(&self.key)
            .is_some_and(|current| Arc::ptr_eq(current, &self.flight));
        let removed = is_current.then(|| by_key.remove(&self.key));
        drop(by_key);
        drop(removed);
        self.flight.end(outcome);
    }
}

impl<T> Drop for Lead<T> {
    fn drop(&mut self) {
        self.finish(Outcome::Failed);
    }
}

impl<T> Flight<T> {
    fn new(leader: Option<ThreadId>) -> Self {
        Self {
            leader,
            state: Mutex::new(State {
                outcome: None,
                wakers: BTreeMap::new(),
                next_waker: 0,
            }),
            ended: Condvar::new(),
        }
    }

    /// Ends the flight, once: a leader that was replaced as stuck comes too late.
    fn end(&self, outcome: Outcome<T>) {
        let mut state = open(&self.state);
        if state.outcome.is_some() {
            return;
        }
        state.outcome = Some(outcome);
        let wakers = std::mem::take(&mut state.wakers);
        drop(state);
        self.ended.notify_all();
        wakers.into_values().for_each(Waker::wake);
    }
}

impl<T: Clone> Flight<T> {
    /// Waits until the flight has ended. `None` if the deadline passes first.
    pub(super) fn wait(&self, deadline: Option<Instant>) -> Option<Outcome<T>> {
        let mut state = open(&self.state);
        loop {
            if state.outcome.is_some() {
                return state.outcome.clone();
            }
            let Some(deadline) = deadline else {
                let woken = self.ended.wait(state);
                state = woken.unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            let woken = self.ended.wait_timeout(state, left);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits as a task, until the flight has ended.
    pub(super) fn waiting(self: &Arc<Self>) -> FlightFuture<T> {
        FlightFuture {
            flight: Arc::clone(self),
            number: None,
        }
    }
}

/// Resolves when a flight has ended.
#[derive(Debug)]
pub(super) struct FlightFuture<T> {
    flight: Arc<Flight<T>>,
    /// Of the waker that it has registered.
    number: Option<u64>,
}

impl<T: Clone> Future for FlightFuture<T> {
    type Output = Outcome<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome<T>> {
        let this = &mut *self;
        // A waker is the caller's code: it is cloned and dropped without the lock.
        let waker = context.waker().clone();
        let mut state = open(&this.flight.state);
        if let Some(outcome) = state.outcome.clone() {
            return Poll::Ready(outcome);
        }
        let number = *this.number.get_or_insert(state.next_waker);
        state.next_waker = state.next_waker.max(number + 1);
        let before = state.wakers.insert(number, waker);
        drop(state);
        drop(before);
        Poll::Pending
    }
}

impl<T> Drop for FlightFuture<T> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            let mut state = open(&self.flight.state);
            let before = state.wakers.remove(&number);
            drop(state);
            drop(before);
        }
    }
}
