//! The kinds of dictionaries that are compared with the model.
//!
//! How each is created, reopened, and maintained.

use mmapcache::dict::{
    Cached, CachedDict, Dict, Format, Local, LocalDict, LocalOptions, Mmap, MmapDict, Store,
};

use super::operation::Tending;
use crate::child::scratch::Scratch;
use crate::child::tight;

pub(super) trait Kind {
    type Store: Store + Clone;

    fn new(append_only: bool) -> Self;

    /// The whole dictionary of a format.
    fn dict(&self, format: Format) -> Dict<String, Self::Store>;

    /// Returns whether every item got a new ETag.
    fn tend(&mut self, tending: Tending) -> bool;
}

/// With a tree that is pruned after every third deletion.
pub(super) struct InMemory(LocalDict<String>);

impl Kind for InMemory {
    type Store = Local;

    fn new(append_only: bool) -> Self {
        let mut options = LocalOptions::new();
        options.append_only(append_only).prune_interval(3);
        Self(LocalDict::with(&options))
    }

    fn dict(&self, format: Format) -> LocalDict<String> {
        self.0.with_format(format)
    }

    fn tend(&mut self, _: Tending) -> bool {
        false
    }
}

/// With regions and heap segments so small that the index grows and the heap is cleaned often.
pub(super) struct InFiles {
    scratch: Scratch,
    dict: MmapDict<String>,
}

impl InFiles {
    fn open(scratch: &Scratch, append_only: bool) -> MmapDict<String> {
        let mut options = tight();
        options.append_only(append_only);
        MmapDict::open_with(&scratch.path, Format::Json, &options).expect("a dictionary")
    }
}

impl Kind for InFiles {
    type Store = Mmap;

    fn new(append_only: bool) -> Self {
        let scratch = Scratch::new();
        let dict = Self::open(&scratch, append_only);
        Self { scratch, dict }
    }

    fn dict(&self, format: Format) -> MmapDict<String> {
        self.dict.with_format(format)
    }

    fn tend(&mut self, tending: Tending) -> bool {
        let cache = self.dict.cache();
        match tending {
            Tending::Reopen => self.dict = Self::open(&self.scratch, self.dict.is_append_only()),
            Tending::Compact => cache.compact().expect("a compaction"),
            Tending::Flush => cache.flush().expect("a flush"),
            // An append-only cache refuses it.
            Tending::Rebuild if self.dict.is_append_only() => {}
            Tending::Rebuild => {
                let mut writer = cache.writer().expect("the lock");
                let items = cache.iter().expect("a listing");
                writer.atomic_rebuild(items).expect("a rebuild");
                return true;
            }
        }
        false
    }
}

/// The same with values in memory, which a flush drops.
pub(super) struct InBoth {
    files: InFiles,
    pair: CachedDict<String>,
}

impl Kind for InBoth {
    type Store = Cached;

    fn new(append_only: bool) -> Self {
        let files = InFiles::new(append_only);
        let pair = CachedDict::new(files.dict.clone());
        Self { files, pair }
    }

    fn dict(&self, format: Format) -> CachedDict<String> {
        self.pair.with_format(format)
    }

    fn tend(&mut self, tending: Tending) -> bool {
        let renewed = self.files.tend(tending);
        match tending {
            Tending::Reopen => self.pair = CachedDict::new(self.files.dict.clone()),
            Tending::Flush => self.pair.forget(),
            Tending::Compact | Tending::Rebuild => {}
        }
        renewed
    }
}
