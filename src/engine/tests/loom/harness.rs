//! Runs a model: the real engine with one writer and its readers, in every order that loom
//! explores.
//!
//! Each execution begins with the same files. The writer and each reader have their own handle, as
//! processes do. Threads do not panic: they note failures, and the execution fails after all
//! threads have ended.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::DirEntryExt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use crate::engine::generation::Generation;
use crate::engine::read::lookup::{Answer, peek};
use crate::format::heap_addr::HeapAddr;
use crate::index::header::Header;
use crate::sync::loom_model::{self, Image, OrderingSite, ThreadRole};
use crate::{Entry, MmapCache, Options, Version};

/// Stack size of a model's threads, in words.
const STACK: usize = 64 * 1024;
const BRANCHES: usize = 100_000;

/// What a thread does with its handle.
pub(super) type ThreadBody = fn(&ModelThread);

/// One writer and some readers on files that `before` created.
#[derive(Clone, Copy)]
pub(super) struct Model {
    pub name: &'static str,
    /// How often loom preempts a thread that could continue; `None` for any number.
    pub preemptions: Option<usize>,
    /// The exploration ends after this many executions, complete or not.
    pub at_most: u64,
    pub options: fn() -> Options,
    pub before: ThreadBody,
    pub writer: ThreadBody,
    pub readers: &'static [ThreadBody],
}

/// The result of an exploration.
#[derive(Debug)]
pub(super) struct Explored {
    pub executions: u64,
    pub words: usize,
    pub sites: BTreeSet<OrderingSite>,
    pub took: Duration,
    /// Whether all executions were explored.
    pub is_whole: bool,
    /// The first promise that did not hold.
    pub broken: Option<String>,
}

/// Counts the values of a key.
type Number = u8;

#[derive(Default)]
struct Observations {
    wrote: Vec<(Vec<u8>, Number, Version)>,
    saw: Vec<(usize, Vec<u8>, Number, Version)>,
    broken: Option<String>,
}

/// The header's values before the model began.
#[derive(Clone, Copy, Debug)]
pub(super) struct Before {
    pub changes: u64,
    pub live: u64,
    /// The committed end of the heap.
    pub end: HeapAddr,
}

/// A thread of a model, with its own handle.
pub(super) struct ModelThread {
    pub cache: MmapCache,
    who: usize,
    observed: Arc<Mutex<Observations>>,
    before: Arc<OnceLock<Before>>,
}

/// Returns the value of a key with a number; each number has another length.
pub(super) fn value(key: &[u8], number: Number) -> Vec<u8> {
    let mut value = vec![number; 2 + usize::from(number)];
    value[0] = key[0];
    value
}

impl ModelThread {
    /// Returns the n-th key on this side of the hash space whose home group is `group`. All such
    /// keys have the same tag and control byte.
    pub(super) fn key(&self, side: u32, group: usize, n: usize) -> Vec<u8> {
        let hasher = self.cache.handle.generation.load().hasher;
        let model = (0..u64::MAX).map(u64::to_le_bytes).filter(|key| {
            let hash = hasher.hash(key);
            let same = hash.tag() & 0x7fe == 0 && hash.control() == 0x80 && hash.stored() == 0;
            same && hash.directory() & 1 == side && hash.group() & 1 == group
        });
        model.skip(n).map(|key| key.to_vec()).next().unwrap()
    }

    fn note(&self, note: impl FnOnce(&mut Observations)) {
        note(&mut self.observed.lock().unwrap());
    }

