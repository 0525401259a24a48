//! [`Shared`]: what callers, the connection and the applier know in common.
//!
//! The mutex orders all changes; the two words beside it let a lookup do without. May call `copies`,
//! `clock`, `epochs` and `stats`.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;

use crate::clock;
use crate::copies::Copies;
use crate::epochs::Run;
use crate::error::Error;
use crate::stats::{Counters, count};

/// What the connection tells the applier, in the order of the socket.
#[derive(Debug)]
pub(crate) enum Event {
    /// These keys changed.
    Changed(Vec<Vec<u8>>),
    /// Everything may have changed: the moment when that was read.
    Everything(u64),
    /// All that the link with this number was told before the moment is in the queue before this.
    Proven { link: u64, moment: u64 },
    /// Look at the state.
    Wake,
}

/// A connection that is told of changes.
#[derive(Clone)]
pub(crate) struct Link {
    pub(crate) number: u64,
    pub(crate) connection: MultiplexedConnection,
    pub(crate) run: Run,
    /// Told of all changes since this moment.
    pub(crate) since: u64,
}

/// Limits, fixed when the cache is opened.
#[derive(Debug)]
pub(crate) struct Limits {
    pub(crate) window: u64,
    pub(crate) age: Duration,
    pub(crate) absence: Duration,
    pub(crate) prefixes: Vec<Vec<u8>>,
    pub(crate) response: Duration,
}

/// What a request is sent with: a connection and the epoch of its reply.
pub(crate) struct Request {
    pub(crate) connection: MultiplexedConnection,
    /// 0 if the reply must not be stored.
    pub(crate) epoch: u64,
}

#[derive(Default)]
struct State {
    link: Option<Link>,
    /// Why there is no link.
    reason: String,
    /// Messages that told to drop everything, and that the applier has not come to.
    pending: u32,
    /// Keys that are being fetched, each with the number of its fetch.
    fetches: HashMap<Vec<u8>, u64>,
    last_fetch: u64,
}

pub(crate) struct Shared {
    pub(crate) copies: Copies,
    pub(crate) limits: Limits,
    pub(crate) counters: Counters,
    pub(crate) server: String,
    pub(crate) is_closed: AtomicBool,
    state: Mutex<State>,
    /// The epoch that is served; 0 if none is.
    epoch: AtomicU64,
    /// Everything that was told before this moment has been applied to the file.
    proven: AtomicU64,
    /// A message was lost because the queue was full, or could not be applied.
    lost: AtomicBool,
    queue: SyncSender<Event>,
}

impl Shared {
    pub(crate) fn new(
        copies: Copies,
        limits: Limits,
        server: String,
        queue: SyncSender<Event>,
    ) -> Self {
        Self {
            copies,
            limits,
            counters: Counters::default(),
            server,
            is_closed: AtomicBool::new(false),
            state: Mutex::new(State {
                reason: "no connection was made yet".to_owned(),
                ..State::default()
            }),
            epoch: AtomicU64::new(0),
            proven: AtomicU64::new(0),
            lost: AtomicBool::new(false),
            queue,
        }
    }

    /// No holder of the mutex leaves the state half changed.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the epoch that is served, 0 if none is, and the moment before which everything is applied
    /// that was told. To be called before a copy is read. Two loads.
    ///
    /// The moment first: a new link ends the epoch before it sets the moment of its own. The other way
    /// round, a caller that is interrupted between the loads could take the new link's moment for a proof of
    /// the epoch before it, in which nothing was told for as long as the old connection was silent.
    pub(crate) fn served(&self) -> (u64, u64) {
        let proven = self.proven.load(SeqCst);
        (self.epoch.load(SeqCst), proven)
    }

    /// Returns whether what was read after [`served`](Self::served) returned this moment is recent enough.
    pub(crate) fn is_recent(&self, proven: u64) -> bool {
        clock::now().saturating_sub(proven) <= self.limits.window
    }

    /// Returns whether changes of a key are told.
    pub(crate) fn is_tracked(&self, key: &[u8]) -> bool {
        let prefixes = &self.limits.prefixes;
        let has = |prefix: &Vec<u8>| key.starts_with(prefix);
        Copies::can_hold(key) && (prefixes.is_empty() || prefixes.iter().any(has))
    }

    // Called by the connection, in the order of the socket.

    /// Marks the fetches of keys that changed, and hands the keys to the applier.
    pub(crate) fn changed(&self, keys: Vec<Vec<u8>>) {
        count(&self.counters.invalidated_keys, keys.len() as u64);
        self.forget_fetches(&keys);
        self.enqueue(Event::Changed(keys));
    }

    /// Stops to serve, and asks the applier for a new epoch.
    pub(crate) fn everything_changed(&self) {
        count(&self.counters.flushes, 1);
        let mut state = self.state();
        self.suspend(&mut state);
        state.pending += 1;
        drop(state);
        if !self.enqueue(Event::Everything(clock::now())) {
            self.settle();
        }
    }

    /// All that the link was told before the moment has been read.
    pub(crate) fn proved(&self, link: u64, moment: u64) {
        // If the queue is full, the next proof will do.
        let _ = self.queue.try_send(Event::Proven { link, moment });
    }

