//! A process that performs a writer's operations on a cache that other processes write too.
//!
//! It knows what its own keys must have, and reads each before it changes it. It acknowledges
//! operations one by one, or a batch at its end, so that kills do not only hit acknowledgements.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mmapcache::{Durability, Entry, MmapCache, Options, Result, Update, Version, Writer};

use super::ack_log::AckLog;
use super::checking_reader::CheckingReader;
use super::contents::{shared, value};
use super::expected_state::{
    BATCH, ExpectedState, Operation, ParsedValue, is_thinned, own_passing, own_staying,
    shared_value,
};
use super::{Part, dismissal, say};

/// Operations that a worker does one by one after each batch; each waits for the lock.
const SINGLES: u64 = 8;

/// The directory of a group's files.
#[derive(Clone, Debug)]
pub(crate) struct TestDir(pub(crate) PathBuf);

impl TestDir {
    pub(crate) fn cache(&self) -> PathBuf {
        self.0.join("files/cache")
    }

    /// Returns the path of the cache through a symbolic link to its index, or to its directory.
    pub(crate) fn linked(&self, to_index: bool) -> PathBuf {
        self.0.join(if to_index { "alias" } else { "linked/cache" })
    }

    pub(crate) fn ack_log(&self, role: &str, which: u64) -> AckLog {
        AckLog::open(&self.0.join(format!("{role} {which}")))
    }
}

/// Each of four writers opens the cache in its own way, and takes the geometry as it is.
fn open(dir: &TestDir, writer: u64) -> MmapCache {
    let mut options = Options::new();
    options.compaction_threshold(50, 1024);
    let path = match writer % 4 {
        0 => {
            options.durability(Durability::Sync);
            dir.cache()
        }
        1 => dir.linked(true),
        2 => {
            options
                .staleness_check_interval(Duration::ZERO)
                .lock_timeout(None);
            dir.linked(false)
        }
        _ => {
            options.compaction_threshold(200, 16 * 1024);
            dir.cache()
        }
    };
    options.open(path).expect("the cache")
}

/// Works until its input is closed or it is killed; the numbers are the state that it continues from.
/// The fourth writer also reads, through the same handle.
pub(crate) fn write_until_closed(part: &Part) {
    let expected = ExpectedState::of_numbers(&part.numbers);
    let (writer, next) = (expected.writer, expected.next);
    let dismissed = dismissal();
    let dir = TestDir(part.path.clone());
    let cache = open(&dir, writer);
    let mut worker = Worker::new(&cache, expected, &dir);
    say("ready");
    std::thread::scope(|scope| {
        let beside = (writer == 3).then(|| {
            scope.spawn(|| {
                let mut reader = CheckingReader::new(next);
                while !dismissed.load(Ordering::Relaxed) {
                    reader.round(&cache);
                }
            })
        });
        let alone = || beside.as_ref().is_none_or(|beside| !beside.is_finished());
        while !dismissed.load(Ordering::Relaxed) && alone() {
            worker.work();
        }
    });
    say("done");
}

#[derive(Debug)]
struct Worker<'a> {
    cache: &'a MmapCache,
    expected: ExpectedState,
    log: AckLog,
    /// The newest version that this process received.
    newest: Version,
    rebuilds: u64,
}

/// Positions of the numbers in the log.
pub(crate) const NEXT: usize = 0;
pub(crate) const REBUILDS: usize = 1;

impl<'a> Worker<'a> {
    fn new(cache: &'a MmapCache, expected: ExpectedState, dir: &TestDir) -> Self {
        let log = dir.ack_log("writer", expected.writer);
        Self {
            cache,
            newest: Version::from_nanos(0),
            rebuilds: log.read(REBUILDS),
            expected,
            log,
        }
    }

    /// Does a batch, acknowledged at its end, and then some operations one by one.
    fn work(&mut self) {
        let cache = self.cache;
        let mut writer = cache.writer().expect("the writer");
        let before = cache.change_count();
        for _ in 0..BATCH {
            let done = self.perform(&mut Batch(&mut writer));
            done.expect("an operation in a batch");
        }
        if self.expected.next % 512 < BATCH + SINGLES {
            // Now and then the other writers wait longer.
            std::thread::sleep(Duration::from_millis(3));
        }
        assert!(
            cache.change_count() > before,
            "a batch that counts as no change"
        );
        writer.commit().expect("the end of a batch");
        self.acknowledge();
        for _ in 0..SINGLES {
            let mut alone = PerOperation(cache);
            self.perform(&mut alone).expect("an operation");
            self.acknowledge();
        }
    }

