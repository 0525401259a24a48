//! One cache that is used, killed and loses power, with a history of that.
//!
//! Does what a test asks for or the seed selects; `image_checker.rs` checks the results.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;

use crate::engine::tests::power::cache_dir::{CacheDir, IN_PLACE, Kind};
use crate::engine::tests::power::disk::{Disk, Loss};
use crate::engine::tests::power::history::{AllowedStates, History, State};
use crate::engine::tests::power::image_checker::ImageChecker;
use crate::engine::tests::power::random::Random;
use crate::engine::tests::power::reading::{read_and_compare, read_entries};
use crate::engine::tests::power::values::{Key, key, name, number};
use crate::engine::tests::power::*;
use crate::sync::failpoint;

/// One cache, used until power is finally lost.
pub(super) struct Scenario {
    pub(super) checker: Rc<RefCell<ImageChecker>>,
    dir: CacheDir,
    cache: Option<MmapCache>,
    pub(super) random: Random,
    keys: usize,
}

impl Scenario {
    pub(super) fn new(seed: u64, every: [usize; 2]) -> Self {
        let mut random = Random(seed);
        let kind = Kind {
            durable: random.once_in(3),
            heap_elsewhere: random.once_in(6),
            exclusive: random.once_in(6),
            in_place: false,
        };
        let stride = [1, 4, 16][random.below(3)];
        let keys = [3, 12, 40, 150][random.below(4)];
        Self::of(kind, every, stride, keys, seed)
    }

    /// As [`Self::new`], with records that are overwritten where they are, few keys, and few sizes.
    pub(super) fn in_place(seed: u64, every: [usize; 2]) -> Self {
        let mut random = Random(seed);
        let kind = Kind {
            exclusive: random.once_in(6),
            heap_elsewhere: random.once_in(6),
            ..IN_PLACE
        };
        let keys = [3, 12, 40][random.below(3)];
        Self::of(kind, every, 1, keys, seed)
    }

    pub(super) fn of(kind: Kind, every: [usize; 2], stride: usize, keys: usize, seed: u64) -> Self {
        let dir = CacheDir::new(kind);
        let checker = Rc::new(RefCell::new(ImageChecker::new(&dir, every, stride, seed)));
        let mut scenario = Self {
            checker,
            dir,
            cache: None,
            random: Random(seed),
            keys,
        };
        scenario.open();
        if scenario.random.once_in(3) {
            // The clock was once ahead, and set back since: versions continue from that time.
            let ahead = crate::engine::tests::power::version::now() + 1_000_000_000_000;
            let generation = scenario.cache().handle.generation.load_full();
            generation.header().corrupt(word::LAST_MTIME, ahead);
            scenario.flush();
        }
        scenario
    }

    fn watch(&self) {
        let checker = Rc::clone(&self.checker);
        failpoint::observe(move |step| {
            // It is borrowed while an image is checked, whose own steps must not be recorded.
            if let Ok(mut checker) = checker.try_borrow_mut() {
                checker.before(step);
            }
        });
    }

    fn open(&mut self) {
        self.watch();
        self.cache = Some(self.dir.open());
    }

    pub(super) fn cache(&self) -> &MmapCache {
        self.cache.as_ref().unwrap()
    }

    pub(super) fn history<T>(&self, change: impl FnOnce(&mut History) -> T) -> T {
        change(&mut self.checker.borrow_mut().history)
    }

    fn log(&self, text: String) {
        self.history(|history| history.log.push(text));
    }

    fn last_version(&self) -> u64 {
        generation_of(self.cache()).header().last_version()
    }

    fn note_flushed(&self) {
        let version = self.last_version();
        self.history(|history| history.flushed(version));
    }

    fn note_acknowledged(&self) {
        if self.dir.kind.durable {
            self.note_flushed();
        }
    }

    fn some_key(&mut self) -> Key {
        key(self.random.below(self.keys))
    }

    fn some_len(&mut self) -> usize {
        if self.dir.kind.in_place && !self.random.once_in(4) {
            return [30, 200, 400][self.random.below(3)];
        }
        match self.random.below(12) {
            0..=6 => self.random.below(60),
            7..=10 => 200 + self.random.below(200),
            _ => 3_000 + self.random.below(6_000),
        }
    }

    fn put(&mut self) {
        let (key, len) = (self.some_key(), self.some_len());
        self.put_key(&key, len);
    }

    pub(super) fn put_key(&mut self, key: &[u8], len: usize) {
        let value = self.history(|history| history.value(key, len));
        self.log(format!("put {} {} {len}", name(key), number(&value)));
        self.history(|history| history.begin(key, Some(value.clone())));
        let version = self.cache().put(key, &value).unwrap();
        self.history(|history| history.done(key, Some(version)));
        self.note_acknowledged();
    }

    fn delete(&mut self) {
        let key = self.some_key();
        self.delete_key(&key);
    }

    pub(super) fn delete_key(&mut self, key: &[u8]) {
        self.log(format!("delete {}", name(key)));
        self.history(|history| history.begin(key, None));
        self.cache().delete(key).unwrap();
        self.history(|history| history.done(key, None));
        self.note_acknowledged();
    }

    pub(super) fn batch(&mut self) {
        let count = self.random.below(25);
        let changes: Vec<_> = (0..count)
            .map(|_| {
                let (key, len) = (self.some_key(), self.random.below(80));
                (key, len, self.random.once_in(4))
            })
            .collect();
        self.log(format!("batch of {count}"));
        let mut writer = self.cache().writer().unwrap();
        for (key, len, delete) in changes {
            if delete {
                self.log(format!("  delete {}", name(&key)));
                self.history(|history| history.begin(&key, None));
                writer.delete(&key).unwrap();
            } else {
                let value = self.history(|history| history.value(&key, len));
                self.log(format!("  put {} {} {len}", name(&key), number(&value)));
                self.history(|history| history.begin(&key, Some(value.clone())));
                let version = writer.put(&key, &value).unwrap();
                self.history(|history| history.done(&key, Some(version)));
            }
        }
        writer.commit().unwrap();
        self.note_acknowledged();
    }

