//! Compares every store with a map after each kind of change.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::{ALL, Visit, visit};
use crate::figures::{Figure, Figures};
use crate::keys::{Batch, Key, Values};
use crate::plan::{Plan, Size, Workload};
use crate::store::{Access, Error, Result, Sharing, Store};
use crate::workload::writers;

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

const ENTRIES: u64 = 3_000;

struct Agrees<'a>(&'a Path);

impl Visit for Agrees<'_> {
    type Output = ();

    fn visit<S: Store>(self) -> Result<()> {
        let mut model = Model::new();
        let mut values = Values::new(100);
        let mut store = S::open(self.0, Access::Create, ENTRIES)?;
        agree(&mut store, &model)?;
        for number in 0..ENTRIES {
            put(&mut store, &mut model, number, values.of(number, 0))?;
        }
        agree(&mut store, &model)?;
        for number in 0..ENTRIES / 3 {
            put(&mut store, &mut model, number, values.of(number, 1))?;
        }
        agree(&mut store, &model)?;
        let mut batch = Batch::default();
        batch.make(ENTRIES / 2..ENTRIES + 500, 2, &mut values);
        store.put_many(&batch)?;
        for (key, value) in batch.items() {
            model.insert(key.to_vec(), value.to_vec());
        }
        agree(&mut store, &model)?;
        for number in (0..ENTRIES).step_by(3) {
            store.delete(Key::new(number).bytes())?;
            model.remove(Key::new(number).bytes());
        }
        agree(&mut store, &model)?;
        several(&mut store, &model)?;
        threads(&mut store, &model)?;
        store.close()?;
        if S::SHARING.lasts() {
            for access in [Access::Write, Access::Read] {
                let mut store = S::open(self.0, access, ENTRIES)?;
                agree(&mut store, &model)?;
                store.close()?;
            }
        }
        Ok(())
    }
}

fn put(store: &mut impl Store, model: &mut Model, number: u64, value: &[u8]) -> Result<()> {
    let key = Key::new(number);
    store.put(key.bytes(), value)?;
    model.insert(key.bytes().to_vec(), value.to_vec());
    Ok(())
}

/// Asserts that the store has what the model has, in each way of reading.
fn agree(store: &mut impl Store, model: &Model) -> Result<()> {
    let mut listed = Model::new();
    let count = store.list(|key, value| {
        assert!(listed.insert(key.to_vec(), value.to_vec()).is_none());
    })?;
    assert_eq!(count, model.len() as u64);
    assert!(listed == *model, "the listing differs");
    for number in 0..ENTRIES + 1_000 {
        let key = Key::new(number);
        let wanted = model.get(key.bytes());
        let mut seen = None;
        let found = store.get(key.bytes(), |value| seen = Some(value.to_vec()))?;
        assert_eq!(found, wanted.is_some());
        assert_eq!(seen.as_ref(), wanted);
        assert_eq!(store.contains(key.bytes())?, found);
        assert!(!store.get(Key::absent(number).bytes(), |_| unreachable!())?);
        assert!(!store.contains(Key::absent(number).bytes())?);
    }
    Ok(())
}

