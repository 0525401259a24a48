//! What concerns a whole store: settings, bounds, removals of many entries, counters, checks.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use mmapcache::{Eviction, InsertOptions, Options, Repair, Result, Update};
use pyo3::prelude::*;

use crate::store::change::{Change, Found};
use crate::store::open::{LEAST_BOUND, Open, is_too_large};
use crate::store::{Settings, entries, order, queue, scan, transaction};

/// The key of the settings in `meta`.
pub(super) const SETTINGS: &[u8] = b"s";
/// The key of hits and misses in `meta`.
const COUNTS: &[u8] = b"h";
/// Entries that are removed under one lock.
const BATCH: usize = 100;
/// A key that no caller's key is like: its entry makes the engine clean up.
const NOTHING: &[u8] = &[255];

/// Applies settings to what is open.
pub(super) fn configure(open: &Open, settings: Settings) -> Result<()> {
    configure_flags(open, settings)?;
    let bound = settings.max_bytes.map(|bytes| bytes.max(LEAST_BOUND));
    let eviction = if settings.is_fifo {
        Eviction::Fifo
    } else {
        Eviction::Clock
    };
    open.bound(bound, eviction)
}

/// The same, without the bound.
pub(super) fn configure_flags(open: &Open, settings: Settings) -> Result<()> {
    let flags = &open.flags;
    flags.counts.store(settings.counts, Relaxed);
    flags.parks.store(settings.parks, Relaxed);
    flags.is_ordered.store(settings.is_ordered, Relaxed);
    flags.is_queue.store(settings.is_queue, Relaxed);
    flags.file_bytes.store(settings.file_bytes, Relaxed);
    flags.has_parked.store(entries::has_parked(open)?, Relaxed);
    flags.parked_until.store(0, Relaxed);
    Ok(())
}

/// As `transaction::write`, for a value that may be above the engine's share of the bound.
pub(super) fn write_of_size<T: Send>(
    py: Python<'_>,
    open: &Arc<Open>,
    retry: bool,
    bytes: usize,
    mut change: impl FnMut(&mut Change<'_, '_>) -> Result<T> + Send,
) -> PyResult<T> {
    // In a transaction the bound cannot be lifted: that takes the lock by another handle.
    if !open.is_large(bytes) || transaction::is_held(open) {
        return transaction::write(py, open, retry, change);
    }
    transaction::call(py, open, retry, || {
        open.unbound(bytes, || {
            let mut writer = open.acquire()?;
            change(&mut Change::new(open, &mut writer, None))
        })
    })
}

/// As `transaction::write`, for a change that may store a value again that is above the engine's share of the
/// bound.
pub(super) fn write_again<T: Send>(
    py: Python<'_>,
    open: &Arc<Open>,
    retry: bool,
    mut change: impl FnMut(&mut Change<'_, '_>) -> Result<T> + Send,
) -> PyResult<T> {
    let done = transaction::write(py, open, retry, |writer| match change(writer) {
        Err(error) if is_too_large(&error) && !writer.is_transaction() => Ok(None),
        done => done.map(Some),
    })?;
    if let Some(done) = done {
        return Ok(done);
    }
    transaction::call(py, open, retry, || {
        open.unbound_again(|| {
            let mut writer = open.acquire()?;
            change(&mut Change::new(open, &mut writer, None))
        })
    })
}

/// Returns the bytes that the files take.
pub(super) fn volume(open: &Open) -> Result<u64> {
    Ok(open.data.disk_usage()?.total() + open.meta.disk_usage()?.total())
}

/// Removes all entries, and returns how many there were. In a transaction that has changed something, one
/// by one, so that they can come back.
pub(super) fn clear(py: Python<'_>, open: &Arc<Open>) -> PyResult<u64> {
    let count = open.data.len_with_expired();
    if transaction::is_inside(open) {
        let keys = transaction::call(py, open, true, || {
            scan::collect(open, |listed| Some(listed.key.clone()))
        })?;
        transaction::write(py, open, true, |change| {
            scan::remove(change, &keys, |_| true)
        })?;
        return Ok(count);
    }
    transaction::release(open);
    transaction::call(py, open, true, || open.data.clear())?;
    transaction::write(py, open, true, |change| {
        order::forget_all(change)?;
        queue::clear(change)
    })?;
    Ok(count)
}

/// Evicts entries until the files take at most so many bytes. Returns how many entries.
///
/// A bound has the engine evict by steps, which leaves four fifths of the bytes; its `evict_to` would remove
/// a whole segment, which without a bound has up to 1 GiB.
pub(super) fn evict_to(
    py: Python<'_>,
    open: &Arc<Open>,
    bytes: u64,
    eviction: Eviction,
) -> PyResult<u64> {
    if transaction::is_inside(open) {
        return Ok(0);
    }
    transaction::release(open);
    let before = open.data.len_with_expired();
    let bound = open.flags.max_bytes.load(Relaxed);
    let bound = (bound > 0).then_some(bound);
    transaction::call(py, open, true, || {
        if bytes >= LEAST_BOUND {
            open.bound(Some(bytes), eviction)?;
            let evicted = evict_by_steps(open, bytes);
            open.bound(bound, eviction)?;
            evicted?;
        }
        if volume(open)? > bytes {
            let around = open.meta.disk_usage()?.total();
            open.data.evict_to(bytes.saturating_sub(around))?;
        }
        if open.data.len_with_expired() == 0 {
            // The index of many entries is larger than that of none.
            open.data.clear()?;
        }
        Ok(())
    })?;
    Ok(before.saturating_sub(open.data.len_with_expired()))
}