    pub(super) fn flush(&mut self) {
        self.log("flush".to_owned());
        self.cache().flush().unwrap();
        self.note_flushed();
    }

    pub(super) fn compact(&mut self) {
        self.log("compact".to_owned());
        self.cache().compact().unwrap();
    }

    pub(super) fn rebuild(&mut self, count: usize) {
        let items: Vec<_> = (0..count)
            .map(|_| {
                let (key, len) = (self.some_key(), self.random.below(100));
                let value = self.history(|history| history.value(&key, len));
                (key, value)
            })
            .collect();
        self.log(format!("rebuild with {count}"));
        let mut states = AllowedStates::new();
        for (key, value) in &items {
            let state = State {
                value: Some(value.clone()),
                version: None,
            };
            states.insert(key.clone(), vec![state]);
        }
        self.history(|history| {
            history.generations.push(states);
            if let Some((_, replaced)) = &mut history.copied {
                *replaced = true;
            }
        });
        let items = items.into_iter().map(Ok::<_, crate::Error>);
        self.cache().atomic_rebuild(items).unwrap();
        let seen = read_entries(self.cache());
        self.history(|history| history.observe(&seen));
        self.note_flushed();
    }

    fn reopen(&mut self) {
        self.log("reopen".to_owned());
        self.cache = None;
        self.open();
    }

    pub(super) fn step(&mut self) {
        match self.random.below(100) {
            0..=84 => self.work(),
            85..=87 => self.reopen(),
            88..=95 => self.kill(),
            _ => self.lose_power(),
        }
    }

    pub(super) fn work(&mut self) {
        match self.random.below(85) {
            0..=39 => self.put(),
            40..=57 => self.delete(),
            58..=69 => self.batch(),
            70..=77 => self.flush(),
            78..=81 => self.compact(),
            82 => self.rebuild(0),
            _ => {
                let count = self.random.below(40);
                self.rebuild(count);
            }
        }
    }

    /// Kills the process during a change; another one continues.
    fn kill(&mut self) {
        if self.dir.kind.durable {
            // A stopped writer of a durable handle syncs while it unwinds, which a killed one does
            // not.
            return;
        }
        let steps = self.random.below(160) as u64;
        self.killed_after(steps, |scenario| match scenario.random.below(12) {
            0..=4 => scenario.put(),
            5..=7 => scenario.delete(),
            8 => scenario.flush(),
            9 => scenario.compact(),
            10 => scenario.rebuild(3),
            _ => scenario.batch(),
        });
    }

    /// Stops a change after `steps` steps, if it has as many, and lets another process recover.
    pub(super) fn killed_after(&mut self, steps: u64, change: impl FnOnce(&mut Self)) -> bool {
        self.log(format!("to be killed after {steps}"));
        let generations = self.history(|history| history.generations.len());
        failpoint::set(steps);
        let killed = catch_unwind(AssertUnwindSafe(|| change(self)));
        failpoint::clear();
        let Err(payload) = killed else { return false };
        if !payload.is::<failpoint::Killed>() {
            resume_unwind(payload);
        }
        self.log("killed".to_owned());
        self.cache = None;
        self.open();
        // The next writer decides whether the change happened.
        drop(self.cache().writer().unwrap());
        let seen = read_entries(self.cache());
        self.history(|history| {
            let last = history.generations.len() - 1;
            if history.generations.len() > generations
                && History::admits(&history.generations[last], &seen).is_err()
            {
                history.generations.pop();
            }
            history.observe(&seen);
        });
        true
    }

    /// Loses power; the cache continues from what is left.
    pub(super) fn lose_power(&mut self) {
        let loss = Loss::ALL[self.random.below(Loss::ALL.len())];
        self.log(format!("power lost, {loss:?}"));
        failpoint::stop_observing();
        let image = {
            let mut checker = self.checker.borrow_mut();
            checker.disk.settle();
            checker.disk.image(loss)
        };
        self.cache = None;
        let dir = CacheDir::restore(self.dir.kind, self.dir.temp.path(), &image);
        {
            let mut checker = self.checker.borrow_mut();
            let random = Random(self.random.next());
            checker.disk = Disk::new(&dir.dirs(), 4, random);
            checker.root = dir.temp.path().to_owned();
        }
        self.dir = dir;
        self.open();
        let seen = self.history(|history| {
            let seen = read_and_compare(self.cache(), history);
            history.check(&seen);
            seen
        });
        self.history(|history| history.observe(&seen));
        self.note_flushed();
        assert_clean(self.cache());
    }

    pub(super) fn end(&mut self) -> u64 {
        failpoint::stop_observing();
        let mut checker = self.checker.borrow_mut();
        checker.disk.settle();
        for loss in Loss::ALL {
            checker.lose_power(loss, "the end");
        }
        checker.images
    }
}

impl Drop for Scenario {
    fn drop(&mut self) {
        failpoint::stop_observing();
        if std::thread::panicking() {
            let checker = self.checker.borrow();
            let log = &checker.history.log;
            let last = log.len().saturating_sub(60);
            eprintln!("seed {}, {:?}", checker.seed, checker.kind);
            eprintln!("{}", log[last..].join("\n"));
        }
    }
}
