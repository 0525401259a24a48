//! The models: what is there before, what the writer does meanwhile, what readers are promised.
//!
//! All keys of one side and group share every bit of hash that the index keeps, so each search for
//! one of them meets the others.

use crate::engine::tests::loom::stage::{Actor, Model, Part};
use crate::engine::tests::loom::{EXECUTIONS, options, two_sides};
use crate::format::index::word;
use crate::index::redo::{Redo, RedoState};
use crate::sync::acquire_fence;

/// Listing to the end.
const ALL: usize = usize::MAX;

/// A key that is there all the time, beside the others.
fn bystander(actor: &Actor) -> Vec<u8> {
    actor.key(0, 0, 0)
}

/// The key that most models change.
fn changed(actor: &Actor) -> Vec<u8> {
    actor.key(0, 0, 1)
}

/// A key that comes to where the changed one was.
fn successor(actor: &Actor) -> Vec<u8> {
    actor.key(0, 0, 2)
}

fn put_bystander(actor: &Actor) {
    actor.put(&bystander(actor), 1);
}

fn put_changed(actor: &Actor) {
    actor.put(&changed(actor), 1);
}

fn put_both(actor: &Actor) {
    actor.put(&bystander(actor), 1);
    actor.put(&changed(actor), 1);
}

fn insert(actor: &Actor) {
    actor.put(&changed(actor), 2);
}

fn overwrite(actor: &Actor) {
    actor.put(&changed(actor), 2);
}

fn overwrite_twice(actor: &Actor) {
    actor.put(&changed(actor), 2);
    actor.put(&changed(actor), 3);
}

/// Listing looks three times, with a glance, before it believes in damage.
fn overwrite_thrice(actor: &Actor) {
    overwrite_twice(actor);
    actor.put(&changed(actor), 4);
}

fn delete(actor: &Actor) {
    actor.delete(&changed(actor));
}

fn delete_and_insert_another(actor: &Actor) {
    actor.delete(&changed(actor));
    actor.put(&successor(actor), 2);
}

/// What was found once stays.
fn entry_twice(actor: &Actor) {
    let key = changed(actor);
    let (first, second) = (actor.entry(&key), actor.entry(&key));
    actor.expect(second >= first, || format!("{first:?}, then {second:?}"));
}

fn peek_twice(actor: &Actor) {
    let key = changed(actor);
    let (first, second) = (actor.peek(&key), actor.peek(&key));
    actor.expect(second >= first, || format!("{first:?}, then {second:?}"));
}

fn peek_then_entry(actor: &Actor) {
    let key = changed(actor);
    let (first, second) = (actor.peek(&key), actor.entry(&key));
    actor.expect(second >= first, || format!("{first:?}, then {second:?}"));
}

fn many_times_the_changed(actor: &Actor) {
    let key = changed(actor);
    let [first, second] = actor.many([&key, &key]);
    actor.expect(second >= first, || format!("{first:?}, then {second:?}"));
}

fn many_with_the_bystander(actor: &Actor) {
    let [changed, found] = actor.many([&changed(actor), &bystander(actor)]);
    actor.expect(found.is_some(), || format!("not found, beside {changed:?}"));
}

fn entry_of_the_bystander(actor: &Actor) {
    let found = actor.entry(&bystander(actor));
    actor.expect(found.is_some(), || "not found".into());
}

fn peek_at_the_bystander(actor: &Actor) {
    let found = actor.peek(&bystander(actor));
    actor.expect(found.is_some(), || "not found".into());
}

/// Whoever sees the number of changes grow finds the change.
fn entry_after_a_change(actor: &Actor) {
    let before = actor.before().changes;
    if actor.cache.change_count() > before {
        let found = actor.entry(&changed(actor));
        actor.expect(found == Some(2), || format!("{found:?}"));
    }
}

/// The successor came after the other had gone.
fn entry_of_the_successor(actor: &Actor) {
    if actor.entry(&successor(actor)).is_some() {
        let found = actor.entry(&changed(actor));
        actor.expect(found.is_none(), || "both at once".into());
    }
}

fn peek_at_the_successor(actor: &Actor) {
    if actor.peek(&successor(actor)).is_some() {
        let found = actor.peek(&changed(actor));
        actor.expect(found.is_none(), || "both at once".into());
    }
}

fn entry_of_the_changed(actor: &Actor) {
    actor.entry(&changed(actor));
}

fn peek_at_the_changed(actor: &Actor) {
    actor.peek(&changed(actor));
}

