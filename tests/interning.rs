//! The memory that pools and caches allocate and free, as the allocator counts it.
//!
//! To check that nothing leaks:
//!
//! ```sh
//! CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER="valgrind --leak-check=full \
//!     --errors-for-leak-kinds=definite,indirect --error-exitcode=1" cargo test --test interning
//! ```

#[path = "../benches/pool/counting.rs"]
mod counting;

use std::hint::black_box;

use counting::count;
use mmapcache::intern::{DecodeCache, DecodeOptions, Pool, PoolOptions, Retention};

const ALL: [Retention; 3] = [
    Retention::Forever,
    Retention::UntilReleased,
    Retention::UntilReset,
];

fn pool(retention: Retention) -> Pool {
    PoolOptions::new().retention(retention).build()
}

/// A cache that does not read the clock, which `rustix` reads from a page that valgrind hides.
fn of_ten<T>() -> DecodeCache<T> {
    DecodeOptions::new().no_max_age().max_entries(10).build()
}

/// Runs something twice, and returns how many bytes more are allocated after the second time. What is
/// allocated once is allocated after the first.
fn grown_by(mut run: impl FnMut()) -> isize {
    run();
    count(run).2
}

#[test]
fn repeated_interning_needs_no_memory() {
    for retention in ALL {
        let pool = pool(retention);
        let held = pool.intern("blocks");
        let again = || {
            for _ in 0..100_000 {
                assert_eq!(black_box(pool.intern("blocks")), held);
            }
        };
        assert_eq!(grown_by(again), 0, "{retention:?}");
        assert_eq!(pool.stats().hits, 200_000);
    }
    let released = pool(Retention::UntilReleased);
    let intern_and_drop = || (0..10_000).for_each(|i| drop(released.intern(format!("value {i}"))));
    assert_eq!(grown_by(intern_and_drop), 0, "values that are dropped");
    let cache: DecodeCache<Vec<u8>> = of_ten();
    let decode = || {
        for i in 0..10_000_u32 {
            let packed = i.to_le_bytes();
            let decoded = cache.get_or_decode(packed, |packed| Ok::<_, ()>(packed.to_vec()));
            assert_eq!(*decoded.unwrap(), packed);
        }
    };
    assert_eq!(grown_by(decode), 0, "instances that come and go");
}

// All memory is freed when pools and handles are gone, in either order.
#[test]
fn memory_returns_in_either_order() {
    for retention in ALL {
        for pool_first in [true, false] {
            let intern_and_drop = || {
                let pool = pool(retention);
                let handles: Vec<_> = (0..1_000).map(|i| pool.intern(format!("{i}"))).collect();
                if pool_first {
                    drop(pool);
                    drop(handles);
                } else {
                    drop(handles);
                    drop(pool);
                }
            };
            assert_eq!(grown_by(intern_and_drop), 0, "{retention:?}");
        }
    }
    let hold_beyond = || {
        let cache: DecodeCache<String> = of_ten();
        cache.pin("", String::new());
        let decode = |i: u32| cache.get_or_decode(i.to_le_bytes(), |_| Ok::<_, ()>(i.to_string()));
        let held: Vec<_> = (0..100).map(|i| decode(i).unwrap()).collect();
        drop(cache);
        drop(held);
    };
    assert_eq!(grown_by(hold_beyond), 0);
}

#[test]
fn pool_reports_its_true_size() {
    for retention in ALL {
        let pool = pool(retention);
        let mut handles = Vec::with_capacity(10_000);
        let ((), _, taken) = count(|| {
            for i in 0..10_000_usize {
                let value = format!("{i:>width$}", width = i % 50);
                handles.push(pool.intern(&value));
            }
        });
        assert_eq!(pool.stats().bytes_held, taken as u64, "{retention:?}");
    }
}

#[test]
fn reset_and_shrink_free_memory() {
    let pool = pool(Retention::UntilReset);
    let fill = || (0..10_000).for_each(|i| drop(pool.intern(format!("value {i}"))));
    let ((), _, left) = count(|| {
        let ((), _, taken) = count(fill);
        assert!(taken > 10_000 * 56);
        assert_eq!(pool.shrink(), 10_000);
        let ((), _, again) = count(fill);
        assert_eq!(again, taken);
        assert_eq!(pool.reset(), Ok(10_000));
    });
    assert_eq!(left, 0);
}
