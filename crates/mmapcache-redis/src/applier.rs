//! The thread that applies to the file what the connection was told, in that order, and that finds the
//! epoch in which this process is a member.
//!
//! It may wait for the writer lock of the file, which the connection must not. Between the two is a
//! bounded queue; if that is full, everything counts as changed. May call `state`, `epochs`, `copies`.

use std::sync::Weak;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use crate::clock;
use crate::epochs::{self, Entry, Record};
use crate::state::{Event, Link, Shared};
use crate::stats::count;

/// How often a newcomer looks for a proof, and a failed step is tried again.
const TICK: Duration = Duration::from_millis(5);
/// How long to sleep if there is nothing to do.
const IDLE: Duration = Duration::from_secs(1);

pub(crate) struct Applier {
    pub(crate) shared: Weak<Shared>,
    pub(crate) queue: Receiver<Event>,
    /// How long a newcomer waits for a proof.
    pub(crate) patience: Duration,
    /// What is known without a gap begins here, if that is later than the link: everything was dropped.
    pub(crate) complete_since: u64,
    /// The link that asks for a proof, and until when.
    pub(crate) asking: Option<(u64, Instant)>,
    /// Steps that failed since one succeeded.
    pub(crate) failures: u32,
}

impl Applier {
    /// Runs until the near cache is closed.
    pub(crate) fn run(mut self) {
        let mut pause = IDLE;
        loop {
            // After a failure the queue is full of what the next attempt drops.
            if self.failures > 0 {
                thread::sleep(self.pause());
            }
            let event = match self.queue.recv_timeout(pause) {
                Ok(event) => event,
                Err(RecvTimeoutError::Timeout) => Event::Wake,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let Some(shared) = self.shared.upgrade() else {
                return;
            };
            if shared.is_closed.load(SeqCst) {
                return;
            }
            match self.step(&shared, event) {
                Ok(()) => self.failures = 0,
                Err(error) => self.failed(&shared, &error),
            }
            let is_waiting = shared.is_lost() || shared.link_without_epoch().is_some();
            pause = if is_waiting { self.pause() } else { IDLE };
        }
    }

    /// A change that is not in the file must not be forgotten.
    fn failed(&mut self, shared: &Shared, error: &mmapcache::Error) {
        if self.failures == 0 {
            log::warn!("no copies are served until this is over: {error}");
        }
        self.failures += 1;
        shared.distrust();
    }

    /// How long to wait before the next attempt: longer, the more have failed.
    fn pause(&self) -> Duration {
        let longer = TICK * (1 << self.failures.min(8));
        longer.min(IDLE)
    }

    fn step(&mut self, shared: &Shared, event: Event) -> mmapcache::Result<()> {
        if shared.is_lost() {
            return self.recover(shared);
        }
        match event {
            Event::Changed(keys) => drop_keys(shared, &keys)?,
            Event::Everything(moment) => {
                // A recovery may have come to a later moment already.
                self.complete_since = self.complete_since.max(moment);
                shared.settle();
                self.begin_epoch(shared)?;
            }
            Event::Proven { link, moment } => self.prove(shared, link, moment)?,
            Event::Wake => {}
        }
        match shared.link_without_epoch() {
            Some(link) => self.find_epoch(shared, &link),
            None => Ok(()),
        }
    }

    /// Begins a new epoch, after messages were lost. What is in the queue is about the old one.
    fn recover(&mut self, shared: &Shared) -> mmapcache::Result<()> {
        shared.forgive();
        while self.queue.try_recv().is_ok() {}
        shared.settle_all();
        self.complete_since = clock::now();
        self.begin_epoch(shared)
    }

    /// The moment since which everything is known that a link was told.
    fn since(&self, link: &Link) -> u64 {
        link.since.max(self.complete_since)
    }

    fn begin_epoch(&self, shared: &Shared) -> mmapcache::Result<()> {
        let Some(link) = shared.link_without_epoch() else {
            return Ok(());
        };
        let (epoch, is_new) = epochs::begin(&shared.copies, link.run, self.since(&link))?;
        enter(shared, &link, epoch, is_new);
        Ok(())
    }

    fn find_epoch(&mut self, shared: &Shared, link: &Link) -> mmapcache::Result<()> {
        match epochs::entry(&shared.copies, link.run, self.since(link))? {
            Entry::Member(epoch) => enter(shared, link, epoch, false),
            Entry::Begin => self.begin_epoch(shared)?,
            Entry::Ask => self.wait_for_proof(shared, link)?,
        }
        Ok(())
    }

    fn wait_for_proof(&mut self, shared: &Shared, link: &Link) -> mmapcache::Result<()> {
        match self.asking {
            Some((number, until)) if number == link.number => {
                if Instant::now() >= until {
                    self.begin_epoch(shared)?;
                }
            }
            _ => {
                epochs::ask(&shared.copies, self.patience * 2)?;
                self.asking = Some((link.number, Instant::now() + self.patience));
            }
        }
        Ok(())
    }

    /// Everything that the link was told before a moment is applied.
    fn prove(&mut self, shared: &Shared, link: u64, moment: u64) -> mmapcache::Result<()> {
        if !shared.prove_until(link, moment) {
            return Ok(());
        }
        let Some((link, epoch)) = shared.membership() else {
            return Ok(());
        };
        // Another process has begun an epoch while this one was listening.
        let newer = epochs::newer(&shared.copies, link.run, self.since(&link))?;
        if let Some(newer) = newer
            && newer != epoch
        {
            enter(shared, &link, newer, false);
            return Ok(());
        }
        let proof = Record {
            epoch,
            run: link.run,
            moment,
        };
        epochs::prove(&shared.copies, proof)
    }
}

fn enter(shared: &Shared, link: &Link, epoch: u64, is_new: bool) {
    if !shared.publish(link.number, epoch) {
        return;
    }
    let counters = &shared.counters;
    let counter = if is_new {
        &counters.epochs_begun
    } else {
        &counters.epochs_joined
    };
    count(counter, 1);
}

fn drop_keys(shared: &Shared, keys: &[Vec<u8>]) -> mmapcache::Result<()> {
    for key in keys.iter().filter(|key| shared.is_tracked(key)) {
        if shared.copies.drop_key(key)? {
            count(&shared.counters.dropped, 1);
        }
    }
    Ok(())
}