fn list_keys(actor: &Actor) {
    actor.keys(ALL, &[]);
}

fn list_entries(actor: &Actor) {
    actor.entries(ALL, &[]);
}

fn list_keys_with_the_changed(actor: &Actor) {
    actor.keys(ALL, &[changed(actor)]);
}

fn list_entries_with_the_changed(actor: &Actor) {
    actor.entries(ALL, &[changed(actor)]);
}

fn list_entries_of_both(actor: &Actor) {
    actor.entries(ALL, &[bystander(actor), changed(actor)]);
}

/// Lists the key at the first position.
fn list_the_first_key(actor: &Actor) {
    actor.keys(1, &[bystander(actor)]);
}

fn list_the_first_entry(actor: &Actor) {
    actor.entries(1, &[bystander(actor)]);
}

/// An armed intent is whole, and so is the record that it names.
fn intent_is_whole(actor: &Actor) {
    let generation = actor.generation();
    let armed = generation.header().redo();
    if let RedoState::Committed(Redo::Insert { link, after, .. }) = armed {
        let record = generation
            .segment(link.addr().segment)
            .unwrap()
            .verify(link.addr().unit);
        actor.expect(record.is_ok_and(|record| record.is_some()), || {
            "no record".into()
        });
        actor.expect(after.roster_len == 2, || format!("{after:?}"));
    } else {
        actor.expect(armed == RedoState::Cleared, || format!("{armed:?}"));
    }
}

/// Nothing of an insertion is there before its intent is armed, but for the record.
fn intent_comes_first(actor: &Actor) {
    let generation = actor.generation();
    if generation.header().occupied() == 2 {
        acquire_fence();
        let armed = generation.header().has_redo();
        let done = armed || actor.entry(&changed(actor)).is_some();
        actor.expect(done, || "half an insertion that nobody would finish".into());
    }
}

/// The intent stands until the heap ends behind the record.
fn intent_stands_until_the_end(actor: &Actor) {
    let generation = actor.generation();
    let header = generation.header();
    if actor.entry(&changed(actor)).is_some() && !header.has_redo() {
        acquire_fence();
        let (tail, reserved) = (header.raw(word::TAIL), header.raw(word::RESERVED));
        actor.expect(tail == reserved, || "a linked record behind the end".into());
    }
}

/// Nothing stands behind what is reserved, and what becomes of the live bytes is known before.
fn reservation_comes_first(actor: &Actor) {
    let generation = actor.generation();
    let header = generation.header();
    let end = actor.before().end;
    let blank = generation
        .segment(end.segment)
        .unwrap()
        .is_blank(end.unit)
        .unwrap();
    acquire_fence();
    let reserved = header.reserved();
    actor.expect(blank || reserved > end, || {
        "bytes that nobody reserved".into()
    });
    acquire_fence();
    if reserved > end {
        let live = header.live_after();
        actor.expect(live == 2 * actor.before().live, || {
            format!("{live} live bytes")
        });
    }
}

/// The heap ends behind a record only when it is linked.
fn link_comes_before_the_end(actor: &Actor) {
    if actor.generation().header().tail() > actor.before().end {
        let found = actor.entry(&changed(actor));
        actor.expect(found == Some(2), || format!("{found:?}"));
    }
}

/// Whoever sees a change counted sees all of it.
fn counted_is_complete(actor: &Actor) {
    let generation = actor.generation();
    if generation.header().changes() > actor.before().changes {
        let entries = generation.header().occupied();
        actor.expect(entries == 1, || format!("{entries} entries"));
    }
}

/// What was read while nobody was at work is no work in progress.
fn idle_is_no_work_in_progress(actor: &Actor) {
    let generation = actor.generation();
    let header = generation.header();
    let changes = header.changes();
    if header.occupied() == 2 && header.is_idle_since(changes) {
        let finished = changes > actor.before().changes;
        actor.expect(finished, || "an insertion that was not finished".into());
    }
}

fn verify(actor: &Actor) {
    actor.verify();
}

/// Leaves so many deleted slots on each side that the next insertion there replaces the region.
fn leave_tombstones(actor: &Actor) {
    for side in 0..actor.sides() {
        let keys: Vec<_> = (0..8).map(|n| actor.key(side, 0, n)).collect();
        for key in &keys {
            actor.put(key, 1);
        }
        for key in &keys[1..] {
            actor.delete(key);
        }
    }
}

fn purge(actor: &Actor) {
    actor.put(&actor.key(0, 0, 9), 1);
}

