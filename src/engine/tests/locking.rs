//! Who holds the writer lock, and for how long.
//!
//! Uses handles and threads of one process; `tests/` has several processes.

use crate::engine::tests::*;

#[test]
fn exclusive_handle_locks_until_dropped() {
    let scratch = Scratch::new();
    let exclusive = scratch.open(Options::new().exclusive(true));
    let other =
        scratch.open(Options::new().lock_timeout(Some(std::time::Duration::from_millis(10))));
    exclusive.put(b"k", b"v").unwrap();
    assert!(matches!(
        other.put(b"k", b"w").as_ref().map_err(crate::Error::kind),
        Err(crate::ErrorKind::Locked { .. })
    ));
    assert_eq!(other.get(b"k").unwrap().unwrap(), b"v");
    exclusive.clear().unwrap();
    assert!(
        matches!(
            other.put(b"k", b"w").as_ref().map_err(crate::Error::kind),
            Err(crate::ErrorKind::Locked { .. })
        ),
        "also after a switch of generation"
    );
    drop(exclusive);
    other.put(b"k", b"w").unwrap();
}

// A reader that follows a generation switch late does not replace the lock of a writer that has
// switched again.
#[test]
fn late_reader_keeps_the_writer_lock() {
    let scratch = Scratch::new();
    let exclusive = scratch.open(tiny().exclusive(true));
    let other = scratch.open(tiny().lock_timeout(Some(std::time::Duration::ZERO)));
    let locked = || {
        matches!(
            other.put(b"k", b"w").as_ref().map_err(crate::Error::kind),
            Err(crate::ErrorKind::Locked { .. })
        )
    };
    let handle = &exclusive.handle;
    let stale = handle.generation.load_full();
    exclusive.clear().unwrap();
    // A reading thread has noticed the switch, and opens the new index while another one follows
    // too.
    let opened = handle.open_fresh().unwrap();
    exclusive.clear().unwrap();
    handle.adopt(&stale, std::sync::Arc::new(opened));
    assert!(locked(), "the generation with the lock was replaced");
    exclusive.put(b"k", b"v").unwrap();
    assert!(locked(), "another lock was taken in its place");
    assert_eq!(other.get(b"k").unwrap().unwrap(), b"v");
}

// An exclusive handle keeps its lock while its other threads follow its generation switches.
#[test]
fn exclusive_lock_survives_generation_switches() {
    use crate::sync::{Relaxed, Word};
    let scratch = Scratch::new();
    let exclusive = scratch.open(tiny().exclusive(true));
    let other = scratch.open(tiny().lock_timeout(Some(std::time::Duration::ZERO)));
    let over = Word::new(0);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while over.load(Relaxed) == 0 {
                    if let Some(value) = exclusive.get(b"k").unwrap() {
                        assert_eq!(value, b"v");
                    }
                    assert!(exclusive.keys().unwrap().count() <= 1);
                }
            });
        }
        let writing = std::panic::AssertUnwindSafe(|| {
            for _ in 0..50 {
                exclusive.clear().unwrap();
                let refused = other.put(b"k", b"theirs");
                assert!(matches!(
                    refused.as_ref().map_err(crate::Error::kind),
                    Err(crate::ErrorKind::Locked { .. })
                ));
                exclusive.put(b"k", b"v").unwrap();
            }
        });
        let written = std::panic::catch_unwind(writing);
        over.store(1, Relaxed);
        written.unwrap();
    });
    assert_clean(&exclusive);
}
