//! One computation of the value of a key, over threads, tasks and processes.
//!
//! Two stages: among the callers of one handle, `flights` chooses one; among these of all handles and
//! processes, `key_lock` does. The rules are in [`Attempt::step`], which never waits; [`obtain`] waits
//! for it as a thread, [`obtain_async`] as a task. May call its siblings below it, `engine::handle`
//! and `engine::read::lookup`.

#[cfg(test)]
mod tests;

use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use crate::cache::compute_options::ComputeOptions;
use crate::cache::flights::{Flight, Flights, Joined, Lead, Outcome};
use crate::cache::found::Found;
use crate::cache::insert::InsertOptions;
use crate::cache::key_lock::{KeyLock, Next, Pace};
use crate::cache::obtained::{ComputeError, Obtained, Origin};
use crate::cache::usability::{self, Usability};
use crate::engine::Version;
use crate::engine::handle::Handle;
use crate::error::{self, ErrorKind};
use crate::os::clock::unix_millis;
use crate::os::random;

/// Replacements of the files during one call's contention for a key, before it gives up.
const REPLACEMENTS: u32 = 100;
/// Values that others store during one call and that it cannot use, before it gives up storing its own.
const STORES: u32 = 100;

/// A value; `None` if the key is known not to exist.
pub(super) type Value = Option<Vec<u8>>;

/// A value for the waiters of a flight, and where they say that it came from.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    value: Option<Arc<Vec<u8>>>,
    origin: Origin,
}

/// The cache, as computations use it.
pub(super) trait Store {
    fn handle(&self) -> &Handle;

    fn flights(&self) -> &Arc<Flights<Shared>>;

    /// Finds an entry, whatever its state. A damaged one is absent.
    fn find_readable(&self, key: &[u8]) -> error::Result<Option<Found>>;

    /// Lets an entry that was found fresh live until `ttl` from now, if that is worth a write.
    fn prolong(&self, key: &[u8], found: &Found, ttl: Duration);

    /// Returns the version of the last change before a computation that begins now.
    fn begin(&self) -> error::Result<Version>;

    /// Stores a value, or that there is none, unless the key has a fresh or stale entry that is newer
    /// than the computation; returns that entry then. Stores nothing if a group of the value was
    /// invalidated during the computation.
    fn store_unless_newer(
        &self,
        key: &[u8],
        value: Option<&[u8]>,
        options: &InsertOptions,
        since: Since,
    ) -> error::Result<Option<Found>>;
}

/// The moment at which a computation began.
#[derive(Clone, Copy, Debug)]
pub(super) struct Since {
    /// The version of the entry that was there, if there was one.
    pub seen: Option<u64>,
    /// The version of the last change of any entry.
    pub begun: Version,
}

/// What a call returns: a value, or that there is none, what the caller reads in it, and where it came
/// from.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reply<T> {
    pub value: Value,
    pub read: T,
    pub origin: Origin,
}

impl<T> Reply<T> {
    /// Returns the value; `None` if the key is known not to exist.
    pub(super) fn into_optional(self) -> Option<Obtained> {
        let Self { value, origin, .. } = self;
        value.map(|value| Obtained { value, origin })
    }

    /// Returns the value, for a caller that accepts nothing else.
    pub(super) fn into_obtained(self) -> Obtained {
        debug_assert!(self.value.is_some(), "negative entries were not accepted");
        Obtained {
            value: self.value.unwrap_or_default(),
            origin: self.origin,
        }
    }
}

/// An entry that is not fresh, or is to be recomputed early.
#[derive(Debug)]
struct Spare<T> {
    value: Value,
    read: T,
    /// Where it comes from if another caller recomputes it; `None` if it must be waited for.
    at_once: Option<Origin>,
    on_error: Origin,
}

/// A call that looks for a value until it may compute it. Dropping it lets another one compute.
struct Attempt<'a, S: Store, T, A> {
    store: &'a S,
    key: &'a [u8],
    options: &'a ComputeOptions,
    accept: A,
    /// `None` for a task.
    thread: Option<ThreadId>,
    spare: Option<Spare<T>>,
    /// The version of the entry that was seen last.
    seen: Option<u64>,
    draw: Option<f64>,
    pace: Pace,
    stuck: Option<Arc<Flight<Shared>>>,
    // Dropped in this order: a waiter that the flight wakes finds the byte free.
    lock: Option<KeyLock>,
    lead: Option<Lead<Shared>>,
}