/// The second region is built in the first one's place.
/// S4: a reader of the first one's contents sees another state word there.
fn purge_both_sides(actor: &Actor) {
    actor.put(&actor.key(0, 0, 9), 1);
    actor.put(&actor.key(1, 0, 9), 1);
}

/// Fills a region up to its limit, with keys of both sides.
fn fill(actor: &Actor) {
    for n in 0..7 {
        actor.put(&actor.key(0, 0, n), 1);
        actor.put(&actor.key(1, 0, n), 1);
    }
}

fn split(actor: &Actor) {
    actor.put(&actor.key(1, 0, 9), 1);
}

fn entries_of_both_sides(actor: &Actor) {
    for side in [1, 0] {
        let found = actor.entry(&actor.key(side, 0, 6));
        actor.expect(found.is_some(), || format!("side {side}: not found"));
    }
}

fn many_of_both_sides(actor: &Actor) {
    let found = actor.many([&actor.key(1, 0, 6), &actor.key(0, 0, 6)]);
    actor.expect(found == [Some(1); 2], || format!("{found:?}"));
}

fn peek_at_both_sides(actor: &Actor) {
    for side in [1, 0] {
        let found = actor.peek(&actor.key(side, 0, 6));
        actor.expect(found.is_some(), || format!("side {side}: not found"));
    }
}

fn rebuild(actor: &Actor) {
    actor.rebuild(&[bystander(actor), changed(actor)], 2);
}

/// All of the old entries, and from one moment on all of the new.
fn entries_of_one_generation(actor: &Actor) {
    let first = actor.entry(&changed(actor));
    let second = actor.entry(&bystander(actor));
    actor.expect(first.is_some() && second >= first, || {
        format!("{first:?}, then {second:?}")
    });
}

fn many_of_one_generation(actor: &Actor) {
    let [first, second] = actor.many([&changed(actor), &bystander(actor)]);
    actor.expect(first.is_some() && second >= first, || {
        format!("{first:?}, then {second:?}")
    });
}

fn peeks_of_one_generation(actor: &Actor) {
    let first = actor.peek(&changed(actor));
    let second = actor.peek(&bystander(actor));
    actor.expect(first.is_some() && second >= first, || {
        format!("{first:?}, then {second:?}")
    });
}

/// Leaves so little room in the segment that the next record begins another.
fn fill_the_segment(actor: &Actor) {
    put_bystander(actor);
    actor.fill_the_segment();
}

/// Leaves a dead record.
fn put_both_and_overwrite(actor: &Actor) {
    actor.put(&changed(actor), 1);
    actor.put(&bystander(actor), 1);
    actor.put(&changed(actor), 2);
}

fn compact(actor: &Actor) {
    actor.succeed(actor.cache.compact());
}

const fn model(name: &'static str, before: Part, writer: Part, readers: &'static [Part]) -> Model {
    Model {
        name,
        preemptions: Some(2),
        at_most: EXECUTIONS,
        options,
        before,
        writer,
        readers,
    }
}

const fn sides(model: Model) -> Model {
    Model {
        options: two_sides,
        ..model
    }
}

