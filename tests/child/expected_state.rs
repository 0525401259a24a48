//! Numbered operations of several writers on one cache, and the state that they must lead to.
//!
//! Each writer has keys of its own, which must be exactly as its operations left them. Other keys
//! are shared: their values count how often each writer has written them, so that a lost write of
//! any writer shows.

use std::collections::BTreeMap;

use super::contents::{Random, number_of, parse_key, passing, shared, staying, value};

/// The most writers of a group. The keys of those that it lacks keep their first values.
pub(crate) const WRITERS: u64 = 8;
/// Permanent keys of each writer.
pub(crate) const STAYING: u64 = 25;
/// Keys of each writer that come and go.
pub(crate) const PASSING: u64 = 800;
/// Keys that all writers write.
pub(crate) const SHARED: u64 = 16;
/// Operations under one lock, which the writer acknowledges together.
pub(crate) const BATCH: u64 = 32;

/// These writers mostly do one kind of operation; the others do all kinds.
const REBUILDER: u64 = 1;
const GROWER: u64 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// Overwrites a permanent key.
    Renew(u64),
    Put(u64),
    /// As a put, on condition of the version that was read, or of no entry.
    PutIf(u64),
    Delete(u64),
    /// As a deletion, on condition of the version that was read.
    DeleteIf(u64),
    /// Adds one to the writer's tally of a shared key.
    Share(u64),
    /// Stores everything again in a new generation.
    Rebuild,
    /// The same without every second of the writer's keys that come and go.
    Thin,
    Compact,
    Flush,
}

impl Operation {
    /// Returns the operation with this number, which determines all of it but the values' number.
    pub(crate) fn of(writer: u64, number: u64) -> Self {
        let mut random = Random::new(number.wrapping_mul(0xA5A5_5A5A_1234_5677) + writer);
        let rare = match writer {
            REBUILDER => number % 199,
            _ => random.below(6_000),
        };
        match rare {
            5 => return Self::Rebuild,
            55 => return Self::Thin,
            105 => return Self::Compact,
            155 => return Self::Flush,
            _ => {}
        }
        if writer == GROWER && !number.is_multiple_of(4) {
            // The table grows by all keys, and then loses them again.
            let within = number % (2 * PASSING);
            return match within < PASSING {
                true => Self::Put(within),
                false => Self::Delete(within - PASSING),
            };
        }
        let key = random.below(PASSING);
        match random.below(10) {
            0 => Self::Renew(random.below(STAYING)),
            1..4 => Self::Put(key),
            4 => Self::PutIf(key),
            5..7 => Self::Delete(key),
            7 => Self::DeleteIf(key),
            _ => Self::Share(random.below(SHARED)),
        }
    }
}

/// The state that the operations of one writer lead to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExpectedState {
    pub(crate) writer: u64,
    /// Number of the next operation.
    pub(crate) next: u64,
    /// The value number of each of the writer's own keys.
    pub(crate) own: BTreeMap<Vec<u8>, u64>,
    /// How often the writer has written each shared key.
    pub(crate) tallies: [u64; SHARED as usize],
}

impl ExpectedState {
    pub(crate) fn new(writer: u64) -> Self {
        let own = (0..STAYING).map(|key| (own_staying(writer, key), writer));
        Self {
            writer,
            next: 1,
            own: own.collect(),
            tallies: [0; SHARED as usize],
        }
    }

    /// Returns the state as numbers, for another process: the writer, the next operation, the
    /// tallies, and the number of each key's value, 0 if it is absent.
    pub(crate) fn to_numbers(&self) -> Vec<u64> {
        let keys = own_keys(self.writer).map(|key| self.own.get(&key).copied().unwrap_or(0));
        let first = [self.writer, self.next].into_iter().chain(self.tallies);
        first.chain(keys).collect()
    }

    /// Returns the state of these numbers.
    pub(crate) fn of_numbers(numbers: &[u64]) -> Self {
        let ([writer, next], rest) = numbers.split_first_chunk().expect("two numbers");
        let (tallies, values) = rest.split_first_chunk().expect("the tallies");
        let own = own_keys(*writer).zip(values.iter().copied());
        // Of the permanent keys, which always exist, the first value may have the number 0.
        let own = own.enumerate();
        let own = own.filter(|&(at, (_, number))| (at as u64) < STAYING || number != 0);
        Self {
            writer: *writer,
            next: *next,
            own: own.map(|(_, entry)| entry).collect(),
            tallies: *tallies,
        }
    }

    /// Returns the number that the values of the next operation get; it also identifies the writer.
    pub(crate) fn number(&self) -> u64 {
        self.next * WRITERS + self.writer
    }

