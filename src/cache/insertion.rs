//! Every insertion of a cache passes here: it gets its life, is counted, and what it replaces is noted.
//!
//! May call its siblings and `engine`.

use crate::cache::{Cache, InsertOptions, removal};
use crate::engine::statistics::Counter;
use crate::engine::write::put::Terms;
use crate::engine::{Version, Writer};
use crate::error::{ErrorKind, Result};

/// Returns what is stored with an entry that is inserted now, under the defaults of the cache.
#[inline]
pub(super) fn terms(writer: &Writer<'_>, options: &InsertOptions) -> Result<Terms> {
    match writer.settings() {
        Some(settings) => Ok(options.terms(&settings)),
        None => Err(ErrorKind::SettingsCorrupted.at(writer.path())),
    }
}

/// Inserts a value with what its options say.
pub(super) fn insert(
    cache: &Cache,
    writer: &mut Writer<'_>,
    key: &[u8],
    stored: &[u8],
    options: &InsertOptions,
) -> Result<Version> {
    let terms = terms(writer, options)?;
    put(cache, writer, key, stored, terms)
}

/// Inserts an entry, counts it, and notes what it replaces.
pub(super) fn put(
    cache: &Cache,
    writer: &mut Writer<'_>,
    key: &[u8],
    value: &[u8],
    terms: Terms,
) -> Result<Version> {
    let handle = cache.cache.handle();
    let before = match handle.removals {
        Some(_) => cache.find_undamaged(key)?,
        None => None,
    };
    let overwrites = writer.overwrites();
    let version = writer.put_with(key, value, terms)?;
    handle.count(Counter::Insertions, 1);
    // Otherwise it was evicted to make room, and that was noted.
    if writer.overwrites() != overwrites {
        handle.count(Counter::Replaced, 1);
        if let Some(before) = before {
            removal::replaced(handle, key, &before);
        }
    }
    Ok(version)
}