fn several(store: &mut impl Store, model: &Model) -> Result<()> {
    let keys: Vec<_> = (0..16).map(|at| Key::new(at * 7)).collect();
    let mut wanted: Vec<_> = keys
        .iter()
        .filter_map(|key| model.get(key.bytes()).cloned())
        .collect();
    let mut seen = Vec::new();
    let asked: Vec<_> = keys.iter().map(Key::bytes).collect();
    match store.get_many(&asked, |value| seen.push(value.to_vec())) {
        Ok(count) => {
            assert_eq!(count, wanted.len());
            seen.sort();
            wanted.sort();
            assert_eq!(seen, wanted);
            Ok(())
        }
        Err(Error::Refused(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

fn threads<S: Store>(store: &mut S, model: &Model) -> Result<()> {
    let another = match store.another() {
        Ok(another) => another,
        Err(Error::Refused(_)) => return Ok(()),
        Err(error) => return Err(error),
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(move || agree(&mut another()?, model));
        agree(store, model)?;
        other.join().expect("the other thread")
    })
}

// Each store is compared with a map after each kind of change.
#[test]
fn stores_agree_with_a_map() {
    for (name, _) in ALL {
        let dir = tempfile::tempdir().expect("a directory");
        if let Err(error) = visit(name, Agrees(dir.path())) {
            panic!("{name}: {error:?}");
        }
    }
}

// Each store gives every figure of one process, or says why it has none.
#[test]
fn stores_give_figures_or_reasons() {
    use Workload::{Batch, Change, Load, Read, Space, Threads};
    let size = Size {
        entries: 2_000,
        value: 100,
    };
    for (name, _) in ALL {
        let dir = tempfile::tempdir().expect("a directory");
        let mut figures = Figures::default();
        for workload in [vec![Load, Read, Change, Space, Threads], vec![Batch]] {
            let plan = Plan {
                store: (*name).to_owned(),
                size,
                dir: dir.path().to_owned(),
                workload,
                figure: Vec::new(),
            };
            let measured = visit(name, &plan).expect("the workloads");
            figures.0.extend(measured.0);
        }
        for figure in [
            "put",
            "put_1000",
            "get",
            "get_dependent",
            "get_made",
            "get_zipf",
            "get_16",
            "miss",
            "contains",
            "list",
            "overwrite",
            "overwrite_synced",
            "delete",
            "delete_synced",
            "threads_1",
            "threads_2",
            "disk_growth",
            "disk_end",
        ] {
            match figures.0.get(figure) {
                Some(Figure::Number(number)) => assert!(*number > 0.0, "{name}: {figure}"),
                Some(Figure::Refused(reason)) => assert!(!reason.is_empty()),
                None => panic!("{name} has no {figure}"),
            }
        }
    }
}

struct SharingOf;

impl Visit for SharingOf {
    type Output = Sharing;

    fn visit<S: Store>(self) -> Result<Sharing> {
        Ok(S::SHARING)
    }
}

// Maps in memory are the limits: every other store has a file that outlives its process.
#[test]
fn only_limits_live_in_memory() {
    for (name, _) in ALL {
        let sharing = visit(name, SharingOf).expect("it was compiled in");
        let is_limit = *name == super::LIMIT || name.starts_with("floor-");
        assert_eq!(sharing == Sharing::Memory, is_limit, "{name}: {sharing:?}");
    }
}

// Values are larger than any buffer that a store begins with.
#[test]
fn large_values_come_back() {
    struct Returns<'a>(&'a Path);
    impl Visit for Returns<'_> {
        type Output = ();

        fn visit<S: Store>(self) -> Result<()> {
            let mut store = S::open(self.0, Access::Create, 4)?;
            let mut values = Values::new(256 << 10);
            for number in 0..4 {
                store.put(Key::new(number).bytes(), values.of(number, 0))?;
            }
            for number in 0..4 {
                let mut is_equal = false;
                let wanted = values.of(number, 0);
                let see = |value: &[u8]| is_equal = value == wanted;
                assert!(store.get(Key::new(number).bytes(), see)?);
                assert!(is_equal);
            }
            store.close()
        }
    }
    for (name, _) in ALL.iter().filter(|(name, _)| super::takes(name, 256 << 10)) {
        let dir = tempfile::tempdir().expect("a directory");
        if let Err(error) = visit(name, Returns(dir.path())) {
            panic!("{name}: {error:?}");
        }
    }
}

/// Two threads that overwrite at once.
struct TwoOverwrite<'a>(&'a Plan);

impl Visit for TwoOverwrite<'_> {
    type Output = ();

    fn visit<S: Store>(self) -> Result<()> {
        let Self(plan) = self;
        let (mut store, mut values) = (
            S::open(&plan.dir, Access::Create, plan.size.entries)?,
            Values::new(plan.size.value),
        );
        for number in 0..plan.size.entries {
            store.put(Key::new(number).bytes(), values.of(number, 0))?;
        }
        let lengths = [5, 100].map(Duration::from_millis);
        match writers::threads(&mut store, plan, 2, lengths) {
            Ok(done) => {
                assert_eq!(done.len(), 2);
                // At least one value is that of an overwrite.
                let is_first = |number| {
                    let (key, first) = (Key::new(number), values.of(number, 0));
                    let mut is_first = false;
                    store.get(key.bytes(), |value| is_first = value == first)?;
                    Ok(is_first)
                };
                let first = (0..plan.size.entries).map(is_first);
                assert!(first.collect::<Result<Vec<_>>>()?.contains(&false));
            }
            Err(Error::Refused(_)) => {}
            Err(error) => return Err(error),
        }
        writers::check(&mut store, plan)?;
        store.close()
    }
}