/// What a call does next.
enum Step<T> {
    Ready(Reply<T>),
    /// Wait for another caller of this handle.
    Join(Arc<Flight<Shared>>, Option<Instant>),
    /// Wait for another process, or another handle.
    Pause(Duration),
    /// Compute the value.
    Compute,
}

impl<'a, S: Store, T, A> Attempt<'a, S, T, A>
where
    A: FnMut(Option<&[u8]>) -> Option<T>,
{
    fn new(
        store: &'a S,
        key: &'a [u8],
        options: &'a ComputeOptions,
        accept: A,
        is_task: bool,
    ) -> Self {
        Self {
            store,
            key,
            options,
            accept,
            thread: (!is_task).then(|| thread::current().id()),
            spare: None,
            seen: None,
            draw: None,
            pace: Pace::new(options.patience_of_call()),
            stuck: None,
            lock: None,
            lead: None,
        }
    }

    /// Looks for the value, and contends for its computation. Never waits.
    fn step(&mut self) -> error::Result<Step<T>> {
        if let Some(reply) = self.look()? {
            return Ok(Step::Ready(self.end_with(reply)));
        }
        if self.store.handle().options.read_only {
            return match self.take_spare_at_once() {
                Some(reply) => Ok(Step::Ready(reply)),
                None => Err(ErrorKind::ReadOnly.at(&self.store.handle().path)),
            };
        }
        self.pace.begin();
        if self.lead.is_none()
            && let Some(step) = self.join()?
        {
            return Ok(step);
        }
        self.contend()
    }

    /// Looks the key up. Returns what the caller takes at once, and keeps what it may take later.
    fn look(&mut self) -> error::Result<Option<Reply<T>>> {
        let found = self.store.find_readable(self.key)?;
        self.spare = None;
        self.seen = found.as_ref().map(|found| found.version);
        let Some(mut found) = found else {
            return Ok(None);
        };
        let is_negative = found.traits.is_negative();
        if let Some(ttl) = self.options.renewal()
            && !is_negative
        {
            self.store.prolong(self.key, &found, ttl);
        }
        let value = (!is_negative).then(|| std::mem::take(&mut found.value));
        let Some(read) = (self.accept)(value.as_deref()) else {
            return Ok(None);
        };
        let (store, draw) = (self.store, &mut self.draw);
        let settings = || {
            let generation = store.handle().generation.load();
            generation.header().settings().unwrap_or_default()
        };
        let draw = || *draw.get_or_insert_with(random_share);
        let now = unix_millis();
        let (at_once, on_error) = match usability::decide(&found, self.options, now, settings, draw)
        {
            Usability::Fresh => {
                let origin = match self.pace.has_begun() {
                    true => Origin::Awaited,
                    false => Origin::Stored,
                };
                return Ok(Some(Reply {
                    value,
                    read,
                    origin,
                }));
            }
            Usability::Early => (Some(Origin::Stored), Origin::Stored),
            Usability::Stale => (Some(Origin::Stale), Origin::StaleOnError),
            Usability::Expired { on_error: true } => (None, Origin::StaleOnError),
            Usability::Expired { on_error: false } => return Ok(None),
        };
        self.spare = Some(Spare {
            value,
            read,
            at_once,
            on_error,
        });
        Ok(None)
    }

    /// Joins the callers of this handle. `None` if this one leads.
    fn join(&mut self) -> error::Result<Option<Step<T>>> {
        let stuck = self.stuck.take();
        match (self.store.flights()).join(self.key, self.thread, stuck.as_ref()) {
            Joined::Lead(lead) => {
                self.lead = Some(lead);
                Ok(None)
            }
            Joined::Own => match self.take_spare_at_once() {
                Some(reply) => Ok(Some(Step::Ready(reply))),
                None => Err(ErrorKind::AlreadyComputing.at(&self.store.handle().path)),
            },
            Joined::Wait(flight) => Ok(Some(match self.take_spare_at_once() {
                Some(reply) => Step::Ready(reply),
                None => {
                    if stuck.is_some() {
                        // Another caller has replaced the flight that was stuck.
                        self.pace.restart();
                    }
                    Step::Join(flight, self.pace.deadline())
                }
            })),
        }
    }

    /// Contends with other processes and handles, as the one of this handle that leads.
    fn contend(&mut self) -> error::Result<Step<T>> {
        let handle = self.store.handle();
        let mut replaced = 0;
        loop {
            let lock = match self.lock.take() {
                Some(lock) if lock.is_own() => lock,
                _ => KeyLock::open(handle, self.key)?,
            };
            let lock = self.lock.insert(lock);
            if lock.try_lock(handle, self.pace.level())? {
                if !lock.is_current(handle)? {
                    // Others contend for a byte of the new files.
                    self.lock = None;
                    replaced += 1;
                    if replaced == REPLACEMENTS {
                        let (what, attempts) = ("the files", REPLACEMENTS);
                        return Err(ErrorKind::Contended { what, attempts }.at(&handle.path));
                    }
                    continue;
                }
                // Another one may have stored the value before it released the byte.
                return Ok(match self.look()? {
                    Some(reply) => Step::Ready(self.end_with(reply)),
                    None => Step::Compute,
                });
            }
            if let Some(reply) = self.take_spare_at_once() {
                return Ok(Step::Ready(self.end_with(reply)));
            }
            match self.pace.next() {
                Next::Pause(pause) => return Ok(Step::Pause(pause)),
                Next::Level(_) => {}
                Next::Alone => {
                    self.lock = None;
                    return Ok(Step::Compute);
                }
            }
        }
    }

    /// Takes the value of a flight that has ended; `None` if the caller must begin again.
    fn joined(
        &mut self,
        flight: Arc<Flight<Shared>>,
        outcome: Option<Outcome<Shared>>,
    ) -> Option<Reply<T>> {
        match outcome {
            Some(Outcome::Done(Shared { value, origin })) => {
                if let Some(read) = (self.accept)(value.as_ref().map(|value| &value[..])) {
                    return Some(Reply {
                        value: value.map(Arc::unwrap_or_clone),
                        read,
                        origin,
                    });
                }
                self.pace.restart();
            }
            Some(_) => self.pace.restart(),
            // It waits no longer: `Pace::next` leads to the next level.
            None => self.stuck = Some(flight),
        }
        None
    }

    fn take_spare_at_once(&mut self) -> Option<Reply<T>> {
        let spare = self.spare.take_if(|spare| spare.at_once.is_some())?;
        Some(Reply {
            value: spare.value,
            read: spare.read,
            origin: spare.at_once?,
        })
    }

    /// Gives a reply to the callers of this handle that wait for it, if this one leads.
    fn end_with(&mut self, reply: Reply<T>) -> Reply<T> {
        self.lock = None;
        let Some(lead) = self.lead.take() else {
            return reply;
        };
        let origin = match reply.origin {
            Origin::Stored | Origin::Computed => Origin::Awaited,
            origin => origin,
        };
        let value = reply.value.map(Arc::new);
        let shared = value.clone();
        lead.end(Shared {
            value: shared,
            origin,
        });
        Reply {
            value: value.map(Arc::unwrap_or_clone),
            read: reply.read,
            origin: reply.origin,
        }
    }

    /// Stores a computed value. Returns what another call stored during the computation instead, if the
    /// caller can use that. A negative entry that it cannot use stays; a value is replaced.
    fn store(
        &mut self,
        value: Option<&[u8]>,
        options: &InsertOptions,
        begun: Version,
    ) -> error::Result<Option<(Value, T)>> {
        for _ in 0..STORES {
            let since = Since {
                seen: self.seen,
                begun,
            };
            let other = self
                .store
                .store_unless_newer(self.key, value, options, since)?;
            let Some(other) = other else {
                return Ok(None);
            };
            let is_negative = other.traits.is_negative();
            let found = (!is_negative).then_some(other.value);
            if let Some(read) = (self.accept)(found.as_deref()) {
                return Ok(Some((found, read)));
            }
            if is_negative {
                return Ok(None);
            }
            self.seen = Some(other.version);
        }
        let (what, attempts) = ("the entry", STORES);
        Err(ErrorKind::Contended { what, attempts }.at(&self.store.handle().path))
    }

    /// Stores what the computation returned, and lets others have it.
    fn finish<E>(
        mut self,
        computed: Result<(Value, T), E>,
        cost: Duration,
        begun: Version,
    ) -> Obtain<T, E> {
        let (value, read) = match computed {
            Ok(computed) => computed,
            Err(error) => {
                let Some(spare) = self.spare.take() else {
                    return Err(ComputeError::Failed(error));
                };
                return Ok(self.end_with(Reply {
                    value: spare.value,
                    read: spare.read,
                    origin: spare.on_error,
                }));
            }
        };
        let options = self.options.to_store(value.is_none(), cost);
        let stored = self.store(value.as_deref(), &options, begun);
        let reply = match stored {
            Ok(Some((value, read))) => Reply {
                value,
                read,
                origin: Origin::Awaited,
            },
            Ok(None) => Reply {
                value,
                read,
                origin: Origin::Computed,
            },
            Err(error) => {
                // The waiters of this handle take the value all the same.
                let value = self.end_with(Reply {
                    value,
                    read,
                    origin: Origin::Computed,
                });
                return Err(match value.value {
                    Some(_) => ComputeError::NotStored { value, error },
                    None => ComputeError::Cache(error),
                });
            }
        };
        Ok(self.end_with(reply))
    }
}