pub(super) const MODELS: &[Model] = &[
    model(
        "delete, what is counted",
        put_both,
        delete,
        &[counted_is_complete],
    ),
    model(
        "insert, what is idle",
        put_bystander,
        insert,
        &[idle_is_no_work_in_progress],
    ),
    model(
        "a kill, the intent is whole",
        put_bystander,
        insert,
        &[intent_is_whole],
    ),
    model(
        "a kill, the intent comes first",
        put_bystander,
        insert,
        &[intent_comes_first],
    ),
    model(
        "a kill, the intent stands until the end",
        put_bystander,
        insert,
        &[intent_stands_until_the_end],
    ),
    model(
        "a kill, the reservation comes first",
        put_bystander,
        insert,
        &[reservation_comes_first],
    ),
    model(
        "a kill, the link comes before the end",
        put_changed,
        overwrite,
        &[link_comes_before_the_end],
    ),
    model("insert, get twice", put_bystander, insert, &[entry_twice]),
    model("insert, peek twice", put_bystander, insert, &[peek_twice]),
    model(
        "insert, get what changed",
        put_bystander,
        insert,
        &[entry_after_a_change],
    ),
    model("insert, list keys", put_bystander, insert, &[list_keys]),
    model(
        "insert, list entries",
        put_bystander,
        insert,
        &[list_entries],
    ),
    model(
        "overwrite twice, get twice",
        put_changed,
        overwrite_twice,
        &[entry_twice],
    ),
    model(
        "overwrite twice, get many",
        put_changed,
        overwrite_twice,
        &[many_times_the_changed],
    ),
    model(
        "overwrite twice, peek twice",
        put_changed,
        overwrite_twice,
        &[peek_twice],
    ),
    model(
        "overwrite twice, peek and get",
        put_changed,
        overwrite_twice,
        &[peek_then_entry],
    ),
    model(
        "overwrite twice, list keys",
        put_changed,
        overwrite_twice,
        &[list_keys_with_the_changed],
    ),
    model(
        "overwrite thrice, list entries",
        put_changed,
        overwrite_thrice,
        &[list_entries_with_the_changed],
    ),
    model(
        "re-use a slot, get",
        put_both,
        delete_and_insert_another,
        &[entry_of_the_changed],
    ),
    model(
        "re-use a slot, get the new",
        put_both,
        delete_and_insert_another,
        &[entry_of_the_successor],
    ),
    model(
        "re-use a slot, get the bystander",
        put_both,
        delete_and_insert_another,
        &[entry_of_the_bystander],
    ),
    model(
        "re-use a slot, get many",
        put_both,
        delete_and_insert_another,
        &[many_with_the_bystander],
    ),
    model(
        "re-use a slot, peek",
        put_both,
        delete_and_insert_another,
        &[peek_at_the_changed],
    ),
    model(
        "re-use a slot, peek at the new",
        put_both,
        delete_and_insert_another,
        &[peek_at_the_successor],
    ),
    model(
        "re-use a slot, peek at the bystander",
        put_both,
        delete_and_insert_another,
        &[peek_at_the_bystander],
    ),
    model(
        "re-use a slot, list the bystander",
        put_both,
        delete_and_insert_another,
        &[list_the_first_key],
    ),
    model(
        "re-use a slot, list keys",
        put_changed,
        delete_and_insert_another,
        &[list_keys],
    ),
    model(
        "re-use a slot, list entries",
        put_changed,
        delete_and_insert_another,
        &[list_entries],
    ),
    model(
        "purge a region, get",
        leave_tombstones,
        purge,
        &[entry_of_the_bystander],
    ),
    model(
        "purge a region, peek",
        leave_tombstones,
        purge,
        &[peek_at_the_bystander],
    ),
    model(
        "purge a region, list keys",
        leave_tombstones,
        purge,
        &[list_the_first_key],
    ),
    sides(model(
        "re-use a region, get",
        leave_tombstones,
        purge_both_sides,
        &[entry_of_the_bystander],
    )),
    sides(model(
        "re-use a region, get many",
        leave_tombstones,
        purge_both_sides,
        &[many_with_the_bystander],
    )),
    sides(model(
        "re-use a region, peek",
        leave_tombstones,
        purge_both_sides,
        &[peek_at_the_bystander],
    )),
    sides(model(
        "re-use a region, list keys",
        leave_tombstones,
        purge_both_sides,
        &[list_the_first_key],
    )),
    sides(model(
        "re-use a region, list entries",
        leave_tombstones,
        purge_both_sides,
        &[list_the_first_entry],
    )),
    model("split a region, get", fill, split, &[entries_of_both_sides]),
    model(
        "split a region, get many",
        fill,
        split,
        &[many_of_both_sides],
    ),
    model("split a region, peek", fill, split, &[peek_at_both_sides]),
    model(
        "split a region, list keys",
        fill,
        split,
        &[list_the_first_key],
    ),
    model(
        "rebuild, get",
        put_both,
        rebuild,
        &[entries_of_one_generation],
    ),
    model(
        "rebuild, get many",
        put_both,
        rebuild,
        &[many_of_one_generation],
    ),
    model(
        "rebuild, peek",
        put_both,
        rebuild,
        &[peeks_of_one_generation],
    ),
    model(
        "begin a segment, get",
        fill_the_segment,
        insert,
        &[entry_twice],
    ),
    model(
        "begin a segment, list entries",
        fill_the_segment,
        insert,
        &[list_entries],
    ),
    model(
        "compact, get",
        put_both_and_overwrite,
        compact,
        &[entry_of_the_bystander],
    ),
    model(
        "compact, get many",
        put_both_and_overwrite,
        compact,
        &[many_with_the_bystander],
    ),
    model(
        "compact, list entries",
        put_both_and_overwrite,
        compact,
        &[list_entries_of_both],
    ),
    model("insert, verify", put_bystander, insert, &[verify]),
    model("delete, verify", put_both, delete, &[verify]),
];
