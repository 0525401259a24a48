//! Several writers that overwrite at once: threads of one process, and processes. In the end every
//! key must have a value that was put under it.
//!
//! May call `peer`, and what `workload` offers its parts.

use std::path::Path;
use std::sync::{Barrier, OnceLock};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::clock::{Waited, shared_nanoseconds};
use crate::figures::Figures;
use crate::keys::{Batch, Key, Values};
use crate::peer::Peer;
use crate::plan::Plan;
use crate::store::{Access, Error, Result, Sharing, Store};

use super::change::{STEADY_TURN, reach_steady_state};
use super::sharing::joined;
use super::{asked, hit, load, numbers, sync_all};

/// How many write at once, as the names of figures have it.
pub(crate) const WRITERS: [u64; 4] = [1, 2, 4, 8];

/// What the names of figures end with: the time of an overwrite, the 99th percentile and the maximum
/// of single ones, the overwrites of the slowest writer over the mean, and the part of the time that
/// the writers waited for a processor.
const ENDS: [&str; 5] = ["", "_p99", LONGEST, "_slowest", "_waiting"];
pub(crate) const LONGEST: &str = "_longest";

/// All write so long before overwrites count, so that none has to start while others do not.
const BEFORE: Duration = Duration::from_millis(300);
/// How long overwrites count.
const COUNTED: Duration = Duration::from_millis(1_500);

/// Keys and values of one writer, which it puts over and over: more than a processor's caches hold.
const LAID_OUT_BYTES: usize = 64 << 20;
/// About the bytes of a key and of its place.
const KEY_BYTES: usize = 32;
/// The values of the first writer; those of the others follow.
const FIRST_TURN: u64 = 2_000;
/// A longer wait counts as this long in the percentile.
const LONGEST_WAIT: u64 = 60_000_000_000;
/// Significant digits of the percentile.
const DIGITS: u8 = 2;

pub(super) fn measure<S: Store>(plan: &Plan, figures: &mut Figures) -> Result<()> {
    let dir = super::fresh(plan, "writers")?;
    let mut store = S::open(&dir, Access::Create, plan.size.entries)?;
    load::fill(&mut store, plan)?;
    if S::SHARING != Sharing::Memory {
        sync_all(&mut store, &dir)?;
    }
    reach_steady_state(&mut store, plan.size.entries, plan.size.value)?;
    for count in counts(plan, "threads") {
        let done = threads(&mut store, plan, count, [BEFORE, COUNTED]);
        note(figures, "threads", count, done)?;
    }
    store = by_processes(store, plan, &dir, figures)?;
    check(&mut store, plan)?;
    store.close()?;
    Ok(std::fs::remove_dir_all(&dir)?)
}

pub(crate) fn named(how: &str, count: u64, end: &str) -> String {
    format!("writers_{how}_{count}{end}")
}

/// Returns how many writers have a figure that is asked for.
fn counts(plan: &Plan, how: &str) -> impl Iterator<Item = u64> {
    let is_asked = move |count| {
        ENDS.iter()
            .any(|end| plan.asks_for(&named(how, count, end)))
    };
    WRITERS.into_iter().filter(move |&count| is_asked(count))
}

/// The store is closed for the processes, unless it would not last.
fn by_processes<S: Store>(store: S, plan: &Plan, dir: &Path, figures: &mut Figures) -> Result<S> {
    if may_write::<S>().is_err() {
        for count in counts(plan, "processes") {
            note(
                figures,
                "processes",
                count,
                may_write::<S>().map(|()| Vec::new()),
            )?;
        }
        return Ok(store);
    }
    let mut open = Some(store);
    if S::SHARING.lasts()
        && let Some(store) = open.take()
    {
        store.close()?;
    }
    for count in counts(plan, "processes") {
        note(figures, "processes", count, processes(plan, dir, count))?;
    }
    match open {
        Some(store) => Ok(store),
        None => S::open(dir, Access::Write, plan.size.entries),
    }
}

/// Whether other processes can write beside one that writes, or why not.
fn may_write<S: Store>() -> Result<()> {
    asked(S::SHARING, S::SHARING != Sharing::Memory)?;
    if S::WRITERS {
        Ok(())
    } else {
        Err(Error::Refused("lets no second process write"))
    }
}

