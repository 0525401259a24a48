//! Every public operation on a cache whose files were changed, and a judge of its answers.
//!
//! Allowed are the right answer, a miss, an error that says that the files are damaged, and the few
//! other errors that are the plain truth; see [`Judge::allows`]. How right an answer must be is
//! known by the change's [`Reach`].

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

#[cfg(feature = "inspect")]
use mmapcache::inspect::CacheFiles;
use mmapcache::{Durability, Error, ErrorKind, MmapCache, Options, Result, Update, Version};

use super::reach::{Reach, Trust};
use super::specimen::{Specimen, key};

/// The longest that an operation may wait for a lock that nobody holds.
const PATIENCE: Duration = Duration::from_secs(5);

/// A key's value, or that it has none.
type State = Option<Vec<u8>>;

/// Knows what was put, before the change and after it, and how far the change reaches.
#[derive(Debug)]
pub(crate) struct Judge<'a> {
    specimen: &'a Specimen,
    reach: &'a Reach,
    /// Named in every complaint.
    name: &'a str,
    /// What was acknowledged since the change: it must be there whatever was damaged before.
    since: RefCell<BTreeMap<Vec<u8>, State>>,
    /// What was acknowledged before that, or under a header that does not count any more.
    outdated: RefCell<BTreeSet<(Vec<u8>, State)>>,
    /// Whether nobody can have mended anything yet: then each listing is all that was there, or has
    /// an error.
    exact: Cell<bool>,
}

/// Opens for writing, without a wish as to the geometry.
pub(crate) fn writable() -> Options {
    let mut options = Options::new();
    options
        .lock_timeout(Some(PATIENCE))
        .compaction_threshold(50, 1024);
    options
}

pub(crate) fn read_only() -> Options {
    let mut options = Options::new();
    options.read_only(true);
    options
}

impl<'a> Judge<'a> {
    pub(crate) fn new(specimen: &'a Specimen, reach: &'a Reach, name: &'a str) -> Self {
        Self {
            specimen,
            reach,
            name,
            since: RefCell::default(),
            outdated: RefCell::default(),
            exact: Cell::new(false),
        }
    }

    /// Everything there is to do with the cache at `path`: looking, from outside and by a handle
    /// that only reads, then writing, then looking again.
    pub(crate) fn all(&self, path: &Path) {
        self.outside(path);
        if let Some(cache) = self.tolerate("open to read", read_only().open(path)) {
            self.exact.set(self.reach.one_byte);
            self.look(&cache);
            self.exact.set(false);
        }
        self.write(path);
        self.outside(path);
    }

    /// Writing, by handles that are opened one after the other, and looking in between.
    pub(crate) fn write(&self, path: &Path) {
        let Some(cache) = self.tolerate("open to write", writable().open(path)) else {
            return;
        };
        self.look(&cache);
        self.work(&cache);
        drop(cache);
        if let Some(cache) = self.tolerate("open to read", read_only().open(path)) {
            self.look(&cache);
        }
        let exclusive = writable()
            .exclusive(true)
            .durability(Durability::Sync)
            .open(path);
        if let Some(cache) = self.tolerate("open alone", exclusive) {
            self.put(&cache, &key(1), b"put by the only one");
            self.look(&cache);
            self.replace(&cache);
        }
    }

    /// Every way of changing, and looking in between.
    pub(crate) fn work(&self, cache: &MmapCache) {
        self.change(cache);
        self.batch(cache);
        self.look(cache);
        self.tolerate("flush", cache.flush());
        self.tolerate("compact", cache.compact());
        self.look(cache);
    }

    /// Looking from outside: nothing in a file is an error there.
    fn outside(&self, path: &Path) {
        #[cfg(not(feature = "inspect"))]
        let _ = path;
        #[cfg(feature = "inspect")]
        if let Some(files) = self.tolerate("headers", CacheFiles::open(path, None)) {
            let count = files.problems().len();
            assert!(count <= 100, "{}: {count} problems", self.name);
        }
    }