fn writers_plan(name: &str, dir: &Path) -> Plan {
    Plan {
        store: name.to_owned(),
        size: Size {
            entries: 200,
            value: 100,
        },
        dir: dir.to_owned(),
        workload: vec![Workload::Writers],
        figure: Vec::new(),
    }
}

// Every key still has a value that was put under it.
#[test]
fn two_threads_overwrite_at_once() {
    for (name, _) in ALL {
        let dir = tempfile::tempdir().expect("a directory");
        let plan = writers_plan(name, dir.path());
        if let Err(error) = visit(name, TwoOverwrite(&plan)) {
            panic!("{name}: {error:?}");
        }
    }
}

// An entry that is missing, one with another's value, one whose value is part of two.
#[test]
fn damage_by_writers_is_found() {
    struct Damaged<'a>(&'a Plan);
    impl Visit for Damaged<'_> {
        type Output = ();

        fn visit<S: Store>(self) -> Result<()> {
            let mut store = S::open(&self.0.dir, Access::Create, 200)?;
            let mut values = Values::new(100);
            for number in 0..200 {
                store.put(Key::new(number).bytes(), values.of(number, 0))?;
            }
            writers::check(&mut store, self.0)?;
            let key = Key::new(7);
            store.delete(key.bytes())?;
            assert!(writers::check(&mut store, self.0).is_err(), "missing");
            store.put(key.bytes(), values.of(8, 0))?;
            assert!(writers::check(&mut store, self.0).is_err(), "another's");
            let mut torn = values.of(7, 0).to_vec();
            torn[50..].copy_from_slice(&values.of(7, 1_000)[50..]);
            store.put(key.bytes(), &torn)?;
            assert!(writers::check(&mut store, self.0).is_err(), "part of two");
            store.put(key.bytes(), values.of(7, 1_000))?;
            writers::check(&mut store, self.0)
        }
    }
    let dir = tempfile::tempdir().expect("a directory");
    let plan = writers_plan("hashbrown", dir.path());
    visit("hashbrown", Damaged(&plan)).expect("the last value is whole");
}

// Made and closed, opened and read; in memory nothing is opened again.
#[test]
fn small_stores_give_figures_or_reasons() {
    for (name, _) in ALL {
        let dir = tempfile::tempdir().expect("a directory");
        let plan = Plan {
            store: (*name).to_owned(),
            size: Size {
                entries: 10,
                value: 100,
            },
            dir: dir.path().to_owned(),
            workload: vec![Workload::Small],
            figure: Vec::new(),
        };
        let sharing = visit(name, SharingOf).expect("it was compiled in");
        let figures = visit(name, &plan).expect("the workload");
        for (what, is_there) in [
            ("create", sharing != Sharing::Memory),
            ("disk", sharing != Sharing::Memory),
            ("reopen", sharing.lasts()),
        ] {
            for count in [1, 10] {
                let number = figures.number(&format!("small_{what}_{count}"));
                assert_eq!(
                    number.is_some_and(|number| number > 0.0),
                    is_there,
                    "{name}: {what}"
                );
            }
            assert!(!figures.0.contains_key(&format!("small_{what}_100")));
        }
    }
}

// Only the figures that are asked for take time.
#[test]
fn asked_figure_is_measured_alone() {
    let asked = [
        (Workload::Read, "miss", vec!["miss"]),
        (
            Workload::Small,
            "small_disk_10",
            vec!["small_create_10", "small_disk_10", "small_reopen_10"],
        ),
    ];
    for (workload, figure, given) in asked {
        let dir = tempfile::tempdir().expect("a directory");
        let plan = Plan {
            store: "mmapcache".to_owned(),
            size: Size {
                entries: 100,
                value: 100,
            },
            dir: dir.path().to_owned(),
            workload: vec![workload],
            figure: vec![figure.to_owned()],
        };
        let figures = visit("mmapcache", &plan).expect("the workload");
        assert_eq!(figures.0.keys().collect::<Vec<_>>(), given);
    }
}
