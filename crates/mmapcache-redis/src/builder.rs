//! [`NearCacheBuilder`]: opens a near cache. May call `near_cache`, `session`, `applier`.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Duration;

use mmapcache::{Cache, CacheBuilder, Options};
use tokio::runtime;
use tokio::sync::Notify;
use xxhash_rust::xxh3::xxh3_64;

use crate::applier::Applier;
use crate::clock;
use crate::copies::Copies;
use crate::error::Error;
use crate::near_cache::NearCache;
use crate::server::Server;
use crate::session::Session;
use crate::state::{Limits, Shared};

/// How long a call waits for another writer of the file: the server would be asked sooner.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// Opens a [`NearCache`]; made by [`NearCache::builder`].
#[must_use = "a builder does nothing until `open`"]
#[derive(Debug)]
pub struct NearCacheBuilder {
    file: CacheBuilder,
    server: Server,
    age_limit: Duration,
    absence_limit: Duration,
    window: Duration,
    response_timeout: Duration,
    connect_timeout: Duration,
    queue: usize,
    prefixes: Vec<Vec<u8>>,
    lease_prefix: Vec<u8>,
    starts_offline: bool,
}

impl NearCacheBuilder {
    pub(crate) fn new(path: PathBuf, server: Server, age_limit: Duration) -> Self {
        let mut options = Options::new();
        options.lock_timeout(Some(LOCK_TIMEOUT));
        Self {
            file: Cache::builder(path).options(&options),
            server,
            age_limit,
            absence_limit: age_limit,
            window: Duration::from_secs(1),
            response_timeout: Duration::from_secs(1),
            connect_timeout: Duration::from_secs(2),
            queue: 10_000,
            prefixes: Vec::new(),
            lease_prefix: b"mmapcache:lease:".to_vec(),
            starts_offline: false,
        }
    }

    /// Sets up the local file: its bound in bytes, its options. Lives that it sets have no effect on
    /// copies, except that its jitter shortens them. Without options, calls wait 5 seconds for another
    /// writer of the file.
    ///
    /// Set [`CacheBuilder::max_bytes`]: without a bound, copies that no caller asks for again stay until
    /// writes come across them after their deadline.
    pub fn file(mut self, set_up: impl FnOnce(CacheBuilder) -> CacheBuilder) -> Self {
        self.file = set_up(self.file);
        self
    }

    /// Copies only keys that begin with one of these; the server tells of changes of these keys only.
    /// None may be the beginning of another. Other keys are asked of the server each time. Default: all
    /// keys are copied.
    pub fn prefixes<P: AsRef<[u8]>>(mut self, prefixes: impl IntoIterator<Item = P>) -> Self {
        self.prefixes = prefixes.into_iter().map(|p| p.as_ref().to_vec()).collect();
        self.prefixes.sort();
        self.prefixes.dedup();
        self
    }

    /// Sets how old a value from the local file may be at most: how long after the server acknowledged
    /// a write the value before it may still be returned. Default: 1 second; from 20 ms on.
    ///
    /// Usually a change is known within a millisecond. The window is for a connection that is silently
    /// dead, and for a process or machine that was stopped. Each process sends four PINGs in this time.
    pub fn window(mut self, window: Duration) -> Self {
        self.window = window;
        self
    }

    /// Sets how long a copy lives that says that the server has no such key. It is never longer than the
    /// age limit, which is the default; zero stores none.
    pub fn absent_for(mut self, life: Duration) -> Self {
        self.absence_limit = life;
        self
    }

    /// Sets how long a call waits for the server's answer. Default: 1 second.
    pub fn response_timeout(mut self, timeout: Duration) -> Self {
        self.response_timeout = timeout;
        self
    }

    /// Sets how long an attempt to connect may take. Default: 2 seconds.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Sets how many messages may wait between the connection and the file. If there are more, all
    /// copies are dropped. Default: 10,000; at least 1. A message names as many keys as changed in one
    /// turn of the server.
    pub fn queue(mut self, messages: usize) -> Self {
        self.queue = messages;
        self
    }

    /// Sets with what the names of leases on the server begin; the rest is the key. Default:
    /// `mmapcache:lease:`. All machines that share computations need the same.
    pub fn lease_prefix(mut self, prefix: impl AsRef<[u8]>) -> Self {
        self.lease_prefix = prefix.as_ref().to_vec();
        self
    }

    /// Opens also if the server cannot be reached or refuses the connection. Then calls return an error
    /// until it can, except [`NearCache::get_or_unverified`] of keys that are in the file. Default: `open`
    /// returns the error of the first attempt to connect.
    pub fn start_offline(mut self, starts_offline: bool) -> Self {
        self.starts_offline = starts_offline;
        self
    }