/// When overwrites count, on the clock that all processes share.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Period {
    from: u64,
    until: u64,
}

impl Period {
    fn soon([before, counted]: [Duration; 2]) -> Self {
        let from = shared_nanoseconds() + before.as_nanos() as u64;
        Self {
            from,
            until: from + counted.as_nanos() as u64,
        }
    }
}

/// What one writer did, in nanoseconds.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Overwritten {
    /// From when to when it counted.
    period: Period,
    /// Overwrites that ended in that time.
    count: u64,
    longest: u64,
    /// The part of its time that it waited for a processor.
    waiting: f64,
    /// How long single overwrites took, and how many took so long.
    times: Vec<(u64, u64)>,
}

fn histogram() -> Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, LONGEST_WAIT, DIGITS)?)
}

/// Makes the keys and values that a writer will put.
pub(crate) fn laid_out(plan: &Plan, writer: u64) -> Batch {
    let (entries, value) = (plan.size.entries, plan.size.value);
    let room = (LAID_OUT_BYTES / (value + KEY_BYTES)).max(1) as u64;
    let turn = FIRST_TURN + writer;
    let mut batch = Batch::default();
    let chosen = numbers(entries, room.min(entries), turn);
    batch.make(chosen, turn, &mut Values::new(value));
    batch
}

/// Overwrites until the period ends. The clock is read once for each overwrite: its time is that
/// since the last reading, so that nothing is left out.
pub(crate) fn overwrite(
    store: &mut impl Store,
    batch: &Batch,
    period: Period,
) -> Result<Overwritten> {
    let (mut times, mut count, mut longest) = (histogram()?, 0, 0);
    let waited = Waited::new()?;
    let (before, start) = (waited.nanoseconds()?, shared_nanoseconds());
    let mut last = start;
    'all: loop {
        for (key, value) in batch.items() {
            if last >= period.until {
                break 'all;
            }
            store.put(key, value)?;
            let now = shared_nanoseconds();
            let took = now - std::mem::replace(&mut last, now);
            if now < period.from {
                continue;
            }
            // One that ends too late was waited for, too.
            times.saturating_record(took);
            longest = longest.max(took);
            count += u64::from(now < period.until);
        }
    }
    let waiting = (waited.nanoseconds()? - before) as f64 / (last - start).max(1) as f64;
    let recorded = times.iter_recorded();
    Ok(Overwritten {
        period,
        count,
        longest,
        waiting,
        times: recorded
            .map(|step| (step.value_iterated_to(), step.count_at_value()))
            .collect(),
    })
}

/// Runs so many threads, of which the calling one is the first.
pub(crate) fn threads<S: Store>(
    store: &mut S,
    plan: &Plan,
    count: u64,
    lengths: [Duration; 2],
) -> Result<Vec<Overwritten>> {
    let others: Vec<_> = (1..count)
        .map(|writer| Ok((writer, store.another()?)))
        .collect::<Result<_>>()?;
    let (ready, period) = (Barrier::new(1 + others.len()), OnceLock::new());
    let start = || {
        ready.wait();
        *period.get_or_init(|| Period::soon(lengths))
    };
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for (writer, another) in others {
            threads.push(scope.spawn(move || {
                let batch = laid_out(plan, writer);
                let opened = another();
                let period = start();
                overwrite(&mut opened?, &batch, period)
            }));
        }
        let batch = laid_out(plan, 0);
        let own = overwrite(store, &batch, start());
        std::iter::once(own)
            .chain(threads.into_iter().map(joined))
            .collect()
    })
}

/// Runs so many processes, each with a handle of its own.
fn processes(plan: &Plan, dir: &Path, count: u64) -> Result<Vec<Overwritten>> {
    let mut peers: Vec<_> = (0..count)
        .map(|_| Peer::start(plan, dir, Access::Write))
        .collect::<Result<_>>()?;
    for (writer, peer) in (0_u64..).zip(&mut peers) {
        peer.tell(&format!("prepare {writer}"))?;
    }
    for peer in &mut peers {
        peer.answer()?;
    }
    let period = serde_json::to_string(&Period::soon([BEFORE, COUNTED]))?;
    for peer in &mut peers {
        peer.tell(&format!("overwrite {period}"))?;
    }
    peers.iter_mut().map(Peer::overwritten).collect()
}

