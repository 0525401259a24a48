//! Random operations on a cache and on a map, which must agree after each of them.

use std::collections::HashMap;

use proptest::prelude::*;
use proptest::sample::Index;

use crate::engine::tests::*;

#[derive(Clone, Debug)]
enum Operation {
    Put(Index, usize),
    Batch(Vec<(Index, usize)>),
    Delete(Index),
    InsertIfAbsent(Index, usize),
    PutIf(Index, usize, bool),
    DeleteIf(Index, bool),
    Append(Index),
    List,
    Rebuild(usize),
    Compact,
    Clear,
    Flush,
    Reopen,
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let len = prop_oneof![6 => 0_usize..40, 3 => 200_usize..300, 1 => 4_000_usize..9_000];
    let key = any::<Index>();
    let operation = prop_oneof![
        30 => (key.clone(), len.clone()).prop_map(|(key, len)| Operation::Put(key, len)),
        10 => prop::collection::vec((key.clone(), len.clone()), 1..40).prop_map(Operation::Batch),
        20 => key.clone().prop_map(Operation::Delete),
        5 => (key.clone(), len.clone()).prop_map(|(key, len)| Operation::InsertIfAbsent(key, len)),
        5 => (key.clone(), len.clone(), any::<bool>()).prop_map(|(key, len, right)| Operation::PutIf(key, len, right)),
        5 => (key.clone(), any::<bool>()).prop_map(|(key, right)| Operation::DeleteIf(key, right)),
        5 => key.prop_map(Operation::Append),
        4 => Just(Operation::List),
        1 => (0_usize..60).prop_map(Operation::Rebuild),
        2 => Just(Operation::Compact),
        1 => Just(Operation::Clear),
        1 => Just(Operation::Flush),
        4 => Just(Operation::Reopen),
    ];
    prop::collection::vec(operation, 1..120)
}

/// Keys of all lengths around the inline length, most with the same beginning.
fn keys() -> Vec<Vec<u8>> {
    let mut keys: Vec<_> = (0..80_u32)
        .map(|i| format!("the same beginning {i}").into_bytes())
        .collect();
    keys.extend((1..40).map(|len| vec![0; len]));
    keys.extend((0..40_u8).map(|i| vec![i; 1 + usize::from(i) * 9]));
    keys
}

struct Model {
    scratch: Scratch,
    options: Options,
    cache: Option<MmapCache>,
    expected: HashMap<Vec<u8>, (Vec<u8>, Version)>,
    newest: Version,
    written: u8,
    keys: Vec<Vec<u8>>,
}

impl Model {
    fn new(options: Options) -> Self {
        let scratch = Scratch::new();
        let cache = Some(scratch.open(&options));
        let newest = Version::from_nanos(0);
        Self {
            scratch,
            options,
            cache,
            expected: HashMap::new(),
            newest,
            written: 0,
            keys: keys(),
        }
    }

    fn cache(&self) -> &MmapCache {
        self.cache.as_ref().unwrap()
    }

    fn value(&mut self, len: usize) -> Vec<u8> {
        self.written = self.written.wrapping_add(1);
        vec![self.written; len]
    }

    fn note(&mut self, key: &[u8], value: Vec<u8>, version: Version) {
        assert!(version > self.newest, "versions only grow");
        self.newest = version;
        self.expected.insert(key.to_vec(), (value, version));
    }

    fn seen(&self, key: &[u8], right: bool) -> Version {
        match self.expected.get(key) {
            Some((_, version)) if right => *version,
            _ => Version::from_nanos(1),
        }
    }

