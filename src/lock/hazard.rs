//! A shared `Arc` that readers use without counting a reference: hazard pointers (Michael 2004).
//!
//! A reader stores the address of the value into a slot of its own, and uses the value if its address is
//! still the current one afterwards. A writer replaces the address, and drops the old value when no slot
//! has it. The order of the reader's store and load is kept by a fence that the writer makes for all
//! threads, so a reader executes none: it can begin the next read before this one has ended. May call
//! `lock::process_fence`, the forks' part of `lock`, and `sync`.
#![cfg_attr(
    not(loom),
    expect(
        unsafe_code,
        reason = "a value is used through its address while a slot has it (L7)"
    )
)]
#![cfg_attr(
    loom,
    allow(dead_code, reason = "only a model of its own uses the slots")
)]

use std::fmt;
use std::mem;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};

use crate::lock::fork::PerProcess;
use crate::lock::mutex::Mutex;
use crate::lock::ofd::epoch;
use crate::lock::process_fence;
use crate::sync::count::THREAD_NUMBERS;
#[cfg(not(loom))]
use crate::sync::count::thread_number;
use crate::sync::{Acquire, AtomicPtr, Relaxed, Release, Word};

/// How often a writer looks whether the readers of an old value are done, before it leaves the value
/// to the next writer or slow read.
#[cfg(not(loom))]
const LOOKS: u32 = 30;

/// A shared `Arc`. Reading takes no lock, and mostly no exchange of a word; replacing it takes a lock,
/// and makes all processors execute a fence.
pub(crate) struct HazardCell<T> {
    /// Not in models of the engine: they would explore the slots with each lookup. The slots have a model
    /// of their own.
    #[cfg(not(loom))]
    hazards: Hazards<T>,
    owner: ArcSwap<T>,
    retired: PerProcess<Retired<T>>,
}

/// Values that were replaced while a reader used them. Also excludes the threads that replace.
struct Retired<T> {
    values: Mutex<Vec<Arc<T>>>,
    /// How many there are.
    count: Word,
    epoch: u64,
}

impl<T> Default for Retired<T> {
    fn default() -> Self {
        Self {
            values: Mutex::new(Vec::new()),
            count: Word::new(0),
            epoch: epoch(),
        }
    }
}

impl<T> Drop for Retired<T> {
    /// Leaks the values in a forked child: a thread of the parent may have been changing the list.
    fn drop(&mut self) {
        if self.epoch != epoch() {
            mem::forget(mem::take(self.values.get_mut()));
        }
    }
}

impl<T> fmt::Debug for HazardCell<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HazardCell")
    }
}

impl<T> HazardCell<T> {
    pub(crate) fn new(value: T) -> Self {
        let value = Arc::new(value);
        #[cfg(not(loom))]
        let hazards = Hazards::new();
        #[cfg(not(loom))]
        hazards.show(Arc::as_ptr(&value));
        Self {
            #[cfg(not(loom))]
            hazards,
            owner: ArcSwap::new(value),
            retired: PerProcess::new(),
        }
    }

    /// Passes the value to `read`, which must call no code of the caller's. `None` if this thread has no
    /// slot, already uses one, or lost a race: then [`load`](Self::load) it.
    #[cfg(not(loom))]
    #[inline(always)]
    pub(crate) fn read<R>(&self, read: impl FnOnce(&T) -> R) -> Option<R> {
        let guard = self.hazards.enter(thread_number())?;
        // SAFETY: L7: the slot has the address, so `replace` keeps the `Arc` that owns the value until
        // the guard is dropped, or the cell, which is borrowed, is.
        Some(read(unsafe { guard.value.as_ref() }))
    }

    #[cfg(loom)]
    pub(crate) fn read<R>(&self, read: impl FnOnce(&T) -> R) -> Option<R> {
        Some(read(&self.owner.load()))
    }

    /// Returns the value, counted. Drops replaced values whose readers are done.
    #[inline]
    pub(crate) fn load(&self) -> Guard<Arc<T>> {
        if self.retired.count.load(Relaxed) != 0 {
            self.drop_unused();
        }
        self.owner.load()
    }

    #[cold]
    fn drop_unused(&self) {
        #[cfg(not(loom))]
        let free = {
            let retired = &*self.retired;
            let Some(mut values) = retired.values.try_lock() else {
                return;
            };
            let free = match process_fence::in_writer() {
                true => self.unused(&mut values, 1),
                false => Vec::new(),
            };
            retired.count.store(values.len() as u64, Relaxed);
            free
        };
        #[cfg(not(loom))]
        drop(free);
    }

    pub(crate) fn load_full(&self) -> Arc<T> {
        self.owner.load_full()
    }

    pub(crate) fn store(&self, value: Arc<T>) {
        self.replace(|_| value);
    }

