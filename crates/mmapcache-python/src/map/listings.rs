//! The listings of a map: keys, values, pairs, entries.

use std::sync::Arc;

use mmapcache::iter::{Entries, Iter, Keys};
use self_cell::self_cell;

use crate::listing::{Item, Source};

type Map = mmapcache::MmapCache;

self_cell!(
    struct KeysOf {
        owner: Arc<Map>,
        #[not_covariant]
        dependent: Keys,
    }
);

self_cell!(
    struct PairsOf {
        owner: Arc<Map>,
        #[not_covariant]
        dependent: Iter,
    }
);

self_cell!(
    struct EntriesOf {
        owner: Arc<Map>,
        #[not_covariant]
        dependent: Entries,
    }
);

struct KeySource(KeysOf);

struct PairSource {
    pairs: PairsOf,
    only_values: bool,
}

struct EntrySource(EntriesOf);

pub(super) fn keys(map: Arc<Map>) -> mmapcache::Result<impl Source> {
    KeysOf::try_new(map, |map| map.keys()).map(KeySource)
}

pub(super) fn values(map: Arc<Map>) -> mmapcache::Result<impl Source> {
    pairs_or_values(map, true)
}

pub(super) fn items(map: Arc<Map>) -> mmapcache::Result<impl Source> {
    pairs_or_values(map, false)
}

fn pairs_or_values(map: Arc<Map>, only_values: bool) -> mmapcache::Result<PairSource> {
    let pairs = PairsOf::try_new(map, |map| map.iter())?;
    Ok(PairSource { pairs, only_values })
}

pub(super) fn entries(map: Arc<Map>) -> mmapcache::Result<impl Source> {
    EntriesOf::try_new(map, |map| map.entries()).map(EntrySource)
}

impl Source for KeySource {
    fn next(&mut self) -> Option<mmapcache::Result<Item>> {
        let next = self.0.with_dependent_mut(|_, keys| keys.next());
        next.map(|key| key.map(Item::Bytes))
    }
}

impl Source for PairSource {
    fn next(&mut self) -> Option<mmapcache::Result<Item>> {
        let next = self.pairs.with_dependent_mut(|_, pairs| pairs.next())?;
        Some(next.map(|(key, value)| match self.only_values {
            true => Item::Bytes(value),
            false => Item::Pair(key, value),
        }))
    }
}

impl Source for EntrySource {
    fn next(&mut self) -> Option<mmapcache::Result<Item>> {
        let next = self.0.with_dependent_mut(|_, entries| entries.next());
        next.map(|item| item.map(|(key, entry)| Item::Entry(key, entry)))
    }
}
