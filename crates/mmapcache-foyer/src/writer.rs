//! [`Writer`]: the thread that writes what waits in the queue. May call `queue` and `record`.
//!
//! A store that fails becomes a removal, because the older value must not come back; a removal that fails
//! is tried until it succeeds. Until then loads find it in the queue, and miss.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime};

use foyer::{StorageKey, StorageValue};
use mmapcache::{CacheWriter, InsertOptions};

use crate::engine::{Piece, Shared};
use crate::queue::{Change, Work};
use crate::record;

/// Changes that are written under one lock: other processes wait for them, some 50 us.
const BATCH: usize = 64;

/// Bytes of records after which a batch ends.
const BATCH_BYTES: usize = 1 << 20;

/// Before a failed change is tried again. A lock that is held costs the lock timeout besides.
const PAUSE: Duration = Duration::from_millis(100);

pub(crate) struct Writer<K: StorageKey, V: StorageValue> {
    shared: Arc<Shared<K, V>>,
    /// Whether the last attempt failed: the first one is logged.
    is_failing: bool,
}

/// A change with what there is to do for it.
struct Prepared<K: StorageKey, V: StorageValue> {
    hash: u64,
    change: Change<Piece<K, V>>,
    action: Action,
}

enum Action {
    Put(Vec<u8>, InsertOptions),
    Remove,
    /// The files have these bytes.
    Nothing,
}

impl<K: StorageKey, V: StorageValue> Writer<K, V> {
    pub(crate) fn new(shared: Arc<Shared<K, V>>) -> Self {
        Self {
            shared,
            is_failing: false,
        }
    }

    /// Works until the queue is closed and empty.
    pub(crate) fn run(mut self) {
        // Entries are dropped here, and their `drop` is the program's code.
        let worked = catch_unwind(AssertUnwindSafe(|| self.work()));
        if let Err(panic) = worked {
            // Otherwise callers would wait without end for this thread.
            self.shared.queue.break_off();
            self.warn("the thread that writes has panicked; nothing is stored or found any more");
            resume_unwind(panic);
        }
    }

    fn work(&mut self) {
        loop {
            match self.shared.queue.take(BATCH) {
                Work::Changes(changes) => self.write(changes),
                Work::Clear => self.clear(),
                // The caller may have stopped waiting.
                Work::Reached(sender) => drop(sender.send(())),
                Work::End => return,
            }
        }
    }

    fn write(&mut self, changes: Vec<(u64, Change<Piece<K, V>>)>) {
        let shared = self.shared.clone();
        let mut changes = changes.into_iter();
        loop {
            let batch = self.next_batch(&mut changes);
            if batch.is_empty() {
                return;
            }
            match shared.cache.writer() {
                Ok(writer) => self.write_batch(writer, batch),
                Err(error) => {
                    let batch = batch.into_iter().map(|one| (one.hash, one.change));
                    return self.put_back(batch.chain(changes), error);
                }
            }
        }
    }