    pub(super) fn expect(&self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            let what = what();
            self.note(|observed| observed.broken = observed.broken.take().or(Some(what)));
        }
    }

    fn sound<T>(&self, result: crate::Result<T>) -> Option<T> {
        if let Err(error) = &result {
            self.expect(false, || format!("thread {}: {error}", self.who));
        }
        result.ok()
    }

    pub(super) fn put(&self, key: &[u8], number: Number) {
        if let Some(version) = self.sound(self.cache.put(key, &value(key, number))) {
            self.note(|observed| observed.wrote.push((key.to_vec(), number, version)));
        }
    }

    pub(super) fn delete(&self, key: &[u8]) {
        let deleted = self.sound(self.cache.delete(key));
        self.expect(deleted != Some(false), || "nothing to delete".into());
    }

    pub(super) fn succeed<T>(&self, result: crate::Result<T>) -> Option<T> {
        self.sound(result)
    }

    /// Returns how many sides the hash space has, each with its own region, before the writer
    /// begins.
    pub(super) fn sides(&self) -> u32 {
        1 << self.cache.handle.generation.load().header().poll().depth()
    }

    pub(super) fn generation(&self) -> Arc<Generation> {
        self.cache.handle.generation.load_full()
    }

    pub(super) fn before(&self) -> Before {
        *self.before.get().unwrap()
    }

    /// Replaces everything by these keys, all with values of one number.
    pub(super) fn rebuild(&self, keys: &[Vec<u8>], number: Number) {
        let items = keys
            .iter()
            .map(|key| Ok::<_, crate::Error>((key, value(key, number))));
        self.sound(self.cache.atomic_rebuild(items));
        for key in keys {
            if let Some(entry) = self.sound(self.cache.entry(key)).flatten() {
                let wrote = (key.clone(), number, entry.version());
                self.note(|observed| observed.wrote.push(wrote));
            }
        }
    }

    /// Appends one record that fills the segment.
    pub(super) fn fill_the_segment(&self) {
        let header = self.cache.handle.generation.load();
        let tail = header.header().tail().bytes();
        let key = self.key(1, 1, 0);
        let room = 16 * 1024 - 1024 - tail as usize - 24 - key.len();
        self.sound(self.cache.put(&key, &vec![0; room - 8]));
        self.sound(self.cache.delete(&key));
    }

    fn saw(&self, key: &[u8], len: usize, version: Version) -> Number {
        let number = len.saturating_sub(2) as Number;
        self.note(|observed| observed.saw.push((self.who, key.to_vec(), number, version)));
        number
    }

    /// Looks up a key with its record, and returns the number of its value.
    pub(super) fn entry(&self, key: &[u8]) -> Option<Number> {
        let entry: Entry = self.sound(self.cache.entry(key)).flatten()?;
        Some(self.saw_value(key, entry.value(), entry.version()))
    }

    fn saw_value(&self, key: &[u8], found: &[u8], version: Version) -> Number {
        let number = self.saw(key, found.len(), version);
        self.expect(found == value(key, number), || {
            format!("{key:?} has the value {found:?}")
        });
        number
    }

    /// Looks up keys at once, and returns the numbers of their values.
    pub(super) fn many<const N: usize>(&self, keys: [&[u8]; N]) -> [Option<Number>; N] {
        let mut found = [None; N];
        let each = |at: usize, bytes: Option<&[u8]>| {
            found[at] = bytes.map(|bytes| {
                let number = bytes.len().saturating_sub(2) as Number;
                self.expect(bytes == value(keys[at], number), || {
                    format!("{:?} has the value {bytes:?}", keys[at])
                });
                number
            });
        };
        self.sound(self.cache.get_many(keys, each));
        found
    }

    /// Looks up a key without its value, and returns the number of that.
    pub(super) fn peek(&self, key: &[u8]) -> Option<Number> {
        match self.sound(peek(&self.cache.handle, key))? {
            Answer::Found(meta) => {
                Some(self.saw(key, meta.value_len as usize, Version(meta.mtime)))
            }
            Answer::Absent => None,
            Answer::Damaged(error) => self.sound(Err(error)),
        }
    }

    /// Lists the first `count` keys: those of `always` must come exactly once, others at most once.
    pub(super) fn keys(&self, count: usize, always: &[Vec<u8>]) -> Option<()> {
        let listed: Vec<Vec<u8>> = self
            .sound(self.cache.keys())?
            .take(count)
            .filter_map(|key| self.sound(key))
            .collect();
        self.listed(&listed, always);
        Some(())
    }

    /// Lists the first `count` entries, with the same condition.
    pub(super) fn entries(&self, count: usize, always: &[Vec<u8>]) -> Option<()> {
        let listed: Vec<_> = self
            .sound(self.cache.entries())?
            .take(count)
            .filter_map(|entry| self.sound(entry))
            .collect();
        for (key, entry) in &listed {
            self.saw_value(key, entry.value(), entry.version());
        }
        let listed: Vec<_> = listed.into_iter().map(|(key, _)| key).collect();
        self.listed(&listed, always);
        Some(())
    }

    /// Verifies the whole cache.
    pub(super) fn verify(&self) {
        if let Some(report) = self.sound(self.cache.verify().run()) {
            self.expect(report.is_clean(), || format!("{:?}", report.problems));
        }
    }

    fn listed(&self, listed: &[Vec<u8>], always: &[Vec<u8>]) {
        let mut counts = BTreeMap::<&[u8], usize>::new();
        for key in listed {
            *counts.entry(key).or_default() += 1;
        }
        let wrong = always
            .iter()
            .find(|key| counts.get(&key[..]).copied() != Some(1));
        self.expect(wrong.is_none(), || format!("{wrong:?} in {counts:?}"));
        let known = |key: &&[u8]| {
            let observed = self.observed.lock().unwrap();
            // What the writer has in flight is not noted yet.
            key.len() == 8 || observed.wrote.iter().any(|(wrote, ..)| wrote == key)
        };
        self.expect(counts.keys().all(known), || format!("strange: {counts:?}"));
    }
}