/// Notes the figures of some writers together, or why there are none.
fn note(
    figures: &mut Figures,
    how: &str,
    count: u64,
    done: Result<Vec<Overwritten>>,
) -> Result<()> {
    let numbers = match done.and_then(|all| together(&all)) {
        Ok(numbers) => numbers.map(Ok),
        Err(Error::Refused(reason)) => ENDS.map(|_| Err(Error::Refused(reason))),
        Err(error) => return Err(error),
    };
    ENDS.iter()
        .zip(numbers)
        .try_for_each(|(end, number)| figures.note(&named(how, count, end), number))
}

/// Returns a number for each end of a name.
fn together(all: &[Overwritten]) -> Result<[f64; ENDS.len()]> {
    let none = Error::Refused("no overwrite ended in the time that counts");
    let total: u64 = all.iter().map(|writer| writer.count).sum();
    let [Some(first), Some(slowest)] = [
        all.first()
            .map(|writer| writer.period.until - writer.period.from),
        all.iter().map(|writer| writer.count).min(),
    ] else {
        return Err(none);
    };
    if total == 0 {
        return Err(none);
    }
    let mut times = histogram()?;
    for (nanoseconds, count) in all.iter().flat_map(|writer| &writer.times) {
        times.saturating_record_n(*nanoseconds, *count);
    }
    let longest = all.iter().map(|writer| writer.longest).max();
    let waiting: f64 = all.iter().map(|writer| writer.waiting).sum();
    Ok([
        first as f64 / total as f64,
        times.value_at_percentile(99.0) as f64,
        longest.unwrap_or_default() as f64,
        (slowest * all.len() as u64) as f64 / total as f64,
        waiting / all.len() as f64,
    ])
}

/// Returns an error unless every key has a value that a writer put under it.
pub(crate) fn check(store: &mut impl Store, plan: &Plan) -> Result<()> {
    let most = WRITERS.into_iter().max().unwrap_or_default();
    let put: Vec<u64> = [0, STEADY_TURN]
        .into_iter()
        .chain(FIRST_TURN..FIRST_TURN + most)
        .collect();
    let mut values = Values::new(plan.size.value);
    for number in 0..plan.size.entries {
        let mut is_one = false;
        let see = |value: &[u8]| is_one = put.iter().any(|&turn| values.of(number, turn) == value);
        hit(store.get(Key::new(number).bytes(), see)?)?;
        if !is_one {
            return Err(Error::Failed(format!(
                "the value of entry {number} is none that was put"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Overwritten, Period, together};
    use crate::store::Error;

    fn writer(count: u64, took: u64) -> Overwritten {
        Overwritten {
            period: Period {
                from: 1_000,
                until: 5_000,
            },
            count,
            longest: took,
            waiting: 0.25,
            times: vec![(took, count)],
        }
    }

    // 40 overwrites in 4,000 ns, of which the slower writer made 10.
    #[test]
    fn writers_share_the_time() {
        let [time, p99, longest, slowest, waiting] =
            together(&[writer(30, 90), writer(10, 400)]).expect("overwrites");
        assert_eq!([time, longest, slowest, waiting], [100.0, 400.0, 0.5, 0.25]);
        // Two significant digits.
        assert!((400.0..404.0).contains(&p99), "{p99}");
        // One of a hundred and one is above the percentile.
        let [_, p99, longest, ..] =
            together(&[writer(100, 90), writer(1, 400)]).expect("overwrites");
        assert_eq!(longest, 400.0);
        assert!((90.0..91.0).contains(&p99), "{p99}");
    }

    #[test]
    fn no_overwrite_gives_no_figure() {
        for writers in [vec![], vec![writer(0, 400)]] {
            assert!(matches!(together(&writers), Err(Error::Refused(_))));
        }
    }
}