/// Returns a random number above 0 and at most 1.
fn random_share() -> f64 {
    const BITS: u32 = 53;
    let drawn = random::number() >> (u64::BITS - BITS);
    (drawn + 1) as f64 / (1_u64 << BITS) as f64
}

/// What a call returns. A value that was not stored is in its error.
pub(super) type Obtain<T, E> = Result<Reply<T>, ComputeError<E, Reply<T>>>;

/// Returns the value of a key; computes it if there is none and no other caller does.
///
/// `accept` reads what is stored, `None` for a negative entry. What it returns `None` for counts as
/// absent; a value is replaced. It runs without the writer lock.
pub(super) fn obtain<S: Store, T, E>(
    store: &S,
    key: &[u8],
    options: &ComputeOptions,
    accept: impl FnMut(Option<&[u8]>) -> Option<T>,
    compute: impl FnOnce() -> Result<(Value, T), E>,
) -> Obtain<T, E> {
    let mut attempt = Attempt::new(store, key, options, accept, false);
    loop {
        match attempt.step()? {
            Step::Ready(reply) => return Ok(reply),
            Step::Compute => break,
            Step::Pause(pause) => thread::sleep(pause),
            Step::Join(flight, deadline) => {
                let outcome = flight.wait(deadline);
                if let Some(reply) = attempt.joined(flight, outcome) {
                    return Ok(reply);
                }
            }
        }
    }
    let (version, began) = (store.begin()?, Instant::now());
    let computed = compute();
    attempt.finish(computed, began.elapsed(), version)
}