    /// Whether the cache is append-only and the operation would change an entry, and so is refused.
    fn refuses(&mut self, operation: &Operation) -> bool {
        if self.options.append_only != Some(true) {
            return false;
        }
        let cache = self.cache();
        let is_there = |key: &Index| self.expected.contains_key(&self.key(key));
        let refused = match operation {
            Operation::Put(key, len) if is_there(key) => {
                cache.put(&self.key(key), &vec![0; *len]).err()
            }
            Operation::Append(key) if is_there(key) => {
                let put = |_: Option<&Entry>| Update::Put(b"+".to_vec());
                cache.update(&self.key(key), put).err()
            }
            Operation::Delete(key) => cache.delete(&self.key(key)).err(),
            Operation::PutIf(key, len, right) => {
                let (key, value) = (self.key(key), vec![0; *len]);
                cache.put_if(&key, &value, self.seen(&key, *right)).err()
            }
            Operation::DeleteIf(key, right) => {
                let key = self.key(key);
                cache.delete_if(&key, self.seen(&key, *right)).err()
            }
            Operation::Rebuild(_) => cache
                .writer()
                .unwrap()
                .atomic_rebuild(cache.iter().unwrap())
                .err(),
            Operation::Clear => cache.clear().err(),
            _ => return false,
        };
        assert!(
            matches!(
                refused.as_ref().map(crate::Error::kind),
                Some(crate::ErrorKind::AppendOnly)
            ),
            "{operation:?}: {refused:?}"
        );
        true
    }

    fn apply(&mut self, operation: Operation) {
        if self.refuses(&operation) {
            return;
        }
        match operation {
            Operation::Put(key, len) => {
                let (key, value) = (self.key(&key), self.value(len));
                let version = self.cache().put(&key, &value).unwrap();
                self.note(&key, value, version);
            }
            Operation::Batch(items) => self.batch(&items),
            Operation::Delete(key) => {
                let key = self.key(&key);
                let deleted = self.cache().delete(&key).unwrap();
                assert_eq!(deleted, self.expected.remove(&key).is_some());
            }
            Operation::InsertIfAbsent(key, len) => {
                let (key, value) = (self.key(&key), self.value(len));
                match self.cache().insert_if_absent(&key, &value).unwrap() {
                    Some(version) => {
                        assert!(!self.expected.contains_key(&key));
                        self.note(&key, value, version);
                    }
                    None => assert!(self.expected.contains_key(&key)),
                }
            }
            Operation::PutIf(key, len, right) => {
                let (key, value) = (self.key(&key), self.value(len));
                match self
                    .cache()
                    .put_if(&key, &value, self.seen(&key, right))
                    .unwrap()
                {
                    Some(version) => {
                        assert!(right && self.expected.contains_key(&key));
                        self.note(&key, value, version);
                    }
                    None => assert!(!right || !self.expected.contains_key(&key)),
                }
            }
            Operation::DeleteIf(key, right) => {
                let key = self.key(&key);
                let deleted = self
                    .cache()
                    .delete_if(&key, self.seen(&key, right))
                    .unwrap();
                assert_eq!(deleted, right && self.expected.contains_key(&key));
                if deleted {
                    self.expected.remove(&key);
                }
            }
            Operation::Append(key) => self.append(&key),
            Operation::List => self.compare_listing(),
            Operation::Rebuild(count) => self.rebuild(count),
            Operation::Compact => self.cache().compact().unwrap(),
            Operation::Clear => {
                self.cache().clear().unwrap();
                self.expected.clear();
            }
            Operation::Flush => self.cache().flush().unwrap(),
            Operation::Reopen => {
                self.cache = None;
                self.cache = Some(self.scratch.open(&self.options));
            }
        }
    }

    fn batch(&mut self, items: &[(Index, usize)]) {
        let items: Vec<_> = items
            .iter()
            .map(|(key, len)| (self.key(key), self.value(*len)))
            .collect();
        let cache = self.cache.take().unwrap();
        let mut writer = cache.writer().unwrap();
        for (key, value) in items {
            let stays = self.options.append_only == Some(true) && self.expected.contains_key(&key);
            match writer.put(&key, &value) {
                Ok(version) if !stays => self.note(&key, value, version),
                Err(error) if matches!(error.kind(), crate::ErrorKind::AppendOnly) && stays => {}
                other => panic!("{other:?}"),
            }
        }
        writer.commit().unwrap();
        self.cache = Some(cache);
    }