    fn acknowledge(&self) {
        self.log.write(REBUILDS, self.rebuilds);
        self.log.write(NEXT, self.expected.next);
    }

    fn perform(&mut self, store: &mut impl Store) -> Result<()> {
        let writer = self.expected.writer;
        match Operation::of(writer, self.expected.next) {
            Operation::Renew(key) => self.put(store, &own_staying(writer, key))?,
            Operation::Put(key) => self.put(store, &own_passing(writer, key))?,
            Operation::PutIf(key) => self.put_if(store, &own_passing(writer, key))?,
            Operation::Delete(key) => {
                let key = own_passing(writer, key);
                let there = self.read_own(store, &key)?.is_some();
                assert_eq!(store.delete(&key)?, there);
            }
            Operation::DeleteIf(key) => self.delete_if(store, &own_passing(writer, key))?,
            Operation::Share(key) => self.share(store, shared(key).as_bytes(), key)?,
            Operation::Rebuild => self.rebuild(store, false)?,
            Operation::Thin => self.rebuild(store, true)?,
            Operation::Compact => store.compact()?,
            Operation::Flush => store.flush()?,
        }
        self.expected.advance();
        Ok(())
    }

    /// Returns the entry of one of the writer's own keys, which must be as this writer left it.
    fn read_own(&self, store: &impl Store, key: &[u8]) -> Result<Option<Entry>> {
        let entry = store.entry(key)?;
        let found = entry
            .as_ref()
            .map(|entry| ParsedValue::of(key, entry.value()));
        let expected = self.expected.own.get(key).copied();
        let name = String::from_utf8_lossy(key);
        let found = found.map(|parsed| parsed.number);
        assert_eq!(found, expected, "{name:?} before {}", self.expected.next);
        Ok(entry)
    }

    fn put(&mut self, store: &mut impl Store, key: &[u8]) -> Result<()> {
        let seen = self.read_own(store, key)?;
        let version = store.put(key, &value(key, self.expected.number()))?;
        assert!(seen.is_none_or(|entry| entry.version() < version));
        self.is_new(version);
        Ok(())
    }

    fn put_if(&mut self, store: &mut impl Store, key: &[u8]) -> Result<()> {
        let next = value(key, self.expected.number());
        let version = match self.read_own(store, key)? {
            None => store.insert_if_absent(key, &next)?,
            Some(seen) => {
                let older = Version::from_nanos(seen.version().as_nanos() - 1);
                assert_eq!(store.put_if(key, b"wrong", older)?, None);
                assert_eq!(store.insert_if_absent(key, b"wrong")?, None);
                self.put_unless_replaced(store, key, &next, seen.version())?
            }
        };
        self.is_new(version.expect("the condition is true"));
        Ok(())
    }

    /// Retries after another process's rebuild, which gives every entry a new version.
    fn put_unless_replaced(
        &self,
        store: &mut impl Store,
        key: &[u8],
        next: &[u8],
        mut seen: Version,
    ) -> Result<Option<Version>> {
        loop {
            if let Some(version) = store.put_if(key, next, seen)? {
                return Ok(Some(version));
            }
            let now = self.read_own(store, key)?.expect("an entry of its own");
            assert!(now.version() > seen, "refused, though nothing has changed");
            seen = now.version();
        }
    }

    fn delete_if(&mut self, store: &mut impl Store, key: &[u8]) -> Result<()> {
        while let Some(entry) = self.read_own(store, key)? {
            if store.delete_if(key, entry.version())? {
                break;
            }
            let now = self.read_own(store, key)?.expect("an entry of its own");
            assert!(now.version() > entry.version());
        }
        Ok(())
    }

    /// Adds one to the writer's own tally, and keeps those of the others.
    fn share(&mut self, store: &mut impl Store, key: &[u8], index: u64) -> Result<()> {
        let (writer, number) = (self.expected.writer as usize, self.expected.number());
        let expected = self.expected.tallies[index as usize];
        let changed = store.update(key, &mut |entry| {
            let entry = entry.expect("a shared key always exists");
            let mut parsed = ParsedValue::of(key, entry.value());
            assert_eq!(parsed.tallies[writer], expected, "a write was lost");
            parsed.tallies[writer] += 1;
            parsed.number = number;
            Update::Put(shared_value(key, &parsed))
        })?;
        assert!(changed);
        Ok(())
    }