/// Accepts every value, and no negative entry.
pub(super) fn only_values(stored: Option<&[u8]>) -> Option<()> {
    stored.map(|_| ())
}

/// As [`obtain`], as a task. `sleep` returns a future that is ready after a time.
pub(super) async fn obtain_async<S, T, E, D, F>(
    store: &S,
    key: &[u8],
    options: &ComputeOptions,
    accept: impl FnMut(Option<&[u8]>) -> Option<T>,
    sleep: impl Fn(Duration) -> D,
    compute: impl FnOnce() -> F,
) -> Obtain<T, E>
where
    S: Store,
    D: Future<Output = ()>,
    F: Future<Output = Result<(Value, T), E>>,
{
    let mut attempt = Attempt::new(store, key, options, accept, true);
    loop {
        match attempt.step()? {
            Step::Ready(reply) => return Ok(reply),
            Step::Compute => break,
            Step::Pause(pause) => sleep(pause).await,
            Step::Join(flight, deadline) => {
                let outcome = wait_as_task(&flight, deadline, &sleep).await;
                if let Some(reply) = attempt.joined(flight, outcome) {
                    return Ok(reply);
                }
            }
        }
    }
    let (version, began) = (store.begin()?, Instant::now());
    let computed = compute().await;
    attempt.finish(computed, began.elapsed(), version)
}

async fn wait_as_task<D: Future<Output = ()>>(
    flight: &Arc<Flight<Shared>>,
    deadline: Option<Instant>,
    sleep: &impl Fn(Duration) -> D,
) -> Option<Outcome<Shared>> {
    let mut waiting = pin!(flight.waiting());
    let Some(deadline) = deadline else {
        return Some(waiting.await);
    };
    let mut timer = pin!(sleep(deadline.saturating_duration_since(Instant::now())));
    std::future::poll_fn(|context| {
        if let Poll::Ready(outcome) = waiting.as_mut().poll(context) {
            return Poll::Ready(Some(outcome));
        }
        timer.as_mut().poll(context).map(|()| None)
    })
    .await
}
