//! An allocator that counts what the calling thread allocates and frees.
#![expect(
    unsafe_code,
    reason = "an allocator has no other way; it only counts what the system's does"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    static CALLS: Cell<usize> = const { Cell::new(0) };
    static BYTES: Cell<isize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.set(CALLS.get() + 1);
        BYTES.set(BYTES.get() + layout.size() as isize);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        BYTES.set(BYTES.get() - layout.size() as isize);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(place, layout) }
    }
}

/// Returns the result of `run`, and how many allocations this thread made and bytes it kept.
pub(crate) fn count<T>(run: impl FnOnce() -> T) -> (T, usize, isize) {
    let before = (CALLS.get(), BYTES.get());
    let returned = run();
    (returned, CALLS.get() - before.0, BYTES.get() - before.1)
}
