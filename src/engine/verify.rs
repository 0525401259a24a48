//! The slow truth: everything in a cache, checked against everything else.
//!
//! Knows which pieces there are to check, and what all of them come to. It changes nothing, and
//! needs no lock: what looks wrong while somebody writes is looked at again before it is reported.

pub(crate) mod checks;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use crate::error::Result;
use crate::format::index::Counters;
use crate::format::roster::Position;
use crate::index::roster::Spot;
use crate::lock::Mutex;

use crate::engine::generation::Generation;
use crate::engine::handle::Handle;
use crate::engine::read::iter::with_all_segments;
use crate::engine::segment_numbers::present_numbers;
use crate::engine::verify::checks::{Check, Level, Piece, Report, Sums};

/// Directory entries, and roster positions, that are checked in one piece.
const ENTRIES: u32 = 64;
const POSITIONS: u32 = 1 << 16;
/// Checks of generations that were replaced meanwhile, before the last is taken as it is.
const TRIES: u32 = 5;

impl Report {
    pub(crate) fn of(handle: &Handle) -> Result<Self> {
        Verification::new(handle).run()
    }

    /// Whether index, roster and heap agree, and nothing was written behind the heap's end.
    pub(crate) fn is_whole(handle: &Handle) -> Result<bool> {
        let generation = Arc::clone(&handle.current()?.0);
        let report = Verification::new(handle).of_view(&generation)?;
        let tail = generation.header().tail();
        let following = tail.segment.checked_add(1);
        let is_last =
            following.is_none_or(|next| !Generation::has_segment_file(&handle.names, next));
        let Some(segment) = generation.open_segment(&handle.names, tail.segment)? else {
            return Ok(false);
        };
        let mut behind = segment.walk(tail.unit, segment.capacity_units());
        Ok(report.is_clean() && report.totals_compared && is_last && behind.step()?.is_none())
    }

    /// Compares the header's counters with what was counted, nobody having written meanwhile.
    fn compare_totals(&mut self, generation: &Generation, stored: &Counters, counted: &Sums) {
        self.totals_compared = true;
        for (at, stored, counted, what) in [
            (
                192,
                stored.occupied,
                counted.occupied,
                "the number of entries",
            ),
            (
                200,
                stored.deleted,
                counted.deleted,
                "the number of deleted slots",
            ),
            (248, stored.live, counted.live, "the number of live bytes"),
        ] {
            // Where entries are damaged, the numbers that depend on them cannot agree.
            if stored != counted && self.fault_count == 0 {
                self.fault(generation.table.file().path().to_owned(), at, what);
            }
        }
    }
}

/// How far a check is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckProgress {
    /// Bytes of index, roster and heap that were checked.
    pub checked_bytes: u64,
    /// Bytes that there are to check, about.
    pub all_bytes: u64,
}

/// A check of a whole cache, more or less of it, by one thread or several; made by
/// [`MmapCache::check`](crate::MmapCache::check).
///
/// It takes no lock and changes nothing, whoever reads and writes meanwhile.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let cache = mmapcache::MmapCache::open(dir.path().join("c"))?;
/// # cache.put(b"k", b"v")?;
/// use mmapcache::Level;
///
/// let quick = cache.check().level(Level::Slots).run()?;
/// assert!(quick.is_clean() && quick.entries == 1 && quick.records == 0);
/// assert_eq!(cache.check().jobs(2).run()?.records, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Verification<'a> {
    handle: &'a Handle,
    level: Level,
    jobs: usize,
    told: Mutex<Told<'a>>,
}

type Told<'a> = Box<dyn FnMut(CheckProgress) + Send + 'a>;

impl<'a> Verification<'a> {
    pub(crate) fn new(handle: &'a Handle) -> Self {
        Self {
            handle,
            level: Level::default(),
            jobs: 1,
            told: Mutex::new(Box::new(|_| {})),
        }
    }

    /// How much is checked. Default: everything.
    #[must_use]
    pub fn level(mut self, level: Level) -> Self {
        self.level = level;
        self
    }

    /// Threads that check at the same time, each another piece: 64 directory entries with their
    /// regions, 65,536 roster positions, or a segment. Default: 1, which is the caller's own.
    #[must_use]
    pub fn jobs(mut self, jobs: usize) -> Self {
        self.jobs = jobs.max(1);
        self
    }

    /// Calls `told` behind each piece, from whichever thread checked it. It must not fork.
    #[must_use]
    pub fn on_progress(mut self, told: impl FnMut(CheckProgress) + Send + 'a) -> Self {
        self.told = Mutex::new(Box::new(told));
        self
    }

    /// Checks the cache. What is found is in the report, not an error.
    ///
    /// # Errors
    ///
    /// As [`MmapCache::verify`](crate::MmapCache::verify).
    pub fn run(self) -> Result<Report> {
        let mut tries = 0;
        loop {
            // One generation for the whole check; if another takes its place meanwhile, that is the
            // one to check.
            self.handle.reopen_on_overlay()?;
            let generation = Arc::clone(&self.handle.current()?.0);
            let report = self.of_view(&generation)?;
            tries += 1;
            if tries == TRIES || self.handle.current()?.0.ids == generation.ids {
                return Ok(report);
            }
        }
    }

