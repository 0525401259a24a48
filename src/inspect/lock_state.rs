//! Who holds the writer lock, seen from outside.
//!
//! Knows the words of the lock and how the system tells of other processes' locks. It takes none.

#[cfg(target_os = "linux")]
use std::os::unix::fs::MetadataExt;

#[cfg(target_os = "linux")]
use crate::error::Error;
use crate::error::Result;
use crate::format::index::{IndexHeader, word};
use crate::format::lock::State;
use crate::lock;

use crate::inspect::overview::Overview;
use crate::inspect::source::Source;

/// Whether somebody holds the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Holder {
    /// Nobody does.
    Nobody,
    /// Somebody who is alive, by the lock on the byte of its number or by what the system says.
    Alive,
    /// Somebody who is dead: the lock is free, and the next writer finishes what was begun.
    Dead,
    /// The system does not tell.
    Unknown,
}

/// The state of the writer lock, at one moment; made by
/// [`Anatomy::lock`](crate::inspect::Anatomy::lock).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LockState {
    /// Whether writers lock by a word of the index, else by `flock`.
    pub by_word: bool,
    /// Whether somebody holds it.
    pub holder: Holder,
    /// Where it is the word: the number that the holder drew; 0 for none.
    pub number: u32,
    /// Where it is the word: the number of the waiter for whom it is kept; 0 for none.
    pub next: u32,
    /// Whether somebody sleeps until it is free.
    pub awaited: bool,
    /// The process that said it was the writer; a hint, and meaningless across containers.
    pub process: Option<u32>,
}

impl LockState {
    pub(super) fn look(index: &Source, overview: &Overview) -> Result<Self> {
        let at = |word: usize| -> Result<u64> {
            let bytes = index.read(word as u64 * 8, 8)?;
            Ok(bytes.try_into().map_or(0, u64::from_le_bytes))
        };
        let flags = std::mem::offset_of!(IndexHeader, flags) as u64;
        let by_word = match overview.sealed.as_ref() {
            Some(sealed) => sealed.flags & 1 != 0,
            None => index
                .read(flags, 1)?
                .first()
                .is_some_and(|byte| byte & 1 != 0),
        };
        let state = State(at(word::LOCK)?);
        let mut looked = Self {
            by_word,
            holder: Holder::Unknown,
            number: 0,
            next: 0,
            awaited: at(word::WAITING)? != 0,
            process: u32::try_from(at(word::HOLDER)?).ok().filter(|&id| id != 0),
        };
        if by_word {
            (looked.number, looked.next) = (state.owner(), state.next());
            looked.awaited = state.is_awaited();
            looked.holder = match state.owner() {
                0 => Holder::Nobody,
                number => match lock::is_alive(index.file(), number) {
                    Ok(true) => Holder::Alive,
                    Ok(false) => Holder::Dead,
                    Err(_unsupported) => Holder::Unknown,
                },
            };
        } else {
            looked.holder = flock(index)?;
        }
        Ok(looked)
    }
}

/// Whether the system lists a `flock` on the file. It lists those of this machine, by device and
/// inode; where a file system shows another device than it locks, it is not found.
#[cfg(target_os = "linux")]
fn flock(index: &Source) -> Result<Holder> {
    let meta = index.file().metadata();
    let meta = meta.map_err(Error::io(index.path(), "read the inode of the file"))?;
    let Ok(locks) = std::fs::read_to_string("/proc/locks") else {
        return Ok(Holder::Unknown);
    };
    let (major, minor) = (rustix::fs::major(meta.dev()), rustix::fs::minor(meta.dev()));
    let id = format!("{major:02x}:{minor:02x}:{}", meta.ino());
    let held = locks.lines().any(|line| {
        let mut words = line.split_whitespace();
        // Those who wait have an arrow in the place of the kind.
        words.nth(1) == Some("FLOCK") && words.any(|word| word == id)
    });
    Ok(if held { Holder::Alive } else { Holder::Nobody })
}

/// Other systems have no list of locks that everybody may read.
#[cfg(not(target_os = "linux"))]
fn flock(_: &Source) -> Result<Holder> {
    Ok(Holder::Unknown)
}
