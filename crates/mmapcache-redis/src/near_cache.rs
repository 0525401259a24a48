//! [`NearCache`]: reads through the local file, writes through to the server.
//!
//! May call `builder`, `state`, `copies` and `error`; `compute` builds on it.

use std::fmt;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, FromRedisValue, RedisResult, cmd, pipe};
use tokio::runtime::Handle;
use tokio::sync::Notify;

use crate::answer::{Answer, Source};
use crate::builder::NearCacheBuilder;
use crate::clock;
use crate::copies::Claim;
use crate::error::Error;
use crate::server::Server;
use crate::state::{Request, Shared};
use crate::stats::{NearStats, count};

/// The reply to PTTL and GET.
type Reply = (i64, Option<Vec<u8>>);

/// Copies of string values of a Redis or Valkey server, in a file that all processes of a machine share.
///
/// Threads share one handle; each process opens its own. A handle has two threads and one connection.
/// What a copy means, and for how long it may be old, is said in the [crate's documentation](crate).
///
/// All methods block: in an asynchronous program call them by `spawn_blocking`. A forked child must open
/// a near cache of its own: the threads of the one that it inherits are not there.
pub struct NearCache {
    pub(crate) shared: Arc<Shared>,
    pub(crate) lease_prefix: Vec<u8>,
    runtime: Handle,
    closed: Arc<Notify>,
    pub(crate) threads: Vec<JoinHandle<()>>,
}

impl fmt::Debug for NearCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NearCache")
            .field("path", &self.path())
            .field("server", &self.shared.server)
            .finish_non_exhaustive()
    }
}

impl NearCache {
    /// Opens a near cache with the defaults of [`NearCacheBuilder`]: the local file at `path`, copies of
    /// all keys that are asked for, each for `age_limit` at most.
    ///
    /// The server tells of changes, so the limit may be long. It is for what no server tells, `SWAPDB`
    /// for example.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`NearCacheBuilder::open`].
    pub fn open(
        path: impl AsRef<Path>,
        server: impl TryInto<Server, Error = redis::RedisError>,
        age_limit: Duration,
    ) -> Result<Self, Error> {
        let server = server.try_into().map_err(|source| Error::Refused {
            server: "the address".to_owned(),
            source,
        })?;
        Self::builder(path, server, age_limit).open()
    }

    /// Begins to open a near cache, with options.
    pub fn builder(
        path: impl AsRef<Path>,
        server: Server,
        age_limit: Duration,
    ) -> NearCacheBuilder {
        NearCacheBuilder::new(path.as_ref().to_owned(), server, age_limit)
    }

    pub(crate) fn new(
        shared: Arc<Shared>,
        runtime: Handle,
        closed: Arc<Notify>,
        lease_prefix: Vec<u8>,
    ) -> Self {
        Self {
            shared,
            lease_prefix,
            runtime,
            closed,
            threads: Vec::new(),
        }
    }

    /// Returns the path of the local file.
    pub fn path(&self) -> &Path {
        self.shared.copies.cache.path()
    }

