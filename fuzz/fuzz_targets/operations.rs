//! Runs sequences of operations by two writing handles and a reading one, and compares with a map.
//! Some operations are killed at one of their stores; some are read or copied before they end.
#![no_main]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;

use arbitrary::{Arbitrary, Unstructured};
use libfuzzer_sys::fuzz_target;
use mmapcache::fuzzing::{interrupted_after, killed_after, reseed};
use mmapcache::inspect::CacheFiles;
use mmapcache::{
    Corruption, Error, ErrorKind, MmapCache, Options, Problem, Result, Update, Version, Writer,
};
use mmapcache_fuzz::{Contents, Effect, Model, Scratch, contents};

/// Operations of one input: more of them only make it slower.
const MOST: usize = 400;

fuzz_target!(|data: &[u8]| {
    let mut input = Unstructured::new(data);
    let Ok(shape) = input.arbitrary::<Shape>() else {
        return;
    };
    reseed(0);
    let mut run = Run::new(&shape);
    for _ in 0..MOST {
        match input.arbitrary() {
            Ok(operation) if !input.is_empty() => run.operate(operation),
            _ => break,
        }
    }
    run.compare();
});

/// How small the cache is.
#[derive(Arbitrary, Debug)]
struct Shape {
    directory_bits: u8,
    collides: bool,
    cleans_late: bool,
}

impl Shape {
    fn options(&self) -> Options {
        let mut options = Options::new();
        options
            .region_slots(16)
            .max_segment_bytes(16 * 1024)
            .narrow(
                [1, 2, 3, 20][usize::from(self.directory_bits % 4)],
                self.collides,
            );
        if !self.cleans_late {
            options.compaction_threshold(50, 1024);
        }
        options
    }
}

/// One of few keys of different lengths, with the same beginning.
#[derive(Arbitrary, Debug)]
struct Key(u8);

impl Key {
    fn bytes(&self) -> Vec<u8> {
        // Half of the time one of a few, which are overwritten and deleted again and again.
        let number = if self.0 < 128 { self.0 % 24 } else { self.0 };
        let len = match number {
            255 => return Vec::new(),
            254 => 65_536,
            253 => 65_535,
            245..253 => 1_000 * usize::from(number - 242),
            _ => [1, 7, 8, 9, 16, 23, 24, 25, 31, 32, 33, 40, 60, 90, 120, 700]
                [usize::from(number % 16)],
        };
        let mut key = vec![b'k'; len];
        key[len - 1] = number;
        key
    }
}

/// The length of a value; most are short.
#[derive(Arbitrary, Debug)]
struct Size(u8);

impl Size {
    fn bytes(&self) -> usize {
        match usize::from(self.0) {
            short @ 0..180 => short,
            middling @ 180..244 => (middling - 150) * 30,
            long => (long - 230) * 640,
        }
    }
}

/// Number of stores and file operations after which something happens: a change has about twenty, a
/// batch or a rebuild many.
#[derive(Arbitrary, Debug)]
struct Steps(u16);

impl Steps {
    fn count(&self) -> u64 {
        u64::from(self.0 / 4) % if self.0.is_multiple_of(4) { 2_000 } else { 40 }
    }
}

#[derive(Arbitrary, Debug)]
enum Change {
    Put(Key, Size),
    PutAgain(Key, Size),
    Delete(Key),
    InsertIfAbsent(Key, Size),
    PutIf(Key, Size, bool),
    DeleteIf(Key, bool),
    Append(Key),
    UpdateToNothing(Key),
}

/// A change by a writing process.
#[derive(Arbitrary, Debug)]
enum Act {
    Change(Change),
    Batch(Vec<Change>),
    Rebuild { count: u8, fails_at: u8 },
    Thin(u8),
    Compact,
    Clear,
    Flush,
    Reopen,
}

#[derive(Arbitrary, Debug)]
enum Operation {
    Change(bool, Change),
    ChangeAgain(bool, Change),
    Act(bool, Act),
    Kill {
        first: bool,
        steps: Steps,
        act: Act,
        recovery_steps: Option<u8>,
    },
    ReadDuring {
        first: bool,
        steps: Steps,
        change: Change,
    },
    CopyDuring {
        first: bool,
        steps: Steps,
        act: Act,
    },
    List(bool),
}

/// What handles and writers share.
trait Changes {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<Version>;
    fn delete(&mut self, key: &[u8]) -> Result<bool>;
    fn insert_if_absent(&mut self, key: &[u8], value: &[u8]) -> Result<Option<Version>>;
    fn put_if(&mut self, key: &[u8], value: &[u8], seen: Version) -> Result<Option<Version>>;
    fn delete_if(&mut self, key: &[u8], seen: Version) -> Result<bool>;
    fn update(&mut self, key: &[u8], to: Update) -> Result<bool>;
}

