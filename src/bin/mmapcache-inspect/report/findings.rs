//! Reads everything that a report shows, and judges the state of the cache.

use std::time::SystemTime;

use mmapcache::inspect::{Anatomy, Census, Changing, Holder, LockState, Overview, Sealed};

use crate::failure::Failure;
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
    pub(super) anatomy: Anatomy,
    /// The contents of the index, or why they cannot be counted.
    pub(super) census: Result<Census, Failure>,
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
        let anatomy = match location.open_files() {
            Ok(anatomy) => anatomy,
            // Without headers there is nothing to show, and the library's error says more.
            Err(failure @ Failure::NoCache { .. }) => return Err(failure),
            Err(failure) => return Err(refused.unwrap_or(failure)),
        };
        Ok(Self {
            taken,
            refused,
            census: index_scan::run(&anatomy),
            lock: anatomy.lock().ok(),
            anatomy,
        })
    }

    pub(super) fn overview(&self) -> &Overview {
        self.anatomy.overview()
    }

    pub(super) fn header(&self) -> Option<&Changing> {
        self.overview().changing.as_ref()
    }

    pub(super) fn sealed(&self) -> Option<&Sealed> {
        self.overview().sealed.as_ref()
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
        let faults = &self.overview().implausible;
        remarks.extend(faults.iter().take(SHOWN).map(verify::problem_line));
        if let Some(more) = faults.len().checked_sub(SHOWN + 1) {
            let more = units::count(more as u64 + 1);
            remarks.push(format!("And {more} more problems."));
        }
        match &self.census {
            Ok(census) if census.steady && census.implausible > 0 => remarks.push(format!(
                "{} slots of the index are invalid; `mmapcache-inspect verify` lists them.",
                units::count(census.implausible)
            )),
            Err(failure) if self.refused.is_none() => remarks.push(output::chain(failure)),
            _ => {}
        }
        remarks
    }

    fn notable(&self) -> Vec<String> {
        let header = self.header();
        let is = |what: fn(&Changing) -> bool| header.is_some_and(what);
        let is_dead = |lock: &LockState| lock.holder == Holder::Dead;
        let changed = self.census.as_ref().is_ok_and(|census| !census.steady);
        let notes = [
            (
                is(|header| header.sync_failed),
                "A sync failed: later writes may not survive a power loss. This note remains until the \
                 machine restarts or the cache is rebuilt.",
            ),
            (
                is(|header| header.cleaning_met_damage),
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
