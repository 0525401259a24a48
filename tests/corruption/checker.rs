//! Runs every public operation on a cache whose files were changed, and checks the answers.
//!
//! Allowed are the correct answer, a miss, an error of corruption, and a few other errors that are
//! true; see [`Checker::allows`]. [`Affected`] says how good an answer must be.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

#[cfg(feature = "inspect")]
use mmapcache::inspect::CacheFiles;
use mmapcache::{Durability, Error, ErrorKind, MmapCache, Options, Result, Update, Version};

use super::affected::{Affected, Expected};
use super::sample_cache::{SampleCache, key};

/// The longest that an operation may wait for a lock that no process holds.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// A key's value, or `None` if it has no entry.
type State = Option<Vec<u8>>;

/// Holds what was put before and after the change, and which keys the change affects.
#[derive(Debug)]
pub(crate) struct Checker<'a> {
    sample: &'a SampleCache,
    affected: &'a Affected,
    /// Begins every message of a failure.
    name: &'a str,
    /// Acknowledged since the change: must be present, whatever was damaged before.
    since: RefCell<BTreeMap<Vec<u8>, State>>,
    /// Acknowledged before the files were opened under another header.
    outdated: RefCell<BTreeSet<(Vec<u8>, State)>>,
    /// Whether no writer can have repaired anything yet: then a listing has all entries, or an
    /// error.
    exact: Cell<bool>,
}

/// Options for a writable handle that takes the geometry as it is.
pub(crate) fn writable() -> Options {
    let mut options = Options::new();
    options
        .lock_timeout(Some(LOCK_TIMEOUT))
        .compaction_threshold(50, 1024);
    options
}

pub(crate) fn read_only() -> Options {
    let mut options = Options::new();
    options.read_only(true);
    options
}

impl<'a> Checker<'a> {
    pub(crate) fn new(sample: &'a SampleCache, affected: &'a Affected, name: &'a str) -> Self {
        Self {
            sample,
            affected,
            name,
            since: RefCell::default(),
            outdated: RefCell::default(),
            exact: Cell::new(false),
        }
    }

    /// Runs every operation on the cache at `path`: reads headers, reads by a read-only handle,
    /// writes, and reads headers again.
    pub(crate) fn check_all(&self, path: &Path) {
        self.read_headers(path);
        if let Some(cache) = self.tolerate("open to read", read_only().open(path)) {
            self.exact.set(self.affected.one_byte);
            self.read_all(&cache);
            self.exact.set(false);
        }
        self.check_writers(path);
        self.read_headers(path);
    }

    /// Writes by handles that are opened one after the other, and reads in between.
    pub(crate) fn check_writers(&self, path: &Path) {
        let Some(cache) = self.tolerate("open to write", writable().open(path)) else {
            return;
        };
        self.read_all(&cache);
        self.write_all(&cache);
        drop(cache);
        if let Some(cache) = self.tolerate("open to read", read_only().open(path)) {
            self.read_all(&cache);
        }
        let exclusive = writable()
            .exclusive(true)
            .durability(Durability::Sync)
            .open(path);
        if let Some(cache) = self.tolerate("open alone", exclusive) {
            self.put(&cache, &key(1), b"put by the only one");
            self.read_all(&cache);
            self.replace(&cache);
        }
    }

    /// Changes entries in every way, and reads in between.
    pub(crate) fn write_all(&self, cache: &MmapCache) {
        self.change(cache);
        self.batch(cache);
        self.read_all(cache);
        self.tolerate("flush", cache.flush());
        self.tolerate("compact", cache.compact());
        self.read_all(cache);
    }

    /// Reads the headers without opening the cache: damage must not be an error there.
    fn read_headers(&self, path: &Path) {
        #[cfg(not(feature = "inspect"))]
        let _ = path;
        #[cfg(feature = "inspect")]
        if let Some(files) = self.tolerate("headers", CacheFiles::open(path, None)) {
            let count = files.problems().len();
            assert!(count <= 100, "{}: {count} problems", self.name);
        }
    }

