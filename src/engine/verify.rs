//! Verifies a whole cache: index, roster and heap against each other.
//!
//! Divides the cache into pieces, has them checked by one thread or several, and adds up the
//! results. Changes nothing and takes no lock: what seems wrong while a writer is at work is checked
//! again before it is reported. May call `checks`, `read::cursor` and everything below them.

pub(crate) mod checks;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

#[cfg(doc)]
use crate::error::ErrorKind;
use crate::error::{Corruption, Result};
use crate::format::index::{Counters, word};
use crate::format::roster::Position;
use crate::index::roster::PositionRef;
use crate::lock::{self, Mutex};

use crate::engine::generation::Generation;
use crate::engine::handle::Handle;
use crate::engine::open;
use crate::engine::progress::Progress;
use crate::engine::read::cursor::with_all_segments;
use crate::engine::segment_numbers::present_numbers;
use crate::engine::verify::checks::{Check, Piece, Sums, VerifyLevel, VerifyReport};

/// Directory entries that are checked in one piece.
const ENTRIES: u32 = 64;
/// Roster positions that are checked in one piece.
const POSITIONS: u32 = 1 << 16;
/// Checks of a cache whose generation keeps being replaced, before the last result counts.
const ATTEMPTS: u32 = 5;

/// Verifies all of a cache by one thread.
pub(crate) fn verify(handle: &Handle) -> Result<VerifyReport> {
    Verify::new(handle).run()
}

/// Returns whether index, roster and heap agree, and the heap has no record after its end.
pub(crate) fn is_consistent(handle: &Handle) -> Result<bool> {
    let generation = Arc::clone(&handle.current()?.0);
    let report = Verify::new(handle).check_generation(&generation)?;
    let tail = generation.header().tail();
    let following = tail.segment.checked_add(1);
    let is_last = following.is_none_or(|next| !open::has_segment_file(&handle.names, next));
    let Some(segment) = open::segment(&generation, &handle.names, tail.segment)? else {
        return Ok(false);
    };
    let mut after_tail = segment.scan(tail.unit, segment.capacity_units());
    Ok(report.is_clean() && report.totals_compared && is_last && after_tail.next_item()?.is_none())
}

/// Compares the header's counters with the sums of a check during which no writer was at work.
fn compare_totals(
    report: &mut VerifyReport,
    generation: &Generation,
    level: VerifyLevel,
    stored: &Counters,
    counted: &Sums,
) {
    report.totals_compared = true;
    // The lengths of records are in the heap.
    let live = match level {
        VerifyLevel::Records => counted.live,
        VerifyLevel::Slots | VerifyLevel::Headers => stored.live,
    };
    for (word, stored, counted, what) in [
        (
            word::OCCUPIED,
            stored.occupied,
            counted.occupied,
            Corruption::EntryCount,
        ),
        (
            word::DELETED,
            stored.deleted,
            counted.deleted,
            Corruption::TombstoneCount,
        ),
        (word::LIVE, stored.live, live, Corruption::LiveBytes),
    ] {
        // If entries are corrupt, the counters that depend on them cannot agree.
        if stored != counted && report.problem_count == 0 {
            let path = generation.table.file().path().to_owned();
            report.fault(path, word as u64 * 8, what);
        }
    }
}

/// Verifies a cache: index, roster and heap against each other. Made by
/// [`MmapCache::verify`](crate::MmapCache::verify) and [`Labels::verify`](crate::Labels::verify).
///
/// It takes no lock and changes nothing; other threads and processes may read and write during it.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let cache = mmapcache::MmapCache::open(dir.path().join("c"))?;
/// # cache.put(b"k", b"v")?;
/// use mmapcache::VerifyLevel;
///
/// let quick = cache.verify().level(VerifyLevel::Slots).run()?;
/// assert!(quick.is_clean() && quick.entries == 1 && quick.records == 0);
/// assert_eq!(cache.verify().jobs(2).run()?.records, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Verify<'a> {
    handle: &'a Handle,
    level: VerifyLevel,
    jobs: usize,
    progress: Mutex<OnProgress<'a>>,
}

