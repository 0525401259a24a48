//! The listings of a cache: keys, values, pairs, entries. Each has fresh entries only.

use std::sync::Arc;

use mmapcache::iter::CacheEntries;
use self_cell::self_cell;

use crate::listing::{Item, Source};

self_cell!(
    struct EntriesOf {
        owner: Arc<mmapcache::Cache>,
        #[not_covariant]
        dependent: CacheEntries,
    }
);

/// What of an entry is an item.
#[derive(Clone, Copy, Debug)]
pub(super) enum Part {
    Key,
    Value,
    Pair,
    /// Negative entries too, which the others leave out.
    Entry,
}

struct EntrySource {
    entries: EntriesOf,
    part: Part,
}

/// Begins a listing.
pub(super) fn list(cache: Arc<mmapcache::Cache>, part: Part) -> mmapcache::Result<impl Source> {
    let entries = EntriesOf::try_new(cache, |cache| cache.entries())?;
    Ok(EntrySource { entries, part })
}

impl Source for EntrySource {
    fn next(&mut self) -> Option<mmapcache::Result<Item>> {
        loop {
            let next = self
                .entries
                .with_dependent_mut(|_, entries| entries.next())?;
            let (key, entry) = match next {
                Ok(pair) => pair,
                Err(error) => return Some(Err(error)),
            };
            let is_wanted = !entry.is_negative() || matches!(self.part, Part::Entry);
            if is_wanted {
                return Some(Ok(match self.part {
                    Part::Key => Item::Bytes(key),
                    Part::Value => Item::Bytes(entry.into_value()),
                    Part::Pair => Item::Pair(key, entry.into_value()),
                    Part::Entry => Item::CacheEntry(key, entry),
                }));
            }
        }
    }
}