    /// Applies the next operation.
    pub(crate) fn advance(&mut self) {
        let number = self.number();
        match Operation::of(self.writer, self.next) {
            Operation::Renew(key) => {
                self.own.insert(own_staying(self.writer, key), number);
            }
            Operation::Put(key) | Operation::PutIf(key) => {
                self.own.insert(own_passing(self.writer, key), number);
            }
            Operation::Delete(key) | Operation::DeleteIf(key) => {
                self.own.remove(&own_passing(self.writer, key));
            }
            Operation::Share(key) => self.tallies[key as usize] += 1,
            Operation::Thin => self.own.retain(|key, _| !is_thinned(self.writer, key)),
            Operation::Rebuild | Operation::Compact | Operation::Flush => {}
        }
        self.next += 1;
    }
}

/// Whether a writer's thinning rebuild leaves a key out.
pub(crate) fn is_thinned(writer: u64, key: &[u8]) -> bool {
    parse_key(key).is_some_and(|(word, number)| {
        word == "comes" && number % WRITERS == writer && (number / WRITERS) % 2 == 1
    })
}

pub(crate) fn own_staying(writer: u64, key: u64) -> Vec<u8> {
    staying(key * WRITERS + writer).into()
}

pub(crate) fn own_passing(writer: u64, key: u64) -> Vec<u8> {
    passing(key * WRITERS + writer).into()
}

/// Returns all keys of a writer, the permanent ones first.
fn own_keys(writer: u64) -> impl Iterator<Item = Vec<u8>> {
    let staying = (0..STAYING).map(move |key| own_staying(writer, key));
    staying.chain((0..PASSING).map(move |key| own_passing(writer, key)))
}

/// Returns the only writer of a key, or `None` if the key is shared.
///
/// # Panics
///
/// If no writer writes the key.
pub(crate) fn owner(key: &[u8]) -> Option<u64> {
    match parse_key(key) {
        Some(("ours", _)) => None,
        Some((_, number)) => Some(number % WRITERS),
        None => panic!("{:?} is no key", String::from_utf8_lossy(key)),
    }
}

/// A parsed value: the number of the operation that put it, and the tallies of a shared key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ParsedValue {
    pub(crate) number: u64,
    pub(crate) tallies: [u64; WRITERS as usize],
}

impl ParsedValue {
    pub(crate) fn writer(&self) -> u64 {
        self.number % WRITERS
    }

    /// Parses the value of this key.
    ///
    /// # Panics
    ///
    /// If the value differs in any byte from one that a writer makes for this key.
    #[track_caller]
    pub(crate) fn of(key: &[u8], found: &[u8]) -> Self {
        let (name, tallies) = match owner(key) {
            Some(_) => (key.to_vec(), [0; WRITERS as usize]),
            None => parse_tallies(key, found),
        };
        let parsed = Self {
            number: number_of(&name, found),
            tallies,
        };
        let right = owner(key).is_none_or(|owner| owner == parsed.writer());
        let name = String::from_utf8_lossy(key);
        assert!(right, "{name:?} was written by {}", parsed.writer());
        parsed
    }
}

/// Returns the value of a shared key.
pub(crate) fn shared_value(key: &[u8], parsed: &ParsedValue) -> Vec<u8> {
    value(&tallied(key, &parsed.tallies), parsed.number)
}

/// Returns a shared key followed by its tallies, the beginning of its value.
fn tallied(key: &[u8], tallies: &[u64]) -> Vec<u8> {
    let tallies: Vec<String> = tallies.iter().map(u64::to_string).collect();
    [key, b" [", tallies.join(" ").as_bytes(), b"]"].concat()
}

#[track_caller]
fn parse_tallies(key: &[u8], found: &[u8]) -> (Vec<u8>, [u64; WRITERS as usize]) {
    let parsed = || {
        let rest = found.strip_prefix(key)?.strip_prefix(b" [")?;
        let text = rest.split(|&byte| byte == b']').next()?;
        let tallies = std::str::from_utf8(text).ok()?.split(' ');
        let tallies: Vec<u64> = tallies.map_while(|tally| tally.parse().ok()).collect();
        <[u64; WRITERS as usize]>::try_from(tallies).ok()
    };
    let tallies = parsed().unwrap_or_else(|| {
        let shown = String::from_utf8_lossy(&found[..found.len().min(80)]);
        panic!("{:?}: {shown:?}", String::from_utf8_lossy(key))
    });
    (tallied(key, &tallies), tallies)
}

/// Returns every permanent key with its first value.
pub(crate) fn initial_entries() -> Vec<(Vec<u8>, Vec<u8>)> {
    let own = (0..STAYING * WRITERS).map(|number| {
        let key = staying(number).into_bytes();
        let first = value(&key, number % WRITERS);
        (key, first)
    });
    let ours = (0..SHARED).map(|number| {
        let key = shared(number).into_bytes();
        let nothing = ParsedValue {
            number: 0,
            tallies: [0; WRITERS as usize],
        };
        let first = shared_value(&key, &nothing);
        (key, first)
    });
    own.chain(ours).collect()
}
