//! The kinds of dictionaries that are compared with the model.
//!
//! Knows how each is made, opened again, and tended underneath.

use std::fmt::Debug;

use mmapcache::dict::{CachedDict, Dict, Format, LocalDict, LocalOptions, MmapDict};

use super::operation::Tending;
use crate::child::scratch::Scratch;
use crate::child::tight;

pub(super) trait Kind {
    type Dict: Dict<String> + Debug;

    fn new(append_only: bool) -> Self;

    /// The whole dictionary of a format.
    fn dict(&self, format: Format) -> Self::Dict;

    /// Whether every item has got a new tag by that.
    fn tend(&mut self, tending: Tending) -> bool;
}

/// With a tree that is tidied up all the time.
pub(super) struct InMemory(LocalDict<String>);

impl Kind for InMemory {
    type Dict = LocalDict<String>;

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

/// With regions and segments so small that growing and cleaning never stop.
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
    type Dict = MmapDict<String>;

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
            // Refused where nothing may be replaced.
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

/// The same with memory in front, of which everything is forgotten now and then.
pub(super) struct InBoth {
    files: InFiles,
    pair: CachedDict<String>,
}

impl Kind for InBoth {
    type Dict = CachedDict<String>;

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