    /// Takes changes, and encodes those that store, until the records are large enough for one lock.
    fn next_batch(
        &self,
        changes: &mut impl Iterator<Item = (u64, Change<Piece<K, V>>)>,
    ) -> Vec<Prepared<K, V>> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        for (hash, change) in changes {
            let action = match &change {
                Change::Store(piece) => self.prepare(hash, piece),
                Change::Remove => Action::Remove,
            };
            if let Action::Put(record, _) = &action {
                bytes += record.len();
            }
            batch.push(Prepared {
                hash,
                change,
                action,
            });
            if bytes >= BATCH_BYTES {
                break;
            }
        }
        batch
    }

    /// Encodes an entry, without the lock.
    fn prepare(&self, hash: u64, piece: &Piece<K, V>) -> Action {
        let shared = &self.shared;
        let mut record = Vec::new();
        // The encoding is the program's code, and so is the deadline.
        let encoded = catch_unwind(AssertUnwindSafe(|| {
            record::encode(shared.format, piece.key(), piece.value(), &mut record)?;
            Ok::<_, foyer::Error>((shared.deadline)(piece.value()))
        }));
        let deadline = match encoded {
            Ok(Ok(deadline)) => deadline,
            Ok(Err(error)) => return self.refuse(&error.to_string()),
            Err(_) => return self.refuse("its encoding or its deadline panicked"),
        };
        if deadline.is_some_and(|deadline| deadline <= SystemTime::now()) {
            return Action::Remove;
        }
        // Under `WriteOnInsertion` foyer hands an entry over at each hit in memory by `get_or_fetch`.
        let stored = shared.cache.stored_entry(Shared::<K, V>::key(hash));
        if matches!(&stored, Ok(Some(entry)) if !entry.is_expired() && entry.value() == &record[..])
        {
            shared.counters.unchanged.add_one();
            return Action::Nothing;
        }
        let options = match deadline {
            Some(deadline) => InsertOptions::new().expires_at(deadline),
            None => InsertOptions::new(),
        };
        Action::Put(record, options)
    }

    /// An entry is not stored; the older value of its key must not be served.
    fn refuse(&self, reason: &str) -> Action {
        self.shared.counters.refused.add_one();
        self.warn(&format!("an entry is not stored: {reason}"));
        Action::Remove
    }

    fn write_batch(&mut self, mut writer: CacheWriter<'_>, batch: Vec<Prepared<K, V>>) {
        let shared = self.shared.clone();
        let (mut done, mut failed) = (Vec::new(), Vec::new());
        for prepared in batch {
            match self.apply(&mut writer, &prepared) {
                Ok(()) => done.push(prepared),
                Err(error) => failed.push((prepared, error)),
            }
        }
        if let Err(error) = writer.commit() {
            // The changes are in the files, and not synced.
            self.fail(error);
        } else if failed.is_empty() {
            self.is_failing = false;
        }
        shared.queue.done(done.iter().map(|prepared| prepared.hash));
        drop(done);
        for (prepared, error) in failed {
            self.fail(error);
            self.again(prepared.hash, Change::Remove);
        }
        self.pause_if_failing();
    }

    /// Writes one change. An error means that the key must still be removed.
    fn apply(
        &self,
        writer: &mut CacheWriter<'_>,
        prepared: &Prepared<K, V>,
    ) -> mmapcache::Result<()> {
        let counters = &self.shared.counters;
        let key = Shared::<K, V>::key(prepared.hash);
        match &prepared.action {
            Action::Nothing => return Ok(()),
            Action::Put(record, options) => match writer.insert_with(key, record, options) {
                Ok(_) => {
                    counters.stored.add_one();
                    self.shared
                        .device
                        .statistics()
                        .record_disk_write(record.len());
                    return Ok(());
                }
                Err(error) => {
                    counters.refused.add_one();
                    self.warn(&format!("an entry is not stored: {error}"));
                }
            },
            Action::Remove => {}
        }
        if writer.remove(key)? {
            counters.removed.add_one();
        }
        Ok(())
    }

    /// Puts changes back that could not be begun.
    fn put_back(
        &mut self,
        changes: impl Iterator<Item = (u64, Change<Piece<K, V>>)>,
        error: mmapcache::Error,
    ) {
        // What another writer was in the way of is stored later.
        let is_retryable = error.is_retryable();
        self.fail(error);
        if let Some(lost) = self.shared.queue.give_up() {
            log::error!(
                "{}: {lost} changes could not be written before the cache was closed; older values may be back at the next start",
                self.shared.cache.path().display()
            );
            return;
        }
        for (hash, change) in changes {
            let change = match change {
                Change::Store(piece) if is_retryable => Change::Store(piece),
                _ => Change::Remove,
            };
            self.again(hash, change);
        }
        self.pause_if_failing();
    }

    fn again(&self, hash: u64, change: Change<Piece<K, V>>) {
        if !self.shared.queue.again(hash, change) {
            log::error!(
                "{}: a change could not be written before the cache was closed; an older value may be back at the next start",
                self.shared.cache.path().display()
            );
        }
    }

    fn clear(&mut self) {
        let shared = self.shared.clone();
        let emergencies = shared.queue.take_emergency_clears();
        if emergencies > 0 {
            shared.counters.emergency_clears.add(emergencies);
            self.warn("too many removals were waiting; all entries are removed");
        }
        match shared.cache.clear() {
            Ok(()) => {
                self.is_failing = false;
                shared.queue.cleared(true);
            }
            Err(error) => {
                self.fail(error);
                shared.queue.cleared(false);
                self.pause_if_failing();
            }
        }
    }

    fn fail(&mut self, error: mmapcache::Error) {
        self.shared.counters.failures.add_one();
        if !self.is_failing {
            self.warn(&format!(
                "changes cannot be written, and are tried again: {error}"
            ));
        }
        self.is_failing = true;
        let failure = &self.shared.last_failure;
        *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    fn pause_if_failing(&self) {
        if self.is_failing {
            self.shared.queue.pause(PAUSE);
        }
    }

    fn warn(&self, message: &str) {
        log::warn!("{}: {message}", self.shared.cache.path().display());
    }
}
