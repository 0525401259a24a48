//! The callback for removals, called when no lock is held.
//!
//! May call `engine` and everything below it.

use std::cell::RefCell;
use std::sync::Arc;

use crate::engine::handle::Handle;
use crate::engine::removals::RemovalCause;
use crate::engine::statistics::Counter;
use crate::format::freshness::Freshness;

use crate::cache::found::Found;

thread_local! {
    /// The handles whose callbacks this thread is calling, by their addresses.
    static CALLING: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

type Callback = dyn Fn(&[u8], RemovalCause, u64) + Send + Sync;

/// A callback of the user. The caches of one builder share it.
#[derive(Clone)]
pub(super) struct OnRemoval(Arc<Callback>);

/// Ends the calls, after a panic of the callback too.
struct Calling(usize);

impl Drop for Calling {
    fn drop(&mut self) {
        CALLING.with_borrow_mut(|calling| calling.retain(|&at| at != self.0));
    }
}

impl OnRemoval {
    pub(super) fn new(callback: impl Fn(&[u8], RemovalCause, u64) + Send + Sync + 'static) -> Self {
        Self(Arc::new(callback))
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

/// Counts and notes that an entry was removed by name, or because it had ended. `found` is `None` if the
/// entry was damaged.
pub(super) fn removed(handle: &Handle, key: &[u8], found: Option<&Found>) {
    let ended = found.map_or(RemovalCause::Removed, |found| {
        cause(found, RemovalCause::Removed)
    });
    let counter = match ended {
        RemovalCause::Expired => Counter::Expired,
        RemovalCause::Invalidated => Counter::Invalidated,
        _ => Counter::Removed,
    };
    handle.count(counter, 1);
    note(
        handle,
        key,
        ended,
        found.map_or(0, |found| found.value.len()),
    );
}

/// Notes that an entry was replaced.
pub(super) fn replaced(handle: &Handle, key: &[u8], found: &Found) {
    let cause = cause(found, RemovalCause::Replaced);
    note(handle, key, cause, found.value.len());
}

/// Returns why an entry goes: because it has ended, or else for the reason that is given.
fn cause(found: &Found, otherwise: RemovalCause) -> RemovalCause {
    match found.freshness {
        Freshness::Fresh | Freshness::Stale => otherwise,
        Freshness::Expired | Freshness::Distrusted => RemovalCause::Expired,
        Freshness::Invalidated => RemovalCause::Invalidated,
    }
}

fn note(handle: &Handle, key: &[u8], cause: RemovalCause, len: usize) {
    if let Some(removals) = &handle.removals {
        removals.note(key, cause, len as u64);
    }
}
