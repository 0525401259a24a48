//! What can go wrong with a dictionary, in words that say where and what to do.
//!
//! Knows keys and policies; what the engine says it carries along.

use std::fmt;

use crate::error::Error;

use crate::dict::format::Format;
use crate::dict::key::DictKey;

/// A result with a dictionary's [`DictError`].
pub type Result<T, E = DictError> = std::result::Result<T, E>;

/// Why a text, or a sequence of texts, is no key. Segments are counted from 0, and so are the
/// characters in them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// A key has at least one segment.
    #[error("a key without a segment; give at least one")]
    NoSegment,
    /// A segment has at least one character.
    #[error("segment {number} is empty; leave it out, or name it")]
    EmptySegment {
        /// Which segment.
        number: usize,
    },
    /// A character that no segment may hold.
    #[error(
        "segment {number}, {segment:?}: {character:?} at {position} is not safe; letters, digits and ()_-~.= are (see `replace_unsafe_chars`)"
    )]
    Character {
        /// Which segment.
        number: usize,
        /// Its text.
        segment: String,
        /// Which of its characters.
        position: usize,
        /// That character.
        character: char,
    },
    /// `.` and `..` mean something else in paths.
    #[error("segment {number} is {segment:?}, which is kept for paths; choose another name")]
    Dots {
        /// Which segment.
        number: usize,
        /// Its text.
        segment: String,
    },
    /// A segment has at most 253 bytes.
    #[error("segment {number} has {len} bytes; 253 are the most: shorten it, or hash it")]
    LongSegment {
        /// Which segment.
        number: usize,
        /// Its length in bytes.
        len: usize,
    },
    /// A key has at most 255 segments.
    #[error("a key of {segments} segments; 255 are the most: put some into one")]
    ManySegments {
        /// How many there are.
        segments: usize,
    },
}

/// What a dictionary refuses by its policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Policy {
    /// Items are added, and stay as they are.
    AppendOnly,
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::AppendOnly => "append-only",
        })
    }
}

/// What was tried with a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Coding {
    /// To write it in the dictionary's format.
    Encode,
    /// To read it as the dictionary's type.
    Decode,
}

impl fmt::Display for Coding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Encode => "could not be written",
            Self::Decode => "could not be read",
        })
    }
}

/// Why an operation of a dictionary was refused or failed. It changed nothing, unless its own
/// documentation says otherwise.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DictError {
    /// The operation needs an item, and there is none.
    #[error("{key}: no such item; check the key, or use a method that allows for its absence")]
    KeyNotFound {
        /// The key that was asked for.
        key: DictKey,
    },
    /// What was given as a key is none.
    #[error(transparent)]
    InvalidKey(#[from] KeyError),
    /// An entry of the storage lies in this dictionary's namespace under a key that no dictionary
    /// gives. Somebody else wrote it; it is left alone.
    #[error(
        "an entry under {key:?}, which is no dictionary's key; it was put by other means: delete it through the cache"
    )]
    ForeignKey {
        /// The entry's key in the storage, as text as far as it is text.
        key: String,
        /// What is wrong with it.
        source: Option<KeyError>,
    },
    /// A value that the format cannot express, or that is not of the type that was asked for.
    #[error("{key}: {coding} as {type_name} in {format}; check the type, or use another format")]
    InvalidValue {
        /// The item.
        key: DictKey,
        /// What was tried.
        coding: Coding,
        /// The format.
        format: Format,
        /// The type of the dictionary's values.
        type_name: &'static str,
        /// What the format said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The dictionary's policy does not allow it.
    #[error("{}refused by the policy: {policy}; use a dictionary without it", about(.key.as_ref()))]
    MutationPolicy {
        /// The policy.
        policy: Policy,
        /// The item, if it was about one.
        key: Option<DictKey>,
    },
    /// Others changed the item each time before this operation could.
    #[error("{key}: changed by others in each of {attempts} attempts; try again, or allow more")]
    Conflict {
        /// The item.
        key: DictKey,
        /// How often it was tried.
        attempts: u32,
    },
    /// This process is a forked child, and a thread of its parent was changing this dictionary in
    /// memory; see [`LocalDict`](crate::dict::LocalDict#after-a-fork).
    #[error(
        "a fork left this dictionary in memory half-changed; use another one in this process, or fork while no thread uses it"
    )]
    Forked,
    /// The engine refused or failed.
    #[error("{}could not {operation}", about(.key.as_ref()))]
    Backend {
        /// What the dictionary wanted of it.
        operation: &'static str,
        /// The item, if it was about one.
        key: Option<DictKey>,
        /// What the engine said: where, and what to do.
        source: Error,
    },
}

impl DictError {
    /// Whether the files are at fault; see [`Error::is_corruption`].
    /// A value that does not decode was written by others, or as another type: its checksum holds.
    pub fn is_corruption(&self) -> bool {
        matches!(self, Self::Backend { source, .. } if source.is_corruption())
    }
}

fn about(key: Option<&DictKey>) -> String {
    key.map_or_else(String::new, |key| format!("{key}: "))
}
