//! Rebuilds one after the other while other processes read.

use std::convert::Infallible;
use std::path::Path;

use mmapcache::{MmapCache, Options};

use super::Child;
use super::contents::{passing, staying, value};
use super::reader::Mode;

const STAYING: u64 = 60;
const PASSING: u64 = 400;

/// Rebuilds `generations` times beside two readers, and returns what the readers said.
pub(crate) fn under_readers(path: &Path, options: &Options, generations: u64) -> Vec<String> {
    let cache = options.open(path).expect("a new cache");
    rebuild(&cache, 0);
    let mode = Mode::Generations as u64;
    let start = |may_write| Child::start("reads", path, &[STAYING, PASSING, mode, may_write]);
    let mut readers = [start(0), start(1)];
    readers.iter_mut().for_each(|reader| reader.expect("ready"));
    for generation in 1..=generations {
        rebuild(&cache, generation);
        assert!(readers.iter_mut().all(Child::is_alive), "a reader gave up");
    }
    let report = cache.verify().run().expect("a check");
    assert!(report.is_clean(), "{:?}", report.problems);
    readers.map(Child::finish).into()
}

/// Replaces everything by the entries of a generation: permanent keys, and others in every third
/// one.
pub(crate) fn rebuild(cache: &MmapCache, generation: u64) {
    let staying = (0..STAYING).map(staying);
    let passing = (generation % 3..PASSING).step_by(3).map(passing);
    let items = staying.chain(passing).map(|key| {
        let value = value(key.as_bytes(), generation);
        Ok::<_, Infallible>((key, value))
    });
    cache.atomic_rebuild(items).expect("a rebuild");
}
