//! The deadlines of entries with long values, which a touch stores apart from the entry: writing
//! the value again would cost what the put did.
//!
//! An internal entry has the deadline, and the version of the entry that it belongs to; with
//! another version it means nothing. Lookups search for it only if the header says that there may
//! be one. May call `engine` and everything below it.

use crate::engine::Writer;
use crate::engine::handle::Handle;
use crate::engine::read::lookup::{self, Answer};
use crate::engine::write::cache_words;
use crate::error::Result;
use crate::format::internal::{self, LONG_VALUE, LONGEST_KEY, StoredDeadline};
use crate::format::record::Traits;

use crate::cache::groups::internal_terms;

/// What is stored of the deadline of an entry, apart from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Apart {
    /// Nothing, as long as the entry has this version.
    Nothing,
    /// The deadline; `None` if the entry has none any more.
    Deadline(Option<u64>),
    /// Something that is damaged: the entry counts as expired.
    Damaged,
    /// The entry was replaced or removed since it was read.
    Replaced,
}

/// Returns whether a touch of an entry stores its deadline apart.
#[inline]
pub(super) fn are_apart(key: &[u8], value_len: usize) -> bool {
    value_len > LONG_VALUE && key.len() <= LONGEST_KEY
}

/// Looks up what is stored of the deadline of an entry that was read before.
///
/// A writer that replaces or removes an entry does that before it removes the deadline. So if the
/// deadline is not there, and the entry still is afterwards, it had none when this began.
pub(super) fn look_up(handle: &Handle, key: &[u8], version: u64) -> Result<Apart> {
    let generation = handle.current()?.0;
    let has_deadlines = generation.header().has_deadlines();
    let cache = generation.ids.cache;
    drop(generation);
    if !has_deadlines {
        return Ok(Apart::Nothing);
    }
    match stored(handle, cache, key)? {
        Stored::Damaged => return Ok(Apart::Damaged),
        Stored::Deadline(stored) if stored.version == version => {
            return Ok(Apart::Deadline(stored.deadline));
        }
        Stored::Nothing | Stored::Deadline(_) => {}
    }
    Ok(match lookup::peek(handle, key)? {
        Answer::Found(found) if found.mtime == version => Apart::Nothing,
        _ => Apart::Replaced,
    })
}

/// Returns whether the deadline that is stored for a key is of no entry that is there. `false` if
/// it, or the entry, is damaged.
pub(super) fn are_unused(handle: &Handle, key: &[u8]) -> Result<bool> {
    let cache = handle.current()?.0.ids.cache;
    Ok(
        match (stored(handle, cache, key)?, lookup::peek(handle, key)?) {
            (Stored::Deadline(stored), Answer::Found(found)) => stored.version < found.mtime,
            (Stored::Deadline(_), Answer::Absent) => true,
            _ => false,
        },
    )
}

enum Stored {
    Nothing,
    Deadline(StoredDeadline),
    Damaged,
}

fn stored(handle: &Handle, cache: [u8; 16], key: &[u8]) -> Result<Stored> {
    let Some(internal) = internal::deadline_key(cache, key) else {
        return Ok(Stored::Nothing);
    };
    let mut value = Vec::new();
    Ok(match lookup::read_terms(handle, &internal, &mut value)? {
        Answer::Absent => Stored::Nothing,
        Answer::Found(terms) if terms.traits == Traits::INTERNAL => {
            StoredDeadline::from_bytes(&value).map_or(Stored::Damaged, Stored::Deadline)
        }
        Answer::Found(_) | Answer::Damaged(_) => Stored::Damaged,
    })
}

/// Stores another deadline of an entry, or that it has none.
pub(super) fn store(
    writer: &mut Writer<'_>,
    handle: &Handle,
    key: &[u8],
    stored: StoredDeadline,
) -> Result<()> {
    let cache = handle.generation.load().ids.cache;
    let Some(internal) = internal::deadline_key(cache, key) else {
        debug_assert!(false, "the caller checks the key's length");
        return Ok(());
    };
    // Before the put: a lookup that begins after it searches. After it again, for a recovery during
    // the put makes another index.
    announce(handle);
    writer.put_with(&internal, &stored.to_bytes(), internal_terms())?;
    announce(handle);
    Ok(())
}

/// Lets lookups search for deadlines.
fn announce(handle: &Handle) {
    let generation = handle.generation.load();
    let header = generation.header();
    if !header.has_deadlines() {
        cache_words::set_has_deadlines(header, true);
    }
}

/// Removes what is stored for a key, whose entry was replaced or removed before.
pub(super) fn forget(writer: &mut Writer<'_>, handle: &Handle, key: &[u8]) -> Result<()> {
    let generation = handle.generation.load();
    if !generation.header().has_deadlines() {
        return Ok(());
    }
    let internal = internal::deadline_key(generation.ids.cache, key);
    drop(generation);
    match internal {
        Some(internal) => writer.delete_bytes(&internal).map(|_| ()),
        None => Ok(()),
    }
}
