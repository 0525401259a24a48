//! The models: what the cache contains, what the writer does, and what readers are promised.
//!
//! All keys of one side and group share every hash bit that the index keeps, so that each lookup of
//! one of them meets the others.

use crate::engine::tests::loom::harness::{Model, ModelThread, ThreadBody};
use crate::engine::tests::loom::{EXECUTIONS, in_place_options, options, two_sides};
use crate::format::index::word;
use crate::heap::WholeRecord;
use crate::index::redo::{Redo, RedoState};
use crate::sync::acquire_fence;

/// Lists to the end.
const ALL: usize = usize::MAX;

/// A key that exists throughout, beside the others.
fn bystander(thread: &ModelThread) -> Vec<u8> {
    thread.key(0, 0, 0)
}

/// The key that most models change.
fn changed(thread: &ModelThread) -> Vec<u8> {
    thread.key(0, 0, 1)
}

/// A key that takes the slot of the changed one.
fn successor(thread: &ModelThread) -> Vec<u8> {
    thread.key(0, 0, 2)
}

fn put_nothing(_thread: &ModelThread) {}

fn put_bystander(thread: &ModelThread) {
    thread.put(&bystander(thread), 1);
}

fn put_changed(thread: &ModelThread) {
    thread.put(&changed(thread), 1);
}

fn put_both(thread: &ModelThread) {
    thread.put(&bystander(thread), 1);
    thread.put(&changed(thread), 1);
}

fn insert(thread: &ModelThread) {
    thread.put(&changed(thread), 2);
}

fn overwrite(thread: &ModelThread) {
    thread.put(&changed(thread), 2);
}

fn overwrite_twice(thread: &ModelThread) {
    thread.put(&changed(thread), 2);
    thread.put(&changed(thread), 3);
}

/// Values 1 to 5 of the key take as much room in a record: none is appended.
fn overwrite_in_place(thread: &ModelThread) {
    let end = thread.before().end;
    overwrite_twice(thread);
    let same = thread.generation().header().tail() == end;
    thread.expect(same, || "a record was appended".into());
}

/// Reads the redo copy, as the next writer would after a kill.
fn redo_copy_is_complete(thread: &ModelThread) {
    let generation = thread.generation();
    let header = generation.header();
    if let RedoState::Committed(Redo::Overwrite {
        place,
        version,
        units,
        ..
    }) = header.redo()
    {
        let segment = generation.segment(place.segment).unwrap();
        let copy = &header.redo_copy()[..units as usize];
        let found = segment.read_copy(place.unit, copy, &mut WholeRecord::default());
        let is_complete = found.is_some_and(|found| found.mtime == version);
        let is_over = !header.is_still_overwriting(version);
        thread.expect(is_complete || is_over, || format!("{found:?}"));
    }
}

/// A listing reads a position three times before it reports corruption.
fn overwrite_thrice(thread: &ModelThread) {
    overwrite_twice(thread);
    thread.put(&changed(thread), 4);
}

fn delete(thread: &ModelThread) {
    thread.delete(&changed(thread));
}

fn delete_and_insert_another(thread: &ModelThread) {
    thread.delete(&changed(thread));
    thread.put(&successor(thread), 2);
}

/// A key that was found once stays.
fn entry_twice(thread: &ModelThread) {
    let key = changed(thread);
    let (first, second) = (thread.entry(&key), thread.entry(&key));
    thread.expect(second >= first, || format!("{first:?}, then {second:?}"));
}

fn peek_twice(thread: &ModelThread) {
    let key = changed(thread);
    let (first, second) = (thread.peek(&key), thread.peek(&key));
    thread.expect(second >= first, || format!("{first:?}, then {second:?}"));
}

fn peek_then_entry(thread: &ModelThread) {
    let key = changed(thread);
    let (first, second) = (thread.peek(&key), thread.entry(&key));
    thread.expect(second >= first, || format!("{first:?}, then {second:?}"));
}

fn many_times_the_changed(thread: &ModelThread) {
    let key = changed(thread);
    let [first, second] = thread.many([&key, &key]);
    thread.expect(second >= first, || format!("{first:?}, then {second:?}"));
}

fn many_with_the_bystander(thread: &ModelThread) {
    let [changed, found] = thread.many([&changed(thread), &bystander(thread)]);
    thread.expect(found.is_some(), || format!("not found, beside {changed:?}"));
}

fn entry_of_the_bystander(thread: &ModelThread) {
    let found = thread.entry(&bystander(thread));
    thread.expect(found.is_some(), || "not found".into());
}

fn peek_at_the_bystander(thread: &ModelThread) {
    let found = thread.peek(&bystander(thread));
    thread.expect(found.is_some(), || "not found".into());
}

/// A reader that sees the change counted finds the change.
fn entry_after_a_change(thread: &ModelThread) {
    let before = thread.before().changes;
    if thread.cache.change_count() > before {
        let found = thread.entry(&changed(thread));
        thread.expect(found == Some(2), || format!("{found:?}"));
    }
}

