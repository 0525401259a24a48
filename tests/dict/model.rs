//! Random operations on a dictionary and on a sorted map, which must agree after each of them.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod kind;
mod operation;

use std::collections::{BTreeMap, BTreeSet};

use mmapcache::Update;
use mmapcache::dict::{Condition, Dict, DictError, DictKey, ETag, Format, Outcome, Retrieve};
use proptest::prelude::*;

use kind::{InBoth, InFiles, InMemory, Kind};
use operation::{Action, Expected, KeyPath, Operation, Tending, Test, operations};

/// The place of an item: its format, and its parts from the root.
type Place = (Format, KeyPath);

struct Model<K: Kind> {
    kind: K,
    append_only: bool,
    expected: BTreeMap<Place, (String, ETag)>,
    /// All ETags so far.
    given: Vec<ETag>,
}

/// A sub-dictionary, as the model sees it.
struct View<'a, S> {
    dict: Dict<String, S>,
    format: Format,
    prefix: &'a KeyPath,
}

impl<S> View<'_, S> {
    fn place(&self, key: &KeyPath) -> Place {
        (self.format, [&self.prefix[..], key].concat())
    }
}

fn refused<T: std::fmt::Debug>(result: Result<T, DictError>) {
    let Err(DictError::AppendOnly { .. }) = result else {
        panic!("{result:?}");
    };
}

impl<K: Kind> Model<K> {
    fn new(append_only: bool) -> Self {
        Self {
            kind: K::new(append_only),
            append_only,
            expected: BTreeMap::new(),
            given: Vec::new(),
        }
    }

