//! The limits of keys and values, checked before the writer lock is taken.
//!
//! The limit of entries depends on what is stored, so `put` checks it under the lock. May call
//! `engine::handle`, `read::lookup` and `write::heap_end`.

use crate::error::{ErrorKind, Result};
use crate::format::Geometry;

use crate::engine::handle::Handle;
use crate::engine::ids::{self, KeyPolicy};
use crate::engine::write::heap_end;

/// Refuses a key or a value that no put can store.
#[inline]
pub(crate) fn check_put(handle: &Handle, key: &[u8], value: &[u8]) -> Result<()> {
    handle.check_key(key)?;
    // Nearly all values fit into the smallest segments that a cache can have.
    if value.len() as u64 > heap_end::max_value(*Geometry::SEGMENT_BYTES.start(), key.len()) {
        return check_large_value(handle, key, value);
    }
    Ok(())
}

#[cold]
fn check_large_value(handle: &Handle, key: &[u8], value: &[u8]) -> Result<()> {
    let (generation, _) = handle.current()?;
    let most = generation.table.geometry().max_segment_bytes;
    let max = match KeyPolicy::of(&generation) {
        KeyPolicy::Versioned => heap_end::max_value(most, key.len()),
        KeyPolicy::WithIds => ids::MAX_VALUE,
    };
    if value.len() as u64 <= max {
        return Ok(());
    }
    Err(ErrorKind::ValueTooLarge {
        len: value.len(),
        max,
    }
    .at(&handle.names.cache()))
}
