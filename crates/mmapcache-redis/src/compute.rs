//! [`NearCache::get_or_try_insert_with`]: one computation of a value, per machine and per cluster.
//!
//! Two stages. On a machine, the local file lets one caller of all processes go on, as
//! `Cache::get_or_try_insert_with` does. Among machines, a lease on the server does: a key with a random
//! token and an end. May call `near_cache`.

use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

use mmapcache::InsertOptions;
use redis::{cmd, pipe};

use crate::answer::{Answer, Source};
use crate::epochs;
use crate::error::Error;
use crate::near_cache::{NearCache, millis};

/// Stores a value if the lease is still ours and nobody has stored another; gives the lease back.
/// Keys: the key, the lease. Arguments: the token, the value, the life in milliseconds or 0.
const STORE: &str = "
local stored = 0
if redis.call('GET', KEYS[2]) == ARGV[1] then
  redis.call('DEL', KEYS[2])
  if redis.call('EXISTS', KEYS[1]) == 0 then
    if ARGV[3] == '0' then
      redis.call('SET', KEYS[1], ARGV[2])
    else
      redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
    end
    stored = 1
  end
end
return stored";

/// Gives a lease back, if it is still ours.
const RELEASE: &str = "
if redis.call('GET', KEYS[1]) == ARGV[1] then
  return redis.call('DEL', KEYS[1])
end
return 0";

const SHORTEST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// How a computed value is stored, and how long others wait for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ComputeOptions {
    life: Option<Duration>,
    lease: Duration,
    patience: Duration,
}

impl Default for ComputeOptions {
    fn default() -> Self {
        Self {
            life: None,
            lease: Duration::from_secs(10),
            patience: Duration::from_secs(30),
        }
    }
}

impl ComputeOptions {
    /// Returns options for a value without an end, a lease of 10 seconds and a patience of 30.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how long the computed value lives on the server; at least a millisecond. Default: no end.
    #[must_use]
    pub fn life(mut self, life: Duration) -> Self {
        self.life = Some(life);
        self
    }

    /// Sets how long the lease on the server holds. Choose it above the longest computation: when it has
    /// ended, another machine computes as well, and a value that comes later is returned but not stored.
    /// It is also how long the others wait for a machine that died. Default: 10 seconds.
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// Sets how long a call waits for the computation of another one before it computes itself, without
    /// storing. Default: 30 seconds.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }
}

/// The error of a call that computes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ComputeError<E> {
    /// The computation failed. Nothing was stored, and another caller may compute.
    #[error("the computation failed")]
    Failed(#[source] E),
    /// The value was computed, and the server could not be told.
    #[error("computed, and not stored: {error}")]
    NotStored {
        /// The computed value.
        value: Vec<u8>,
        /// The reason.
        #[source]
        error: Error,
    },
    /// The server or the file could not be used. Nothing was computed.
    #[error(transparent)]
    Near(#[from] Error),
}

impl NearCache {
    /// Returns the value of a key, or computes it and stores it on the server. While one caller computes,
    /// all others, in all processes of all machines, wait for its value.
    ///
    /// On one machine the local file chooses one caller; if its process dies, another takes over. Among
    /// machines a lease on the server does, with an [end](ComputeOptions::lease): if the machine dies,
    /// the others wait for that. The value is stored only if the lease has not ended and nobody has
    /// stored another value since. A computation that fails or panics gives the lease back.
    ///
    /// Waiting callers ask the server every 2 to 50 ms, one for each machine. Needs the commands `SET` and
    /// `EVAL`.
    ///
    /// # Errors
    ///
    /// Returns [`ComputeError::Failed`] with the error of `compute`, [`ComputeError::NotStored`] with the
    /// computed value, and [`ComputeError::Near`] with the errors of [`get`](Self::get).
    pub fn get_or_try_insert_with<E>(
        &self,
        key: impl AsRef<[u8]>,
        options: &ComputeOptions,
        compute: impl FnOnce() -> Result<Vec<u8>, E>,
    ) -> Result<Answer, ComputeError<E>> {
        let key = key.as_ref();
        let mut attempt = Attempt::new(self, key, options)?;
        let mut compute = Some(compute);
        loop {
            let answer = self.lookup(key)?;
            if answer.value.is_some() {
                return Ok(answer);
            }
            if let Some(outcome) = self.compute_on_machine(&mut attempt, &mut compute) {
                return outcome;
            }
        }
    }

    /// Lets one caller of this machine try. `None` if another one did: then there may be a value.
    fn compute_on_machine<E, F: FnOnce() -> Result<Vec<u8>, E>>(
        &self,
        attempt: &mut Attempt<'_>,
        compute: &mut Option<F>,
    ) -> Option<Result<Answer, ComputeError<E>>> {
        let local = self.shared.copies.computation_key(attempt.key);
        if !crate::copies::Copies::can_hold(attempt.key) {
            return Some(attempt.run(compute.take()?));
        }
        // What is stored here is nothing, and expired at once: it only ends the waiting.
        let nothing = InsertOptions::new()
            .ttl(Duration::ZERO)
            .stale_for(Duration::ZERO);
        let waiting = mmapcache::ComputeOptions::from(nothing).patience(attempt.left());
        let mut outcome = None;
        let obtained = self
            .shared
            .copies
            .cache
            .get_or_try_insert_with(local, waiting, || {
                let compute = compute.take().ok_or(fmt::Error)?;
                outcome = Some(attempt.run(compute));
                Ok::<_, fmt::Error>(Vec::new())
            });
        match (outcome, obtained) {
            (Some(outcome), _) => Some(outcome),
            (None, Ok(_)) => None,
            // The file cannot be used: the lease alone decides.
            (None, Err(error)) => {
                log::debug!("the file did not choose who computes: {error}");
                Some(attempt.run(compute.take()?))
            }
        }
    }
}

/// One call that may compute.
struct Attempt<'a> {
    near: &'a NearCache,
    key: &'a [u8],
    lease: Vec<u8>,
    token: u64,
    life: u64,
    lease_life: u64,
    until: Option<Instant>,
}

