//! The callback for removals, called when no lock is held.
//!
//! May call `engine` and everything below it.

use std::cell::RefCell;

use crate::engine::handle::Handle;
use crate::engine::read::lookup::EntryTerms;
use crate::engine::removals::RemovalCause;
use crate::engine::statistics::Counter;

thread_local! {
    /// The handles whose callbacks this thread is calling, by their addresses.
    static CALLING: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

type Callback = dyn Fn(&[u8], RemovalCause, u64) + Send + Sync;

/// A callback of the user.
pub(super) struct OnRemoval(Box<Callback>);

/// Ends the calls, after a panic of the callback too.
struct Calling(usize);

impl Drop for Calling {
    fn drop(&mut self) {
        CALLING.with_borrow_mut(|calling| calling.retain(|&at| at != self.0));
    }
}

impl OnRemoval {
    pub(super) fn new(callback: impl Fn(&[u8], RemovalCause, u64) + Send + Sync + 'static) -> Self {
        Self(Box::new(callback))
    }

    /// Reports the removals that were noted. Does nothing if this thread is in the callback: it goes on
    /// there when the callback returns.
    pub(super) fn report(&self, handle: &Handle) {
        let Some(removals) = &handle.removals else {
            return;
        };
        let at = std::ptr::from_ref(handle).addr();
        if CALLING.with_borrow(|calling| calling.contains(&at)) {
            return;
        }
        CALLING.with_borrow_mut(|calling| calling.push(at));
        let _calling = Calling(at);
        while let Some((key, cause, size)) = removals.take() {
            (self.0)(&key, cause, size);
        }
    }
}

/// Counts and notes that an entry was removed by name, or because it had expired. `found` is `None` if
/// the entry was damaged.
pub(super) fn removed(handle: &Handle, key: &[u8], found: Option<(usize, EntryTerms)>) {
    let is_fresh = found.is_none_or(|(_, terms)| terms.is_fresh());
    let (counter, cause) = if is_fresh {
        (Counter::Removed, RemovalCause::Removed)
    } else {
        (Counter::Expired, RemovalCause::Expired)
    };
    handle.count(counter, 1);
    note(handle, key, cause, found.map_or(0, |(len, _)| len));
}

/// Notes that an entry was replaced.
pub(super) fn replaced(handle: &Handle, key: &[u8], (len, terms): (usize, EntryTerms)) {
    let cause = if terms.is_fresh() {
        RemovalCause::Replaced
    } else {
        RemovalCause::Expired
    };
    note(handle, key, cause, len);
}

fn note(handle: &Handle, key: &[u8], cause: RemovalCause, len: usize) {
    if let Some(removals) = &handle.removals {
        removals.note(key, cause, len as u64);
    }
}
