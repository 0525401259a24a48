//! An allocator that counts what it hands out.
#![expect(
    unsafe_code,
    reason = "an allocator has no other way; it only counts what the system's does"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering::Relaxed};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

static CALLS: AtomicUsize = AtomicUsize::new(0);
static BYTES: AtomicIsize = AtomicIsize::new(0);

struct Counting;

// SAFETY: every call is handed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.fetch_add(1, Relaxed);
        BYTES.fetch_add(layout.size() as isize, Relaxed);
        // SAFETY: the caller's promise is handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        BYTES.fetch_sub(layout.size() as isize, Relaxed);
        // SAFETY: the caller's promise is handed on.
        unsafe { System.dealloc(place, layout) }
    }
}

/// Allocations so far, and bytes that are allocated now.
pub(crate) fn now() -> (usize, isize) {
    (CALLS.load(Relaxed), BYTES.load(Relaxed))
}

/// What something returns, with the allocations that it made and the bytes that it left.
pub(crate) fn count<T>(run: impl FnOnce() -> T) -> (T, usize, isize) {
    let before = now();
    let returned = run();
    let after = now();
    (returned, after.0 - before.0, after.1 - before.1)
}