    fn of_view(&self, generation: &Arc<Generation>) -> Result<Report> {
        let generation = with_all_segments(self.handle, Arc::clone(generation))?;
        let header = generation.header();
        let (changes, counters) = (header.changes(), header.counters());
        let mut last = Check::new(self.handle, &generation, self.level);
        let pieces = self.pieces(&generation, &mut last.report)?;
        let progress = Mutex::new(CheckProgress::default());
        let (mut report, sums) = self.check_all(&generation, &pieces, &progress)?;
        if self.level > Level::Headers {
            report.miss_groups = sums.miss_groups as f64 / sums.groups.max(1) as f64;
            // Each entry that was found right has a position of its own. So if there are no more
            // positions in use than entries, all of them lead to entries that know them, and need
            // not be followed through the whole index (200 ns an entry instead of 150).
            if !header.is_idle_since(changes) || generation.positions_in_use()? != report.entries {
                let positions: Vec<_> = parts(generation.roster_len(), POSITIONS)
                    .map(Piece::Positions)
                    .collect();
                report.add(self.check_all(&generation, &positions, &progress)?.0);
            }
        }
        last.end_of_heap()?;
        report.add(last.report);
        // A killed writer's last operation is finished by the next one; until then its counters are
        // on the way. Asked first: an operation that ends after it has changed them.
        let at_rest = header.reserved() == header.tail() && header.is_idle_since(changes);
        if at_rest && header.counters() == counters && self.level > Level::Headers {
            report.compare_totals(&generation, &counters, &sums);
        }
        // By where they are, whichever thread came by them first.
        report
            .faults
            .sort_by(|one, other| (&one.path, one.at).cmp(&(&other.path, other.at)));
        Ok(report)
    }

    /// What there is to check besides the roster, in the order in which one thread does it.
    fn pieces(&self, generation: &Generation, report: &mut Report) -> Result<Vec<Piece>> {
        let mut pieces = Vec::new();
        match generation.table.depth(generation.header().poll()) {
            Ok(depth) => {
                let entries = parts(1 << depth, ENTRIES);
                pieces.extend(entries.map(|range| Piece::Entries(range, depth)));
            }
            Err(_) => {
                let path = generation.table.file().path().to_owned();
                report.fault(path, 128, "the directory's depth");
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

    /// Checks all pieces, and adds up what they come to.
    fn check_all(
        &self,
        generation: &Generation,
        pieces: &[Piece],
        progress: &Mutex<CheckProgress>,
    ) -> Result<(Report, Sums)> {
        let weight = |piece: &Piece| weight(generation, piece);
        progress.lock().all_bytes += pieces.iter().map(weight).sum::<u64>();
        let queue = Mutex::new(pieces.iter());
        let work = || -> Result<(Report, Sums)> {
            let mut check = Check::new(self.handle, generation, self.level);
            loop {
                let next = queue.lock().next();
                let Some(piece) = next else {
                    return Ok((check.report, check.sums));
                };
                check.piece(piece)?;
                let mut progress = progress.lock();
                progress.checked_bytes += weight(piece);
                self.told.lock()(*progress);
            }
        };
        if self.jobs == 1 {
            return work();
        }
        let parts: Vec<_> = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..self.jobs).map(|_| scope.spawn(work)).collect();
            workers.into_iter().map(|worker| worker.join()).collect()
        });
        let (mut report, mut sums) = (Report::default(), Sums::default());
        for part in parts {
            let part = part.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            let (checked, summed) = part?;
            report.add(checked);
            sums.add(&summed);
        }
        Ok((report, sums))
    }
}

impl fmt::Debug for Verification<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verification")
            .field("path", &self.handle.path)
            .field("level", &self.level)
            .field("jobs", &self.jobs)
            .finish_non_exhaustive()
    }
}

impl Generation {
    /// Roster positions that lead to a slot, as far as they can be read.
    fn positions_in_use(&self) -> Result<u64> {
        let mut walk = self.roster.walk();
        let mut used = 0;
        for position in 0..self.roster_len() {
            used += match walk.at(position).map(Spot::get) {
                Ok(Position::Slot(_)) => 1,
                Ok(_) => 0,
                Err(error) if error.is_corruption() => return Ok(u64::MAX),
                Err(error) => return Err(error),
            };
        }
        Ok(used)
    }
}

/// Bytes of a piece, about.
fn weight(generation: &Generation, piece: &Piece) -> u64 {
    match *piece {
        Piece::Entries(ref range, depth) => {
            // By the file: a damaged count may say anything.
            let regions = generation.table.allocated_regions() >> depth.min(63);
            regions.max(1) * range.len() as u64 * generation.table.geometry().region_bytes() as u64
        }
        Piece::Positions(ref range) => 4 * range.len() as u64,
        Piece::Segment(_, bytes) => bytes,
    }
}

/// The numbers below `end`, so many at a time.
fn parts(end: u32, size: u32) -> impl Iterator<Item = Range<u32>> {
    (0..end)
        .step_by(size as usize)
        .map(move |from| from..end.min(from.saturating_add(size)))
}