    fn view<'a>(&self, format: Format, prefix: &'a KeyPath) -> View<'a, K::Store> {
        let dict = self.kind.dict(format).subdict(prefix).unwrap();
        View {
            dict,
            format,
            prefix,
        }
    }

    fn etag(&self, place: &Place) -> Option<ETag> {
        self.expected.get(place).map(|(_, etag)| *etag)
    }

    fn value(&self, place: &Place) -> Option<String> {
        self.expected.get(place).map(|(value, _)| value.clone())
    }

    /// Whether nothing there may be changed.
    fn is_fixed(&self, place: &Place) -> bool {
        self.append_only && self.expected.contains_key(place)
    }

    fn put(&mut self, place: Place, value: String, etag: ETag) {
        assert!(self.given.last() < Some(&etag), "tags only grow");
        self.given.push(etag);
        self.expected.insert(place, (value, etag));
    }

    /// Returns the items of a sub-dictionary, by their keys relative to it.
    fn below(&self, view: &View<'_, K::Store>) -> BTreeMap<DictKey, (String, ETag)> {
        let all = self.expected.iter();
        let below = all.filter_map(|((format, key), item)| {
            let rest = key.strip_prefix(&view.prefix[..])?;
            let is_below = *format == view.format && !rest.is_empty();
            is_below.then(|| (DictKey::new(rest).unwrap(), item.clone()))
        });
        below.collect()
    }

    fn apply(&mut self, operation: &Operation) {
        let view = self.view(operation.format, &operation.view);
        match &operation.action {
            Action::Insert(key, value) => self.insert(&view, key, value),
            Action::Extend(items) => self.extend(&view, items),
            Action::SetIf(key, write, test) => self.set_if(&view, key, write, *test),
            Action::GetOrInsertIf(key, value, test) => {
                self.get_or_insert_if(&view, key, value, *test)
            }
            Action::RemoveIf(key, test) => self.remove_if(&view, key, *test),
            Action::GetIf(key, test) => self.get_if(&view, key, *test),
            Action::GetOrInsert(key, value) => self.get_or_insert(&view, key, value),
            Action::Update(key, write) => self.update(&view, key, write),
            Action::Remove(key) => self.remove(&view, key),
            Action::Take(key) => self.take(&view, key),
            Action::TakeAny => self.take_any(&view),
            Action::Clear => self.clear(&view),
            Action::Look(key) => self.look(&view, key),
            Action::List => self.list(&view),
            Action::Newest(at_most) => self.newest(&view, *at_most),
            Action::Random => {
                let drawn = view.dict.random_key().unwrap();
                let below = self.below(&view);
                assert_eq!(drawn.is_none(), below.is_empty());
                assert!(drawn.is_none_or(|key| below.contains_key(&key)));
            }
            Action::Tend(tending) => {
                drop(view);
                self.tend(*tending);
            }
        }
    }

    fn insert(&mut self, view: &View<'_, K::Store>, key: &KeyPath, value: &str) {
        let place = view.place(key);
        let inserted = view.dict.insert(key, value.to_owned());
        if self.is_fixed(&place) {
            return refused(inserted);
        }
        self.put(place, value.to_owned(), inserted.unwrap());
    }

    fn extend(&mut self, view: &View<'_, K::Store>, items: &[(KeyPath, String)]) {
        let updated = view.dict.extend(items.iter().cloned());
        let mut put = BTreeMap::new();
        let mut items = items.iter();
        let stopped = items.any(|(key, value)| {
            let place = view.place(key);
            if self.is_fixed(&place) || self.append_only && put.contains_key(&place) {
                return true;
            }
            let etag = view.dict.etag(key).unwrap().unwrap();
            put.insert(place, (value.clone(), etag));
            false
        });
        let mut put: Vec<_> = put.into_iter().collect();
        put.sort_unstable_by_key(|(_, (_, etag))| *etag);
        for (place, (value, etag)) in put {
            self.put(place, value, etag);
        }
        if stopped {
            return refused(updated);
        }
        updated.unwrap();
    }

    /// The tag that is expected, and whether the condition holds.
    fn judge(&self, place: &Place, test: Test) -> (Option<ETag>, bool) {
        let actual = self.etag(place);
        let expected = match test.expected {
            Expected::Fresh => actual,
            Expected::Stale(index) if !self.given.is_empty() => Some(*index.get(&self.given)),
            Expected::Stale(_) | Expected::Absent => None,
        };
        let holds = match test.condition {
            Condition::Any => true,
            Condition::Same => expected == actual,
            Condition::Changed => expected != actual,
        };
        (expected, holds)
    }

    /// The result of a conditional operation that leaves the item unchanged.
    fn left(&self, place: &Place, test: Test) -> Outcome<String> {
        let (expected, satisfied) = self.judge(place, test);
        match self.expected.get(place) {
            None => Outcome::Absent { satisfied },
            Some((value, etag)) => {
                let wanted = match test.retrieve {
                    Retrieve::Always => true,
                    Retrieve::IfChanged => expected != Some(*etag),
                    Retrieve::Never => false,
                };
                let value = wanted.then(|| value.clone());
                Outcome::Unchanged {
                    satisfied,
                    etag: *etag,
                    value,
                }
            }
        }
    }

    fn get_if(&self, view: &View<'_, K::Store>, key: &KeyPath, test: Test) {
        let place = view.place(key);
        let (expected, _) = self.judge(&place, test);
        let looked = view
            .dict
            .get_if(key, test.condition, expected, test.retrieve);
        assert_eq!(looked.unwrap(), self.left(&place, test));
    }

    fn set_if(
        &mut self,
        view: &View<'_, K::Store>,
        key: &KeyPath,
        write: &Update<String>,
        test: Test,
    ) {
        let place = view.place(key);
        let (expected, holds) = self.judge(&place, test);
        let Test {
            condition,
            retrieve,
            ..
        } = test;
        let result = view
            .dict
            .set_if(key, write.clone(), condition, expected, retrieve);
        let changes = match write {
            Update::Put(_) => holds,
            Update::Keep => false,
            Update::Delete => holds && self.etag(&place).is_some(),
        };
        self.came_to(place, write, test, changes, result);
    }

    fn get_or_insert_if(
        &mut self,
        view: &View<'_, K::Store>,
        key: &KeyPath,
        value: &str,
        test: Test,
    ) {
        let place = view.place(key);
        let (expected, holds) = self.judge(&place, test);
        let Test {
            condition,
            retrieve,
            ..
        } = test;
        let default = value.to_owned();
        let result =
            view.dict
                .get_or_insert_if(key, default.clone(), condition, expected, retrieve);
        let changes = holds && self.etag(&place).is_none();
        self.came_to(place, &Update::Put(default), test, changes, result);
    }

    fn remove_if(&mut self, view: &View<'_, K::Store>, key: &KeyPath, test: Test) {
        let place = view.place(key);
        let (expected, holds) = self.judge(&place, test);
        let result = view.dict.remove_if(key, test.condition, expected);
        let changes = holds && self.etag(&place).is_some();
        let test = Test {
            retrieve: Retrieve::Never,
            ..test
        };
        self.came_to(place, &Update::Delete, test, changes, result);
    }

    /// Compares a conditional operation's result with the expected one, and applies the change.
    fn came_to(
        &mut self,
        place: Place,
        write: &Update<String>,
        test: Test,
        changes: bool,
        result: Result<Outcome<String>, DictError>,
    ) {
        if !changes {
            return assert_eq!(result.unwrap(), self.left(&place, test));
        }
        if self.is_fixed(&place) {
            return refused(result);
        }
        let result = result.unwrap();
        assert!(result.is_satisfied());
        match (write, result) {
            (
                Update::Put(value),
                Outcome::Written {
                    before,
                    etag,
                    value: written,
                },
            ) => {
                assert_eq!((before, &written), (self.etag(&place), value));
                self.put(place, written, etag);
            }
            (Update::Delete, Outcome::Deleted { before }) => {
                assert_eq!(Some(before), self.etag(&place));
                self.expected.remove(&place);
            }
            other => panic!("{other:?}"),
        }
    }

    fn get_or_insert(&mut self, view: &View<'_, K::Store>, key: &KeyPath, default: &str) {
        let place = view.place(key);
        let value = view.dict.get_or_insert(key, default.to_owned()).unwrap();
        if let Some(there) = self.value(&place) {
            return assert_eq!(value, there);
        }
        assert_eq!(value, default);
        let etag = view.dict.etag(key).unwrap().unwrap();
        self.put(place, value, etag);
    }

    fn update(&mut self, view: &View<'_, K::Store>, key: &KeyPath, write: &Update<String>) {
        let place = view.place(key);
        let there = self.value(&place);
        let result = view.dict.update(key, |value| {
            assert_eq!(value, there);
            write.clone()
        });
        if *write != Update::Keep && self.is_fixed(&place) {
            return refused(result);
        }
        match (write, result.unwrap()) {
            (Update::Put(value), Some((put, etag))) => {
                assert_eq!(*value, put);
                self.put(place, put, etag);
            }
            (Update::Keep, kept) => {
                assert_eq!(kept.as_ref(), self.expected.get(&place));
            }
            (Update::Delete, None) => drop(self.expected.remove(&place)),
            other => panic!("{other:?}"),
        }
    }

    fn remove(&mut self, view: &View<'_, K::Store>, key: &KeyPath) {
        let removed = view.dict.remove(key);
        if self.append_only {
            return refused(removed);
        }
        let there = self.expected.remove(&view.place(key));
        assert_eq!(removed.unwrap(), there.is_some());
    }

    fn take(&mut self, view: &View<'_, K::Store>, key: &KeyPath) {
        let taken = view.dict.take(key);
        if self.append_only {
            return refused(taken);
        }
        let there = self.expected.remove(&view.place(key));
        assert_eq!(taken.unwrap(), there.map(|(value, _)| value));
    }

    fn take_any(&mut self, view: &View<'_, K::Store>) {
        let taken = view.dict.take_any();
        if self.append_only {
            return refused(taken);
        }
        let Some((key, value)) = taken.unwrap() else {
            return assert!(self.below(view).is_empty());
        };
        let is_it = |(_, at): &&Place| {
            let below = at.strip_prefix(&view.prefix[..]);
            below.is_some_and(|rest| rest.iter().copied().eq(key.parts()))
        };
        let mut places = self
            .expected
            .keys()
            .filter(|(format, _)| *format == view.format);
        let place = places.find(is_it).cloned().unwrap();
        assert_eq!(self.expected.remove(&place).unwrap().0, value);
    }

    fn clear(&mut self, view: &View<'_, K::Store>) {
        let cleared = view.dict.clear();
        if self.append_only {
            return refused(cleared);
        }
        cleared.unwrap();
        let (format, prefix) = (view.format, view.prefix);
        self.expected.retain(|(of, key), _| {
            *of != format || !key.starts_with(prefix) || key.len() == prefix.len()
        });
    }

    fn look(&self, view: &View<'_, K::Store>, key: &KeyPath) {
        let there = self.expected.get(&view.place(key));
        let value = there.map(|(value, _)| value.clone());
        let etag = there.map(|(_, etag)| *etag);
        assert_eq!(view.dict.get(key).unwrap(), value);
        assert_eq!(view.dict.etag(key).unwrap(), etag);
        assert_eq!(view.dict.contains(key).unwrap(), there.is_some());
        assert_eq!(view.dict.timestamp(key).unwrap().is_some(), there.is_some());
        assert_eq!(view.dict.get_with_etag(key).unwrap(), value.zip(etag));
        match (view.dict.require(key), there) {
            (Ok(value), Some((there, _))) => assert_eq!(value, *there),
            (Err(DictError::KeyNotFound { key: named }), None) => {
                assert_eq!(named, DictKey::new(key).unwrap());
            }
            other => panic!("{other:?}"),
        }
    }

    fn list(&self, view: &View<'_, K::Store>) {
        let below = self.below(view);
        let mut listed = BTreeMap::new();
        for entry in view.dict.entries() {
            let (key, value, etag) = entry.unwrap();
            let twice = listed.insert(key, (value, etag));
            assert_eq!(twice, None);
        }
        assert_eq!(listed, below);
        let keys: Result<Vec<_>, _> = view.dict.keys_and_etags().collect();
        let keys: BTreeSet<_> = keys.unwrap().into_iter().collect();
        assert!(
            keys.into_iter()
                .eq(below.iter().map(|(key, (_, etag))| (key.clone(), *etag)))
        );
        assert_eq!(view.dict.len().unwrap(), below.len() as u64);
        assert_eq!(view.dict.is_empty().unwrap(), below.is_empty());
        let firsts: BTreeSet<_> = below.keys().map(DictKey::first).collect();
        assert!(view.dict.subdicts().unwrap().keys().eq(&firsts));
        let prefix = view.dict.prefix().into_iter().flat_map(DictKey::parts);
        assert!(prefix.eq(view.prefix.iter().copied()));
    }

    fn newest(&self, view: &View<'_, K::Store>, at_most: usize) {
        let below = self.below(view);
        let mut by_tag: Vec<_> = below
            .iter()
            .map(|(key, (value, etag))| (*etag, key, value))
            .collect();
        by_tag.sort_unstable();
        let oldest = view.dict.oldest_keys(Some(at_most)).unwrap();
        assert!(
            oldest
                .iter()
                .eq(by_tag.iter().take(at_most).map(|(_, key, _)| *key))
        );
        by_tag.reverse();
        let newest = view.dict.newest_keys(None).unwrap();
        assert!(newest.iter().eq(by_tag.iter().map(|(_, key, _)| *key)));
    }

    fn tend(&mut self, tending: Tending) {
        if self.kind.tend(tending) {
            let before = self.given.last().copied();
            let places: Vec<Place> = self.expected.keys().cloned().collect();
            for place in places {
                let etag = self.kind.dict(place.0).etag(&place.1).unwrap().unwrap();
                assert!(Some(etag) > before, "a rebuild gives new tags");
                self.given.push(etag);
                self.expected.get_mut(&place).unwrap().1 = etag;
            }
            self.given.sort_unstable();
        }
        self.compare();
    }

    fn compare(&self) {
        for format in Format::ALL {
            self.list(&self.view(format, &KeyPath::new()));
        }
    }
}

fn run<K: Kind>(append_only: bool, operations: Vec<Operation>) {
    let mut model = Model::<K>::new(append_only);
    for operation in &operations {
        model.apply(operation);
    }
    model.compare();
}

fn cases(count: u32) -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").ok();
    ProptestConfig {
        cases: asked.and_then(|cases| cases.parse().ok()).unwrap_or(count),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(cases(96))]

    #[test]
    fn memory_dict_behaves_like_a_map(operations in operations()) {
        run::<InMemory>(false, operations);
    }

    #[test]
    fn append_only_memory_dict_behaves_likewise(operations in operations()) {
        run::<InMemory>(true, operations);
    }

    #[test]
    fn file_dict_behaves_like_a_map(operations in operations()) {
        run::<InFiles>(false, operations);
    }

    #[test]
    fn append_only_file_dict_behaves_likewise(operations in operations()) {
        run::<InFiles>(true, operations);
    }

    #[test]
    fn cached_dict_behaves_like_a_map(operations in operations()) {
        run::<InBoth>(false, operations);
    }

    #[test]
    fn append_only_cached_dict_behaves_likewise(operations in operations()) {
        run::<InBoth>(true, operations);
    }
}