/// Makes the engine evict, by the bound that it has, until the files take at most so many bytes.
pub(super) fn evict_by_steps(open: &Open, bytes: u64) -> Result<()> {
    // Each write beyond a bound walks 4 MiB at least.
    let steps = 4 * (volume(open)? >> 22) + 64;
    // No listing has it, while it is there and after a kill.
    let expired = InsertOptions::new().ttl(Duration::ZERO);
    for _ in 0..steps {
        if volume(open)? <= bytes {
            break;
        }
        let mut writer = open.acquire()?;
        writer.insert_with(NOTHING, [], &expired)?;
        writer.remove(NOTHING)?;
        writer.commit()?;
    }
    Ok(())
}

/// Removes what has expired at a moment, and returns how many entries.
pub(super) fn expire(py: Python<'_>, open: &Arc<Open>, now: f64, retry: bool) -> PyResult<u64> {
    let keys = transaction::call(py, open, retry, || scan::expired_keys(open, now))?;
    let mut removed = remove_all(py, open, &keys, retry, 0, move |found| !found.is_fresh(now))?;
    // Those that the engine knows of, and no listing has.
    if !transaction::is_held(open) {
        removed += transaction::call(py, open, retry, || open.data.sweep())?;
    }
    Ok(removed)
}

/// Removes the entries with a tag, and returns how many.
pub(super) fn evict(py: Python<'_>, open: &Arc<Open>, tag: &[u8], retry: bool) -> PyResult<u64> {
    let keys = transaction::call(py, open, retry, || scan::keys_of_tag(open, tag))?;
    remove_all(py, open, &keys, retry, 0, |found| {
        found.stored().and_then(|stored| stored.tag) == Some(tag)
    })
}

fn remove_all(
    py: Python<'_>,
    open: &Arc<Open>,
    keys: &[Vec<u8>],
    retry: bool,
    before: u64,
    is_meant: impl Fn(&Found) -> bool + Send + Sync,
) -> PyResult<u64> {
    let mut removed = before;
    for keys in keys.chunks(BATCH) {
        let batch = transaction::write(py, open, retry, |change| {
            scan::remove(change, keys, &is_meant)
        });
        removed += batch.map_err(|error| with_count(py, error, removed))?;
    }
    Ok(removed)
}

/// Sets the number of entries that were removed before a `Timeout` as its argument.
fn with_count(py: Python<'_>, error: PyErr, removed: u64) -> PyErr {
    let is_timeout = error
        .get_type(py)
        .name()
        .is_ok_and(|name| name == "Timeout");
    if is_timeout {
        let _ = error.value(py).setattr("args", (removed,));
    }
    error
}

/// Adds what this handle has counted to the counts in `meta`. Returns those; `reset` sets them to zero.
pub(super) fn statistics(open: &Open, reset: bool) -> Result<(u64, u64)> {
    let own = [open.hits.swap(0, Relaxed), open.misses.swap(0, Relaxed)];
    let mut sums = own;
    open.meta.update(COUNTS, |entry| {
        if let Some(entry) = entry
            && let Some((hits, misses)) = entry.value().split_first_chunk()
            && let Some((misses, _)) = misses.split_first_chunk()
        {
            sums[0] = own[0].saturating_add(u64::from_le_bytes(*hits));
            sums[1] = own[1].saturating_add(u64::from_le_bytes(*misses));
        }
        let stored = if reset { [0, 0] } else { sums };
        Update::Put(
            stored
                .iter()
                .flat_map(|count| count.to_le_bytes())
                .collect(),
        )
    })?;
    Ok((sums[0], sums[1]))
}

/// Returns what is wrong with the files.
pub(super) fn problems(open: &Open) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    for report in [open.data.verify().run()?, open.meta.verify().run()?] {
        for problem in &report.problems {
            let path = problem.path.display();
            problems.push(format!("{} at byte {} of {path}", problem.what, problem.at));
        }
        let more = report
            .problem_count
            .saturating_sub(report.problems.len() as u64);
        if more > 0 {
            problems.push(format!("{more} more problems"));
        }
        if report.damaged_bytes > 0 {
            problems.push(format!("{} damaged bytes", report.damaged_bytes));
        }
    }
    Ok(problems)
}

/// Repairs the files in a directory: what is damaged is removed.
pub(super) fn repair(directory: &Path) -> Result<()> {
    let mut options = Options::new();
    // The two files were made by two types of the engine.
    options.raw(true);
    for name in ["cache", "meta"] {
        let repair = Repair::new(directory.join(name)).options(&options);
        repair.rewrite_heap(true).run()?;
    }
    Ok(())
}