impl Before {
    fn of(header: Header<'_>) -> Self {
        Self {
            changes: header.changes(),
            live: header.counters().live,
            end: header.tail(),
        }
    }
}

impl Observations {
    /// Checks what every model promises: each value that was read was written, and no reader sees a
    /// key go back to an older one.
    fn check(&mut self) -> Option<String> {
        if self.broken.is_some() {
            return self.broken.take();
        }
        let mut last = BTreeMap::new();
        for (who, key, number, version) in &self.saw {
            if !self.wrote.contains(&(key.clone(), *number, *version)) {
                return Some(format!(
                    "no writer wrote {key:?}, value {number}, {version}"
                ));
            }
            let before = last.insert((who, key), version);
            if before.is_some_and(|before| before > version) {
                return Some(format!("{key:?} went back to value {number}"));
            }
        }
        None
    }
}

/// The directory and handles of a model, and their state at the beginning of each execution.
struct Fixture {
    dir: tempfile::TempDir,
    files: Vec<(PathBuf, u64)>,
    image: Image,
    threads: Vec<(Arc<ModelThread>, Arc<Generation>)>,
    observed: Arc<Mutex<Observations>>,
    wrote: Vec<(Vec<u8>, Number, Version)>,
}

impl Fixture {
    fn new(model: &Model) -> Self {
        let dir = crate::engine::tests::in_memory();
        let (work, kept) = (dir.path().join("work"), dir.path().join("kept"));
        fs::create_dir(&work).unwrap();
        fs::create_dir(&kept).unwrap();
        loom_model::reset();
        let observed = Arc::<Mutex<Observations>>::default();
        let before = Arc::new(OnceLock::new());
        let threads: Vec<_> = (0..=model.readers.len())
            .map(|who| ModelThread {
                cache: (model.options)().open(work.join("c")).unwrap(),
                who,
                observed: Arc::clone(&observed),
                before: Arc::clone(&before),
            })
            .collect();
        (model.before)(&threads[0]);
        before
            .set(Before::of(threads[0].generation().header()))
            .unwrap();
        let threads = threads.into_iter().map(|thread| {
            // Maps everything that the threads may need.
            assert!(thread.cache.verify().run().unwrap().is_clean());
            for (key, ..) in &observed.lock().unwrap().wrote {
                let _ = thread.cache.get(key).unwrap();
            }
            let generation = thread.cache.handle.generation.load_full();
            (Arc::new(thread), generation)
        });
        let threads = threads.collect();
        let mut noted = std::mem::take(&mut *observed.lock().unwrap());
        assert_eq!(noted.check(), None, "{}", model.name);
        let files = fs::read_dir(&work).unwrap().map(|found| {
            let found = found.unwrap();
            fs::hard_link(found.path(), kept.join(found.file_name())).unwrap();
            let len = found.metadata().unwrap().len();
            (PathBuf::from(found.file_name()), len)
        });
        Self {
            files: files.collect(),
            image: loom_model::image(),
            threads,
            observed,
            wrote: noted.wrote,
            dir,
        }
    }

