//! Header words that say what was synced, against the syncs that happened.
//!
//! `power.rs` tests whether a disk would keep the data.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::engine::tests::recovery::*;
use crate::sync::failpoint;

// Records that a rebuild has synced are not removed before their copies are synced.
#[test]
fn rebuild_marks_its_heap_synced() {
    let scratch = scratch();
    let cache = scratch.open(&options());
    fill(20)(&cache);
    let word = |at| cache.handle.generation.load().header().raw(at);
    assert_eq!(
        word(word::FLUSHED),
        0,
        "a cache that never flushed promised nothing"
    );
    cache
        .atomic_rebuild([Ok::<_, crate::Error>((b"k", b"v"))])
        .unwrap();
    assert_eq!(word(word::FLUSHED), 1);
    assert_eq!(word(word::SYNCED), word(word::TAIL));
}

// A durable put that replaces the table is synced like any other.
#[test]
fn durable_table_replacement_is_synced() {
    let scratch = scratch();
    let mut options = options();
    options.durability(Durability::Sync);
    let cache = scratch.open(&options);
    let mut switches = 0;
    for i in 0..300 {
        let before = cache.stats().unwrap().generation;
        cache.put(&key(i), b"durable").unwrap();
        let generation = cache.handle.generation.load();
        assert_eq!(
            generation.header().raw(word::SYNCED),
            generation.header().raw(word::TAIL),
            "put {i}"
        );
        switches += u32::from(cache.stats().unwrap().generation > before);
    }
    assert!(switches > 0);
}

// A dirty mark that a killed writer did not sync is synced by the next writer.
#[test]
fn next_writer_syncs_unsynced_mark() {
    let scratch = scratch();
    let cache = scratch.open(&options());
    cache.flush().unwrap();
    let header_word = || cache.handle.generation.load().header().raw(word::DIRTY);
    for steps in 0..20 {
        failpoint::set(steps);
        let _ = catch_unwind(AssertUnwindSafe(|| cache.put(b"k", b"v").map(drop)));
        failpoint::clear();
        if header_word() == 1 {
            cache.put(b"other", b"v").unwrap();
            assert_eq!(header_word(), 2);
            return;
        }
        cache.flush().unwrap();
    }
    panic!("no step lies between the mark and its sync");
}
