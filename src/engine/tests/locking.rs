//! Who holds the writer lock, and for how long.
//!
//! Uses handles and threads of one process; `tests/` has several processes.

use crate::engine::tests::*;
use crate::engine::write::session::load_ahead;
use crate::format::heap_addr::HeapAddr;
use crate::format::slot::Link;

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

// A waiting writer loads what its change is going to read, whatever damage it finds: an error is that of
// the change, under the lock.
#[test]
fn loading_ahead_passes_over_damage() {
    let scratch = Scratch::new();
    let cache = scratch.open(&tiny());
    for i in 0..40_u8 {
        cache.put(&[i], &[i; 50]).unwrap();
    }
    let load_all = || {
        let generation = generation_of(&cache);
        (0..40_u8).for_each(|i| load_ahead(&generation, &[i]));
    };
    load_all();
    let generation = generation_of(&cache);
    for (at, value) in [
        (word::POLL, u64::MAX),
        (word::POLL, generation.header().raw(word::POLL)),
    ] {
        generation.header().corrupt(at, value);
        load_all();
    }
    let hash = generation.hasher.hash(&[7]);
    let located = generation.table.locate(generation.header().poll(), hash);
    let found = located.unwrap().region.probe(hash).next();
    let (_, slot, link) = found.unwrap();
    for (segment, unit) in [(60_000, 16), (0, u32::MAX), (0, 2)] {
        slot.set_link(Link::new(HeapAddr { segment, unit }, link.tag()));
        load_all();
    }
    cache.put(&[7], b"new").unwrap();
    assert_eq!(cache.get(&[7]).unwrap().unwrap(), b"new");
}