type OnProgress<'a> = Box<dyn FnMut(Progress) + Send + 'a>;

impl<'a> Verify<'a> {
    pub(crate) fn new(handle: &'a Handle) -> Self {
        Self {
            handle,
            level: VerifyLevel::default(),
            jobs: 1,
            progress: Mutex::new(Box::new(|_| {})),
        }
    }

    /// Sets how much is checked. Default: [`VerifyLevel::Records`], which is everything.
    #[must_use]
    pub fn level(mut self, level: VerifyLevel) -> Self {
        self.level = level;
        self
    }

    /// Sets the number of threads. Each takes one piece at a time: 64 directory entries with their
    /// regions, 65,536 roster positions, or a segment. Default: 1, the calling thread.
    #[must_use]
    pub fn jobs(mut self, jobs: usize) -> Self {
        self.jobs = jobs.max(1);
        self
    }

    /// Sets a function to call after each piece, from the thread that checked it. It must not fork.
    #[must_use]
    pub fn on_progress(mut self, progress: impl FnMut(Progress) + Send + 'a) -> Self {
        self.progress = Mutex::new(Box::new(progress));
        self
    }

    /// Checks the cache. Time by its size at [`VerifyLevel::Records`]; see [`VerifyLevel`] for less. The
    /// counters are compared too, if no other process writes during the check. Problems are reported in
    /// the [`VerifyReport`], not as errors.
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::Io`] if the system refuses to open or map a file, and any error of
    /// [`Options::open`](crate::Options::open) if the files were replaced and the new ones cannot be
    /// opened.
    pub fn run(self) -> Result<VerifyReport> {
        let mut attempts = 0;
        loop {
            // One generation for the whole check; if another one replaced it since, check that.
            self.handle.reopen_on_overlay()?;
            let generation = Arc::clone(&self.handle.current()?.0);
            let report = self.check_generation(&generation)?;
            attempts += 1;
            if attempts == ATTEMPTS || self.handle.current()?.0.ids == generation.ids {
                return Ok(report);
            }
        }
    }

    fn check_generation(&self, generation: &Arc<Generation>) -> Result<VerifyReport> {
        let generation = with_all_segments(self.handle, Arc::clone(generation))?;
        let header = generation.header();
        let (changes, counters) = (header.changes(), header.counters());
        let mut last = Check::new(self.handle, &generation, self.level);
        let pieces = self.pieces(&generation, &mut last.report)?;
        let progress = Mutex::new(Progress::default());
        let (mut report, sums) = self.check_all(&generation, &pieces, &progress)?;
        if self.level > VerifyLevel::Headers {
            report.miss_groups = sums.miss_groups as f64 / sums.groups.max(1) as f64;
            // R1: each valid entry has a position of its own. So if as many positions are in use,
            // R2 holds for all of them, and none needs to be followed through the whole index (200
            // ns an entry instead of 150).
            if !header.is_idle_since(changes) || positions_in_use(&generation)? != report.entries {
                let positions: Vec<_> = parts(generation.roster_len(), POSITIONS)
                    .map(Piece::Positions)
                    .collect();
                report.add(self.check_all(&generation, &positions, &progress)?.0);
            }
        }
        last.end_of_heap()?;
        report.add(last.report);
        // The next writer finishes the last operation of a killed one; until then the counters are
        // those of an operation in flight. Loaded before the counters: an operation stores them
        // before it ends.
        let at_rest = header.reserved() == header.tail() && header.is_idle_since(changes);
        if at_rest && header.counters() == counters && self.level > VerifyLevel::Headers {
            compare_totals(&mut report, &generation, self.level, &counters, &sums);
        }
        // By their places, whichever thread found them first.
        report
            .problems
            .sort_by(|one, other| (&one.path, one.at).cmp(&(&other.path, other.at)));
        Ok(report)
    }

    /// Returns the pieces besides those of the roster, in the order in which one thread checks them.
    fn pieces(&self, generation: &Generation, report: &mut VerifyReport) -> Result<Vec<Piece>> {
        let mut pieces = Vec::new();
        match generation.table.depth(generation.header().poll()) {
            Ok(depth) => {
                let entries = parts(1 << depth, ENTRIES);
                pieces.extend(entries.map(|range| Piece::Entries(range, depth)));
            }
            Err(_) => {
                let path = generation.table.file().path().to_owned();
                report.fault(path, word::POLL as u64 * 8, Corruption::DirectoryDepth);
            }
        }
        let (oldest, last) = (
            generation.header().oldest(),
            generation.header().tail().segment,
        );
        for number in present_numbers(&self.handle.names, oldest, last) {
            let segment = generation.segment(number);
            let bytes = segment.map_or(0, |segment| segment.allocated());
            pieces.push(Piece::Segment(number, bytes));
        }
        Ok(pieces)
    }

    /// Checks all pieces, and adds up their results.
    fn check_all(
        &self,
        generation: &Generation,
        pieces: &[Piece],
        progress: &Mutex<Progress>,
    ) -> Result<(VerifyReport, Sums)> {
        let weight = |piece: &Piece| weight(generation, piece);
        progress.lock().total_bytes += pieces.iter().map(weight).sum::<u64>();
        let queue = Mutex::new(pieces.iter());
        let work = || -> Result<(VerifyReport, Sums)> {
            let mut check = Check::new(self.handle, generation, self.level);
            loop {
                let next = queue.lock().next();
                let Some(piece) = next else {
                    return Ok((check.report, check.sums));
                };
                let before = check.report.records;
                check.piece(piece)?;
                let mut progress = progress.lock();
                progress.done_bytes += weight(piece);
                progress.records += check.report.records - before;
                self.progress.lock()(*progress);
            }
        };
        if self.jobs == 1 || !lock::can_start_threads() {
            return work();
        }
        let parts: Vec<_> = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..self.jobs).map(|_| scope.spawn(work)).collect();
            workers.into_iter().map(|worker| worker.join()).collect()
        });
        debug_assert_eq!(parts.len(), self.jobs);
        let (mut report, mut sums) = (VerifyReport::default(), Sums::default());
        for part in parts {
            let part = part.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            let (checked, summed) = part?;
            report.add(checked);
            sums.add(&summed);
        }
        Ok((report, sums))
    }
}

impl fmt::Debug for Verify<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verify")
            .field("path", &self.handle.path)
            .field("level", &self.level)
            .field("jobs", &self.jobs)
            .finish_non_exhaustive()
    }
}

/// Counts the roster positions that lead to a slot, as far as they can be read.
fn positions_in_use(generation: &Generation) -> Result<u64> {
    let mut walk = generation.roster.cursor();
    let mut used = 0;
    for position in 0..generation.roster_len() {
        used += match walk.at(position).map(PositionRef::get) {
            Ok(Position::Slot(_)) => 1,
            Ok(_) => 0,
            Err(error) if error.is_corruption() => return Ok(u64::MAX),
            Err(error) => return Err(error),
        };
    }
    Ok(used)
}

/// Returns the bytes of a piece, approximately.
fn weight(generation: &Generation, piece: &Piece) -> u64 {
    match *piece {
        Piece::Entries(ref range, depth) => {
            // By the file's length: the header's count may be corrupt.
            let regions = generation.table.allocated_regions() >> depth.min(63);
            regions.max(1) * range.len() as u64 * generation.table.geometry().region_bytes() as u64
        }
        Piece::Positions(ref range) => 4 * range.len() as u64,
        Piece::Segment(_, bytes) => bytes,
    }
}

/// Returns the numbers below `end` as ranges of at most `size`.
fn parts(end: u32, size: u32) -> impl Iterator<Item = Range<u32>> {
    debug_assert!(size > 0);
    (0..end)
        .step_by(size as usize)
        .map(move |from| from..end.min(from.saturating_add(size)))
}
