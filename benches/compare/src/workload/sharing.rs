//! Concurrent use: two threads or processes that read, and one that reads beside one that writes.

use std::path::Path;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::clock::Clock;
use crate::figures::{Figures, median};
use crate::peer::{Peer, opened_to_first_get};
use crate::plan::Plan;
use crate::store::{Access, Error, Result, Sharing, Store};

use super::{asked, get_each, in_batches, keys_to_get, numbers, put_each, time, turns};

/// Overwrites whose keys and values are made at a time.
const OVERWRITES: u64 = 64;
/// Processes that open the store: a fresh one's page faults vary.
const OPENINGS: u64 = 15;

/// The time of the slower thread, divided by all operations of both.
pub(super) fn threads<S: Store>(store: &mut S, plan: &Plan, figures: &mut Figures) -> Result<()> {
    let (entries, count) = (plan.size.entries, plan.reads());
    let one = turns(|turn| {
        let keys = keys_to_get(entries, count, turn);
        time(count, || get_each(store, &keys))
    });
    figures.note("threads_1", one)?;
    figures.note("threads_2", turns(|turn| two_threads(store, plan, turn)))
}

fn two_threads<S: Store>(store: &mut S, plan: &Plan, turn: u64) -> Result<f64> {
    let (entries, count) = (plan.size.entries, plan.reads());
    let another = store.another()?;
    let [keys, others] = [turn, turn + 100].map(|seed| keys_to_get(entries, count, seed));
    let start = Barrier::new(2);
    std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            let opened = another();
            start.wait();
            let mut opened = opened?;
            time(2 * count, || get_each(&mut opened, &others))
        });
        start.wait();
        let own = time(2 * count, || get_each(store, &keys))?;
        Ok(own.max(joined(other)?))
    })
}

pub(super) fn joined<T>(thread: std::thread::ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    let panicked = || Error::Failed("the other thread panicked".to_owned());
    thread.join().map_err(|_| panicked())?
}

/// Microseconds, in a process that never had the store open.
pub(super) fn reopen(sharing: Sharing, plan: &Plan, dir: &Path) -> Result<f64> {
    asked(sharing, sharing != Sharing::Memory)?;
    if !sharing.lasts() {
        return Err(Error::Refused("is emptied by the first who opens it"));
    }
    let times: Vec<f64> = (0..OPENINGS)
        .map(|_| opened_to_first_get(plan, dir))
        .collect::<Result<_>>()?;
    median(times).ok_or(Error::Refused("was never opened"))
}

pub(super) fn processes(
    sharing: Sharing,
    plan: &Plan,
    dir: &Path,
    figures: &mut Figures,
) -> Result<()> {
    let readers = || asked(sharing, sharing.has_readers());
    let many = |number: usize| {
        readers()?;
        let mut peers: Vec<_> = (0..number)
            .map(|_| Peer::start(plan, dir, Access::Read))
            .collect::<Result<_>>()?;
        turns(|_| all_read(&mut peers, plan.reads()))
    };
    figures.note("processes_1", many(1))?;
    figures.note("processes_2", many(2))?;
    if sharing.has_readers_beside_a_writer() {
        beside_a_process(plan, dir, figures)?;
    }
    Ok(())
}

/// The time of the slowest process, divided by all operations of all.
fn all_read(peers: &mut [Peer], count: u64) -> Result<f64> {
    for peer in &mut *peers {
        peer.tell(&format!("read {count}"))?;
    }
    let times: Vec<f64> = peers.iter_mut().map(Peer::answer).collect::<Result<_>>()?;
    Ok(times.iter().copied().fold(0.0, f64::max) / times.len() as f64)
}

fn beside_a_process(plan: &Plan, dir: &Path, figures: &mut Figures) -> Result<()> {
    let mut writer = Peer::start(plan, dir, Access::Write)?;
    let mut reader = Peer::start(plan, dir, Access::Read)?;
    let read = format!("read {}", plan.reads());
    let (mut alone, mut beside, mut writes) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..super::TURNS {
        alone.push(reader.ask(&read)?);
        writer.tell("write")?;
        beside.push(reader.ask(&read)?);
        writes.push(writer.ask("stop")?);
    }
    note_beside(figures, "processes", [alone, beside, writes])
}

fn note_beside(figures: &mut Figures, how: &str, times: [Vec<f64>; 3]) -> Result<()> {
    let names = ["beside_alone", "beside_read", "beside_write"];
    for (name, times) in names.into_iter().zip(times) {
        let middle = median(times);
        figures.note(
            name,
            middle.ok_or(Error::Refused("was measured in no turn")),
        )?;
    }
    figures.0.insert(
        "beside_how".to_owned(),
        crate::figures::Figure::Refused(how.to_owned()),
    );
    Ok(())
}

/// If no other process may read beside a writer, a thread does.
pub(super) fn reader_beside_a_writing_thread<S: Store>(
    store: &mut S,
    plan: &Plan,
    figures: &mut Figures,
) -> Result<()> {
    let (mut alone, mut beside, mut writes) = (Vec::new(), Vec::new(), Vec::new());
    for turn in 0..super::TURNS {
        match beside_a_thread(store, plan, turn) {
            Ok([one, two, three]) => {
                alone.push(one);
                beside.push(two);
                writes.push(three);
            }
            Err(Error::Refused(reason)) => {
                return figures.note("beside_read", Err(Error::Refused(reason)));
            }
            Err(error) => return Err(error),
        }
    }
    note_beside(figures, "threads", [alone, beside, writes])
}

fn beside_a_thread<S: Store>(store: &mut S, plan: &Plan, turn: u64) -> Result<[f64; 3]> {
    let (entries, count) = (plan.size.entries, plan.reads());
    let [first, second] = [turn, turn + 10].map(|seed| keys_to_get(entries, count, seed));
    let alone = time(count, || get_each(store, &first))?;
    let (another, stop) = (store.another()?, AtomicBool::new(false));
    let (start, value) = (Barrier::new(2), plan.size.value);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let opened = another();
            start.wait();
            write_until(&mut opened?, entries, value, || {
                stop.load(Ordering::Relaxed)
            })
        });
        start.wait();
        let beside = time(count, || get_each(store, &second));
        stop.store(true, Ordering::Relaxed);
        let writes = joined(writer)?;
        Ok([alone, beside?, writes])
    })
}

/// Returns the nanoseconds per overwrite.
pub(crate) fn write_until(
    store: &mut impl Store,
    entries: u64,
    value: usize,
    mut stop: impl FnMut() -> bool,
) -> Result<f64> {
    let (mut elapsed, mut count) = (0, 0);
    for turn in 1.. {
        let chosen = numbers(entries, OVERWRITES, turn);
        in_batches(chosen, turn, value, |batch| {
            let clock = Clock::start()?;
            put_each(store, batch)?;
            elapsed += clock.elapsed()?;
            count += OVERWRITES;
            Ok(())
        })?;
        if stop() {
            break;
        }
    }
    Ok(elapsed as f64 / count as f64)
}
