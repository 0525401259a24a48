//! What may be done to a dictionary: operations at random, which the model performs.
//!
//! Few keys, and views at their prefixes, so that operations meet.

use mmapcache::dict::{Condition, Format, Retrieve, Write};
use proptest::prelude::*;

pub(super) type Segments = Vec<&'static str>;

/// Something done through a view.
#[derive(Clone, Debug)]
pub(super) struct Operation {
    pub(super) format: Format,
    pub(super) view: Segments,
    pub(super) action: Action,
}

#[derive(Clone, Debug)]
pub(super) enum Action {
    Insert(Segments, String),
    Write(Segments, Write<String>),
    Update(Vec<(Segments, String)>),
    SetIf(Segments, Write<String>, Test),
    SetDefaultIf(Segments, String, Test),
    DiscardIf(Segments, Test),
    GetIf(Segments, Test),
    SetDefault(Segments, String),
    Transform(Segments, Write<String>),
    Discard(Segments),
    Remove(Segments),
    Pop(Segments),
    PopItem,
    Clear,
    Look(Segments),
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

/// Which tag is expected of an item.
#[derive(Clone, Copy, Debug)]
pub(super) enum Expected {
    /// The one that it has, if it is there.
    Fresh,
    /// One that was given to some item before.
    Stale(prop::sample::Index),
    Absent,
}

/// What is done to what lies underneath.
#[derive(Clone, Copy, Debug)]
pub(super) enum Tending {
    Reopen,
    Compact,
    Rebuild,
    Flush,
}

fn segments(len: std::ops::RangeInclusive<usize>) -> impl Strategy<Value = Segments> {
    let segment = prop::sample::select(vec!["a", "b", "a-"]);
    prop::collection::vec(segment, len)
}

fn value() -> impl Strategy<Value = String> {
    prop_oneof![8 => 0_usize..20, 2 => 200_usize..2_000].prop_flat_map(|len| {
        prop::char::range('a', 'z').prop_map(move |c| c.to_string().repeat(len))
    })
}

fn write() -> impl Strategy<Value = Write<String>> {
    prop_oneof![
        3 => value().prop_map(Write::Value),
        1 => Just(Write::KeepCurrent),
        2 => Just(Write::DeleteCurrent),
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
    let key = || segments(1..=3);
    let tending = prop::sample::select(vec![
        Tending::Reopen,
        Tending::Compact,
        Tending::Rebuild,
        Tending::Flush,
    ]);
    prop_oneof![
        10 => (key(), value()).prop_map(|(key, value)| Action::Insert(key, value)),
        4 => (key(), write()).prop_map(|(key, write)| Action::Write(key, write)),
        2 => prop::collection::vec((key(), value()), 0..12).prop_map(Action::Update),
        12 => (key(), write(), test()).prop_map(|(key, write, test)| Action::SetIf(key, write, test)),
        6 => (key(), value(), test()).prop_map(|(key, value, test)| Action::SetDefaultIf(key, value, test)),
        6 => (key(), test()).prop_map(|(key, test)| Action::DiscardIf(key, test)),
        6 => (key(), test()).prop_map(|(key, test)| Action::GetIf(key, test)),
        4 => (key(), value()).prop_map(|(key, value)| Action::SetDefault(key, value)),
        8 => (key(), write()).prop_map(|(key, write)| Action::Transform(key, write)),
        3 => key().prop_map(Action::Discard),
        2 => key().prop_map(Action::Remove),
        3 => key().prop_map(Action::Pop),
        1 => Just(Action::PopItem),
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
    let operation = (format, segments(0..=2), action());
    let operation = operation.prop_map(|(format, view, action)| Operation {
        format,
        view,
        action,
    });
    prop::collection::vec(operation, 1..80)
}