    /// Whether an operation may fail like this.
    pub(crate) fn allows(&self, error: &Error) -> bool {
        match error.kind() {
            // Its number is part of what was changed.
            ErrorKind::UnsupportedVersion { .. } => self.reach.version,
            // Where there is no index, one may be asked for, or made: but not over what is there.
            ErrorKind::NotFound => self.reach.no_index,
            ErrorKind::AlreadyExists => self.reach.no_index || self.reach.foreign,
            ErrorKind::HeapMissing { .. } => self.reach.lacks_segment,
            ErrorKind::SyncFailed => self.reach.sync_failed,
            ErrorKind::TableFull { .. } => self.reach.limited,
            ErrorKind::AppendOnly => self.reach.append_only,
            _ => error.is_corruption(),
        }
    }

    fn trust(&self, key: &[u8]) -> Trust {
        self.reach.trust(self.specimen, key)
    }

    fn tolerate<T>(&self, what: &str, result: Result<T>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) if self.allows(&error) => None,
            Err(error) => panic!("{}: {what}: {error:?}", self.name),
        }
    }

    /// What a key must have: what was acknowledged since the change, or what it had before if the
    /// change does not concern it. None where several answers are right.
    fn right(&self, key: &[u8]) -> Option<State> {
        match (self.trust(key), self.since.borrow().get(key)) {
            (Trust::Forged, _) | (Trust::Shaken, None) => None,
            (Trust::Shaken, Some(_)) if self.reach.armed || self.reach.doubled.contains(key) => {
                None
            }
            (Trust::Shaken, Some(None)) if self.reach.rehashed => None,
            (_, Some(value)) => Some(value.clone()),
            (Trust::Sound, None) => Some(self.specimen.value(key).cloned()),
        }
    }

    /// Judges what an operation says a key has: a value, nothing, or an error.
    pub(crate) fn judge(&self, what: &str, key: &[u8], said: Result<State>) {
        let name = self.name;
        if self.trust(key) == Trust::Forged {
            self.tolerate(what, said);
            return;
        }
        if let Some(right) = self.right(key) {
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
            .specimen
            .history
            .get(key)
            .is_some_and(|values| values.iter().any(|known| known.as_deref() == Some(value)));
        let known = (key.to_vec(), Some(value.to_vec()));
        put || self.since.borrow().get(key) == Some(&known.1)
            || self.outdated.borrow().contains(&known)
    }

    /// From now on the files are opened by what their headers say, which may be something else than
    /// when they were written to.
    pub(crate) fn reopened(&self) {
        if self.reach.estranged {
            let since = std::mem::take(&mut *self.since.borrow_mut());
            self.outdated.borrow_mut().extend(since);
        }
    }

    /// All keys that were ever put, and one that never was.
    fn keys(&self) -> BTreeSet<Vec<u8>> {
        let mut keys: BTreeSet<Vec<u8>> = self.specimen.history.keys().cloned().collect();
        keys.extend(self.since.borrow().keys().cloned());
        keys.extend(self.outdated.borrow().iter().map(|(key, _)| key.clone()));
        keys.insert(b"never put".to_vec());
        keys
    }

    fn look_at_many(&self, cache: &MmapCache) {
        let keys = Vec::from_iter(self.keys());
        let mut given = 0;
        let all = cache.get_many(&keys, |number, value| {
            given += 1;
            self.judge("get_many", &keys[number], Ok(value.map(<[u8]>::to_vec)));
        });
        if self.tolerate("get_many", all).is_some() {
            assert_eq!(given, keys.len(), "{}: get_many left keys out", self.name);
        }
    }

    /// Every way of reading.
    pub(crate) fn look(&self, cache: &MmapCache) {
        let mut buffer = b"what was there before".to_vec();
        for key in self.keys() {
            self.judge("get", &key, cache.get(&key));
            let into = cache
                .get_into(&key, &mut buffer)
                .map(|found| found.then(|| buffer.clone()));
            self.judge("get_into", &key, into);
            self.judge(
                "entry",
                &key,
                cache
                    .entry(&key)
                    .map(|e| e.map(mmapcache::Entry::into_value)),
            );
            self.judge("get_ref", &key, in_place(cache, &key));
            self.index_only(cache, &key);
        }
        self.look_at_many(cache);
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

    /// What the index answers without looking at the record.
    fn index_only(&self, cache: &MmapCache, key: &[u8]) {
        let (contains, mtime) = (cache.contains(key), cache.version(key));
        let untouched = !self.since.borrow().contains_key(key);
        if self.trust(key) == Trust::Sound && untouched {
            let version = self.specimen.versions.get(key).copied();
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

    /// Every way of listing.
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
                self.known("random_key", &drawn);
            }
        }
    }

    fn items(&self, door: &str, items: Option<impl Iterator<Item = Result<(Vec<u8>, Vec<u8>)>>>) {
        let keys = items.map(|items| {
            items.map(|item| {
                item.map(|(key, value)| {
                    self.listed(&key, &value);
                    key
                })
            })
        });
        self.compared(door, keys);
    }

    fn keys_of(&self, door: &str, keys: Option<impl Iterator<Item = Result<Vec<u8>>>>) {
        let keys = keys.map(|keys| {
            keys.inspect(|key| {
                if let Ok(key) = key {
                    self.known(door, key);
                }
            })
        });
        self.compared(door, keys);
    }

    fn known(&self, door: &str, key: &[u8]) {
        let is_known = self.keys().contains(key) || self.reach.allows_strange(key);
        assert!(
            is_known,
            "{}: {door} gives {key:?}, which was never put",
            self.name
        );
    }

    /// Compares a listing with what was put, where the change lets it be known.
    fn compared(&self, door: &str, keys: Option<impl Iterator<Item = Result<Vec<u8>>>>) {
        let (mut seen, mut failed, mut count) = (BTreeSet::new(), keys.is_none(), 0);
        for key in keys.into_iter().flatten() {
            match self.tolerate(door, key) {
                Some(key) => {
                    count += 1;
                    seen.insert(key);
                }
                None => failed = true,
            }
        }
        if self.exact.get() {
            assert_eq!(count, seen.len(), "{}: {door} gives a key twice", self.name);
            let entries = self.specimen.entries().map(|(key, _)| key);
            let all: BTreeSet<_> = entries.cloned().collect();
            assert!(
                seen.is_subset(&all),
                "{}: {door} gives a deleted key",
                self.name
            );
            assert!(failed || seen == all, "{}: {door} is short", self.name);
        }
        let can_tell = !self.reach.listing || (self.reach.one_byte && !failed);
        if can_tell && !self.reach.version {
            self.complete(door, &seen);
        }
    }

    pub(crate) fn listed(&self, key: &[u8], value: &[u8]) {
        if self.trust(key) != Trust::Forged {
            let known = self.was_put(key, value);
            assert!(known, "{}: listed {key:?} with {value:?}", self.name);
        }
    }

    /// Where nothing that a listing goes by was changed, no sound entry may be left out.
    fn complete(&self, what: &str, seen: &BTreeSet<Vec<u8>>) {
        for key in self.specimen.entries().map(|(key, _)| key) {
            let sound = self.trust(key) == Trust::Sound;
            if sound && !self.since.borrow().contains_key(key) {
                assert!(seen.contains(key), "{}: {what} without {key:?}", self.name);
            }
        }
        for (key, value) in self.since.borrow().iter() {
            if self.trust(key) != Trust::Forged {
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
        // Where syncing fails, the value is stored all the same.
        let stored = matches!(
            put.as_ref().map_err(Error::kind),
            Ok(_) | Err(ErrorKind::SyncFailed)
        );
        self.tolerate("put", put);
        self.settle(key, stored.then_some(Some(value)));
    }

    fn delete(&self, cache: &MmapCache, key: &[u8]) {
        let deleted = cache.delete(key);
        // Nothing is written where a file is of another version, or a segment is missing.
        let refused = matches!(
            deleted.as_ref().map_err(Error::kind),
            Err(ErrorKind::UnsupportedVersion { .. } | ErrorKind::HeapMissing { .. })
        );
        let said = format!("{deleted:?}");
        let deleted = self.tolerate("delete", deleted);
        if let Some(right) = self.right(key).filter(|_| !refused) {
            assert_eq!(
                deleted,
                Some(right.is_some()),
                "{}: delete gave {said}, key {key:?}",
                self.name
            );
        }
        // What was not found was not deleted: it may be found again, once the index is mended.
        self.settle(key, deleted.filter(|&found| found).map(|_| None));
    }

    /// Notes that a key has another value, or none, from now on; or that this failed.
    fn settle(&self, key: &[u8], done: Option<Option<&[u8]>>) {
        if let Some(value) = done {
            self.since
                .borrow_mut()
                .insert(key.to_vec(), value.map(<[u8]>::to_vec));
        }
    }

    /// Every way of changing one entry.
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
        self.settle(b"absent", inserted.map(|_| Some(&b"inserted"[..])));
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
            self.judge("what an update saw", &key, Ok(seen));
            self.settle(&key, Some(Some(b"updated")));
        }
    }

    /// Changes that depend on the version.
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
                self.settle(key, Some(Some(b"put if")));
                let deleted = self.tolerate("delete_if", cache.delete_if(key, version));
                assert!(
                    deleted != Some(false),
                    "{}: its own version is unknown",
                    self.name
                );
                self.settle(key, deleted.map(|_| None));
            }
            Some(None) => panic!("{}: the version of {key:?} changed by itself", self.name),
            None => {}
        }
    }

    /// A batch under one lock: enough new keys to split regions and begin segments.
    fn batch(&self, cache: &MmapCache) {
        let Some(mut writer) = self.tolerate("writer", cache.writer()) else {
            return;
        };
        for number in 0..24_u8 {
            let (key, value) = ([0xf0, number, 1], vec![number; 40 * usize::from(number)]);
            let done = self.tolerate("put in a batch", writer.put(&key, &value));
            self.settle(&key, done.map(|_| Some(&value[..])));
            let entry = writer
                .entry(&key)
                .map(|entry| entry.map(mmapcache::Entry::into_value));
            self.judge("entry in a batch", &key, entry);
        }
        let done = self.tolerate("delete in a batch", writer.delete(&[0xf0, 3, 1]));
        self.settle(&[0xf0, 3, 1], done.map(|_| None));
        self.tolerate("commit", writer.commit());
    }

    /// Replacing everything, which leaves no damage behind.
    fn replace(&self, cache: &MmapCache) {
        let items = [(&b"one"[..], &b"1"[..]), (b"two", b"")];
        let all = items.map(Ok::<_, std::convert::Infallible>);
        if self
            .tolerate("atomic_rebuild", cache.atomic_rebuild(all))
            .is_some()
        {
            self.holds(cache, &items);
        }
        if self.tolerate("clear", cache.clear()).is_some() {
            self.holds(cache, &[]);
            cache
                .put(b"three", b"3")
                .unwrap_or_else(|error| panic!("{}: {error:?}", self.name));
            self.holds(cache, &[(b"three", b"3")]);
        }
    }

    /// A cache that was just replaced holds these entries, nothing else, and nothing is wrong.
    fn holds(&self, cache: &MmapCache, items: &[(&[u8], &[u8])]) {
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
fn in_place(cache: &MmapCache, key: &[u8]) -> Result<Option<Vec<u8>>> {
    // SAFETY: nobody writes to the files while this runs but this thread, by the crate's means.
    let found = unsafe { cache.get_ref(key) }?;
    Ok(found.map(|value| {
        let _ = value.version();
        value.to_vec()
    }))
}
