//! The publish protocol under loom.

mod stage;

use stage::{Actor, Explored, Model, explore};

use crate::format::HashKind;
use crate::Options;
use std::time::Duration;

/// Regions of two groups, keys of which all bits collide but two, and no cleaning.
fn options() -> Options {
    let mut options = Options::new();
    options
        .region_slots(16)
        .inline_key_bytes(8)
        .max_segment_bytes(16 * 1024)
        .clean_when(100, 1 << 30)
        .staleness_check_interval(Duration::from_secs(1 << 40));
    options.hash_kind = HashKind::Colliding;
    options.directory_bits = 2;
    options
}

fn insert(actor: &Actor) {
    actor.put(&actor.key(0, 0, 1), 1);
}

fn bystander(actor: &Actor) {
    actor.put(&actor.key(0, 0, 0), 1);
}

fn get_twice(actor: &Actor) {
    let key = actor.key(0, 0, 1);
    let first = actor.entry(&key);
    let second = actor.entry(&key);
    actor.expect(first.is_none() || second.is_some(), || "gone again".into());
}

#[test]
fn loom_try() {
    for preemptions in [Some(1), Some(2), Some(3), None] {
        let model = Model { name: "insert", preemptions, options, before: bystander, writer: insert, readers: &[get_twice] };
        let Explored { executions, words, took, broken } = explore(model, &[]);
        println!("{preemptions:?} {executions} executions, {words} words, {took:?}, {broken:?}");
    }
}