    fn rebuild(&mut self, store: &mut impl Store, thin: bool) -> Result<()> {
        self.rebuilds += 1;
        let writer = self.expected.writer;
        store.rebuild_from(self.cache, &|key| !(thin && is_thinned(writer, key)))
    }

    /// Asserts that versions only grow.
    fn is_new(&mut self, version: Version) {
        assert!(version > self.newest, "{version} after {}", self.newest);
        self.newest = version;
    }
}

/// Decides what an entry becomes.
type Decide<'a> = dyn FnMut(Option<&Entry>) -> Update + 'a;
/// Decides which keys stay.
type Keep<'a> = dyn Fn(&[u8]) -> bool + 'a;

/// What a handle and a writer share.
trait Store {
    fn entry(&self, key: &[u8]) -> Result<Option<Entry>>;
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<Version>;
    fn put_if(&mut self, key: &[u8], value: &[u8], seen: Version) -> Result<Option<Version>>;
    fn insert_if_absent(&mut self, key: &[u8], value: &[u8]) -> Result<Option<Version>>;
    fn delete(&mut self, key: &[u8]) -> Result<bool>;
    fn delete_if(&mut self, key: &[u8], seen: Version) -> Result<bool>;
    fn update(&mut self, key: &[u8], decide: &mut Decide<'_>) -> Result<bool>;
    fn rebuild_from(&mut self, cache: &MmapCache, keep: &Keep<'_>) -> Result<()>;
    fn compact(&mut self) -> Result<()>;
    fn flush(&mut self) -> Result<()>;
}

/// A handle that takes the lock for each operation.
struct PerOperation<'a>(&'a MmapCache);

macro_rules! forward {
    () => {
        fn put(&mut self, key: &[u8], value: &[u8]) -> Result<Version> {
            self.0.put(key, value)
        }
        fn put_if(&mut self, key: &[u8], value: &[u8], seen: Version) -> Result<Option<Version>> {
            self.0.put_if(key, value, seen)
        }
        fn insert_if_absent(&mut self, key: &[u8], value: &[u8]) -> Result<Option<Version>> {
            self.0.insert_if_absent(key, value)
        }
        fn delete(&mut self, key: &[u8]) -> Result<bool> {
            self.0.delete(key)
        }
        fn delete_if(&mut self, key: &[u8], seen: Version) -> Result<bool> {
            self.0.delete_if(key, seen)
        }
        fn update(&mut self, key: &[u8], decide: &mut Decide<'_>) -> Result<bool> {
            self.0.update(key, decide)
        }
        fn entry(&self, key: &[u8]) -> Result<Option<Entry>> {
            self.0.entry(key)
        }
    };
}

impl Store for PerOperation<'_> {
    forward!();

    fn rebuild_from(&mut self, cache: &MmapCache, keep: &Keep<'_>) -> Result<()> {
        // Listed only once the lock is held, so that no write is lost.
        let items = std::iter::once(()).flat_map(|()| cache.iter().expect("a listing"));
        self.0.atomic_rebuild(items.filter(|item| kept(item, keep)))
    }

    fn compact(&mut self) -> Result<()> {
        self.0.compact()
    }

    fn flush(&mut self) -> Result<()> {
        self.0.flush()
    }
}

/// A writer, which holds the lock.
struct Batch<'a, 'h>(&'a mut Writer<'h>);

impl Store for Batch<'_, '_> {
    forward!();

    fn rebuild_from(&mut self, cache: &MmapCache, keep: &Keep<'_>) -> Result<()> {
        let items = cache.iter()?.filter(|item| kept(item, keep));
        self.0.atomic_rebuild(items)
    }

    /// Only a handle can do this.
    fn compact(&mut self) -> Result<()> {
        Ok(())
    }

    /// Only a handle can do this.
    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

fn kept(item: &Result<(Vec<u8>, Vec<u8>)>, keep: &Keep<'_>) -> bool {
    item.as_ref().map_or(true, |(key, _)| keep(key))
}
