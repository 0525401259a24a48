//! Takes images of a cache's directories at some steps of its work, and checks each of them.
//!
//! Knows no change by name: it sees steps, and the history that `scenario.rs` records.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;

use crate::engine::tests::power::cache_dir::{CacheDir, Kind};
use crate::engine::tests::power::disk::{Disk, Image, Loss};
use crate::engine::tests::power::history::History;
use crate::engine::tests::power::random::Random;
use crate::engine::tests::power::reading::{
    assert_usable, check_read_only, read_and_compare, read_entries,
};
use crate::engine::tests::power::*;
use crate::sync::failpoint;

/// The watched directories of a cache, and what is known of its contents.
pub(super) struct ImageChecker {
    pub(super) disk: Disk,
    pub(super) history: History,
    pub(super) kind: Kind,
    pub(super) root: PathBuf,
    /// Power is lost at one in this many stores, and at one in this many system calls, which
    /// determine the order in which data reaches the disk.
    pub(super) every: [usize; 2],
    /// How often power may be lost again during recovery.
    depth: u32,
    pub(super) images: u64,
    pub(super) seed: u64,
}

impl ImageChecker {
    pub(super) fn new(dir: &CacheDir, every: [usize; 2], stride: usize, seed: u64) -> Self {
        Self {
            disk: Disk::new(&dir.dirs(), stride, Random(seed ^ 0x5eed)),
            history: History::new(),
            kind: dir.kind,
            root: dir.temp.path().to_owned(),
            every,
            depth: 1,
            images: 0,
            seed,
        }
    }

    pub(super) fn before(&mut self, step: failpoint::Operation<'_>) {
        let store = matches!(step, failpoint::Operation::Store);
        let every = self.every[usize::from(!store)];
        if !self.disk.before(step) || !self.disk.random.once_in(every) {
            return;
        }
        let loss = Loss::ALL[self.disk.random.below(Loss::ALL.len())];
        self.lose_power(loss, &format!("{step:?}"));
        if let failpoint::Operation::SyncDir(_) = step {
            for image in self.disk.images_of_directories(loss) {
                self.examine(&image, loss, &format!("{step:?}"));
            }
        }
    }

    /// Checks one image that a power loss at this moment could leave.
    pub(super) fn lose_power(&mut self, loss: Loss, before: &str) {
        let image = self.disk.image(loss);
        self.examine(&image, loss, before);
    }

    fn examine(&mut self, image: &Image, loss: Loss, before: &str) {
        self.images += 1;
        let checked = catch_unwind(AssertUnwindSafe(|| self.check(image)));
        if let Err(payload) = checked {
            eprintln!(
                "seed {}, {:?}, image {} ({loss:?}) before {before}, depth {}",
                self.seed, self.kind, self.images, self.depth
            );
            for (path, contents) in &image.files {
                eprintln!("{} {}", path.display(), contents.bytes.len());
            }
            resume_unwind(payload);
        }
    }

    fn check(&mut self, image: &Image) {
        let dir = CacheDir::restore(self.kind, &self.root, image);
        let mut random = Random(self.disk.random.next());
        if random.once_in(8) {
            check_read_only(&dir);
        }
        let cache = if self.depth > 0 && random.once_in(6) {
            self.open_and_lose_again(&dir)
        } else {
            dir.open()
        };
        let seen = read_and_compare(&cache, &self.history);
        self.history.check(&seen);
        assert_clean(&cache);
        let generation = cache.stats().unwrap().generation;
        drop(cache);
        let cache = dir.open();
        assert_eq!(
            cache.stats().unwrap().generation,
            generation,
            "recovered once more"
        );
        assert_eq!(read_entries(&cache), seen);
        if random.once_in(4) {
            assert_usable(&cache, &seen, self.history.version);
        }
    }

    /// Recovers the cache while power is lost again.
    fn open_and_lose_again(&mut self, dir: &CacheDir) -> MmapCache {
        let mut again = Self::new(dir, [150, 8], 4, self.disk.random.next());
        again.seed = self.seed;
        again.history = self.history.clone();
        again.depth = self.depth - 1;
        let checker = Rc::new(RefCell::new(again));
        let observer = Rc::clone(&checker);
        failpoint::observe(move |step| observer.borrow_mut().before(step));
        let cache = dir.open();
        failpoint::stop_observing();
        self.images += checker.borrow().images;
        cache
    }
}