    /// Whether an operation may fail with this error.
    pub(crate) fn allows(&self, error: &Error) -> bool {
        match error.kind() {
            // The change may have hit the version number.
            ErrorKind::UnsupportedVersion { .. } => self.affected.version,
            // Without an index an operation may ask for one or create one, but not over existing
            // files.
            ErrorKind::NotFound => self.affected.no_index,
            ErrorKind::AlreadyExists => self.affected.no_index || self.affected.foreign_file,
            ErrorKind::HeapMissing { .. } => self.affected.segment_missing,
            ErrorKind::SyncFailed => self.affected.sync_failed,
            ErrorKind::TableFull { .. } => self.affected.entries_limited,
            ErrorKind::AppendOnly => self.affected.append_only,
            _ => error.is_corruption(),
        }
    }

    fn expected(&self, key: &[u8]) -> Expected {
        self.affected.expected(self.sample, key)
    }

    fn tolerate<T>(&self, what: &str, result: Result<T>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) if self.allows(&error) => None,
            Err(error) => panic!("{}: {what}: {error:?}", self.name),
        }
    }

    /// Returns the state that a key must have: what was acknowledged since the change, or what it
    /// had before if the change does not concern it. `None` if several answers are correct.
    fn correct(&self, key: &[u8]) -> Option<State> {
        match (self.expected(key), self.since.borrow().get(key)) {
            (Expected::Any, _) | (Expected::Degraded, None) => None,
            (Expected::Degraded, Some(_))
                if self.affected.redo_committed || self.affected.duplicated.contains(key) =>
            {
                None
            }
            (Expected::Degraded, Some(None)) if self.affected.rehashed => None,
            (_, Some(value)) => Some(value.clone()),
            (Expected::Exact, None) => Some(self.sample.value(key).cloned()),
        }
    }

    /// Checks what an operation returned for a key: a value, nothing, or an error.
    pub(crate) fn check_answer(&self, what: &str, key: &[u8], said: Result<State>) {
        let name = self.name;
        if self.expected(key) == Expected::Any {
            self.tolerate(what, said);
            return;
        }
        if let Some(right) = self.correct(key) {
            let said = said.unwrap_or_else(|error| panic!("{name}: {what} {key:?}: {error:?}"));
            assert!(
                said == right,
                "{name}: {what} {key:?}: {said:?} instead of {right:?}"
            );
            return;
        }
        if let Some(Some(value)) = self.tolerate(what, said) {
            let known = self.was_put(key, &value);
            assert!(known, "{name}: {what} {key:?}: {value:?} was never put");
        }
    }

    fn was_put(&self, key: &[u8], value: &[u8]) -> bool {
        let put = self
            .sample
            .history
            .get(key)
            .is_some_and(|values| values.iter().any(|known| known.as_deref() == Some(value)));
        let known = (key.to_vec(), Some(value.to_vec()));
        put || self.since.borrow().get(key) == Some(&known.1)
            || self.outdated.borrow().contains(&known)
    }

    /// Notes that from now on the files are opened by what their headers say, which may differ from
    /// when they were written.
    pub(crate) fn reopened(&self) {
        if self.affected.foreign_header {
            let since = std::mem::take(&mut *self.since.borrow_mut());
            self.outdated.borrow_mut().extend(since);
        }
    }

    /// All keys that were ever put, and one that never was.
    fn keys(&self) -> BTreeSet<Vec<u8>> {
        let mut keys: BTreeSet<Vec<u8>> = self.sample.history.keys().cloned().collect();
        keys.extend(self.since.borrow().keys().cloned());
        keys.extend(self.outdated.borrow().iter().map(|(key, _)| key.clone()));
        keys.insert(b"never put".to_vec());
        keys
    }

    fn get_many(&self, cache: &MmapCache) {
        let keys = Vec::from_iter(self.keys());
        let mut given = 0;
        let all = cache.get_many(&keys, |number, value| {
            given += 1;
            self.check_answer("get_many", &keys[number], Ok(value.map(<[u8]>::to_vec)));
        });
        if self.tolerate("get_many", all).is_some() {
            assert_eq!(given, keys.len(), "{}: get_many left keys out", self.name);
        }
    }

    /// Reads in every way.
    pub(crate) fn read_all(&self, cache: &MmapCache) {
        let mut buffer = b"what was there before".to_vec();
        for key in self.keys() {
            self.check_answer("get", &key, cache.get(&key));
            let into = cache
                .get_into(&key, &mut buffer)
                .map(|found| found.then(|| buffer.clone()));
            self.check_answer("get_into", &key, into);
            self.check_answer(
                "entry",
                &key,
                cache
                    .entry(&key)
                    .map(|e| e.map(mmapcache::Entry::into_value)),
            );
            self.check_answer("get_ref", &key, get_ref(cache, &key));
            self.index_only(cache, &key);
        }
        self.get_many(cache);
        self.list(cache);
        let _ = (
            cache.len(),
            cache.is_empty(),
            cache.change_count(),
            cache.path(),
        );
        self.tolerate("stats", cache.stats());
        self.tolerate("disk_usage", cache.disk_usage());
        self.tolerate("verify", cache.verify().run());
    }

    /// Checks what the index answers without reading the record.
    fn index_only(&self, cache: &MmapCache, key: &[u8]) {
        let (contains, mtime) = (cache.contains(key), cache.version(key));
        let untouched = !self.since.borrow().contains_key(key);
        if self.expected(key) == Expected::Exact && untouched {
            let version = self.sample.versions.get(key).copied();
            let seen = mtime
                .as_ref()
                .ok()
                .map(|mtime| mtime.map(Version::as_nanos));
            assert_eq!(seen, Some(version), "{}: mtime of {key:?}", self.name);
            let seen = contains.as_ref().ok();
            assert_eq!(
                seen,
                Some(&version.is_some()),
                "{}: contains {key:?}",
                self.name
            );
        }
        self.tolerate("contains", contains);
        self.tolerate("mtime", mtime);
    }

    /// Lists in every way.
    fn list(&self, cache: &MmapCache) {
        self.items("items", self.tolerate("items", cache.iter()));
        let entries = self.tolerate("entries", cache.entries());
        let pair = |(key, entry): (_, mmapcache::Entry)| (key, entry.into_value());
        self.items("entries", entries.map(|all| all.map(move |e| e.map(pair))));
        let borrowed = self.tolerate("items", cache.iter()).map(|mut items| {
            std::iter::from_fn(move || {
                let item = items.next_borrowed()?;
                Some(item.map(|(key, value)| (key.to_vec(), value.to_vec())))
            })
        });
        self.items("borrowed items", borrowed);
        self.keys_of("keys", self.tolerate("keys", cache.keys()));
        let borrowed = self.tolerate("keys", cache.keys()).map(|mut keys| {
            std::iter::from_fn(move || Some(keys.next_borrowed()?.map(|(key, _)| key.to_vec())))
        });
        self.keys_of("borrowed keys", borrowed);
        for _ in 0..2 {
            if let Some(drawn) = self.tolerate("random_key", cache.random_key()).flatten() {
                self.assert_known("random_key", &drawn);
            }
        }
    }

    fn items(
        &self,
        operation: &str,
        items: Option<impl Iterator<Item = Result<(Vec<u8>, Vec<u8>)>>>,
    ) {
        let keys = items.map(|items| {
            items.map(|item| {
                item.map(|(key, value)| {
                    self.listed(&key, &value);
                    key
                })
            })
        });
        self.check_listing(operation, keys);
    }

    fn keys_of(&self, operation: &str, keys: Option<impl Iterator<Item = Result<Vec<u8>>>>) {
        let keys = keys.map(|keys| {
            keys.inspect(|key| {
                if let Ok(key) = key {
                    self.assert_known(operation, key);
                }
            })
        });
        self.check_listing(operation, keys);
    }

    fn assert_known(&self, operation: &str, key: &[u8]) {
        let is_known = self.keys().contains(key) || self.affected.may_list(key);
        assert!(
            is_known,
            "{}: {operation} gives {key:?}, which was never put",
            self.name
        );
    }

    /// Compares a listing with what was put, as far as the change determines it.
    fn check_listing(&self, operation: &str, keys: Option<impl Iterator<Item = Result<Vec<u8>>>>) {
        let (mut seen, mut failed, mut count) = (BTreeSet::new(), keys.is_none(), 0);
        for key in keys.into_iter().flatten() {
            match self.tolerate(operation, key) {
                Some(key) => {
                    count += 1;
                    seen.insert(key);
                }
                None => failed = true,
            }
        }
        if self.exact.get() {
            assert_eq!(
                count,
                seen.len(),
                "{}: {operation} gives a key twice",
                self.name
            );
            let entries = self.sample.entries().map(|(key, _)| key);
            let all: BTreeSet<_> = entries.cloned().collect();
            assert!(
                seen.is_subset(&all),
                "{}: {operation} gives a deleted key",
                self.name
            );
            assert!(failed || seen == all, "{}: {operation} is short", self.name);
        }
        let can_tell = !self.affected.listing || (self.affected.one_byte && !failed);
        if can_tell && !self.affected.version {
            self.assert_complete(operation, &seen);
        }
    }

    pub(crate) fn listed(&self, key: &[u8], value: &[u8]) {
        if self.expected(key) != Expected::Any {
            let known = self.was_put(key, value);
            assert!(known, "{}: listed {key:?} with {value:?}", self.name);
        }
    }

    /// If the change concerns nothing that a listing uses, the listing must have every unaffected
    /// entry.
    fn assert_complete(&self, what: &str, seen: &BTreeSet<Vec<u8>>) {
        for key in self.sample.entries().map(|(key, _)| key) {
            let sound = self.expected(key) == Expected::Exact;
            if sound && !self.since.borrow().contains_key(key) {
                assert!(seen.contains(key), "{}: {what} without {key:?}", self.name);
            }
        }
        for (key, value) in self.since.borrow().iter() {
            if self.expected(key) != Expected::Any {
                assert_eq!(
                    seen.contains(key),
                    value.is_some(),
                    "{}: {what} {key:?}",
                    self.name
                );
            }
        }
    }

    fn put(&self, cache: &MmapCache, key: &[u8], value: &[u8]) {
        let put = cache.put(key, value);
        // If syncing fails, the value is stored nevertheless.
        let stored = matches!(
            put.as_ref().map_err(Error::kind),
            Ok(_) | Err(ErrorKind::SyncFailed)
        );
        self.tolerate("put", put);
        self.note(key, stored.then_some(Some(value)));
    }

    fn delete(&self, cache: &MmapCache, key: &[u8]) {
        let deleted = cache.delete(key);
        // Nothing is written if a file has another version or a segment is missing.
        let refused = matches!(
            deleted.as_ref().map_err(Error::kind),
            Err(ErrorKind::UnsupportedVersion { .. } | ErrorKind::HeapMissing { .. })
        );
        let said = format!("{deleted:?}");
        let deleted = self.tolerate("delete", deleted);
        if let Some(right) = self.correct(key).filter(|_| !refused) {
            assert_eq!(
                deleted,
                Some(right.is_some()),
                "{}: delete gave {said}, key {key:?}",
                self.name
            );
        }
        // A key that was not found was not deleted: it may return once the index is repaired.
        self.note(key, deleted.filter(|&found| found).map(|_| None));
    }

    /// Notes that a key now has another value, or none; or, for `None`, that the change failed.
    fn note(&self, key: &[u8], done: Option<Option<&[u8]>>) {
        if let Some(value) = done {
            self.since
                .borrow_mut()
                .insert(key.to_vec(), value.map(<[u8]>::to_vec));
        }
    }

    /// Changes one entry in every way.
    fn change(&self, cache: &MmapCache) {
        for number in [0, 2, 6, 11, 16, 28] {
            self.put(
                cache,
                &key(number),
                format!("after the damage {number}").as_bytes(),
            );
        }
        self.put(cache, &key(29), &[29; 3_000]);
        self.put(cache, b"new", b"");
        for number in [1, 19, 23] {
            self.delete(cache, &key(number));
        }
        let inserted = self.tolerate("insert", cache.insert_if_absent(b"absent", b"inserted"));
        self.note(b"absent", inserted.map(|_| Some(&b"inserted"[..])));
        for number in [4, 13] {
            self.conditional(cache, &key(number));
        }
        let key = key(26);
        let mut seen = None;
        let updated = cache.update(&key, |entry| {
            seen = entry.map(|entry| entry.value().to_vec());
            Update::Put(b"updated".to_vec())
        });
        if self.tolerate("update", updated).is_some() {
            self.check_answer("what an update saw", &key, Ok(seen));
            self.note(&key, Some(Some(b"updated")));
        }
    }

    /// Changes an entry on condition of its version.
    fn conditional(&self, cache: &MmapCache, key: &[u8]) {
        let seen = self.tolerate("entry", cache.entry(key)).flatten();
        let Some(version) = seen.map(|entry| entry.version()) else {
            return;
        };
        let wrong = Version::from_nanos(version.as_nanos() ^ 1);
        let refused = self.tolerate("delete_if", cache.delete_if(key, wrong));
        assert!(
            refused != Some(true),
            "{}: deleted under another version",
            self.name
        );
        let done = self.tolerate("put_if", cache.put_if(key, b"put if", version));
        match done {
            Some(Some(version)) => {
                self.note(key, Some(Some(b"put if")));
                let deleted = self.tolerate("delete_if", cache.delete_if(key, version));
                assert!(
                    deleted != Some(false),
                    "{}: its own version is unknown",
                    self.name
                );
                self.note(key, deleted.map(|_| None));
            }
            Some(None) => panic!("{}: the version of {key:?} changed by itself", self.name),
            None => {}
        }
    }

    /// Changes entries in a batch, with enough new keys to split regions and begin segments.
    fn batch(&self, cache: &MmapCache) {
        let Some(mut writer) = self.tolerate("writer", cache.writer()) else {
            return;
        };
        for number in 0..24_u8 {
            let (key, value) = ([0xf0, number, 1], vec![number; 40 * usize::from(number)]);
            let done = self.tolerate("put in a batch", writer.put(&key, &value));
            self.note(&key, done.map(|_| Some(&value[..])));
            let entry = writer
                .entry(&key)
                .map(|entry| entry.map(mmapcache::Entry::into_value));
            self.check_answer("entry in a batch", &key, entry);
        }
        let done = self.tolerate("delete in a batch", writer.delete(&[0xf0, 3, 1]));
        self.note(&[0xf0, 3, 1], done.map(|_| None));
        self.tolerate("commit", writer.commit());
    }

    /// Replaces everything, which removes all damage.
    fn replace(&self, cache: &MmapCache) {
        let items = [(&b"one"[..], &b"1"[..]), (b"two", b"")];
        let all = items.map(Ok::<_, std::convert::Infallible>);
        if self
            .tolerate("atomic_rebuild", cache.atomic_rebuild(all))
            .is_some()
        {
            self.assert_contents(cache, &items);
        }
        if self.tolerate("clear", cache.clear()).is_some() {
            self.assert_contents(cache, &[]);
            cache
                .put(b"three", b"3")
                .unwrap_or_else(|error| panic!("{}: {error:?}", self.name));
            self.assert_contents(cache, &[(b"three", b"3")]);
        }
    }

    /// Asserts that a cache that was just replaced holds exactly these entries and verifies clean.
    fn assert_contents(&self, cache: &MmapCache, items: &[(&[u8], &[u8])]) {
        let name = self.name;
        let listed: Vec<_> = cache
            .iter()
            .expect(name)
            .map(|item| item.expect(name))
            .collect();
        assert_eq!(listed.len(), items.len(), "{name}: {listed:?}");
        for (key, value) in items {
            assert_eq!(
                cache.get(key).expect(name).as_deref(),
                Some(*value),
                "{name}"
            );
        }
        assert_eq!(cache.len() as usize, items.len(), "{name}");
        let report = cache.verify().run().expect(name);
        assert!(
            report.is_clean(),
            "{name}: after replacing everything: {:?}",
            report.problems
        );
    }
}

#[expect(unsafe_code, reason = "it is a public operation like the others")]
fn get_ref(cache: &MmapCache, key: &[u8]) -> Result<Option<Vec<u8>>> {
    // SAFETY: only this thread writes to the files while this runs, through this crate.
    let found = unsafe { cache.get_ref(key) }?;
    Ok(found.map(|value| {
        let _ = value.version();
        value.to_vec()
    }))
}
