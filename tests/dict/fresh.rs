//! New, empty dictionaries of each kind, with the directory that they are in. The suite uses only the
//! functions that each of these modules has.

use std::ops::Deref;

use mmapcache::Options;
use mmapcache::dict::{CachedDict, Dict, Format, LocalDict, LocalOptions, MmapDict, Value};

use crate::child::scratch::Scratch;

/// A dictionary, and its directory, which is deleted when it is dropped.
#[derive(Debug)]
pub(crate) struct Fresh<D> {
    dict: D,
    _scratch: Option<Scratch>,
}

impl<D> Deref for Fresh<D> {
    type Target = D;

    fn deref(&self) -> &D {
        &self.dict
    }
}

pub(crate) mod local {
    use super::*;

    pub(crate) const KIND: &str = "LocalDict";

    /// Returns a dictionary of JSON values that is not append-only.
    pub(crate) fn fresh<V: Value>() -> Fresh<LocalDict<V>> {
        in_format(Format::Json)
    }

    pub(crate) fn in_format<V: Value>(format: Format) -> Fresh<LocalDict<V>> {
        of(LocalOptions::new().format(format))
    }

    pub(crate) fn append_only<V: Value>() -> Fresh<LocalDict<V>> {
        of(LocalOptions::new().append_only(true))
    }

    fn of<V: Value>(options: &LocalOptions) -> Fresh<LocalDict<V>> {
        Fresh {
            dict: LocalDict::with(options),
            _scratch: None,
        }
    }
}

pub(crate) mod mmap {
    use super::*;

    pub(crate) const KIND: &str = "MmapDict";

    /// Returns a dictionary of JSON values that is not append-only.
    pub(crate) fn fresh<V: Value>() -> Fresh<MmapDict<V>> {
        in_format(Format::Json)
    }

    pub(crate) fn in_format<V: Value>(format: Format) -> Fresh<MmapDict<V>> {
        of(format, &Options::new())
    }

    pub(crate) fn append_only<V: Value>() -> Fresh<MmapDict<V>> {
        of(Format::Json, Options::new().append_only(true))
    }

    fn of<V: Value>(format: Format, options: &Options) -> Fresh<MmapDict<V>> {
        let scratch = Scratch::new();
        let dict = MmapDict::open_with(&scratch.path, format, options);
        Fresh {
            dict: dict.expect("a new dictionary"),
            _scratch: Some(scratch),
        }
    }
}

pub(crate) mod cached {
    use super::*;

    pub(crate) const KIND: &str = "CachedDict";

    /// Returns a dictionary of JSON values that is not append-only.
    pub(crate) fn fresh<V: Value>() -> Fresh<CachedDict<V>> {
        of(mmap::fresh())
    }

    pub(crate) fn in_format<V: Value>(format: Format) -> Fresh<CachedDict<V>> {
        of(mmap::in_format(format))
    }

    pub(crate) fn append_only<V: Value>() -> Fresh<CachedDict<V>> {
        of(mmap::append_only())
    }

    fn of<V: Value>(files: Fresh<MmapDict<V>>) -> Fresh<CachedDict<V>> {
        Fresh {
            dict: CachedDict::new(files.dict),
            _scratch: files._scratch,
        }
    }
}

pub(crate) mod erased {
    use super::*;

    pub(crate) const KIND: &str = "LocalDict";

    /// Returns a dictionary of JSON values that is not append-only.
    pub(crate) fn fresh<V: Value>() -> Fresh<Dict<V>> {
        of(local::fresh())
    }

    pub(crate) fn in_format<V: Value>(format: Format) -> Fresh<Dict<V>> {
        of(local::in_format(format))
    }

    pub(crate) fn append_only<V: Value>() -> Fresh<Dict<V>> {
        of(local::append_only())
    }

    fn of<V: Value>(local: Fresh<LocalDict<V>>) -> Fresh<Dict<V>> {
        Fresh {
            dict: local.dict.into(),
            _scratch: None,
        }
    }
}
