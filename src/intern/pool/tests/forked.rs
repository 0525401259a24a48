//! A shard of a pool that a forked child lost.

use crate::lock::tests::child_finds;

use crate::intern::pool::tests::*;

// The thread that forks holds the lock of the shard, as a thread that a signal interrupted may.
#[test]
fn lost_part_is_an_error() {
    let pool = PoolOptions::new()
        .retention(Retention::UntilReset)
        .shards(2)
        .build();
    let values: Vec<_> = (0..50)
        .map(|number| pool.intern(number.to_string()))
        .collect();
    let is_first = |value: &[u8]| std::ptr::eq(&**pool.shard(pool.hash(value)), &*pool.shards[0]);
    let first = values.iter().filter(|value| is_first(value)).count();
    assert!(first > 0 && first < 50);
    let held = pool.shards[0].lock().unwrap();
    assert!(child_finds(|| {
        let errors = values.iter().all(|value| {
            let again = pool.try_intern(value);
            if is_first(value) {
                again == Err(PoolError::Forked) && pool.get(value).is_none()
            } else {
                again.as_ref() == Ok(value)
            }
        });
        let mut seen = 0;
        pool.for_each(|_| seen += 1);
        let passed = (seen, pool.len(), pool.most_used(99).len(), pool.shrink());
        let rest = 50 - first;
        errors
            && passed == (rest, rest, rest, 0)
            && pool.reset() == Err(PoolError::Forked)
            && values.iter().all(|value| value.as_str().is_some())
    }));
    drop(held);
    assert_eq!(pool.intern("7"), values[7]);
}

#[test]
fn handles_of_lost_part_drop() {
    let pool = released();
    let mut value = Some(pool.intern("value"));
    let held = pool.shards[0].lock().unwrap();
    assert!(child_finds(|| {
        drop(value.take());
        pool.is_empty()
    }));
    drop(held);
    assert_eq!(pool.get("value"), value);
}
