//! What is found out about a cache, and what it amounts to.
//!
//! Looks once; how it is shown it does not know.

use std::time::SystemTime;

use mmapcache::inspect::{Anatomy, Census, Changing, Holder, LockState, Overview, Sealed};

use crate::failure::Failure;
use crate::site::Site;
use crate::{count, output, units, verify};

/// Faults that are shown one by one.
const SHOWN: usize = 40;

/// Everything that one look at a cache gives.
#[derive(Debug)]
pub(super) struct Findings {
    pub(super) taken: SystemTime,
    /// Why the engine refuses the cache, if it does.
    pub(super) refused: Option<Failure>,
    pub(super) anatomy: Anatomy,
    /// What is in the index, or why it cannot be counted.
    pub(super) census: Result<Census, Failure>,
    pub(super) lock: Option<LockState>,
}

/// How a cache is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum State {
    Fine,
    /// Something that its owner should know.
    Notable,
    /// Something cannot be right, or the engine refuses it.
    Wrong,
}

/// What a cache's state is, in words.
#[derive(Debug)]
pub(super) struct Judgement {
    pub(super) state: State,
    /// In a few words.
    pub(super) headline: &'static str,
    /// Each a sentence or two.
    pub(super) remarks: Vec<String>,
}

impl Findings {
    /// Looks at a cache.
    pub(super) fn gather(site: &Site) -> Result<Self, Failure> {
        let taken = SystemTime::now();
        let refused = site.look().err();
        let anatomy = match site.anatomy() {
            Ok(anatomy) => anatomy,
            // Without headers there is nothing to show, and the engine's own words are better.
            Err(failure @ Failure::NoCache { .. }) => return Err(failure),
            Err(failure) => return Err(refused.unwrap_or(failure)),
        };
        Ok(Self {
            taken,
            refused,
            census: count::census(&anatomy),
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

    /// What is wrong, first; then what is notable.
    pub(super) fn judge(&self) -> Judgement {
        let mut remarks = self.wrong();
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
                "Damage in the heap does not show here: `mmapcache-inspect verify` reads it."
                    .to_owned(),
            ),
        }
        let headline = match (state, &self.refused) {
            (State::Fine, _) => "Nothing is wrong in headers and index",
            (State::Notable, _) => "Nothing is wrong, but take note",
            (State::Wrong, Some(_)) => "The engine refuses this cache",
            (State::Wrong, None) => "Something cannot be right",
        };
        Judgement {
            state,
            headline,
            remarks,
        }
    }

    fn wrong(&self) -> Vec<String> {
        let mut remarks: Vec<String> = self.refused.iter().map(|why| output::chain(why)).collect();
        let faults = &self.overview().implausible;
        remarks.extend(faults.iter().take(SHOWN).map(verify::fault_line));
        if let Some(more) = faults.len().checked_sub(SHOWN + 1) {
            let more = units::count(more as u64 + 1);
            remarks.push(format!("And {more} more of this kind."));
        }
        match &self.census {
            Ok(census) if census.steady && census.implausible > 0 => remarks.push(format!(
                "{} slots of the index cannot be right; `mmapcache-inspect verify` says where.",
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
        let moving = self.census.as_ref().is_ok_and(|census| !census.steady);
        let notes = [
            (
                is(|header| header.sync_failed),
                "A sync failed: what was written since may not survive a power loss. It stays \
                 reported until the machine restarts or the cache is rebuilt.",
            ),
            (
                is(|header| header.cleaning_met_damage),
                "Cleaning has met damage in the oldest segment; `mmapcache-inspect verify` says \
                 where.",
            ),
            (
                is(|header| header.dropped > 0),
                "Damaged entries were given up at some time; their number is below.",
            ),
            (
                self.lock.as_ref().is_some_and(is_dead),
                "The last writer died at work. The next one finishes what it had begun; nothing \
                 needs to be done.",
            ),
            (
                moving && self.refused.is_none(),
                "Somebody wrote while this was counted, or was killed in a change: numbers can be of \
                 different moments.",
            ),
        ];
        let told = notes.into_iter().filter(|(holds, _)| *holds);
        told.map(|(_, note)| note.to_owned()).collect()
    }
}