    fn append(&mut self, key: &Index) {
        let key = self.key(key);
        let mut grown = self
            .expected
            .get(&key)
            .map(|(value, _)| value.clone())
            .unwrap_or_default();
        grown.truncate(1_000);
        grown.push(b'+');
        let put = grown.clone();
        assert!(self.cache().update(&key, |_| Update::Put(put)).unwrap());
        let version = self.cache().version(&key).unwrap().unwrap();
        self.note(&key, grown, version);
    }

    fn key(&self, index: &Index) -> Vec<u8> {
        index.get(&self.keys).clone()
    }

    fn rebuild(&mut self, count: usize) {
        let items: Vec<_> = (0..count)
            .map(|i| (self.keys[i * 3 % self.keys.len()].clone(), self.value(i)))
            .collect();
        self.cache()
            .atomic_rebuild(
                items
                    .iter()
                    .map(Ok::<_, crate::Error>)
                    .map(|item| item.map(|(k, v)| (k, v))),
            )
            .unwrap();
        self.expected.clear();
        for (key, value) in items {
            self.expected.insert(key, (value, Version::from_nanos(0)));
        }
        let entries: Vec<_> = self
            .cache()
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap())
            .collect();
        let before = self.newest;
        for (key, entry) in entries {
            assert!(entry.version() > before, "a rebuild gives new versions");
            self.newest = self.newest.max(entry.version());
            self.expected.get_mut(&key).unwrap().1 = entry.version();
        }
    }

    fn compare_listing(&self) {
        let mut listed = HashMap::new();
        for entry in self.cache().entries().unwrap() {
            let (key, entry) = entry.unwrap();
            let version = entry.version();
            assert!(
                listed.insert(key, (entry.into_value(), version)).is_none(),
                "listed twice"
            );
        }
        assert_eq!(listed, self.expected);
        let mut keys: Vec<_> = self
            .cache()
            .keys()
            .unwrap()
            .map(|key| key.unwrap())
            .collect();
        let mut expected: Vec<_> = self.expected.keys().cloned().collect();
        keys.sort();
        expected.sort();
        assert_eq!(keys, expected);
    }

    fn compare(&self) {
        let cache = self.cache();
        assert_eq!(cache.len(), self.expected.len() as u64);
        for key in &self.keys {
            let expected = self.expected.get(key);
            assert_eq!(
                cache.get(key).unwrap().as_ref(),
                expected.map(|(value, _)| value)
            );
            assert_eq!(cache.contains(key).unwrap(), expected.is_some());
            assert_eq!(
                cache.version(key).unwrap(),
                expected.map(|(_, version)| *version)
            );
        }
        let mut numbers = Vec::new();
        let each = |number: usize, value: Option<&[u8]>| {
            let expected = self.expected.get(&self.keys[number]);
            assert_eq!(value, expected.map(|(value, _)| &value[..]));
            numbers.push(number);
        };
        cache.get_many(&self.keys, each).unwrap();
        assert_eq!(numbers, (0..self.keys.len()).collect::<Vec<_>>());
        self.compare_listing();
        assert_clean(cache);
    }
}

fn run(options: Options, operations: Vec<Operation>) {
    let mut model = Model::new(options);
    for operation in operations {
        model.apply(operation);
    }
    model.compare();
}

fn cases(count: u32) -> ProptestConfig {
    let count = std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok())
        .unwrap_or(count);
    ProptestConfig {
        cases: count,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(cases(96))]

    #[test]
    fn tiny_cache_behaves_like_a_map(operations in operations()) {
        run(tiny(), operations);
    }

    #[test]
    fn append_only_cache_behaves_like_map(operations in operations()) {
        let mut options = tiny();
        options.append_only(true);
        run(options, operations);
    }

    // S2: each entry is found, whatever was deleted on the way to it.
    #[test]
    fn colliding_cache_behaves_like_a_map(operations in operations()) {
        run(colliding(), operations);
    }
}
