//! Reads everything that a report shows, and judges the state of the cache.

use std::time::SystemTime;

use mmapcache::inspect::{CacheFiles, IndexHeader, IndexState, LockState};

use crate::failure::Failure;
use crate::index_scan::Scan;
use crate::location::Location;
use crate::{index_scan, output, units, verify};

/// The most problems that are listed.
const SHOWN: usize = 40;

/// Everything that was read of a cache.
#[derive(Debug)]
pub(super) struct Findings {
    pub(super) taken: SystemTime,
    /// The error, if the library refuses to open the cache.
    pub(super) refused: Option<Failure>,
    pub(super) cache_files: CacheFiles,
    /// The contents of the index, or why they cannot be counted.
    pub(super) scan: Result<Scan, Failure>,
    pub(super) lock: Option<LockState>,
}

/// The state of a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum State {
    Fine,
    /// Something that its owner should know.
    Notable,
    /// A value is invalid, or the library refuses to open the cache.
    Wrong,
}

/// The state of a cache in words.
#[derive(Debug)]
pub(super) struct Judgement {
    pub(super) state: State,
    /// A summary in a few words.
    pub(super) headline: &'static str,
    /// Sentences.
    pub(super) remarks: Vec<String>,
}

impl Findings {
    /// Reads a cache.
    pub(super) fn gather(location: &Location) -> Result<Self, Failure> {
        let taken = SystemTime::now();
        let refused = location.open_read_only().err();
        let cache_files = match location.open_files() {
            Ok(cache_files) => cache_files,
            // Without headers there is nothing to show, and the library's error says more.
            Err(failure @ Failure::NoCache { .. }) => return Err(failure),
            Err(failure) => return Err(refused.unwrap_or(failure)),
        };
        Ok(Self {
            taken,
            refused,
            scan: index_scan::run(&cache_files),
            lock: cache_files.lock().ok(),
            cache_files,
        })
    }

    pub(super) fn header(&self) -> Option<&IndexState> {
        self.cache_files.state()
    }

    pub(super) fn sealed(&self) -> Option<&IndexHeader> {
        self.cache_files.header()
    }

    /// Returns problems, followed by notes.
    pub(super) fn judge(&self) -> Judgement {
        let mut remarks = self.problems();
        let state = match remarks.is_empty() {
            false => State::Wrong,
            true => {
                remarks = self.notable();
                if remarks.is_empty() {
                    State::Fine
                } else {
                    State::Notable
                }
            }
        };
        match state {
            State::Wrong => remarks.extend(self.notable()),
            State::Fine | State::Notable => remarks.push(
                "A report does not read the heap: `mmapcache-inspect verify` finds damage there."
                    .to_owned(),
            ),
        }
        let headline = match (state, &self.refused) {
            (State::Fine, _) => "No problems in headers and index",
            (State::Notable, _) => "No problems, but notes",
            (State::Wrong, Some(_)) => "This cache cannot be opened",
            (State::Wrong, None) => "There are invalid values",
        };
        Judgement {
            state,
            headline,
            remarks,
        }
    }

    fn problems(&self) -> Vec<String> {
        let mut remarks: Vec<String> = self.refused.iter().map(|why| output::chain(why)).collect();
        let faults = self.cache_files.problems();
        remarks.extend(faults.iter().take(SHOWN).map(verify::problem_line));
        if let Some(more) = faults.len().checked_sub(SHOWN + 1) {
            let more = units::count(more as u64 + 1);
            remarks.push(format!("And {more} more problems."));
        }
        match &self.scan {
            Ok(scan) if scan.index.consistent && scan.index.invalid > 0 => remarks.push(format!(
                "{} slots of the index are invalid; `mmapcache-inspect verify` lists them.",
                units::count(scan.index.invalid)
            )),
            Err(failure) if self.refused.is_none() => remarks.push(output::chain(failure)),
            _ => {}
        }
        remarks
    }

    fn notable(&self) -> Vec<String> {
        let header = self.header();
        let is = |what: fn(&IndexState) -> bool| header.is_some_and(what);
        let is_dead = |lock: &LockState| lock.owner_died();
        let changed = self.scan.as_ref().is_ok_and(|scan| !scan.index.consistent);
        let notes = [
            (
                is(|header| header.sync_failed),
                "A sync failed: later writes may not survive a power loss. This note remains until the \
                 machine restarts or the cache is rebuilt.",
            ),
            (
                is(|header| header.cleaning_found_damage),
                "Cleaning found damage in the oldest segment; `mmapcache-inspect verify` lists it.",
            ),
            (
                is(|header| header.dropped > 0),
                "Damaged entries were removed in the past; their number is below.",
            ),
            (
                self.lock.as_ref().is_some_and(is_dead),
                "The last writer died while it held the lock. The next writer recovers; no action is \
                 needed.",
            ),
            (
                changed && self.refused.is_none(),
                "A writer was active while this was counted, or was killed in a change: the numbers \
                 may not fit together.",
            ),
        ];
        let told = notes.into_iter().filter(|(holds, _)| *holds);
        told.map(|(_, note)| note.to_owned()).collect()
    }
}
