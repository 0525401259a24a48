//! What the stores written in C and C++ share: items shown through a callback.
#![expect(unsafe_code, reason = "the pointers come from C")]

use std::ffi::{c_char, c_void};

pub(crate) type SeeItem = extern "C" fn(*mut c_void, *const c_char, usize, *const c_char, usize);

/// Passes items on to a closure, and counts them.
pub(crate) struct Lister<'a, F> {
    see: &'a mut F,
    pub(crate) count: u64,
}

impl<'a, F: FnMut(&[u8], &[u8])> Lister<'a, F> {
    pub(crate) fn new(see: &'a mut F) -> Self {
        Self { see, count: 0 }
    }

    pub(crate) fn callback(&self) -> SeeItem {
        see_item::<F>
    }

    pub(crate) fn context(&mut self) -> *mut c_void {
        std::ptr::from_mut(self).cast()
    }
}

extern "C" fn see_item<F: FnMut(&[u8], &[u8])>(
    context: *mut c_void,
    key: *const c_char,
    key_len: usize,
    value: *const c_char,
    len: usize,
) {
    // SAFETY: the context is the lister that is on the stack of the call that lists.
    let lister = unsafe { &mut *context.cast::<Lister<'_, F>>() };
    lister.count += 1;
    // SAFETY: the library shows bytes that stay as they are until this returns.
    let (key, value) = unsafe { (bytes(key.cast(), key_len), bytes(value.cast(), len)) };
    (lister.see)(key, value);
}

/// # Safety
///
/// As `slice::from_raw_parts`, but an empty slice may have a null pointer.
pub(crate) unsafe fn bytes<'a>(start: *const u8, len: usize) -> &'a [u8] {
    if len == 0 {
        return &[];
    }
    // SAFETY: the caller's contract.
    unsafe { std::slice::from_raw_parts(start, len) }
}