    /// Replaces the value by one that is made from it. One thread at a time does so, and `make` must
    /// call no code of the caller's.
    pub(crate) fn replace(&self, make: impl FnOnce(&Arc<T>) -> Arc<T>) {
        let retired = &*self.retired;
        let mut values = retired.values.lock();
        let before = self.owner.load_full();
        let after = make(&before);
        if Arc::ptr_eq(&before, &after) {
            return;
        }
        drop(before);
        let free = self.exchange(&mut values, after);
        retired.count.store(values.len() as u64, Relaxed);
        drop(values);
        // Outside the lock: it may unmap files.
        drop(free);
    }

    /// Replaces the value, and returns the old ones that no reader uses (L7).
    #[cfg(not(loom))]
    fn exchange(&self, values: &mut Vec<Arc<T>>, after: Arc<T>) -> Vec<Arc<T>> {
        // A fork between these steps leaves a child whose readers count references.
        self.hazards.hide();
        let address = Arc::as_ptr(&after);
        values.push(self.owner.swap(after));
        if !process_fence::in_writer() {
            return Vec::new();
        }
        self.hazards.show(address);
        self.unused(values, LOOKS)
    }

    #[cfg(loom)]
    fn exchange(&self, _: &mut Vec<Arc<T>>, after: Arc<T>) -> Vec<Arc<T>> {
        vec![self.owner.swap(after)]
    }

    /// Takes the values that no reader uses out of the list.
    #[cfg(not(loom))]
    fn unused(&self, values: &mut Vec<Arc<T>>, looks: u32) -> Vec<Arc<T>> {
        let mut free = Vec::new();
        for _ in 0..looks {
            let is_free = |value: &mut Arc<T>| !self.hazards.has(Arc::as_ptr(value));
            free.extend(values.extract_if(.., is_free));
            if values.is_empty() {
                break;
            }
            std::hint::spin_loop();
        }
        free
    }
}

/// The current address, and a slot for each thread that may be using it.
struct Hazards<T> {
    /// Null while the value is being replaced.
    current: AtomicPtr<T>,
    slots: Box<[Slot<T>]>,
}

/// The address that one thread uses, or null. Two cache lines, because processors fetch them in pairs.
#[repr(align(128))]
struct Slot<T>(AtomicPtr<T>);

/// Keeps an address in a slot.
struct Entered<'a, T> {
    value: NonNull<T>,
    slot: &'a AtomicPtr<T>,
}

impl<T> Drop for Entered<'_, T> {
    #[inline(always)]
    fn drop(&mut self) {
        // After all loads of the value.
        self.slot.store(ptr::null_mut(), Release);
    }
}

impl<T> Hazards<T> {
    fn new() -> Self {
        let slot = || Slot(AtomicPtr::new(ptr::null_mut()));
        Self {
            current: AtomicPtr::new(ptr::null_mut()),
            slots: (0..THREAD_NUMBERS).map(|_| slot()).collect(),
        }
    }