/// A lease that is given back if the computation panics.
struct Held<'a, 'b>(&'a Attempt<'b>);

impl Drop for Held<'_, '_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.release();
        }
    }
}

impl<'a> Attempt<'a> {
    fn new(near: &'a NearCache, key: &'a [u8], options: &ComputeOptions) -> Result<Self, Error> {
        Ok(Self {
            near,
            key,
            lease: [&near.lease_prefix, key].concat(),
            token: epochs::random(),
            life: options.life.map_or(Ok(0), |life| millis("life", life))?,
            lease_life: millis("lease", options.lease)?,
            until: Instant::now().checked_add(options.patience),
        })
    }

    fn left(&self) -> Duration {
        self.until.map_or(Duration::MAX, |until| {
            until.saturating_duration_since(Instant::now())
        })
    }

    /// Gets the value that another machine stores, or the lease and computes it.
    fn run<E>(
        &mut self,
        compute: impl FnOnce() -> Result<Vec<u8>, E>,
    ) -> Result<Answer, ComputeError<E>> {
        let mut pause = SHORTEST_PAUSE;
        loop {
            let (is_ours, value) = self.take_lease()?;
            if let Some(value) = value {
                if is_ours {
                    self.release();
                }
                return Ok(Answer {
                    value: Some(value),
                    source: Source::Server,
                });
            }
            if is_ours {
                return self.compute(compute);
            }
            if self.left().is_zero() {
                let value = compute().map_err(ComputeError::Failed)?;
                return Ok(computed(value));
            }
            thread::sleep(pause.min(self.left()));
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Asks for the lease, and then for the value: one that is stored when we get the lease is there.
    fn take_lease(&self) -> Result<(bool, Option<Vec<u8>>), Error> {
        let connection = self.near.shared.request()?.connection;
        let mut commands = pipe();
        commands
            .cmd("SET")
            .arg(&self.lease)
            .arg(self.token)
            .arg("NX")
            .arg("PX")
            .arg(self.lease_life)
            .cmd("GET")
            .arg(self.key);
        let (set, value): (Option<String>, Option<Vec<u8>>) = self.near.block_on(async move {
            let mut connection = connection;
            commands.query_async(&mut connection).await
        })?;
        Ok((set.is_some(), value))
    }

    fn compute<E>(
        &self,
        compute: impl FnOnce() -> Result<Vec<u8>, E>,
    ) -> Result<Answer, ComputeError<E>> {
        let held = Held(self);
        let outcome = compute();
        drop(held);
        let value = outcome.map_err(|error| {
            self.release();
            ComputeError::Failed(error)
        })?;
        match self.store(&value) {
            Ok(()) => Ok(computed(value)),
            Err(error) => Err(ComputeError::NotStored { value, error }),
        }
    }

    fn store(&self, value: &[u8]) -> Result<(), Error> {
        let mut command = cmd("EVAL");
        command.arg(STORE).arg(2).arg(self.key).arg(&self.lease);
        command.arg(self.token).arg(value).arg(self.life);
        let _stored: i64 = self.near.write(self.key, command)?;
        Ok(())
    }

    /// A lease that cannot be given back ends by itself.
    fn release(&self) {
        let mut command = cmd("EVAL");
        command.arg(RELEASE).arg(1).arg(&self.lease).arg(self.token);
        let released = self.near.shared.request();
        let released =
            released.and_then(|request| self.near.ask::<i64>(request.connection, command));
        if let Err(error) = released {
            log::debug!("a lease was not given back: {error}");
        }
    }
}

fn computed(value: Vec<u8>) -> Answer {
    Answer {
        value: Some(value),
        source: Source::Computed,
    }
}
