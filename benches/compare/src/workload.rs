//! Runs all workloads on one store in one process, in the order in which they depend on each other.

mod change;
pub(crate) mod cold;
mod latency;
mod load;
mod read;
mod sharing;
mod small;
mod space;
pub(crate) mod writers;

pub(crate) use latency::{PERCENTILES, WALL};
pub(crate) use sharing::write_until;
pub(crate) use small::COUNTS;
pub(crate) use space::disk;

use std::path::{Path, PathBuf};

use crate::clock::Clock;
use crate::figures::{Figures, median};
use crate::keys::{Batch, Keys, Values, consume, mix};
use crate::plan::{Plan, Workload};
use crate::store::{Access, Error, Result, Sharing, Store};
use crate::stores::Visit;

/// Turns, of which the median counts.
const TURNS: u64 = 3;
/// Items whose keys and values are made at a time, and the bytes of values after which it is fewer.
const BATCH: usize = 1_000;
const BATCH_BYTES: usize = 16 << 20;

impl Visit for &Plan {
    type Output = Figures;

    fn visit<S: Store>(self) -> Result<Figures> {
        let mut figures = Figures::default();
        match self.workload[..] {
            [Workload::Latency] => {
                latency::measure::<S>(self, &mut figures)?;
                return Ok(figures);
            }
            [Workload::Small] => {
                small::measure::<S>(self, &mut figures)?;
                return Ok(figures);
            }
            [Workload::Cold] => {
                cold::measure::<S>(self, &mut figures)?;
                return Ok(figures);
            }
            [Workload::Writers] => {
                writers::measure::<S>(self, &mut figures)?;
                return Ok(figures);
            }
            [Workload::Batch] => {
                figures.note("put_1000", load::by_thousand::<S>(self))?;
                return Ok(figures);
            }
            _ => {}
        }
        let dir = fresh(self, "store")?;
        let before = space::Memory::now()?;
        let mut store = load::one_by_one::<S>(self, &dir, &mut figures)?;
        if self.wants(Workload::Read) {
            read::measure(&mut store, self, &mut figures)?;
        } else {
            read::warm(&mut store, self)?;
        }
        if self.wants(Workload::Space) {
            let memory = space::Memory::now()?;
            figures.note("private_mb", Ok(memory.private - before.private))?;
            figures.note("resident_mb", Ok(memory.resident - before.resident))?;
        }
        if self.wants(Workload::Threads) {
            sharing::threads(&mut store, self, &mut figures)?;
        }
        if self.wants_any(&[Workload::Space, Workload::Reopen, Workload::Processes]) {
            store = elsewhere(store, self, &dir, &mut figures)?;
        }
        if self.wants(Workload::Change) {
            change::measure(&mut store, self, &dir, &mut figures)?;
        }
        store.close()?;
        std::fs::remove_dir_all(&dir)?;
        Ok(figures)
    }
}

/// Runs what other processes do with the store. It is closed for them, unless it would not last.
fn elsewhere<S: Store>(store: S, plan: &Plan, dir: &Path, figures: &mut Figures) -> Result<S> {
    let mut open = Some(store);
    if S::SHARING.lasts()
        && let Some(store) = open.take()
    {
        store.close()?;
    }
    if plan.wants(Workload::Space) {
        let bytes = asked(S::SHARING, S::SHARING != Sharing::Memory)
            .and_then(|()| Ok(space::disk(dir)? as f64 / plan.size.entries as f64));
        figures.note("disk_end", bytes)?;
    }
    if plan.wants(Workload::Reopen) {
        figures.note("reopen_us", sharing::reopen(S::SHARING, plan, dir))?;
    }
    if plan.wants(Workload::Processes) {
        sharing::processes(S::SHARING, plan, dir, figures)?;
    }
    let mut store = match open {
        Some(store) => store,
        None => S::open(dir, Access::Write, plan.size.entries)?,
    };
    if plan.wants(Workload::Processes) && !S::SHARING.has_readers_beside_a_writer() {
        sharing::reader_beside_a_writing_thread(&mut store, plan, figures)?;
    }
    Ok(store)
}

