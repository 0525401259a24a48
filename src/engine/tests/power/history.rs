//! What was put, deleted and flushed, and therefore what a power loss may leave.
//!
//! Compares what was read with that; knows neither files nor how they were read.

use std::collections::BTreeMap;

use crate::engine::tests::power::values::{Key, name, number, value};
use crate::engine::tests::power::*;

pub(super) type Seen = BTreeMap<Key, (Vec<u8>, u64)>;

/// A state that a key may have: its value and, if known, its version; or absent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct State {
    pub(super) value: Option<Vec<u8>>,
    pub(super) version: Option<u64>,
}

const ABSENT: State = State {
    value: None,
    version: None,
};

impl State {
    fn is(&self, seen: Option<&(Vec<u8>, u64)>) -> bool {
        let same = self.value.as_ref() == seen.map(|(value, _)| value);
        let version = self.version.zip(seen.map(|&(_, version)| version));
        same && version.is_none_or(|(known, seen)| known == seen)
    }
}

/// The states that keys may have after a power loss that leaves this generation: of each key the
/// flushed one, and all later ones.
pub(super) type AllowedStates = BTreeMap<Key, Vec<State>>;

/// The states that a power loss may leave.
#[derive(Clone, Debug)]
pub(super) struct History {
    /// The last one is current; before it come those that it replaces, until the replacement is
    /// certain.
    pub(super) generations: Vec<AllowedStates>,
    /// The last flushed version.
    pub(super) version: u64,
    /// The states that keys may have in the copy in progress, and whether everything was replaced
    /// since it began.
    pub(super) copied: Option<(AllowedStates, bool)>,
    /// Number of values made.
    values: u64,
    pub(super) log: Vec<String>,
}

impl History {
    pub(super) fn new() -> Self {
        Self {
            generations: vec![AllowedStates::new()],
            version: 0,
            copied: None,
            values: 0,
            log: Vec::new(),
        }
    }

    pub(super) fn value(&mut self, key: &[u8], len: usize) -> Vec<u8> {
        self.values += 1;
        value(key, self.values, len)
    }

    fn states(&mut self, key: &[u8]) -> &mut Vec<State> {
        let last = self.generations.len() - 1;
        self.generations[last]
            .entry(key.to_vec())
            .or_insert_with(|| vec![ABSENT])
    }

    /// Notes that a change begins, and may be seen from now on.
    pub(super) fn begin(&mut self, key: &[u8], value: Option<Vec<u8>>) {
        let state = State {
            value,
            version: None,
        };
        if let Some((states, _)) = &mut self.copied {
            let states = states.entry(key.to_vec()).or_insert_with(|| vec![ABSENT]);
            states.push(state.clone());
        }
        self.states(key).push(state);
    }

    /// Notes that a copy of the files begins, between two changes.
    pub(super) fn begin_copy(&mut self) {
        let mut states = self.generations[self.generations.len() - 1].clone();
        for states in states.values_mut() {
            states.drain(..states.len() - 1);
        }
        self.copied = Some((states, false));
    }

    pub(super) fn done(&mut self, key: &[u8], version: Option<Version>) {
        let states = self.states(key);
        let last = states.len() - 1;
        states[last].version = version.map(Version::as_nanos);
    }

    /// Notes that everything done so far is on the disk.
    pub(super) fn flushed(&mut self, version: u64) {
        let mut present = self.generations.split_off(self.generations.len() - 1);
        for states in present[0].values_mut() {
            states.drain(..states.len() - 1);
        }
        self.generations = present;
        self.version = version;
    }

    /// Notes the states that were read: they are the only ones from now on.
    pub(super) fn observe(&mut self, seen: &Seen) {
        let last = self.generations.len() - 1;
        let known: Vec<Key> = self.generations[last]
            .keys()
            .chain(seen.keys())
            .cloned()
            .collect();
        for key in known {
            let found = seen.get(&key);
            let states = self.states(&key);
            let last = states.len() - 1;
            if !states[last].is(found) {
                states.push(ABSENT);
            }
            let last = states.len() - 1;
            states[last] = State {
                value: found.map(|(value, _)| value.clone()),
                version: found.map(|&(_, version)| version),
            };
        }
    }

    pub(super) fn admits(states: &AllowedStates, seen: &Seen) -> std::result::Result<(), String> {
        if let Some(key) = seen.keys().find(|key| !states.contains_key(*key)) {
            return Err(format!("{} was not there", name(key)));
        }
        for (key, states) in states {
            let found = seen.get(key);
            if !states.iter().any(|state| state.is(found)) {
                let short = |value: &[u8]| (number(value), value.len());
                let found = found.map(|(value, version)| (short(value), *version));
                let may: Vec<_> = states
                    .iter()
                    .map(|state| (state.value.as_deref().map(short), state.version))
                    .collect();
                return Err(format!("{}: {found:?} is none of {may:?}", name(key)));
            }
        }
        Ok(())
    }

    /// Asserts that what was read can be what a power loss left.
    pub(super) fn check(&self, seen: &Seen) {
        let complaints: Vec<_> = self
            .generations
            .iter()
            .filter_map(|states| Self::admits(states, seen).err())
            .collect();
        assert!(complaints.len() < self.generations.len(), "{complaints:?}");
    }
}
