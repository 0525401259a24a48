//! Tests of the queue alone, without a thread: each takes the part of the writer.

use super::*;

fn take_all(queue: &Queue<u32>) -> Vec<(u64, Option<u32>)> {
    let Work::Changes(changes) = queue.take(100) else {
        panic!("the next work is no change");
    };
    let item = |change| match change {
        Change::Store(item) => Some(item),
        Change::Remove => None,
    };
    changes.into_iter().map(|(h, c)| (h, item(c))).collect()
}

/// A removal that comes while a store waits takes its place: the store is never written.
#[test]
fn removal_replaces_a_waiting_store() {
    let queue = Queue::new(1 << 20);
    queue.store(1, 10, 0);
    queue.remove(1);
    assert_eq!(queue.find(1), Pending::Remove);
    assert_eq!(take_all(&queue), [(1, None)]);
    queue.done([1]);
    assert_eq!(queue.find(1), Pending::Unknown);
}

/// A removal that comes while the writer is storing is written after it.
#[test]
fn removal_follows_a_taken_store() {
    let queue = Queue::new(1 << 20);
    queue.store(1, 10, 0);
    assert_eq!(take_all(&queue), [(1, Some(10))]);
    assert_eq!(queue.find(1), Pending::Store(10));
    queue.remove(1);
    queue.done([1]);
    assert_eq!(queue.find(1), Pending::Remove);
    assert_eq!(take_all(&queue), [(1, None)]);
}

#[test]
fn overwrite_follows_a_taken_store() {
    let queue = Queue::new(1 << 20);
    queue.store(1, 10, 0);
    take_all(&queue);
    queue.store(1, 11, 0);
    queue.done([1]);
    assert_eq!(queue.find(1), Pending::Store(11));
    assert_eq!(take_all(&queue), [(1, Some(11))]);
}

/// A failed store that is put back must not replace what came since.
#[test]
fn failed_store_yields_to_later_changes() {
    let queue = Queue::new(1 << 20);
    queue.store(1, 10, 0);
    queue.store(2, 20, 0);
    take_all(&queue);
    queue.store(1, 11, 0);
    assert!(queue.again(1, Change::Remove));
    assert!(queue.again(2, Change::Remove));
    assert_eq!(take_all(&queue), [(1, Some(11)), (2, None)]);
}

#[test]
fn full_queue_takes_no_store() {
    let queue = Queue::new(1_000);
    assert_eq!(queue.store(1, 10, 5_000), Admission::Queued);
    assert!(queue.is_full_for(1));
    assert_eq!(queue.store(2, 20, 1), Admission::Full);
    assert!(queue.remove(3));
    assert_eq!(queue.find(2), Pending::Unknown);
    take_all(&queue);
    queue.done([1, 3]);
    assert!(!queue.is_full_for(1));
    assert_eq!(queue.store(2, 20, 1), Admission::Queued);
}

/// What was stored before the clearing is gone, also from the files; what is stored after it stays.
#[test]
fn clearing_ends_earlier_changes_only() {
    let queue = Queue::new(1 << 20);
    queue.store(1, 10, 0);
    queue.store(2, 20, 0);
    queue.clear();
    queue.store(2, 21, 0);
    assert_eq!(queue.find(1), Pending::Remove);
    assert_eq!(queue.find(3), Pending::Remove);
    assert_eq!(queue.find(2), Pending::Store(21));
    assert!(matches!(queue.take(100), Work::Clear));
    queue.cleared(true);
    assert_eq!(queue.find(3), Pending::Unknown);
    assert_eq!(take_all(&queue), [(2, Some(21))]);
}

/// A failed clearing is tried again before anything that was stored after it.
#[test]
fn failed_clearing_is_next_again() {
    let queue = Queue::new(1 << 20);
    queue.clear();
    queue.store(2, 21, 0);
    assert!(matches!(queue.take(100), Work::Clear));
    queue.cleared(false);
    assert_eq!(queue.find(3), Pending::Remove);
    assert!(matches!(queue.take(100), Work::Clear));
    queue.cleared(true);
    assert_eq!(take_all(&queue), [(2, Some(21))]);
}

/// Memory stays bounded if nothing can be written for long: one clearing replaces a million removals.
#[test]
fn million_waiting_removals_become_one() {
    let queue = Queue::<u32>::new(1 << 20);
    for hash in 0..=u64::try_from(MAX_REMOVALS).unwrap() {
        queue.remove(hash);
    }
    assert_eq!(queue.take_emergency_clears(), 1);
    assert_eq!(queue.find(5), Pending::Remove);
    assert!(matches!(queue.take(100), Work::Clear));
    queue.cleared(true);
    assert_eq!(queue.find(5), Pending::Unknown);
}

#[test]
fn mark_is_reached_after_changes() {
    let queue = Queue::new(1 << 20);
    queue.store(1, 10, 0);
    let mut mark = queue.mark();
    take_all(&queue);
    queue.done([1]);
    assert_eq!(mark.try_recv(), Ok(None));
    let Work::Reached(sender) = queue.take(100) else {
        panic!("the mark is not next");
    };
    sender.send(()).unwrap();
    assert_eq!(mark.try_recv(), Ok(Some(())));
}

/// The writer cannot write: those who wait for a mark are told, and the changes stay until the queue is
/// closed. Then there is no more work, and a load still finds what was to come.
#[test]
fn failing_writer_ends_marks() {
    let queue = Queue::new(1 << 20);
    queue.store(1, 10, 0);
    queue.remove(2);
    let mut mark = queue.mark();
    assert_eq!(queue.give_up(), None);
    assert!(mark.try_recv().is_err());
    assert_eq!(take_all(&queue), [(1, Some(10)), (2, None)]);
    assert!(queue.again(1, Change::Remove));
    let mut mark = queue.mark();
    assert_eq!(queue.close(), 2);
    assert_eq!(queue.give_up(), Some(2));
    assert!(mark.try_recv().is_err());
    assert!(matches!(queue.take(100), Work::End));
    assert_eq!(queue.find(1), Pending::Remove);
    assert_eq!(queue.find(2), Pending::Remove);
}

/// The writer is gone: no change would ever count, so nothing that the files have does.
#[test]
fn broken_queue_hides_the_files() {
    let queue = Queue::new(1 << 20);
    queue.store(1, 10, 0);
    let mut mark = queue.mark();
    queue.break_off();
    assert!(mark.try_recv().is_err());
    assert_eq!(queue.find(1), Pending::Store(10));
    assert_eq!(queue.find(2), Pending::Remove);
    assert_eq!(queue.store(2, 20, 0), Admission::Closed);
    assert_eq!(queue.close(), 2);
}

/// A closed queue hands out what waits and takes nothing more, so that its thread ends.
#[test]
fn closed_queue_ends_when_empty() {
    let queue = Queue::new(1 << 20);
    queue.store(1, 10, 0);
    assert_eq!(queue.close(), 1);
    assert_eq!(queue.store(2, 20, 0), Admission::Closed);
    assert!(!queue.remove(1));
    assert!(!queue.clear());
    assert_eq!(take_all(&queue), [(1, Some(10))]);
    assert!(!queue.again(1, Change::Remove));
    assert!(matches!(queue.take(100), Work::End));
    assert!(queue.mark().try_recv().is_err());
}