/// Creates an empty directory for a store.
fn fresh(plan: &Plan, name: &str) -> Result<PathBuf> {
    let dir = plan.dir.join(name);
    if dir.exists() {
        std::fs::remove_dir_all(&dir)?;
    }
    std::fs::create_dir_all(&dir)?;
    Ok(dir)
}

/// Returns the nanoseconds per operation of `count` operations.
pub(crate) fn time(count: u64, run: impl FnOnce() -> Result<()>) -> Result<f64> {
    let clock = Clock::start()?;
    run()?;
    Ok(clock.elapsed()? as f64 / count as f64)
}

/// Returns the median of some turns; each gets its number.
fn turns(mut turn: impl FnMut(u64) -> Result<f64>) -> Result<f64> {
    let times: Vec<f64> = (0..TURNS).map(&mut turn).collect::<Result<_>>()?;
    median(times).ok_or(Error::Refused("was measured in no turn"))
}

/// Returns the numbers of present keys, in pseudorandom order.
fn numbers(entries: u64, count: u64, seed: u64) -> impl Iterator<Item = u64> {
    let start = mix(seed);
    (0..count).map(move |step| mix(start ^ step) % entries)
}

/// Lays out keys to get, all of which are present.
pub(crate) fn keys_to_get(entries: u64, count: u64, seed: u64) -> Keys {
    Keys::of(numbers(entries, count, seed))
}

/// Gets each of some present keys.
pub(crate) fn get_each(store: &mut impl Store, keys: &Keys) -> Result<()> {
    let mut sum = 0;
    for key in keys.iter() {
        hit(store.get(key, |value| sum ^= consume(value))?)?;
    }
    std::hint::black_box(sum);
    Ok(())
}

/// Makes the keys and values of some puts, a thousand at a time or fewer large ones, and passes each
/// batch to `put`. A caller should time only that.
fn in_batches(
    numbers: impl Iterator<Item = u64>,
    turn: u64,
    value: usize,
    mut put: impl FnMut(&Batch) -> Result<()>,
) -> Result<()> {
    let (mut batch, mut values) = (Batch::default(), Values::new(value));
    let mut numbers = numbers.peekable();
    let most = (BATCH_BYTES / value.max(1)).clamp(1, BATCH);
    while numbers.peek().is_some() {
        batch.make(numbers.by_ref().take(most), turn, &mut values);
        put(&batch)?;
    }
    Ok(())
}

/// Puts each item separately.
fn put_each(store: &mut impl Store, batch: &Batch) -> Result<()> {
    batch
        .items()
        .try_for_each(|(key, value)| store.put(key, value))
}

/// Returns the nanoseconds per put of `count` puts. The clock is stopped while keys and values are
/// made.
fn time_puts(
    store: &mut impl Store,
    (numbers, count): (impl Iterator<Item = u64>, u64),
    turn: u64,
    value: usize,
) -> Result<f64> {
    let mut elapsed = 0;
    in_batches(numbers, turn, value, |batch| {
        let clock = Clock::start()?;
        put_each(store, batch)?;
        elapsed += clock.elapsed()?;
        Ok(())
    })?;
    Ok(elapsed as f64 / count as f64)
}

/// Syncs the store, and writes back what else of its file system is dirty: after that the next
/// store to any mapped page is a page fault.
fn sync_all(store: &mut impl Store, dir: &Path) -> Result<()> {
    store.sync()?;
    Ok(rustix::fs::syncfs(std::fs::File::open(dir)?)?)
}

/// A store must not lose entries.
fn hit(found: bool) -> Result<()> {
    if found {
        Ok(())
    } else {
        Err(Error::Failed("an entry is missing".to_owned()))
    }
}

/// Whether other processes can use the store, or why not.
fn asked(sharing: Sharing, allowed: bool) -> Result<()> {
    if allowed {
        Ok(())
    } else if sharing == Sharing::Memory {
        Err(Error::Refused("lives in one process's memory"))
    } else {
        Err(Error::Refused("lets no second process in"))
    }
}