macro_rules! changes {
    ($of:ty, $by:ident) => {
        impl Changes for $of {
            fn put(&mut self, key: &[u8], value: &[u8]) -> Result<Version> {
                $by::put(self, key, value)
            }
            fn delete(&mut self, key: &[u8]) -> Result<bool> {
                $by::delete(self, key)
            }
            fn insert_if_absent(&mut self, key: &[u8], value: &[u8]) -> Result<Option<Version>> {
                $by::insert_if_absent(self, key, value)
            }
            fn put_if(
                &mut self,
                key: &[u8],
                value: &[u8],
                seen: Version,
            ) -> Result<Option<Version>> {
                $by::put_if(self, key, value, seen)
            }
            fn delete_if(&mut self, key: &[u8], seen: Version) -> Result<bool> {
                $by::delete_if(self, key, seen)
            }
            fn update(&mut self, key: &[u8], to: Update) -> Result<bool> {
                $by::update(self, key, |_| to)
            }
        }
    };
}

changes!(Writer<'_>, Writer);
changes!(&MmapCache, MmapCache);

struct Run {
    /// Before `scratch`: handles must be dropped before their files.
    writing: [Rc<MmapCache>; 2],
    reading: Rc<MmapCache>,
    scratch: Scratch,
    options: Options,
    model: Model,
    /// Number of values stored so far; each has its own content.
    stored: u32,
}

impl Run {
    fn new(shape: &Shape) -> Self {
        let (scratch, options) = (Scratch::new(), shape.options());
        let open = |options: &Options| Rc::new(options.open(scratch.cache()).expect("a cache"));
        Self {
            writing: [open(&options), open(&options)],
            reading: open(Options::new().read_only(true)),
            scratch,
            options,
            model: Model::default(),
            stored: 0,
        }
    }

    fn open(&self) -> Rc<MmapCache> {
        Rc::new(
            self.options
                .open(self.scratch.cache())
                .expect("the cache again"),
        )
    }

    fn writing(&self, first: bool) -> Rc<MmapCache> {
        Rc::clone(&self.writing[usize::from(first)])
    }

    fn operate(&mut self, operation: Operation) {
        match operation {
            Operation::Change(first, change) | Operation::ChangeAgain(first, change) => {
                self.change(&change, &mut &*self.writing(first));
            }
            Operation::Act(first, act) => self.act(first, act),
            Operation::Kill {
                first,
                steps,
                act,
                recovery_steps,
            } => {
                self.kill(first, steps.count(), act, recovery_steps);
            }
            Operation::ReadDuring {
                first,
                steps,
                change,
            } => {
                self.read_during(first, steps.count(), &change);
            }
            Operation::CopyDuring { first, steps, act } => {
                self.copy_during(first, steps.count(), act);
            }
            Operation::List(true) => assert_eq!(contents(&self.reading), self.model.contents),
            Operation::List(false) => assert_eq!(contents(&self.writing[0]), self.model.contents),
        }
    }

    fn act(&mut self, first: bool, act: Act) {
        let cache = self.writing(first);
        match act {
            Act::Change(change) => self.change(&change, &mut &*cache),
            Act::Batch(changes) => {
                let mut writer = cache.writer().expect("the lock");
                for change in &changes {
                    self.change(change, &mut writer);
                }
                writer.commit().expect("a commit");
            }
            Act::Rebuild { count, fails_at } => self.rebuild(&cache, count, fails_at),
            Act::Thin(modulus) => self.thin(&cache, modulus),
            Act::Compact => cache.compact().expect("compaction"),
            Act::Clear => {
                self.model.begun = Some(Effect::Replace(BTreeMap::new()));
                cache.clear().expect("clearing");
                self.model.finish(&Contents::new());
            }
            Act::Flush => cache.flush().expect("a flush"),
            Act::Reopen => self.writing[usize::from(first)] = self.open(),
        }
    }

    fn next_value(&mut self, size: &Size) -> Vec<u8> {
        self.stored += 1;
        let mut value = vec![self.stored as u8; size.bytes()];
        for (byte, stamp) in value.iter_mut().zip(self.stored.to_le_bytes()) {
            *byte = stamp;
        }
        value
    }

    fn change(&mut self, change: &Change, to: &mut impl Changes) {
        match change {
            Change::Put(key, size) | Change::PutAgain(key, size) => {
                let (key, value) = (key.bytes(), self.next_value(size));
                self.model.begun = Some(Effect::Put(key.clone(), value.clone()));
                let done = to.put(&key, &value).map(Some);
                self.stored_or_refused(key, value, done);
            }
            Change::InsertIfAbsent(key, size) => {
                let (key, value) = (key.bytes(), self.next_value(size));
                let absent = self.model.value(&key).is_none();
                self.model.begun = absent.then(|| Effect::Put(key.clone(), value.clone()));
                let done = to.insert_if_absent(&key, &value);
                self.stored_or_refused(key, value, done);
            }
            Change::PutIf(key, size, right) => {
                let (key, value) = (key.bytes(), self.next_value(size));
                let seen = self.model.version(&key, *right);
                let same = *right && self.model.value(&key).is_some();
                self.model.begun = same.then(|| Effect::Put(key.clone(), value.clone()));
                let done = to.put_if(&key, &value, seen);
                self.stored_or_refused(key, value, done);
            }
            Change::Append(key) => self.append(key.bytes(), to),
            Change::Delete(key) => {
                let key = key.bytes();
                self.delete(&key, true, |key| to.delete(key));
            }
            Change::DeleteIf(key, right) => {
                let key = key.bytes();
                let seen = self.model.version(&key, *right);
                self.delete(&key, *right, |key| to.delete_if(key, seen));
            }
            Change::UpdateToNothing(key) => {
                let key = key.bytes();
                let there = self.model.value(&key).is_some();
                let to = &mut *to;
                self.delete(&key, there, |key| to.update(key, Update::Delete));
            }
        }
    }

    /// Asserts that a value was stored if the model expected that, and refused otherwise.
    fn stored_or_refused(&mut self, key: Vec<u8>, value: Vec<u8>, done: Result<Option<Version>>) {
        let expected = self.model.begun.is_some();
        match done {
            Ok(Some(version)) => {
                assert!(expected && !key.is_empty());
                self.model.put(key, value, version);
            }
            Ok(None) => assert!(!expected),
            Err(error) => {
                refused(&error, &key, value.len());
                self.model.begun = None;
            }
        }
    }

    fn delete(&mut self, key: &[u8], wanted: bool, delete: impl FnOnce(&[u8]) -> Result<bool>) {
        let expected = wanted && self.model.value(key).is_some();
        self.model.begun = expected.then(|| Effect::Delete(key.to_vec()));
        match delete(key) {
            Ok(deleted) => assert_eq!(deleted, expected),
            Err(error) => refused(&error, key, 0),
        }
        if expected {
            self.model.delete(key);
        }
    }

    /// Appends one byte to a value, decided under the lock.
    fn append(&mut self, key: Vec<u8>, to: &mut impl Changes) {
        let mut value = self.model.value(&key).unwrap_or_default().to_vec();
        value.truncate(500);
        value.push(b'+');
        self.model.begun = Some(Effect::Put(key.clone(), value.clone()));
        match to.update(&key, Update::Put(value.clone())) {
            Ok(changed) => {
                assert!(changed);
                let version = self
                    .reading
                    .version(&key)
                    .expect("a lookup")
                    .expect("its version");
                self.model.put(key, value, version);
            }
            Err(error) => {
                refused(&error, &key, value.len());
                self.model.begun = None;
            }
        }
    }

    fn rebuild(&mut self, cache: &MmapCache, count: u8, fails_at: u8) {
        let items: BTreeMap<_, _> = (0..count % 64)
            .map(|i| (Key(i * 3).bytes(), self.next_value(&Size(i))))
            .collect();
        let fails = usize::from(fails_at) < items.len();
        self.model.begun = (!fails).then(|| Effect::Replace(items.clone()));
        let source = items.iter().enumerate().map(|(at, item)| {
            if fails && at == usize::from(fails_at) {
                Err("the source failed")
            } else {
                Ok(item)
            }
        });
        match cache.atomic_rebuild(source) {
            Ok(()) => {
                assert!(!fails);
                self.model.finish(&contents(cache));
            }
            Err(error) => assert!(
                fails && matches!(error.kind(), ErrorKind::RebuildSource { .. }),
                "{error:?}"
            ),
        }
    }

    /// Rebuilds a cache from itself, without some of its entries.
    fn thin(&mut self, cache: &MmapCache, modulus: u8) {
        let stays = |key: &[u8]| key.last().is_some_and(|last| last % (modulus % 8 + 1) == 0);
        let kept = self.model.contents.iter().filter(|(key, _)| stays(key));
        let kept = kept
            .map(|(key, (value, _))| (key.clone(), value.clone()))
            .collect();
        self.model.begun = Some(Effect::Replace(kept));
        let mut writer = cache.writer().expect("the lock");
        let items = cache.iter().expect("a listing");
        let items = items.filter(|item| item.as_ref().is_ok_and(|(key, _)| stays(key)));
        writer.atomic_rebuild(items).expect("a rebuild from itself");
        drop(writer);
        self.model.finish(&contents(cache));
    }

    /// Kills a process during a change and perhaps the next one during its recovery.
    fn kill(&mut self, first: bool, steps: u64, act: Act, recovery_steps: Option<u8>) {
        let killed = killed_after(steps, || self.act(first, act)).is_none();
        if !killed {
            return;
        }
        self.writing[usize::from(first)] = Rc::clone(&self.writing[usize::from(!first)]);
        self.model.settle(&contents(&self.reading));
        if let Some(steps) = recovery_steps {
            killed_after(u64::from(steps), || {
                drop(self.open().writer().expect("the lock"))
            });
        }
        drop(self.writing[0].writer().expect("the lock"));
        self.writing[usize::from(first)] = self.open();
        self.model.settle(&contents(&self.reading));
        // A change that did not happen until now never will.
        self.model.begun = None;
        self.check(&self.writing[0]);
    }

    /// Lets another process read during a change: it sees all of it or nothing.
    fn read_during(&mut self, first: bool, steps: u64, change: &Change) {
        let before = self.model.contents.clone();
        let reading = Rc::clone(&self.reading);
        let seen = Rc::new(RefCell::new(None));
        let interlude = {
            let seen = Rc::clone(&seen);
            move || *seen.borrow_mut() = Some(contents(&reading))
        };
        let cache = self.writing(first);
        interrupted_after(steps, interlude, || self.change(change, &mut &*cache));
        if let Some(seen) = seen.take() {
            assert!(seen == before || seen == self.model.contents, "{seen:?}");
        }
    }

    /// Copies all files during a change and opens the copy, which is rebuilt from its heap.
    fn copy_during(&mut self, first: bool, steps: u64, act: Act) {
        let mut model = self.model.clone();
        let from = self.scratch.path().to_owned();
        let copy: Rc<RefCell<Option<Scratch>>> = Rc::default();
        let interlude = {
            let copy = Rc::clone(&copy);
            move || *copy.borrow_mut() = Some(Scratch::copy_of(&from))
        };
        let is_batch = matches!(act, Act::Batch(_));
        interrupted_after(steps, interlude, || self.act(first, act));
        let Some(copy) = copy.take() else {
            return;
        };
        let cache = self.options.open(copy.cache()).expect("a copy opens");
        drop(cache.writer().expect("the lock of a copy"));
        let listed = contents(&cache);
        // A record that was copied half written stays in the heap until it is cleaned.
        let report = cache.verify().run().expect("a check");
        let torn = |fault: &Problem| fault.what == Corruption::RecordBytes;
        assert!(
            report.problem_count <= 1 && report.problems.iter().all(torn),
            "{:?}",
            report.problems
        );
        assert_eq!(report.entries, cache.len());
        if is_batch {
            return;
        }
        model.begun = None;
        assert!(
            listed == model.contents || listed == self.model.contents,
            "{listed:?}"
        );
    }

    fn check(&self, cache: &MmapCache) {
        let report = cache.verify().run().expect("a check");
        assert!(report.is_clean(), "{:?}", report.problems);
        assert!(report.totals_compared);
        assert_eq!(report.entries, cache.len());
        let files = CacheFiles::open(cache.path(), None).expect("files");
        assert!(files.problems().is_empty(), "{:?}", files.problems());
    }

    fn compare(&self) {
        for cache in self.writing.iter().chain([&self.reading]) {
            assert_eq!(contents(cache), self.model.contents);
            assert_eq!(cache.len(), self.model.contents.len() as u64);
            for key in &self.model.known {
                let found = cache.get(key).expect("a lookup");
                assert_eq!(found.as_deref(), self.model.value(key));
            }
        }
        self.check(&self.reading);
        let fresh: PathBuf = self.scratch.cache();
        let fresh = Options::new()
            .read_only(true)
            .open(fresh)
            .expect("the cache once more");
        assert_eq!(contents(&fresh), self.model.contents);
    }
}

/// Asserts that a valid cache refused a key or a value only for its size.
fn refused(error: &Error, key: &[u8], value_len: usize) {
    match error.kind() {
        ErrorKind::KeyLength { len } => assert!(*len == key.len() && !(1..=65_535).contains(len)),
        ErrorKind::ValueTooLarge { max, .. } => assert!(value_len as u64 > *max),
        other => panic!("{other:?}"),
    }
}