    /// Returns the value of a key: the copy if there is one that may be served, otherwise what the server
    /// says. `None` if there is no such key.
    ///
    /// A local hit takes a lookup in the file, about a microsecond; otherwise a round trip and two writes
    /// to the file. Errors of the local file make no call fail: the server is asked.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Unavailable`] if there is no copy and no answer, and [`Error::Refused`] if the key
    /// holds something other than a string, or the server refuses for another reason.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Vec<u8>>, Error> {
        self.lookup(key.as_ref()).map(|answer| answer.value)
    }

    /// As [`get`](Self::get), and says where the value came from.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`get`](Self::get).
    pub fn lookup(&self, key: impl AsRef<[u8]>) -> Result<Answer, Error> {
        let key = key.as_ref();
        if let Some(value) = self.copy(key) {
            count(&self.shared.counters.local_hits, 1);
            return Ok(Answer {
                value,
                source: Source::Local,
            });
        }
        self.fetch(key).map(|value| Answer {
            value,
            source: Source::Server,
        })
    }

    /// As [`lookup`](Self::lookup), and if the server is not available, the last copy in the file whose
    /// life has not ended, marked as [`Source::Unverified`]: the key may have changed since.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`get`](Self::get).
    pub fn get_or_unverified(&self, key: impl AsRef<[u8]>) -> Result<Answer, Error> {
        let key = key.as_ref();
        let error = match self.lookup(key) {
            Err(error) if error.is_unavailable() => error,
            answer => return answer,
        };
        match self.shared.copies.get(key) {
            Ok(Some(copy)) => Ok(Answer {
                value: copy.value,
                source: Source::Unverified,
            }),
            _ => Err(error),
        }
    }

    /// Stores a value on the server, without an end. The copy is dropped; the next lookup makes one.
    ///
    /// After it has returned, no call in any thread of this process, nor in any other process that uses
    /// the same file, returns the value before it. If the file fails after the server has answered, this
    /// process serves no copies until the file works again, and for the others the
    /// [window](NearCacheBuilder::window) holds, as for writes of other machines.
    ///
    /// # Errors
    ///
    /// Returns [`Error::File`] if the copy cannot be dropped: then nothing was sent. Returns
    /// [`Error::Unavailable`] if there is no answer: then the value may have been stored, or may still be.
    /// Returns [`Error::Refused`] if the server refuses.
    pub fn set(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<(), Error> {
        let mut command = cmd("SET");
        command.arg(key.as_ref()).arg(value.as_ref());
        self.write(key.as_ref(), command)
    }

    /// As [`set`](Self::set), for a life of at least a millisecond.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`set`](Self::set), and [`Error::InvalidOption`] for a shorter life, or one
    /// that Redis cannot store.
    pub fn set_for(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        life: Duration,
    ) -> Result<(), Error> {
        let millis = millis("life", life)?;
        let mut command = cmd("SET");
        command.arg(key.as_ref()).arg(value.as_ref());
        self.write(key.as_ref(), command.arg("PX").arg(millis).clone())
    }

    /// Deletes a key on the server, and drops the copy. Returns whether there was such a key. Visible as
    /// [`set`](Self::set) is.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`set`](Self::set).
    pub fn delete(&self, key: impl AsRef<[u8]>) -> Result<bool, Error> {
        let mut command = cmd("DEL");
        command.arg(key.as_ref());
        self.write(key.as_ref(), command)
    }

    /// Returns whether copies are served now: there is a connection, it has proven to live within the
    /// [window](NearCacheBuilder::window), and an epoch was found or begun.
    ///
    /// That takes half a window after opening if other processes may be using the file.
    pub fn serves_copies(&self) -> bool {
        let (epoch, proven) = self.shared.served();
        epoch != 0 && self.shared.is_recent(proven)
    }

    /// Returns what this handle has counted.
    pub fn stats(&self) -> NearStats {
        self.shared.counters.snapshot()
    }

    /// Returns the copy of a key, if there is one that may be served.
    fn copy(&self, key: &[u8]) -> Option<Option<Vec<u8>>> {
        // Before the copy is read: a change that is applied later is not counted on.
        let (epoch, proven) = self.shared.served();
        if epoch == 0 || !self.shared.is_tracked(key) {
            return None;
        }
        let copy = match self.shared.copies.get(key) {
            Ok(copy) => copy?,
            Err(error) => {
                log::debug!("a copy was not read: {error}");
                return None;
            }
        };
        let is_served = copy.epoch == epoch && self.shared.is_recent(proven);
        is_served.then_some(copy.value)
    }

    /// Asks the server, and stores a copy of what it says.
    pub(crate) fn fetch(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        count(&self.shared.counters.fetches, 1);
        let Request { connection, epoch } = self.shared.request()?;
        if !self.shared.is_tracked(key) {
            return self.ask(connection, cmd("GET").arg(key).clone());
        }
        let fetch = self.begin_fetch(key, epoch);
        let sent = clock::now();
        // The remaining life first: the value is then no older than the life.
        let mut commands = pipe();
        commands.cmd("PTTL").arg(key).cmd("GET").arg(key);
        let reply: Result<Reply, Error> = self.block_on(async move {
            let mut connection = connection;
            commands.query_async(&mut connection).await
        });
        if let Some((claim, number)) = fetch {
            let is_unmarked = self.shared.end_fetch(key, number);
            let life = reply.as_ref().ok().and_then(|reply| self.life(reply, sent));
            self.finish_fetch(&claim, reply.as_ref().ok(), life.filter(|_| is_unmarked));
        }
        reply.map(|(_, value)| value)
    }

    /// Claims a key, before the request is sent. `None` if its reply must not be stored.
    fn begin_fetch(&self, key: &[u8], epoch: u64) -> Option<(Claim, u64)> {
        if epoch == 0 {
            return None;
        }
        let claim = match self.shared.copies.claim(key, epoch) {
            Ok(Some(claim)) => claim,
            Ok(None) => {
                count(&self.shared.counters.not_stored, 1);
                return None;
            }
            Err(error) => {
                self.store_failed(&error);
                return None;
            }
        };
        // After the claim: only one fetch of a key is noted at a time.
        if let Some(number) = self.shared.begin_fetch(key, epoch) {
            return Some((claim, number));
        }
        self.release(&claim);
        None
    }

    /// Returns how long a reply may live as a copy; `None` if it must not become one.
    fn life(&self, (remaining, value): &Reply, sent: u64) -> Option<Duration> {
        let limits = &self.shared.limits;
        let life = match (value, remaining) {
            (Some(_), -1) => limits.age,
            (Some(_), 0..) => limits
                .age
                .min(Duration::from_millis(remaining.unsigned_abs())),
            (None, -2) => limits.absence,
            // It changed between the two commands.
            _ => return None,
        };
        let passed = Duration::from_nanos(clock::now().saturating_sub(sent));
        let left = life.checked_sub(passed)?;
        (left >= Duration::from_millis(1)).then_some(left)
    }

    fn finish_fetch(&self, claim: &Claim, reply: Option<&Reply>, life: Option<Duration>) {
        let (Some((_, value)), Some(life)) = (reply, life) else {
            count(&self.shared.counters.not_stored, 1);
            self.release(claim);
            return;
        };
        match self.shared.copies.store(claim, value.as_deref(), life) {
            Ok(true) => count(&self.shared.counters.stored, 1),
            Ok(false) => count(&self.shared.counters.not_stored, 1),
            Err(error) => self.store_failed(&error),
        }
    }

    /// A claim that cannot be released ends by itself.
    fn release(&self, claim: &Claim) {
        if let Err(error) = self.shared.copies.release(claim) {
            self.store_failed(&error);
        }
    }

    fn store_failed(&self, error: &mmapcache::Error) {
        count(&self.shared.counters.store_failures, 1);
        log::debug!("a copy was not stored: {error}");
    }

    /// Sends a command that writes a key.
    ///
    /// Drops the copy before, for the case that no reply comes, and after: a reply that another thread
    /// got before the write was executed must not stay.
    pub(crate) fn write<T>(&self, key: &[u8], command: Cmd) -> Result<T, Error>
    where
        T: FromRedisValue + Send + 'static,
    {
        let Request { connection, .. } = self.shared.request()?;
        self.drop_copy(key)?;
        let outcome = self.ask(connection, command);
        if let Err(error) = self.drop_copy(key) {
            log::warn!("no copies are served until this is over: {error}");
            self.shared.distrust();
        }
        outcome
    }

    fn drop_copy(&self, key: &[u8]) -> Result<(), Error> {
        if !self.shared.is_tracked(key) {
            return Ok(());
        }
        self.shared.forget_fetches(&[key.to_vec()]);
        self.shared.copies.drop_key(key)?;
        Ok(())
    }

    /// Sends a command and waits for its reply.
    pub(crate) fn ask<T>(&self, connection: MultiplexedConnection, command: Cmd) -> Result<T, Error>
    where
        T: FromRedisValue + Send + 'static,
    {
        self.block_on(async move {
            let mut connection = connection;
            command.query_async(&mut connection).await
        })
    }

    /// Runs a request on the thread of the connection, and waits for it.
    pub(crate) fn block_on<T: Send + 'static>(
        &self,
        request: impl Future<Output = RedisResult<T>> + Send + 'static,
    ) -> Result<T, Error> {
        let (sender, outcome) = sync_channel(1);
        self.runtime.spawn(async move {
            // The caller may have lost patience.
            let _ = sender.send(request.await);
        });
        // The connection ends a request by its own timeout; this one is for a thread that is gone.
        let patience = self.shared.limits.response * 2;
        let outcome = outcome
            .recv_timeout(patience)
            .map_err(|_| Error::Unavailable {
                server: self.shared.server.clone(),
                reason: "the thread of the connection did not answer".to_owned(),
            })?;
        outcome.map_err(|error| Error::of(&self.shared.server, error))
    }
}

impl Drop for NearCache {
    fn drop(&mut self) {
        self.shared.is_closed.store(true, SeqCst);
        self.closed.notify_one();
        self.shared.wake();
        for thread in self.threads.drain(..) {
            // It has nothing to tell; a panic in it was printed.
            let _ = thread.join();
        }
    }
}

/// Returns the whole milliseconds of a life, as Redis takes them.
pub(crate) fn millis(option: &'static str, life: Duration) -> Result<u64, Error> {
    // Redis adds the life to the time of day, in signed milliseconds.
    const LONGEST: u128 = 1 << 62;
    match life.as_millis() {
        millis @ 1..=LONGEST => Ok(millis as u64),
        _ => Err(Error::InvalidOption {
            option,
            reason: "it must be at least a millisecond; use `set` for no end".to_owned(),
        }),
    }
}