/// The successor was put after the other key was deleted.
fn entry_of_the_successor(thread: &ModelThread) {
    if thread.entry(&successor(thread)).is_some() {
        let found = thread.entry(&changed(thread));
        thread.expect(found.is_none(), || "both at once".into());
    }
}

fn peek_at_the_successor(thread: &ModelThread) {
    if thread.peek(&successor(thread)).is_some() {
        let found = thread.peek(&changed(thread));
        thread.expect(found.is_none(), || "both at once".into());
    }
}

fn entry_of_the_changed(thread: &ModelThread) {
    thread.entry(&changed(thread));
}

fn peek_at_the_changed(thread: &ModelThread) {
    thread.peek(&changed(thread));
}

fn list_keys(thread: &ModelThread) {
    thread.keys(ALL, &[]);
}

fn list_entries(thread: &ModelThread) {
    thread.entries(ALL, &[]);
}

fn list_keys_with_the_changed(thread: &ModelThread) {
    thread.keys(ALL, &[changed(thread)]);
}

fn list_entries_with_the_changed(thread: &ModelThread) {
    thread.entries(ALL, &[changed(thread)]);
}

fn list_entries_of_both(thread: &ModelThread) {
    thread.entries(ALL, &[bystander(thread), changed(thread)]);
}

/// Lists the key at the first position.
fn list_the_first_key(thread: &ModelThread) {
    thread.keys(1, &[bystander(thread)]);
}

fn list_the_first_entry(thread: &ModelThread) {
    thread.entries(1, &[bystander(thread)]);
}

/// A committed redo record is complete, and so is the record that it names.
fn redo_record_is_complete(thread: &ModelThread) {
    let generation = thread.generation();
    let armed = generation.header().redo();
    if let RedoState::Committed(Redo::Insert { link, after, .. }) = armed {
        let record = generation
            .segment(link.addr().segment)
            .unwrap()
            .verify(link.addr().unit);
        thread.expect(record.is_ok_and(|record| record.is_some()), || {
            "no record".into()
        });
        thread.expect(after.roster_len == 2, || format!("{after:?}"));
    } else {
        thread.expect(armed == RedoState::Cleared, || format!("{armed:?}"));
    }
}

/// An insertion stores nothing but the record before its redo record is committed.
fn redo_record_comes_first(thread: &ModelThread) {
    let generation = thread.generation();
    if generation.header().occupied() == 2 {
        acquire_fence();
        let armed = generation.header().has_redo();
        let done = armed || thread.entry(&changed(thread)).is_some();
        thread.expect(done, || "half an insertion without a redo record".into());
    }
}

/// The redo record stays committed until the heap's end is after the record.
fn redo_record_lasts_until_the_end(thread: &ModelThread) {
    let generation = thread.generation();
    let header = generation.header();
    if thread.entry(&changed(thread)).is_some() && !header.has_redo() {
        acquire_fence();
        let (tail, reserved) = (header.raw(word::TAIL), header.raw(word::RESERVED));
        thread.expect(tail == reserved, || "a linked record after the end".into());
    }
}

/// Nothing is stored after the reserved end, and the live bytes that will result are stored first.
fn reservation_comes_first(thread: &ModelThread) {
    let generation = thread.generation();
    let header = generation.header();
    let end = thread.before().end;
    let blank = generation
        .segment(end.segment)
        .unwrap()
        .is_blank(end.unit)
        .unwrap();
    acquire_fence();
    let reserved = header.reserved();
    thread.expect(blank || reserved > end, || {
        "bytes that are not reserved".into()
    });
    acquire_fence();
    if reserved > end {
        let live = header.live_after();
        thread.expect(live == 2 * thread.before().live, || {
            format!("{live} live bytes")
        });
    }
}

/// The heap's end moves over a record only once that is linked.
fn link_comes_before_the_end(thread: &ModelThread) {
    if thread.generation().header().tail() > thread.before().end {
        let found = thread.entry(&changed(thread));
        thread.expect(found == Some(2), || format!("{found:?}"));
    }
}

/// A reader that sees a change counted sees all of it.
fn counted_is_complete(thread: &ModelThread) {
    let generation = thread.generation();
    if generation.header().changes() > thread.before().changes {
        let entries = generation.header().occupied();
        thread.expect(entries == 1, || format!("{entries} entries"));
    }
}

/// A read while no writer was at work never sees a change in flight.
fn idle_is_no_work_in_progress(thread: &ModelThread) {
    let generation = thread.generation();
    let header = generation.header();
    let changes = header.changes();
    if header.occupied() == 2 && header.is_idle_since(changes) {
        let finished = changes > thread.before().changes;
        thread.expect(finished, || "an insertion that was not finished".into());
    }
}

fn verify(thread: &ModelThread) {
    thread.verify();
}

/// Leaves enough deleted slots on each side that the next insertion replaces the region.
fn leave_tombstones(thread: &ModelThread) {
    for side in 0..thread.sides() {
        let keys: Vec<_> = (0..8).map(|n| thread.key(side, 0, n)).collect();
        for key in &keys {
            thread.put(key, 1);
        }
        for key in &keys[1..] {
            thread.delete(key);
        }
    }
}

