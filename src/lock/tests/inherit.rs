//! Locks between threads, and their state in a forked child.

use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use crate::lock::fork::{Abandoned, ForkSafeMutex, ForkSafeRwLock, PerProcess};
use crate::lock::tests::{child_finds, child_finds_at_once};
use crate::lock::{Mutex, set_once};
use crate::sync::Relaxed;
use crate::sync::count::Count;

/// Adds one to a number some thousand times in each of four threads, by a load and a store.
fn count(add: impl Fn(&Count) + Sync) {
    let number = Count::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..20_000).for_each(|_| add(&number)));
        }
    });
    // L5: no two threads held the lock at once.
    assert_eq!(number.into_inner(), 80_000);
}

fn add_one(number: &Count) {
    number.store(number.load(Relaxed) + 1, Relaxed);
}

#[test]
fn locks_exclude_threads() {
    let (lock, shared, mutex) = (
        ForkSafeMutex::new(()),
        ForkSafeRwLock::new(()),
        Mutex::new(()),
    );
    count(|number| {
        let _held = lock.lock().unwrap();
        add_one(number);
    });
    count(|number| {
        drop(shared.read().unwrap());
        let _held = shared.write().unwrap();
        add_one(number);
    });
    count(|number| {
        let _held = mutex.lock();
        add_one(number);
    });
}

#[test]
fn readers_share_the_lock() {
    let lock = ForkSafeRwLock::new(0_u64);
    let over = Count::new(0);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while over.load(Relaxed) == 0 {
                    let first = lock.read().unwrap();
                    thread::sleep(Duration::from_micros(50));
                    drop(first);
                }
            });
        }
        // At every moment a reader holds the lock: a writer that waits for none of them would starve.
        for _ in 0..200 {
            *lock.write().unwrap() += 1;
        }
        over.store(1, Relaxed);
    });
    let (one, two) = (lock.read().unwrap(), lock.read().unwrap());
    assert_eq!((*one, *two), (200, 200));
}

#[test]
fn waiting_respects_its_deadline() {
    let mutex = Mutex::new(());
    let held = mutex.lock();
    assert!(mutex.try_lock().is_none());
    assert!(mutex.try_lock_for(Duration::from_millis(20)).is_none());
    drop(held);
    assert!(mutex.try_lock_for(Duration::from_millis(20)).is_some());
}

#[test]
fn fork_waits_for_the_holder() {
    let (lock, shared) = (ForkSafeMutex::new((0, 0)), ForkSafeRwLock::new((0, 0)));
    let over = Count::new(0);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while over.load(Relaxed) == 0 {
                    let mut both = lock.lock().unwrap();
                    both.0 += 1;
                    thread::yield_now();
                    both.1 += 1;
                    drop(both);
                    let mut both = shared.write().unwrap();
                    both.0 += 1;
                    thread::yield_now();
                    both.1 += 1;
                }
            });
        }
        let right = (0..100).all(|_| {
            child_finds(|| {
                let equal = |both: (u64, u64)| both.0 == both.1;
                lock.lock().is_ok_and(|both| equal(*both))
                    && shared.read().is_ok_and(|both| equal(*both))
                    && shared.write().is_ok_and(|both| equal(*both))
            })
        });
        over.store(1, Relaxed);
        // L6: the fork waited for the threads that held the locks.
        assert!(right, "a child found a lock held, or its data half-changed");
    });
}

/// As where a signal handler forks: the thread that forks holds the lock itself.
#[test]
fn lock_of_lost_thread_is_lost() {
    let (lock, shared) = (ForkSafeMutex::new(1), ForkSafeRwLock::new(1));
    {
        let held = (lock.lock().unwrap(), shared.read().unwrap());
        assert!(child_finds(|| {
            lock.lock().err() == Some(Abandoned)
                && shared.read().err() == Some(Abandoned)
                && shared.write().err() == Some(Abandoned)
                // Another lock works as before.
                && ForkSafeMutex::new(2).lock().is_ok_and(|new| *new == 2)
        }));
        drop(held);
        assert_eq!((*lock.lock().unwrap(), *shared.write().unwrap()), (1, 1));
    }
}

#[test]
fn concurrent_forks_both_finish() {
    let lock = ForkSafeMutex::new(7);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..30 {
                    assert!(child_finds_at_once(|| lock
                        .lock()
                        .is_ok_and(|value| *value == 7)));
                }
            });
        }
    });
}

#[test]
fn inherited_cells_are_whole() {
    let over = Count::new(0);
    let cells: Vec<_> = (0..100_000).map(|_| OnceLock::new()).collect();
    let next = Count::new(0);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while over.load(Relaxed) == 0 {
                    let at = next.fetch_add(1, Relaxed);
                    let Some(cell) = cells.get(at as usize) else {
                        return;
                    };
                    set_once(cell, || {
                        thread::sleep(Duration::from_micros(50));
                        at
                    });
                }
            });
        }
        let right = (0..50).all(|_| {
            let now = next.load(Relaxed) as usize;
            let near = now.saturating_sub(4)..(now + 20).min(cells.len());
            child_finds(|| {
                near.clone()
                    .all(|at| *set_once(&cells[at], || at as u64) == at as u64)
            })
        });
        over.store(1, Relaxed);
        assert!(right);
    });
}

#[test]
fn each_process_has_its_own_value() {
    let own = PerProcess::<Mutex<u32>>::new();
    *own.lock() = 1;
    let held = own.lock();
    assert!(child_finds(|| {
        let fresh = own.try_lock().is_some_and(|value| *value == 0);
        fresh && child_finds(|| own.try_lock().is_some_and(|value| *value == 0))
    }));
    assert_eq!(*held, 1);
}

#[test]
fn locks_may_fill_several_blocks() {
    let locks: Vec<_> = (0..200).map(ForkSafeMutex::new).collect();
    let held: Vec<_> = locks.iter().map(|lock| lock.lock().unwrap()).collect();
    assert!(held.iter().enumerate().all(|(at, value)| **value == at));
    drop(held);
    assert!(child_finds(|| {
        let all: Vec<_> = locks.iter().map(ForkSafeMutex::lock).collect();
        all.iter().all(Result::is_ok)
    }));
}
