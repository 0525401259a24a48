//! Loses power while keys get ids: no two keys may ever get the same one.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::engine::tests::power::cache_dir::{CacheDir, PLAIN};
use crate::engine::tests::power::disk::{Disk, Image, Loss};
use crate::engine::tests::power::random::Random;
use crate::engine::tests::power::*;
use crate::format::record::Variant;
use crate::sync::failpoint;

fn open(dir: &CacheDir) -> MmapCache {
    let mut options = dir.options();
    options.variant = Variant::Numbered;
    MmapCache::open_with(&dir.path(), &options).unwrap()
}

fn number(cache: &MmapCache, key: &[u8]) -> u64 {
    cache.writer().unwrap().id(key).unwrap()
}

fn key_of(cache: &MmapCache, number: u64) -> Option<Vec<u8>> {
    let mut key = Vec::new();
    let found = crate::engine::ids::key_of(cache.handle(), number, &mut key).unwrap();
    found.then_some(key)
}

/// What the caller was promised before the power loss.
#[derive(Clone, Default)]
struct Promises {
    /// The keys by their ids.
    given: BTreeMap<u64, Vec<u8>>,
    /// The ids up to this one were flushed with their keys.
    flushed: u64,
}

impl Promises {
    fn check(&self, cache: &MmapCache) {
        for (&number, key) in &self.given {
            let found = key_of(cache, number);
            assert!(
                found.is_none() || found.as_ref() == Some(key),
                "{number} was {key:?} and is {found:?}"
            );
            let again = crate::engine::ids::id_of(cache.handle(), key).unwrap();
            assert!(
                again.is_none() || again == Some(number),
                "{key:?} has {again:?}, not {number}"
            );
            assert_eq!(again.is_some(), found.is_some());
            assert!(
                number > self.flushed || found.is_some(),
                "{number} was flushed"
            );
        }
        assert_clean(cache);
    }

    /// Asserts that the next id is one that no key has had.
    fn assert_next_id_is_new(&self, cache: &MmapCache, key: &[u8]) {
        let highest = self.given.keys().last().copied().unwrap_or(0);
        let next = number(cache, key);
        assert!(next > highest, "{next} is given again, of {highest}");
        assert_eq!(key_of(cache, next).as_deref(), Some(key));
    }
}

struct IdChecker {
    disk: Disk,
    random: Random,
    promises: Promises,
    images: u32,
    root: PathBuf,
    every: usize,
}

impl IdChecker {
    fn before(&mut self, step: failpoint::Operation<'_>) {
        if !self.disk.before(step) || !self.random.once_in(self.every) {
            return;
        }
        let loss = Loss::ALL[self.random.below(Loss::ALL.len())];
        let image = self.disk.image(loss);
        self.check(&image);
    }

    fn check(&mut self, image: &Image) {
        self.images += 1;
        let dir = CacheDir::restore(PLAIN, &self.root, image);
        let mut options = dir.options();
        options.variant = Variant::Numbered;
        let cache = MmapCache::open_with(&dir.path(), &options).unwrap();
        self.promises.check(&cache);
        self.promises
            .assert_next_id_is_new(&cache, b"a key of the time after it");
        drop(cache);
        let cache = open(&dir);
        self.promises.check(&cache);
        self.promises.assert_next_id_is_new(&cache, b"and one more");
    }
}

/// Gives ids to keys and now and then flushes or rewrites the heap, while power is lost at one of
/// `every` steps. Returns the number of images.
fn run(seed: u64, keys: u32, every: usize) -> u32 {
    let dir = CacheDir::new(PLAIN);
    let mut random = Random(seed);
    let cache = open(&dir);
    cache.flush().unwrap();
    let checker = Rc::new(RefCell::new(IdChecker {
        disk: Disk::new(&dir.dirs(), 4, Random(seed ^ 7)),
        random: Random(seed ^ 11),
        promises: Promises::default(),
        images: 0,
        root: dir.temp.path().to_owned(),
        every,
    }));
    let observer = Rc::clone(&checker);
    failpoint::observe(move |step| {
        if let Ok(mut checker) = observer.try_borrow_mut() {
            checker.before(step);
        }
    });
    for i in 0..keys {
        let key = format!("label {i}").into_bytes();
        let given = number(&cache, &key);
        assert_eq!(given, u64::from(i) + 1, "numbers are dense");
        checker.borrow_mut().promises.given.insert(given, key);
        if random.once_in(20) {
            cache.flush().unwrap();
            checker.borrow_mut().promises.flushed = given;
        }
        if random.once_in(25) {
            cache.writer().unwrap().rewrite_heap().unwrap();
            checker.borrow_mut().promises.flushed = given;
        }
    }
    failpoint::stop_observing();
    checker.borrow().promises.check(&cache);
    checker.borrow().images
}

// After a power loss no id belongs to two keys, and flushed ids keep their keys.
// N2: no id is given again, whatever the power loss took.
#[test]
fn ids_survive_power_loss() {
    let mut images = 0;
    for seed in first_seed()..first_seed() + 6 {
        images += run(seed, 60, 25);
    }
    assert!(images > 100, "{images} images");
}