    /// Stores the current address into the slot of the calling thread, the only one with this number.
    #[inline(always)]
    fn enter(&self, number: usize) -> Option<Entered<'_, T>> {
        let slot = &self.slots.get(number)?.0;
        if !slot.load(Relaxed).is_null() {
            return None;
        }
        let value = NonNull::new(self.current.load(Acquire))?;
        // Release: a writer that finds this address may drop a value that this thread read before.
        slot.store(value.as_ptr(), Release);
        let entered = Entered { value, slot };
        // L7: the store of the slot before the second load of the address. If a writer has replaced the
        // address before its fence, this load sees it; otherwise the writer sees the slot.
        process_fence::in_reader();
        (self.current.load(Acquire) == value.as_ptr()).then_some(entered)
    }

    fn hide(&self) {
        self.current.store(ptr::null_mut(), Relaxed);
    }

    fn show(&self, value: *const T) {
        self.current.store(value.cast_mut(), Release);
    }

    /// Returns whether a slot has an address, after a fence.
    fn has(&self, value: *const T) -> bool {
        let is = |slot: &Slot<T>| ptr::eq(slot.0.load(Acquire), value);
        self.slots.iter().any(is)
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicBool, AtomicU64};

    use super::*;
    use crate::sync::count::NUMBERS_IN_TEST;

    /// A value that counts the living ones, and that is not what it was after its end.
    struct Counted<'a> {
        living: &'a AtomicU64,
        number: u64,
    }

    impl<'a> Counted<'a> {
        fn new(living: &'a AtomicU64, number: u64) -> Self {
            living.fetch_add(1, Relaxed);
            Self { living, number }
        }
    }

    impl Drop for Counted<'_> {
        fn drop(&mut self) {
            self.living.fetch_sub(1, Relaxed);
            self.number = u64::MAX;
        }
    }

    #[test]
    fn replaced_values_are_dropped() {
        let _own = NUMBERS_IN_TEST.lock();
        let living = AtomicU64::new(0);
        let cell = HazardCell::new(Counted::new(&living, 0));
        for number in 1..100 {
            cell.store(Arc::new(Counted::new(&living, number)));
            assert_eq!(cell.read(|value| value.number), Some(number));
            assert_eq!(living.load(Relaxed), 1);
        }
        drop(cell);
        assert_eq!(living.load(Relaxed), 0);
    }

    // L7: the value stays as long as its reader, which cannot read another one at the same time.
    #[test]
    fn value_outlives_its_reader() {
        let _own = NUMBERS_IN_TEST.lock();
        let living = AtomicU64::new(0);
        let cell = HazardCell::new(Counted::new(&living, 1));
        let read = cell.read(|value| {
            assert!(cell.read(|_| ()).is_none(), "one slot a thread");
            cell.store(Arc::new(Counted::new(&living, 2)));
            assert_eq!(living.load(Relaxed), 2);
            value.number
        });
        assert_eq!(read, Some(1));
        assert_eq!(cell.load().number, 2);
        assert_eq!(
            living.load(Relaxed),
            1,
            "and no longer than until the next load"
        );
    }

    #[test]
    fn slot_is_free_after_a_panic() {
        let _own = NUMBERS_IN_TEST.lock();
        let cell = HazardCell::new(7);
        let read = || cell.read(|_| std::panic::resume_unwind(Box::new(())));
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(read)).is_err());
        assert_eq!(cell.read(|value| *value), Some(7));
    }

    // More threads than there are slots.
    #[test]
    fn readers_see_no_dropped_value() {
        let _all = NUMBERS_IN_TEST.lock();
        const THREADS: usize = THREAD_NUMBERS + 9;
        let (living, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
        let cell = HazardCell::new(Counted::new(&living, 0));
        let (start, read) = (Barrier::new(THREADS + 1), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    start.wait();
                    let mut last = 0;
                    while !is_over.load(Relaxed) {
                        if let Some(number) = cell.read(|value| value.number) {
                            assert!((last..1_000_000).contains(&number));
                            last = number;
                            read.fetch_add(1, Relaxed);
                        }
                        std::thread::yield_now();
                    }
                });
            }
            start.wait();
            for number in 1..500 {
                cell.store(Arc::new(Counted::new(&living, number)));
            }
            while read.load(Relaxed) == 0 {
                std::thread::yield_now();
            }
            is_over.store(true, Relaxed);
        });
        cell.store(Arc::new(Counted::new(&living, 0)));
        assert_eq!(living.load(Relaxed), 1);
    }
}

#[cfg(all(test, loom))]
mod models {
    use ::loom::cell::UnsafeCell;
    use ::loom::thread;

    use super::*;
    use crate::sync::loom_model::{self, ThreadRole};

    /// The contents of an old and of a new value; loom notices a change during a read.
    struct Values {
        hazards: Hazards<UnsafeCell<u64>>,
        cells: [UnsafeCell<u64>; 2],
    }

    fn read(values: &Values) {
        for _ in 0..2 {
            if let Some(entered) = values.hazards.enter(0) {
                let is = |cell: &&UnsafeCell<u64>| ptr::eq(*cell, entered.value.as_ptr());
                let cell = values.cells.iter().find(is).expect("one of the two");
                cell.with(|_| ());
            }
        }
    }

    /// One replaces the value and drops the old one, as [`HazardCell`] does; the other reads twice.
    fn model() {
        loom_model::begin_without_files();
        let values = Arc::new(Values {
            hazards: Hazards::new(),
            cells: [UnsafeCell::new(0), UnsafeCell::new(0)],
        });
        let [old, new] = [0, 1].map(|at| ptr::from_ref(&values.cells[at]));
        values.hazards.show(old);
        let reader = Arc::clone(&values);
        let reader = thread::spawn(move || {
            loom_model::set_role(ThreadRole::Reader);
            read(&reader);
        });
        loom_model::set_role(ThreadRole::Writer);
        values.hazards.hide();
        assert!(process_fence::in_writer());
        values.hazards.show(new);
        if !values.hazards.has(old) {
            values.cells[0].with_mut(|_| ());
        }
        reader.join().unwrap();
    }

    fn is_noticed() -> bool {
        let explore = std::panic::AssertUnwindSafe(|| ::loom::model(model));
        let outcome = std::panic::catch_unwind(explore);
        loom_model::set_role(ThreadRole::Alone);
        outcome.is_err()
    }

    #[test]
    fn loom_hazards_need_both_fences() {
        assert!(!is_noticed());
        let sites = loom_model::sites().into_iter();
        let fences = sites.filter(|site| site.file.ends_with("lock/process_fence.rs"));
        let fences: Vec<_> = fences.collect();
        assert_eq!(fences.len(), 2, "{fences:?}");
        for fence in fences {
            loom_model::weaken([fence]);
            assert!(is_noticed(), "{fence:?}");
            loom_model::weaken([]);
        }
    }
}