    /// Restores the beginning: the same inodes under the same names.
    fn restore(&self) {
        *self.observed.lock().unwrap() = Observations {
            wrote: self.wrote.clone(),
            ..Observations::default()
        };
        for (thread, generation) in &self.threads {
            thread.cache.handle.generation.store(Arc::clone(generation));
            *thread.cache.handle.writer_mutex().idle.lock() = None;
        }
        let (work, kept) = (self.dir.path().join("work"), self.dir.path().join("kept"));
        if inodes(&work) == inodes(&kept) {
            return;
        }
        for found in fs::read_dir(&work).unwrap() {
            fs::remove_file(found.unwrap().path()).unwrap();
        }
        for (name, len) in &self.files {
            fs::hard_link(kept.join(name), work.join(name)).unwrap();
            let file = fs::File::options().write(true).open(work.join(name));
            file.unwrap().set_len(*len).unwrap();
        }
    }
}

fn inodes(dir: &Path) -> BTreeMap<OsString, u64> {
    let found = fs::read_dir(dir).unwrap().map(|found| found.unwrap());
    found
        .map(|found| (found.file_name(), found.ino()))
        .collect()
}

/// Ends an exploration early.
enum EndOfExploration {
    /// Two threads shared a word that was not loom's yet.
    NewSharedWord,
    LimitReached,
    Broken(String),
}

/// Explores a model, without the orderings at `weakened`.
pub(super) fn explore(model: Model, weakened: &[OrderingSite]) -> Explored {
    let began = Instant::now();
    let fixture = Arc::new(Fixture::new(&model));
    loom_model::weaken(weakened.iter().copied());
    let executions = Arc::new(Mutex::new(0));
    let mut is_whole = false;
    let broken = loop {
        *executions.lock().unwrap() = 0;
        match catch_unwind(AssertUnwindSafe(|| check(model, &fixture, &executions))) {
            Ok(()) => {
                is_whole = true;
                break None;
            }
            Err(payload) => match payload.downcast::<EndOfExploration>().map(|cut| *cut) {
                Ok(EndOfExploration::NewSharedWord) => {}
                Ok(EndOfExploration::LimitReached) => break None,
                Ok(EndOfExploration::Broken(what)) => break Some(what),
                Err(other) => break Some(message(&*other)),
            },
        }
    };
    loom_model::set_role(ThreadRole::Alone);
    loom_model::weaken([]);
    let executions = (*executions.lock().unwrap()).min(model.at_most);
    Explored {
        executions,
        words: loom_model::shared_words(),
        sites: loom_model::sites(),
        took: began.elapsed(),
        is_whole,
        broken,
    }
}

fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic".into())
}

fn check(model: Model, fixture: &Arc<Fixture>, executions: &Arc<Mutex<u64>>) {
    let mut builder = loom::model::Builder::new();
    builder.max_branches = BRANCHES;
    builder.preemption_bound = model.preemptions;
    let (fixture, executions) = (Arc::clone(fixture), Arc::clone(executions));
    builder.check(move || {
        let count = {
            let mut executions = executions.lock().unwrap();
            *executions += 1;
            *executions
        };
        if count > model.at_most {
            resume_unwind(Box::new(EndOfExploration::LimitReached));
        }
        let fixture = Arc::clone(&fixture);
        // The stack of loom's first thread is too small for the engine.
        spawn(move || execute(model, &fixture)).join().unwrap();
    });
}

fn spawn(body: impl FnOnce() + Send + 'static) -> loom::thread::JoinHandle<()> {
    let builder = loom::thread::Builder::new().stack_size(STACK);
    builder.spawn(body).unwrap()
}

/// Runs one execution.
fn execute(model: Model, fixture: &Fixture) {
    fixture.restore();
    loom_model::begin(&fixture.image);
    let bodies = std::iter::once(model.writer).chain(model.readers.iter().copied());
    let threads = fixture.threads.iter().map(|(thread, _)| Arc::clone(thread));
    let threads: Vec<_> = threads
        .zip(bodies)
        .map(|(thread, body)| {
            let writes = thread.who == 0;
            spawn(move || {
                loom_model::set_role(if writes {
                    ThreadRole::Writer
                } else {
                    ThreadRole::Reader
                });
                body(&thread);
                loom_model::set_role(ThreadRole::Alone);
            })
        })
        .collect();
    for thread in threads {
        let joined = thread.join();
        loom_model::set_role(ThreadRole::Alone);
        joined.unwrap();
    }
    if loom_model::found_shared_words() {
        resume_unwind(Box::new(EndOfExploration::NewSharedWord));
    }
    if let Some(broken) = fixture.observed.lock().unwrap().check() {
        resume_unwind(Box::new(EndOfExploration::Broken(broken)));
    }
}