    /// Returns whether there was room. If not, everything counts as changed.
    fn enqueue(&self, event: Event) -> bool {
        match self.queue.try_send(event) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                count(&self.counters.overflows, 1);
                self.distrust();
                false
            }
        }
    }

    /// Stops to serve until the applier has begun a new epoch: a change may not be known.
    pub(crate) fn distrust(&self) {
        let mut state = self.state();
        self.suspend(&mut state);
        self.lost.store(true, SeqCst);
        drop(state);
        self.wake();
    }

    fn suspend(&self, state: &mut State) {
        self.epoch.store(0, SeqCst);
        state.fetches.clear();
    }

    pub(crate) fn wake(&self) {
        let _ = self.queue.try_send(Event::Wake);
    }

    // Called by the session.

    pub(crate) fn connected(&self, link: Link) {
        count(&self.counters.connections, 1);
        let mut state = self.state();
        self.suspend(&mut state);
        // What it was told, the applier applies: for this link it is in the past.
        self.proven.store(link.since, SeqCst);
        state.link = Some(link);
        drop(state);
        self.wake();
    }

    /// Stops to serve, unless a later link is there.
    pub(crate) fn disconnected(&self, link: u64, reason: &str) {
        let mut state = self.state();
        if state.link.as_ref().is_some_and(|now| now.number != link) {
            return;
        }
        self.suspend(&mut state);
        state.link = None;
        reason.clone_into(&mut state.reason);
    }

    pub(crate) fn is_linked(&self, link: u64) -> bool {
        let state = self.state();
        state.link.as_ref().is_some_and(|now| now.number == link)
    }

    // Called by the applier.

    /// Returns the link whose epoch is to be found, if there is one that has none.
    pub(crate) fn link_without_epoch(&self) -> Option<Link> {
        let state = self.state();
        let is_free = self.epoch.load(SeqCst) == 0 && state.pending == 0;
        state.link.clone().filter(|_| is_free)
    }

    /// Returns the link and its epoch, if it has one.
    pub(crate) fn membership(&self) -> Option<(Link, u64)> {
        let state = self.state();
        let epoch = self.epoch.load(SeqCst);
        state
            .link
            .clone()
            .filter(|_| epoch != 0)
            .map(|link| (link, epoch))
    }

    /// Serves an epoch from now on, unless something came in between.
    pub(crate) fn publish(&self, link: u64, epoch: u64) -> bool {
        let state = self.state();
        let is_current = state.link.as_ref().is_some_and(|now| now.number == link);
        if !is_current || state.pending > 0 || self.lost.load(SeqCst) {
            return false;
        }
        self.epoch.store(epoch, SeqCst);
        true
    }

    pub(crate) fn prove_until(&self, link: u64, moment: u64) -> bool {
        let state = self.state();
        let is_current = state.link.as_ref().is_some_and(|now| now.number == link);
        if is_current {
            self.proven.fetch_max(moment, SeqCst);
        }
        is_current
    }

    /// The applier has come to a message that told to drop everything.
    pub(crate) fn settle(&self) {
        let mut state = self.state();
        state.pending = state.pending.saturating_sub(1);
    }

    /// As if all messages that told to drop everything were applied: the queue was emptied.
    pub(crate) fn settle_all(&self) {
        self.state().pending = 0;
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.lost.load(SeqCst)
    }

    /// From now on messages are queued again. To be called before the queue is emptied.
    pub(crate) fn forgive(&self) {
        self.lost.store(false, SeqCst);
    }

    // Called by those who ask the server.

    /// Returns what to send a request with.
    pub(crate) fn request(&self) -> Result<Request, Error> {
        let state = self.state();
        match &state.link {
            Some(link) => Ok(Request {
                connection: link.connection.clone(),
                epoch: self.epoch.load(SeqCst),
            }),
            None => Err(Error::Unavailable {
                server: self.server.clone(),
                reason: state.reason.clone(),
            }),
        }
    }

    /// Notes that a key is being fetched in an epoch. `None` if the epoch has ended.
    pub(crate) fn begin_fetch(&self, key: &[u8], epoch: u64) -> Option<u64> {
        let mut state = self.state();
        if epoch == 0 || self.epoch.load(SeqCst) != epoch {
            return None;
        }
        state.last_fetch += 1;
        let number = state.last_fetch;
        state.fetches.insert(key.to_vec(), number);
        Some(number)
    }

    /// Ends a fetch. Returns whether nothing was told of its key since it began.
    pub(crate) fn end_fetch(&self, key: &[u8], number: u64) -> bool {
        let mut state = self.state();
        if state.fetches.get(key) != Some(&number) {
            return false;
        }
        state.fetches.remove(key);
        true
    }

    /// Marks the fetches of these keys as not to be stored.
    pub(crate) fn forget_fetches(&self, keys: &[Vec<u8>]) {
        let mut state = self.state();
        if state.fetches.is_empty() {
            return;
        }
        for key in keys {
            state.fetches.remove(key);
        }
    }
}
