//! How long values stay, and how many bytes they may take.

use std::sync::Barrier;

use crate::intern::pool::tests::*;

#[test]
fn values_stay_forever_by_default() {
    let pool = Pool::new();
    let address = pool.intern("kept").as_ptr().addr();
    assert_eq!(pool.shrink(), 0);
    assert_eq!(pool.get("kept").unwrap().as_ptr().addr(), address);
    assert!(matches!(pool.reset(), Err(PoolError::Retained { .. })));
    assert_eq!(pool.len(), 1);
}

#[test]
fn value_goes_with_last_handle() {
    let pool = released();
    let first = pool.intern("a");
    let second = first.clone();
    let third = pool.intern("a");
    drop(first);
    drop(third);
    assert_eq!(pool.get("a").as_ref(), Some(&second));
    drop(second);
    assert!(pool.is_empty());
    assert_eq!(pool.get("a"), None);
    assert!(matches!(pool.reset(), Err(PoolError::Retained { .. })));
}

#[test]
fn handle_outlives_its_pool() {
    for retention in [
        Retention::Forever,
        Retention::UntilReleased,
        Retention::UntilReset,
    ] {
        let pool = PoolOptions::new().retention(retention).build();
        let handle = pool.intern("left over");
        drop(pool);
        let other = handle.clone();
        drop(handle);
        assert_eq!(&other[..], b"left over");
    }
}

// A reset removes all values; held handles stay readable, and equal no new handle.
#[test]
fn reset_keeps_held_values_readable() {
    let pool = PoolOptions::new().retention(Retention::UntilReset).build();
    let before: Vec<_> = (0..100)
        .map(|i| pool.intern(format!("value {i}")))
        .collect();
    assert_eq!(pool.reset(), Ok(100));
    assert!(pool.is_empty());
    assert_eq!(pool.stats().bytes_held, 0);
    for (i, old) in before.iter().enumerate() {
        assert_eq!(old.as_str(), Some(&*format!("value {i}")));
        let new = pool.intern(old);
        assert_ne!(new, *old);
        assert_eq!(new.stored_hash(), old.stored_hash());
    }
    assert_eq!(pool.len(), 100);
}

// Shrinking removes values without handles if a reset may remove values, and shrinks tables.
#[test]
fn shrinking_forgets_unheld_values() {
    let pool = PoolOptions::new().retention(Retention::UntilReset).build();
    let held = pool.intern("held");
    for i in 0..1_000 {
        pool.intern(format!("value {i}"));
    }
    assert_eq!(pool.shrink(), 1_000);
    assert_eq!(pool.get("held"), Some(held));
    let shrunk = pool.stats().bytes_held;
    assert!(shrunk < 200, "{shrunk} bytes for one value");

    let pool = released();
    drop(
        (0..1_000)
            .map(|i| pool.intern(format!("value {i}")))
            .collect::<Vec<_>>(),
    );
    assert!(pool.stats().bytes_held > 10_000, "the table is still there");
    assert_eq!(pool.shrink(), 0);
    assert_eq!(pool.stats().bytes_held, 0);
}

// A full pool refuses new values, finds those it has, and never holds more.
#[test]
fn full_pool_refuses_new_values() {
    for limit in [0, 100, 1_000, 10_000, 50_000] {
        let mut options = PoolOptions::new();
        options
            .retention(Retention::UntilReleased)
            .max_bytes(limit)
            .shards(4);
        let pool = options.build();
        let mut handles = Vec::new();
        let refused = loop {
            match pool.try_intern(format!("value {}", handles.len())) {
                Ok(handle) => handles.push(handle),
                Err(error) => break error,
            }
            assert!(pool.stats().bytes_held <= limit);
        };
        let PoolError::Full {
            limit: said,
            held,
            needed,
        } = refused
        else {
            panic!("{refused}");
        };
        assert_eq!((said, held), (limit, pool.stats().bytes_held));
        assert!(held + needed > limit);
        for (i, handle) in handles.iter().enumerate() {
            assert_eq!(pool.try_intern(format!("value {i}")).as_ref(), Ok(handle));
        }
        // A value that was removed can be interned again.
        let count = handles.len();
        drop(handles);
        pool.shrink();
        let again: Vec<_> = (0..count)
            .map(|i| pool.try_intern(format!("value {i}")))
            .collect();
        assert!(again.iter().all(Result::is_ok));
    }
}

#[test]
#[should_panic(expected = "raise `max_bytes`")]
fn interning_into_full_pool_panics() {
    PoolOptions::new()
        .max_bytes(10)
        .build()
        .intern("too long for this");
}

#[test]
fn reset_bytes_can_be_reused() {
    let mut options = PoolOptions::new();
    options
        .retention(Retention::UntilReset)
        .max_bytes(2_000)
        .shards(1);
    let pool = options.build();
    for _ in 0..100 {
        for i in 0..10 {
            pool.try_intern(format!("value {i}")).unwrap();
        }
        assert_eq!(pool.reset(), Ok(10));
    }
}

// Eight threads that take and drop the same values leave nothing in the pool.
#[test]
fn concurrent_takers_leave_nothing() {
    let pool = PoolOptions::new()
        .retention(Retention::UntilReleased)
        .shards(2)
        .build();
    let barrier = Barrier::new(8);
    std::thread::scope(|scope| {
        for thread in 0..8_usize {
            let (pool, barrier) = (&pool, &barrier);
            scope.spawn(move || {
                barrier.wait();
                let mut kept = Vec::new();
                for i in 0..20_000_usize {
                    let value = [(i * (2 * thread + 1)) as u8 % 4];
                    let handle = pool.intern(value);
                    assert_eq!(&handle[..], value);
                    // While this handle is held, all threads get it.
                    assert_eq!(pool.intern(value), handle);
                    kept.push(handle.clone());
                    if i % 5 == 0 {
                        kept.clear();
                    }
                }
            });
        }
    });
    assert_eq!(pool.len(), 0);
    pool.shrink();
    assert_eq!(pool.stats().bytes_held, 0);
}
