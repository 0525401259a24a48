//! Gets of entries that are on the disk only: the time and the bytes that the disk has to read.
//!
//! One process fills the store, syncs it and ends. Then the system's page cache is dropped, and
//! another process opens the store and gets keys. May call `peer`, and what `workload` offers its
//! parts.

use std::fs;

use crate::clock::Clock;
use crate::figures::{Figures, median};
use crate::peer::{filled, got_from_disk};
use crate::plan::Plan;
use crate::store::{Access, Error, Result, Sharing, Store};

use super::{TURNS, asked, get_each, in_batches, keys_to_get, load, sync_all};

/// Uniform gets of one turn.
const GETS: u64 = 10_000;
/// Entries of the store with which a process rehearses, so that it has its own code in memory.
const FEW: u64 = 100;
const DROP_CACHES: &str = "/proc/sys/vm/drop_caches";

pub(super) fn measure<S: Store>(plan: &Plan, figures: &mut Figures) -> Result<()> {
    let measured = every_turn::<S>(plan);
    for (name, of) in FIGURES {
        let figure = match &measured {
            Ok(all) => middle(all.iter().map(of).collect()),
            Err(Error::Refused(reason)) => Err(Error::Refused(reason)),
            Err(Error::Failed(reason)) => Err(Error::Failed(reason.clone())),
        };
        figures.note(name, figure)?;
    }
    Ok(())
}

type Of = fn(&Cold) -> f64;
const FIGURES: [(&str, Of); 3] = [
    ("cold_us", |cold| cold.get),
    ("cold_bytes", |cold| cold.bytes),
    ("cold_open_us", |cold| cold.open),
];

fn middle(numbers: Vec<f64>) -> Result<f64> {
    median(numbers).ok_or(Error::Refused("was measured in no turn"))
}

fn every_turn<S: Store>(plan: &Plan) -> Result<Vec<Cold>> {
    asked(S::SHARING, S::SHARING != Sharing::Memory)?;
    if !S::SHARING.lasts() {
        return Err(Error::Refused("is emptied by the first who opens it"));
    }
    if !may_drop() {
        return Err(Error::Refused(
            "needs root, who may drop the system's page cache",
        ));
    }
    let dir = super::fresh(plan, "cold")?;
    filled(plan, &dir)?;
    let turns = (0..TURNS)
        .map(|turn| got_from_disk(plan, &dir, turn))
        .collect::<Result<_>>()?;
    fs::remove_dir_all(&dir)?;
    Ok(turns)
}

fn may_drop() -> bool {
    fs::File::options().write(true).open(DROP_CACHES).is_ok()
}

/// In a process of its own: what a process has mapped stays in the page cache.
pub(crate) fn fill<S: Store>(plan: &Plan) -> Result<()> {
    let mut store = S::open(&plan.dir, Access::Create, plan.size.entries)?;
    load::fill(&mut store, plan)?;
    sync_all(&mut store, &plan.dir)?;
    store.close()?;
    // Some stores write when they are closed.
    Ok(rustix::fs::syncfs(fs::File::open(&plan.dir)?)?)
}

/// What one turn took.
pub(crate) struct Cold {
    /// Opening to the first get, in microseconds.
    pub(crate) open: f64,
    /// Microseconds of each later get.
    pub(crate) get: f64,
    /// Bytes that the disk read for each.
    pub(crate) bytes: f64,
}

/// In a process of its own, too: one that has nothing of the store in its memory.
pub(crate) fn gets<S: Store>(plan: &Plan, turn: u64) -> Result<Cold> {
    let entries = plan.size.entries;
    let count = GETS.min(entries);
    let (first, keys) = (
        keys_to_get(entries, 1, !turn),
        keys_to_get(entries, count, turn),
    );
    rehearse::<S>(plan)?;
    fs::write(DROP_CACHES, "1")?;
    let clock = Clock::start()?;
    let mut store = S::open(&plan.dir, Access::Read, entries)?;
    get_each(&mut store, &first)?;
    let (opened, before) = (clock.elapsed()?, bytes_read()?);
    let clock = Clock::start()?;
    get_each(&mut store, &keys)?;
    let (took, bytes) = (clock.elapsed()?, bytes_read()? - before);
    store.close()?;
    Ok(Cold {
        open: opened as f64 / 1e3,
        get: took as f64 / 1e3 / count as f64,
        bytes: bytes as f64 / count as f64,
    })
}

/// Does all that will be timed with a store of a few entries. The code that this runs is mapped
/// then, and the system drops no page that a process has mapped.
fn rehearse<S: Store>(plan: &Plan) -> Result<()> {
    let beside = plan.dir.parent().unwrap_or(&plan.dir);
    let dir = tempfile::tempdir_in(beside)?;
    let mut store = S::open(dir.path(), Access::Create, FEW)?;
    in_batches(0..FEW, 0, plan.size.value, |batch| store.put_many(batch))?;
    store.close()?;
    let mut store = S::open(dir.path(), Access::Read, FEW)?;
    get_each(&mut store, &keys_to_get(FEW, FEW, 0))?;
    store.close()
}

/// Returns what the disk has read for this process so far.
fn bytes_read() -> Result<u64> {
    field(&fs::read_to_string("/proc/self/io")?)
}

fn field(text: &str) -> Result<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("read_bytes:"));
    let number = line.ok_or_else(|| Error::Failed("the system counts no bytes read".into()))?;
    Ok(number.trim().parse()?)
}

impl Cold {
    /// What the process that got the keys prints.
    pub(crate) fn answer(&self) -> String {
        format!("{} {} {}", self.open, self.get, self.bytes)
    }

    pub(crate) fn parsed(answer: &str) -> Result<Self> {
        let numbers: Vec<f64> = answer
            .split_whitespace()
            .map(str::parse)
            .collect::<std::result::Result<_, _>>()?;
        let [open, get, bytes] = numbers[..] else {
            return Err(Error::Failed("the other process ended early".to_owned()));
        };
        Ok(Self { open, get, bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::{Cold, field};

    #[test]
    fn disk_reads_are_taken_from_counters() {
        let text = "rchar: 6976\nwchar: 0\nread_bytes: 40960\nwrite_bytes: 7\n";
        assert_eq!(field(text).expect("the counter"), 40_960);
        assert!(field("rchar: 6976\n").is_err());
    }

    #[test]
    fn answer_is_read_back() {
        let cold = Cold::parsed("17100.5 34.1 29200\n").expect("three numbers");
        assert_eq!(cold.answer(), "17100.5 34.1 29200");
        assert!(Cold::parsed("34.1 29200").is_err());
        assert!(Cold::parsed("").is_err());
    }
}
