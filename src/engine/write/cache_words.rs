//! The header words of a `Cache`: its settings, its groups, and its deadlines.
//!
//! This file alone stores them; statistics, which any process adds to, excepted. May call `index`.

use crate::format::settings::Settings;
use crate::index::header::Header;

/// Stores limits and defaults.
pub(crate) fn set_settings(header: Header<'_>, settings: Settings) {
    header.cache_words().set_settings(settings);
    debug_assert_eq!(header.settings(), Some(settings), "L3: one writer");
}

/// Counts an invalidation of a group, after its entry was put: a reader that sees the count finds
/// the entry.
pub(crate) fn count_invalidation(header: Header<'_>) {
    header.cache_words().count_invalidation();
}

/// Stores whether a deadline may be stored apart from its entry: before the first such deadline is
/// put, and in a new cache.
pub(crate) fn set_has_deadlines(header: Header<'_>, has: bool) {
    debug_assert!(header.is_expiring(), "the words of a `Cache`");
    header.cache_words().set_has_deadlines(has);
}

/// Stores that each entry of a `Cache` may have lost what limits it: damage took entries, and the
/// invalidation of a group or a stored deadline may have been among them.
pub(crate) fn distrust_all(header: Header<'_>) {
    if header.is_expiring() {
        let version = header.last_version().max(header.trusted_from());
        header.cache_words().set_trusted_from(version);
    }
}

/// Stores that all records up to the heap's end may lie in any order: they were copied, or nothing is
/// known of them.
pub(crate) fn forget_order(header: Header<'_>) {
    if header.is_expiring() {
        header.cache_words().set_ordered_from(header.tail());
    }
}

/// Stores that an entry is about to be removed without a deletion record, whose record is in a
/// segment: until that segment is gone, a rebuild from the heap would bring the entry back.
#[inline]
pub(crate) fn note_evicted(header: Header<'_>, segment: u16) {
    let after = u64::from(segment) + 1;
    if header.evicted() < after {
        header.cache_words().set_evicted(after);
    }
}

/// Stores where the next search for expired entries begins.
pub(crate) fn set_sweep_slot(header: Header<'_>, slot: u64) {
    header.cache_words().set_sweep_slot(slot);
}
