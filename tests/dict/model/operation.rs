//! Random operations on a dictionary.
//!
//! There are few keys, and sub-dictionaries at their prefixes, so that operations meet.

use mmapcache::Update;
use mmapcache::dict::{Condition, Format, Retrieve};
use proptest::prelude::*;

pub(super) type KeyPath = Vec<&'static str>;

/// An operation of a sub-dictionary.
#[derive(Clone, Debug)]
pub(super) struct Operation {
    pub(super) format: Format,
    pub(super) view: KeyPath,
    pub(super) action: Action,
}

#[derive(Clone, Debug)]
pub(super) enum Action {
    Insert(KeyPath, String),
    Extend(Vec<(KeyPath, String)>),
    SetIf(KeyPath, Update<String>, Test),
    GetOrInsertIf(KeyPath, String, Test),
    RemoveIf(KeyPath, Test),
    GetIf(KeyPath, Test),
    GetOrInsert(KeyPath, String),
    Update(KeyPath, Update<String>),
    Remove(KeyPath),
    Take(KeyPath),
    TakeAny,
    Clear,
    Look(KeyPath),
    List,
    Newest(usize),
    Random,
    Tend(Tending),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Test {
    pub(super) condition: Condition,
    pub(super) expected: Expected,
    pub(super) retrieve: Retrieve,
}

/// Which ETag the operation expects.
#[derive(Clone, Copy, Debug)]
pub(super) enum Expected {
    /// The item's own, if the item exists.
    Fresh,
    /// One that some item had before.
    Stale(prop::sample::Index),
    Absent,
}

/// Maintenance of the storage.
#[derive(Clone, Copy, Debug)]
pub(super) enum Tending {
    Reopen,
    Compact,
    Rebuild,
    Flush,
}

fn key_path(len: std::ops::RangeInclusive<usize>) -> impl Strategy<Value = KeyPath> {
    let part = prop::sample::select(vec!["a", "b", "a-"]);
    prop::collection::vec(part, len)
}

fn value() -> impl Strategy<Value = String> {
    prop_oneof![8 => 0_usize..20, 2 => 200_usize..2_000].prop_flat_map(|len| {
        prop::char::range('a', 'z').prop_map(move |c| c.to_string().repeat(len))
    })
}

fn write() -> impl Strategy<Value = Update<String>> {
    prop_oneof![
        3 => value().prop_map(Update::Put),
        1 => Just(Update::Keep),
        2 => Just(Update::Delete),
    ]
}

fn test() -> impl Strategy<Value = Test> {
    let condition = prop::sample::select(vec![Condition::Any, Condition::Same, Condition::Changed]);
    let expected = prop_oneof![
        3 => Just(Expected::Fresh),
        1 => any::<prop::sample::Index>().prop_map(Expected::Stale),
        1 => Just(Expected::Absent),
    ];
    let retrieve =
        prop::sample::select(vec![Retrieve::Always, Retrieve::IfChanged, Retrieve::Never]);
    (condition, expected, retrieve).prop_map(|(condition, expected, retrieve)| Test {
        condition,
        expected,
        retrieve,
    })
}

fn action() -> impl Strategy<Value = Action> {
    let key = || key_path(1..=3);
    let tending = prop::sample::select(vec![
        Tending::Reopen,
        Tending::Compact,
        Tending::Rebuild,
        Tending::Flush,
    ]);
    prop_oneof![
        10 => (key(), value()).prop_map(|(key, value)| Action::Insert(key, value)),
        2 => prop::collection::vec((key(), value()), 0..12).prop_map(Action::Extend),
        12 => (key(), write(), test()).prop_map(|(key, write, test)| Action::SetIf(key, write, test)),
        6 => (key(), value(), test()).prop_map(|(key, value, test)| Action::GetOrInsertIf(key, value, test)),
        6 => (key(), test()).prop_map(|(key, test)| Action::RemoveIf(key, test)),
        6 => (key(), test()).prop_map(|(key, test)| Action::GetIf(key, test)),
        4 => (key(), value()).prop_map(|(key, value)| Action::GetOrInsert(key, value)),
        8 => (key(), write()).prop_map(|(key, write)| Action::Update(key, write)),
        5 => key().prop_map(Action::Remove),
        3 => key().prop_map(Action::Take),
        1 => Just(Action::TakeAny),
        1 => Just(Action::Clear),
        4 => key().prop_map(Action::Look),
        4 => Just(Action::List),
        2 => (0_usize..6).prop_map(Action::Newest),
        2 => Just(Action::Random),
        4 => tending.prop_map(Action::Tend),
    ]
}

pub(super) fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let format = prop::sample::select(Format::ALL.to_vec());
    let operation = (format, key_path(0..=2), action());
    let operation = operation.prop_map(|(format, view, action)| Operation {
        format,
        view,
        action,
    });
    prop::collection::vec(operation, 1..80)
}
