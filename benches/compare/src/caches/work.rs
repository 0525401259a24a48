//! The measurement of one cache: it is filled twice over; then come insertions that evict, and hits.

use std::path::Path;

use clap::Args;

use super::bounded::Bounded;
use crate::figures::Figures;
use crate::keys::{Batch, Keys, Values, mix};
use crate::store::{Error, Result};
use crate::workload;

/// Items in one call of a cache's own loop.
const BATCH: u64 = 1_000;
/// The mean length of a key.
const KEY: u64 = 28;

/// What is measured.
#[derive(Args, Clone, Copy, Debug)]
pub(super) struct Load {
    /// Bytes of each value.
    #[arg(long)]
    pub(super) value: usize,
    /// Bytes that the cache may take.
    #[arg(long)]
    pub(super) bound: u64,
    /// Insertions, and gets.
    #[arg(long)]
    pub(super) count: u64,
}

/// Inserts the entries of some numbers. Returns the nanoseconds.
fn insert(cache: &mut impl Bounded, numbers: std::ops::Range<u64>, value: usize) -> Result<u64> {
    let (mut batch, mut values, mut elapsed) = (Batch::default(), Values::new(value), 0);
    let mut from = numbers.start;
    while from < numbers.end {
        let end = (from + BATCH).min(numbers.end);
        batch.make(from..end, 0, &mut values);
        elapsed += cache.insert_each(&batch)?;
        from = end;
    }
    Ok(elapsed)
}

/// Gets the entries of some numbers. Returns the nanoseconds, and how many were found.
fn get(cache: &mut impl Bounded, numbers: impl Iterator<Item = u64>) -> Result<(u64, u64)> {
    let (mut elapsed, mut found) = (0, 0);
    let mut numbers = numbers.peekable();
    while numbers.peek().is_some() {
        let keys = Keys::of(numbers.by_ref().take(BATCH as usize));
        let (time, hits) = cache.get_each(&keys)?;
        elapsed += time;
        found += hits;
    }
    Ok((elapsed, found))
}

/// Measures a cache in an empty directory: nanoseconds of an insertion and of a hit, the entries
/// that it keeps, and the bytes of its files.
pub(super) fn measure<C: Bounded>(load: &Load, dir: &Path) -> Result<Figures> {
    let mut figures = Figures::default();
    let mut cache = C::create(dir, load.bound)?;
    // More than any cache can keep.
    let room = load.bound / (load.value as u64 + KEY) + 1;
    let (filled, end) = (2 * room, 2 * room + load.count);
    insert(&mut cache, 0..filled, load.value)?;
    let insertions = insert(&mut cache, filled..end, load.value)?;
    figures.note("insert", Ok(insertions as f64 / load.count as f64))?;
    figures.note("disk", Ok(workload::disk(dir)? as f64))?;
    let (_, kept) = get(&mut cache, end - room..end)?;
    if kept == 0 {
        return Err(Error::Failed(
            "it keeps none of the last entries".to_owned(),
        ));
    }
    figures.note("kept", Ok(kept as f64))?;
    // The newer half is there, whichever older ones a cache evicts.
    let newer = (kept / 2).max(1);
    let numbers = (0..load.count).map(|step| end - 1 - mix(step) % newer);
    let (gets, found) = get(&mut cache, numbers)?;
    figures.note("get", Ok(gets as f64 / load.count as f64))?;
    figures.note("hits", Ok(found as f64 / load.count as f64))?;
    Ok(figures)
}
