//! The state of the writer lock, read without taking it.

#[cfg(target_os = "linux")]
use std::os::unix::fs::MetadataExt;

#[cfg(target_os = "linux")]
use crate::error::Error;
use crate::error::Result;
use crate::format::index::{IndexHeader as DiskHeader, word};
use crate::format::lock::LockWord;
use crate::lock;

use crate::inspect::file_reader::FileReader;
use crate::inspect::headers::Headers;

/// The owner of the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LockOwner {
    None,
    Alive,
    Dead,
    /// The system does not tell.
    Unknown,
}

/// The state of the writer lock at one moment, as returned by
/// [`CacheFiles::lock`](crate::inspect::CacheFiles::lock).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LockState {
    /// Whether the lock is a word of the index. Otherwise writers use `flock`.
    pub by_word: bool,
    pub(super) owner: LockOwner,
    /// The owner's number in the lock word; 0 for none.
    pub number: u32,
    /// The number of the waiter to which the lock word reserves the lock; 0 for none.
    pub next: u32,
    /// Whether another writer waits for the lock.
    pub awaited: bool,
    /// The process id that the writer stored: a hint, without meaning in another container.
    pub process: Option<u32>,
}

impl LockState {
    pub(super) fn read(index: &FileReader, headers: &Headers) -> Result<Self> {
        let read = |word| -> Result<u64> { Ok(index.word(word)?.unwrap_or(0)) };
        let flags = std::mem::offset_of!(DiskHeader, flags) as u64;
        let by_word = match headers.header.as_ref() {
            Some(header) => header.flags & 1 != 0,
            None => index
                .read(flags, 1)?
                .first()
                .is_some_and(|byte| byte & 1 != 0),
        };
        let lock_word = LockWord(read(word::LOCK)?);
        let process = u32::try_from(read(word::HOLDER)?).ok();
        let mut state = Self {
            by_word,
            owner: LockOwner::Unknown,
            number: 0,
            next: 0,
            awaited: read(word::WAITING)? != 0,
            process: process.filter(|&id| id != 0),
        };
        if by_word {
            (state.number, state.next) = (lock_word.owner(), lock_word.next());
            state.awaited = lock_word.is_awaited();
            state.owner = match lock_word.owner() {
                0 => LockOwner::None,
                number => match lock::is_alive(index.file(), number) {
                    Ok(true) => LockOwner::Alive,
                    Ok(false) => LockOwner::Dead,
                    Err(_unsupported) => LockOwner::Unknown,
                },
            };
        } else {
            state.owner = flock_owner(index)?;
        }
        Ok(state)
    }

    /// Returns whether a live process holds the lock; `None` if the system does not tell.
    pub fn is_held(&self) -> Option<bool> {
        match self.owner {
            LockOwner::Alive => Some(true),
            LockOwner::None | LockOwner::Dead => Some(false),
            LockOwner::Unknown => None,
        }
    }

    /// Returns whether the last owner died while it held the lock. The lock is free then, and the next
    /// writer recovers.
    pub fn owner_died(&self) -> bool {
        self.owner == LockOwner::Dead
    }
}

/// Returns whether the system lists a `flock` on the file. The list has device and inode of the locks
/// of this machine; a file system that shows another device than it locks is not found.
#[cfg(target_os = "linux")]
fn flock_owner(index: &FileReader) -> Result<LockOwner> {
    let meta = index.file().metadata();
    let meta = meta.map_err(Error::io(index.path(), "read the inode of the file"))?;
    let Ok(locks) = std::fs::read_to_string("/proc/locks") else {
        return Ok(LockOwner::Unknown);
    };
    let (major, minor) = (rustix::fs::major(meta.dev()), rustix::fs::minor(meta.dev()));
    let id = format!("{major:02x}:{minor:02x}:{}", meta.ino());
    let held = locks.lines().any(|line| {
        let mut words = line.split_whitespace();
        // Waiters have an arrow in place of the kind.
        words.nth(1) == Some("FLOCK") && words.any(|word| word == id)
    });
    Ok(match held {
        true => LockOwner::Alive,
        false => LockOwner::None,
    })
}

/// Other systems have no public list of locks.
#[cfg(not(target_os = "linux"))]
fn flock_owner(_: &FileReader) -> Result<LockOwner> {
    Ok(LockOwner::Unknown)
}
