//! An allocator that counts what a thread takes and gives back; of other threads it knows nothing.
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

// SAFETY: every call is handed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.set(CALLS.get() + 1);
        BYTES.set(BYTES.get() + layout.size() as isize);
        // SAFETY: the caller's promise is handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        BYTES.set(BYTES.get() - layout.size() as isize);
        // SAFETY: the caller's promise is handed on.
        unsafe { System.dealloc(place, layout) }
    }
}

/// What something returns, with the allocations that this thread made and the bytes that it left.
pub(crate) fn count<T>(run: impl FnOnce() -> T) -> (T, usize, isize) {
    let before = (CALLS.get(), BYTES.get());
    let returned = run();
    (returned, CALLS.get() - before.0, BYTES.get() - before.1)
}
