//! A map with the contents that a cache must have.

use std::collections::{BTreeMap, BTreeSet};

use mmapcache::{MmapCache, Version};

/// Each key's value and version.
pub type Contents = BTreeMap<Vec<u8>, (Vec<u8>, Version)>;

/// What a change in flight does when it commits. Versions are only known then.
#[derive(Clone, Debug)]
pub enum Effect {
    Put(Vec<u8>, Vec<u8>),
    Delete(Vec<u8>),
    Replace(BTreeMap<Vec<u8>, Vec<u8>>),
}

/// A map that makes the same changes as a cache.
#[derive(Clone, Debug)]
pub struct Model {
    pub contents: Contents,
    /// A change that began and is not yet acknowledged.
    pub begun: Option<Effect>,
    /// Every key that ever had an entry.
    pub known: BTreeSet<Vec<u8>>,
    newest: Version,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            contents: Contents::new(),
            begun: None,
            known: BTreeSet::new(),
            newest: Version::from_nanos(0),
        }
    }
}

impl Model {
    pub fn value(&self, key: &[u8]) -> Option<&[u8]> {
        self.contents.get(key).map(|(value, _)| &value[..])
    }

    /// Returns the version of a key's entry or, if `right` is false, one that no entry has.
    pub fn version(&self, key: &[u8], right: bool) -> Version {
        let known = self.contents.get(key).filter(|_| right);
        known.map_or(Version::from_nanos(1), |(_, version)| *version)
    }

    /// Notes that a value was stored with this version.
    pub fn put(&mut self, key: Vec<u8>, value: Vec<u8>, version: Version) {
        assert!(version > self.newest, "versions only grow");
        self.newest = version;
        self.begun = None;
        self.known.insert(key.clone());
        self.contents.insert(key, (value, version));
    }

    pub fn delete(&mut self, key: &[u8]) {
        self.begun = None;
        self.contents.remove(key);
    }

    /// Notes that the change in flight has happened, with the versions of a listing.
    pub fn finish(&mut self, listed: &Contents) {
        let version = |key: &Vec<u8>| listed.get(key).map(|(_, version)| *version);
        match self.begun.take() {
            None => {}
            Some(Effect::Delete(key)) => self.delete(&key),
            Some(Effect::Put(key, value)) => {
                let version = version(&key).expect("a key that was put is listed");
                self.put(key, value, version);
            }
            Some(Effect::Replace(items)) => {
                let before = self.newest;
                self.contents.clear();
                for (key, value) in items {
                    let version = version(&key).expect("a key of a rebuild is listed");
                    assert!(version > before, "a rebuild gives new versions");
                    self.newest = self.newest.max(version);
                    self.known.insert(key.clone());
                    self.contents.insert(key, (value, version));
                }
            }
        }
    }

    /// Asserts that the listing has all acknowledged changes, and all or nothing of the change in
    /// flight. A change that was seen stays.
    pub fn settle(&mut self, listed: &Contents) {
        if *listed != self.contents {
            self.finish(listed);
        }
        assert_eq!(*listed, self.contents);
    }
}

/// Returns what a cache lists; all ways of listing and reading must agree on it.
pub fn contents(cache: &MmapCache) -> Contents {
    let mut listed = Contents::new();
    for entry in cache.entries().expect("a listing") {
        let (key, entry) = entry.expect("an entry");
        let version = entry.version();
        assert_eq!(
            cache.get(&key).expect("a lookup").as_deref(),
            Some(entry.value())
        );
        assert_eq!(cache.version(&key).expect("a lookup"), Some(version));
        assert!(cache.contains(&key).expect("a lookup"));
        let before = listed.insert(key, (entry.into_value(), version));
        assert!(before.is_none(), "a key is listed twice");
    }
    let mut keys: Vec<_> = cache
        .keys()
        .expect("a listing")
        .map(|key| key.expect("a key"))
        .collect();
    keys.sort();
    assert!(
        keys.iter().eq(listed.keys()),
        "keys and entries are not the same"
    );
    listed
}