    /// Opens the local file, or creates it, starts two threads and connects to the server.
    ///
    /// # Errors
    ///
    /// - [`Error::InvalidOption`] if an option is outside its range.
    /// - [`Error::File`] if the file cannot be opened.
    /// - [`Error::Unavailable`], [`Error::Refused`] or [`Error::Unsuitable`] if the server cannot be used,
    ///   unless [`start_offline`](Self::start_offline) is set.
    /// - [`Error::Thread`] if there can be no more threads.
    pub fn open(self) -> Result<NearCache, Error> {
        self.check()?;
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(Error::Thread)?;
        let group = self.group();
        let (queue, events) = sync_channel(self.queue);
        let claim_life = self.response_timeout * 2;
        let copies = Copies::new(self.file.open()?, group, claim_life);
        let limits = Limits {
            window: clock::nanos(self.window),
            age: self.age_limit,
            absence: self.absence_limit.min(self.age_limit),
            prefixes: self.prefixes,
            response: self.response_timeout,
        };
        let name = self.server.name().to_owned();
        let shared = Arc::new(Shared::new(copies, limits, name, queue));
        let heartbeat = self.window / 4;
        let applier = Applier {
            shared: Arc::downgrade(&shared),
            queue: events,
            patience: heartbeat * 2 + Duration::from_millis(20),
            complete_since: 0,
            asking: None,
            failures: 0,
        };
        let closed = Arc::new(Notify::new());
        let session = Session {
            shared: Arc::clone(&shared),
            server: self.server,
            heartbeat,
            connect_timeout: self.connect_timeout,
            closed: Arc::clone(&closed),
        };
        let handle = runtime.handle().clone();
        let (first, outcome) = sync_channel(1);
        // Dropping it ends both threads.
        let mut near = NearCache::new(shared, handle, closed, self.lease_prefix);
        near.threads
            .push(start("near-apply", move || applier.run())?);
        near.threads.push(start("near-connect", move || {
            runtime.block_on(session.run(first))
        })?);
        if self.starts_offline {
            return Ok(near);
        }
        // The thread sends before it ends, unless it panics.
        let gone = |_| Error::Unavailable {
            server: near.shared.server.clone(),
            reason: "the thread of the connection is gone".to_owned(),
        };
        outcome.recv().map_err(gone).and_then(|first| first)?;
        Ok(near)
    }

    fn check(&self) -> Result<(), Error> {
        let invalid = |option, reason: &str| {
            Err(Error::InvalidOption {
                option,
                reason: reason.to_owned(),
            })
        };
        let hour = Duration::from_secs(3_600);
        if self.age_limit < Duration::from_millis(1) {
            return invalid("age_limit", "it must be at least a millisecond");
        }
        if self.window < Duration::from_millis(20) || self.window > hour {
            return invalid("window", "it must be from 20 ms to an hour");
        }
        for (option, time) in [
            ("response_timeout", self.response_timeout),
            ("connect_timeout", self.connect_timeout),
        ] {
            if time < Duration::from_millis(1) || time > hour {
                return invalid(option, "it must be from a millisecond to an hour");
            }
        }
        if self.queue == 0 || self.queue > 1 << 24 {
            return invalid("queue", "it must be from 1 to 16,777,216 messages");
        }
        // They are sorted: one that is the beginning of another is before it.
        let overlap = self
            .prefixes
            .windows(2)
            .find(|pair| pair[1].starts_with(&pair[0]));
        if let Some(pair) = overlap {
            let [short, long] = [&pair[0], &pair[1]].map(|p| String::from_utf8_lossy(p));
            let reason = format!("`{short}` is the beginning of `{long}`; leave one of them out");
            return invalid("prefixes", &reason);
        }
        Ok(())
    }

    /// Returns what tells the copies of this server, database and prefixes from those of others.
    fn group(&self) -> u64 {
        let mut name = format!("{}\n{}", self.server.name(), self.server.database()).into_bytes();
        for prefix in &self.prefixes {
            name.extend_from_slice(&(prefix.len() as u64).to_le_bytes());
            name.extend_from_slice(prefix);
        }
        xxh3_64(&name)
    }
}

fn start(
    name: &str,
    work: impl FnOnce() + Send + 'static,
) -> Result<thread::JoinHandle<()>, Error> {
    let builder = thread::Builder::new().name(name.to_owned());
    builder.spawn(work).map_err(Error::Thread)
}
