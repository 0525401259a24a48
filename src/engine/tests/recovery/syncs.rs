//! What the words of the header say was synced, and that it was.
//!
//! Believes those words; `power.rs` asks whether a disk would have it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::engine::tests::recovery::*;
use crate::sync::failpoint;

#[test]
fn what_a_rebuild_has_synced_is_not_removed_before_its_copies_are() {
    let scratch = scratch();
    let cache = scratch.open(&options());
    fill(20)(&cache);
    let word = |at| cache.handle.generation.load().header().get(at);
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

#[test]
fn a_durable_put_that_had_to_replace_the_table_is_synced_like_any_other() {
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
            generation.header().get(word::SYNCED),
            generation.header().get(word::TAIL),
            "put {i}"
        );
        switches += u32::from(cache.stats().unwrap().generation > before);
    }
    assert!(switches > 0);
}

#[test]
fn a_mark_that_a_killed_writer_did_not_sync_is_synced_by_the_next() {
    let scratch = scratch();
    let cache = scratch.open(&options());
    cache.flush().unwrap();
    let header_word = || cache.handle.generation.load().header().get(word::DIRTY);
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