fn purge(thread: &ModelThread) {
    thread.put(&thread.key(0, 0, 9), 1);
}

/// Builds the second region in the place of the first.
/// S4: a reader of the first one's contents sees another state word there.
fn purge_both_sides(thread: &ModelThread) {
    thread.put(&thread.key(0, 0, 9), 1);
    thread.put(&thread.key(1, 0, 9), 1);
}

/// Fills a region up to its limit, with keys of both sides.
fn fill(thread: &ModelThread) {
    for n in 0..7 {
        thread.put(&thread.key(0, 0, n), 1);
        thread.put(&thread.key(1, 0, n), 1);
    }
}

fn split(thread: &ModelThread) {
    thread.put(&thread.key(1, 0, 9), 1);
}

fn entries_of_both_sides(thread: &ModelThread) {
    for side in [1, 0] {
        let found = thread.entry(&thread.key(side, 0, 6));
        thread.expect(found.is_some(), || format!("side {side}: not found"));
    }
}

fn many_of_both_sides(thread: &ModelThread) {
    let found = thread.many([&thread.key(1, 0, 6), &thread.key(0, 0, 6)]);
    thread.expect(found == [Some(1); 2], || format!("{found:?}"));
}

fn peek_at_both_sides(thread: &ModelThread) {
    for side in [1, 0] {
        let found = thread.peek(&thread.key(side, 0, 6));
        thread.expect(found.is_some(), || format!("side {side}: not found"));
    }
}

fn rebuild(thread: &ModelThread) {
    thread.rebuild(&[bystander(thread), changed(thread)], 2);
}

/// A listing has all old entries or, from one moment on, all new ones.
fn entries_of_one_generation(thread: &ModelThread) {
    let first = thread.entry(&changed(thread));
    let second = thread.entry(&bystander(thread));
    thread.expect(first.is_some() && second >= first, || {
        format!("{first:?}, then {second:?}")
    });
}

fn many_of_one_generation(thread: &ModelThread) {
    let [first, second] = thread.many([&changed(thread), &bystander(thread)]);
    thread.expect(first.is_some() && second >= first, || {
        format!("{first:?}, then {second:?}")
    });
}

fn peeks_of_one_generation(thread: &ModelThread) {
    let first = thread.peek(&changed(thread));
    let second = thread.peek(&bystander(thread));
    thread.expect(first.is_some() && second >= first, || {
        format!("{first:?}, then {second:?}")
    });
}

/// Leaves so little room in the segment that the next record begins another.
fn fill_the_segment(thread: &ModelThread) {
    put_bystander(thread);
    thread.fill_the_segment();
}

/// Leaves a dead record.
fn put_both_and_overwrite(thread: &ModelThread) {
    thread.put(&changed(thread), 1);
    thread.put(&bystander(thread), 1);
    thread.put(&changed(thread), 2);
}

fn compact(thread: &ModelThread) {
    thread.succeed(thread.cache.compact());
}

const fn model(
    name: &'static str,
    before: ThreadBody,
    writer: ThreadBody,
    readers: &'static [ThreadBody],
) -> Model {
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

const fn in_place(model: Model) -> Model {
    Model {
        options: in_place_options,
        ..model
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
        "a kill, the redo record is complete",
        put_bystander,
        insert,
        &[redo_record_is_complete],
    ),
    model(
        "a kill, the redo record comes first",
        put_bystander,
        insert,
        &[redo_record_comes_first],
    ),
    model(
        "a kill, the redo record lasts until the end",
        put_bystander,
        insert,
        &[redo_record_lasts_until_the_end],
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
    // A listing that reads no position has no fence but those of its count.
    model(
        "insert the first, list keys",
        put_nothing,
        insert,
        &[list_keys],
    ),
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
    in_place(model(
        "overwrite in place, get twice",
        put_changed,
        overwrite_in_place,
        &[entry_twice],
    )),
    in_place(model(
        "overwrite in place, get many",
        put_changed,
        overwrite_in_place,
        &[many_times_the_changed],
    )),
    in_place(model(
        "overwrite in place, peek twice",
        put_changed,
        overwrite_in_place,
        &[peek_twice],
    )),
    in_place(model(
        "overwrite in place, peek and get",
        put_changed,
        overwrite_in_place,
        &[peek_then_entry],
    )),
    in_place(model(
        "overwrite in place, get what changed",
        put_changed,
        overwrite,
        &[entry_after_a_change],
    )),
    in_place(model(
        "overwrite in place, list keys",
        put_changed,
        overwrite_in_place,
        &[list_keys_with_the_changed],
    )),
    in_place(model(
        "overwrite in place, list entries",
        put_changed,
        overwrite_in_place,
        &[list_entries_with_the_changed],
    )),
    in_place(model(
        "overwrite in place, verify",
        put_changed,
        overwrite,
        &[verify],
    )),
    in_place(model(
        "a kill, the redo copy is complete",
        put_changed,
        overwrite_in_place,
        &[redo_copy_is_complete],
    )),
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
