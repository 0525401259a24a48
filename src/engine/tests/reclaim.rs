//! How segments are removed: which syncs come before, and which of them a write waits for.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::rc::Rc;

use crate::engine::clean::reclaim::evacuated_bytes;
use crate::engine::tests::*;
use crate::engine::write::mutator::Mutator;
use crate::format::heap_addr::{CleanCursor, HeapAddr};
use crate::format::index::word;
use crate::format::segment::first_place;
use crate::os::file_names::Stage;
use crate::sync::failpoint::{self, Operation};

/// File operations in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Event {
    Synced(u64),
    DirSynced,
    Removed(String),
}

/// Returns the file operations of a change.
fn watched(change: impl FnOnce()) -> Vec<Event> {
    let events = Rc::new(RefCell::new(Vec::new()));
    let seen = Rc::clone(&events);
    failpoint::observe(move |step| match step {
        Operation::Sync(file) => seen
            .borrow_mut()
            .push(Event::Synced(file.metadata().unwrap().ino())),
        Operation::SyncDir(_) => seen.borrow_mut().push(Event::DirSynced),
        Operation::Remove(path) => {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            seen.borrow_mut().push(Event::Removed(name));
        }
        _ => {}
    });
    change();
    failpoint::stop_observing();
    events.take()
}

/// Overwrites some of two hundred entries, which take three segments.
fn overwrite(cache: &MmapCache, times: u32) {
    for _ in 0..times {
        let turn = cache.stats().unwrap().puts as u32;
        cache
            .put(&(turn % 200).to_le_bytes(), &[turn as u8; 200])
            .unwrap();
    }
}

/// Creates a cache whose segments have dead records, all of it synced.
fn flushed_cache() -> (Scratch, MmapCache) {
    let scratch = Scratch::new();
    let cache = scratch.open(&tiny());
    overwrite(&cache, 250);
    cache.flush().unwrap();
    (scratch, cache)
}

fn inode(scratch: &Scratch, number: u16) -> u64 {
    let path = match number {
        0 => format!("{}.heap", scratch.path().display()),
        _ => format!("{}.heap.{number}", scratch.path().display()),
    };
    std::fs::metadata(path).unwrap().ino()
}

// Every write asks how many bytes are evacuated. The files are asked once for each set of segments.
#[test]
fn evacuated_bytes_are_counted_once() {
    let (scratch, cache) = flushed_cache();
    drop(cache);
    let cache = scratch.open(&tiny());
    let handle = &cache.handle;
    let generation = handle.generation.load_full();
    let (oldest, last) = (
        generation.header().oldest(),
        generation.header().tail().segment,
    );
    assert!(last - oldest >= 2, "{oldest} to {last}");
    let path = |number| handle.names.segment(number, Stage::Final);
    let len = |number| path(number).metadata().unwrap().len();
    let evacuate_to = |number| {
        let cursor = CleanCursor::at(first_place(number));
        generation.header().clean_words().set_cursor(cursor);
    };
    let mutator = Mutator::new(
        Arc::clone(&generation),
        Arc::clone(&handle.names),
        Stage::Final,
    );
    evacuate_to(oldest + 1);
    let first = len(oldest);
    assert_eq!(evacuated_bytes(&mutator), first);
    evacuate_to(oldest + 2);
    let both = first + len(oldest + 1);
    assert_eq!(evacuated_bytes(&mutator), both);
    std::fs::remove_file(path(oldest)).unwrap();
    assert_eq!(evacuated_bytes(&mutator), both);
}

// Complete segments are synced before one is removed, and the directory before the next removal.
// The last segment is left out, because a writer that stores to pages under writeback would wait
// for the disk.
// H4: what replaces the records of a segment is on the disk before the segment is unlinked.
#[test]
fn segments_are_synced_before_removal() {
    let (scratch, cache) = flushed_cache();
    cache.put(b"the mark is synced", b"").unwrap();
    let tail = || cache.handle.generation.load().header().tail().segment;
    let place = |at| HeapAddr::from_word(cache.handle.generation.load().header().raw(at));
    let flushed = place(word::SYNCED);
    // For each fully evacuated segment, the heap's end when that was first so.
    let mut spent = BTreeMap::new();
    let (mut removed, mut dir_synced) = (0, false);
    for turn in 0..4_000 {
        if turn % 130 == 0 {
            // So much is dead that several segments are evacuated one after the other.
            cache.handle.clean_pause.store(1_000, crate::sync::Relaxed);
            overwrite(&cache, 400 + turn / 13);
            cache.handle.clean_pause.store(0, crate::sync::Relaxed);
        }
        let last = inode(&scratch, tail());
        let events = watched(|| overwrite(&cache, 1));
        assert!(!events.contains(&Event::Synced(last)), "{events:?}");
        for event in events {
            match event {
                Event::DirSynced => dir_synced = true,
                Event::Removed(name) => {
                    let number = name.rsplit('.').next().unwrap().parse().unwrap_or(0);
                    assert!(place(word::SYNCED) >= spent[&number], "{name}");
                    assert!(dir_synced, "after the last removal, or the first sync");
                    (removed, dir_synced) = (removed + 1, false);
                }
                Event::Synced(_) => {}
            }
        }
        let complete = first_place(tail());
        assert!(place(word::SYNCED) <= complete.max(flushed));
        let cleaning = cache.handle.generation.load().header().clean_cursor();
        for number in 0..cleaning.unwrap().addr.segment {
            spent.entry(number).or_insert(place(word::TAIL));
        }
    }
    assert!(removed > 3, "{removed}");
    assert_clean(&cache);
}

// A background sync finds no page in the writer's mapping: making a page read-only that was stored to
// would interrupt the writer, once for each page. What was in the pages is read again all the same.
#[cfg(target_os = "linux")]
#[test]
fn synced_segments_are_unmapped_first() {
    let (_scratch, cache) = flushed_cache();
    let mapped = Rc::new(RefCell::new(Vec::new()));
    let seen = Rc::clone(&mapped);
    failpoint::observe(move |step| {
        if let Operation::Sync(file) = step {
            seen.borrow_mut().push(mapped_pages(file));
        }
    });
    overwrite(&cache, 2_000);
    failpoint::stop_observing();
    let mapped = mapped.take();
    let (segments, others): (Vec<_>, Vec<_>) =
        mapped.iter().partition(|(path, _)| path.contains(".heap"));
    // The dirty mark is in the index, whose pages stay.
    assert!(others.iter().all(|(_, kib)| *kib > 0), "{mapped:?}");
    assert!(segments.len() > 10, "{mapped:?}");
    assert!(segments.iter().all(|(_, kib)| *kib == 0), "{mapped:?}");
    assert!(cache.verify().run().unwrap().is_clean());
}

/// Returns the path of a file that this process has mapped, and how much of it is in the mappings, in
/// KiB.
#[cfg(target_os = "linux")]
fn mapped_pages(file: &std::fs::File) -> (String, u64) {
    let inode = file.metadata().unwrap().ino().to_string();
    let all = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let mut found = (String::new(), 0);
    let mut is_meant = false;
    for line in all.lines() {
        let fields: Vec<_> = line.split_whitespace().collect();
        match fields[..] {
            ["Rss:", size, "kB"] if is_meant => found.1 += size.parse::<u64>().unwrap(),
            // The memory of no file has no path, and a removed file's is followed by "(deleted)".
            [addresses, _rights, _offset, _device, of, ..] if !addresses.ends_with(':') => {
                is_meant = of == inode;
                if is_meant {
                    found.0 = fields[5..].join(" ");
                }
            }
            _ => {}
        }
    }
    found
}

// A handle without background tasks removes segments as it cleans them.
#[test]
fn foreground_handle_reclaims_segments_itself() {
    let scratch = Scratch::new();
    let cache = scratch.open(tiny().background_threads(false));
    overwrite(&cache, 250);
    cache.flush().unwrap();
    for _ in 0..1_500 {
        let events = watched(|| overwrite(&cache, 1));
        let at = events
            .iter()
            .position(|event| matches!(event, Event::Removed(_)));
        if let Some(at) = at {
            let before = &events[..at];
            assert!(before.iter().any(|event| matches!(event, Event::Synced(_))));
            assert_eq!(events.last(), Some(&Event::DirSynced));
        }
        let generation = cache.handle.generation.load();
        let cursor = generation.header().clean_cursor().unwrap();
        assert_eq!(
            cursor.addr.segment,
            generation.header().oldest(),
            "nothing waits"
        );
    }
    assert!(cache.handle.generation.load().header().oldest() > 3);
}

/// A background task covers only records that were appended before it began.
#[test]
fn background_sync_excludes_later_appends() {
    let (scratch, cache) = flushed_cache();
    for _ in 0..1_500 {
        overwrite(&cache, 1);
        let generation = cache.handle.generation.load();
        let synced = generation.header().synced_to();
        assert!(synced < generation.header().tail());
    }
    let events = watched(|| cache.flush().unwrap());
    let last = inode(
        &scratch,
        cache.handle.generation.load().header().tail().segment,
    );
    assert!(events.contains(&Event::Synced(last)));
}

/// Sixteen records are looked up together, but a small write evacuates only as much as it wrote.
#[test]
fn small_write_evacuates_few_values() {
    let scratch = Scratch::new();
    let mut options = Options::new();
    let cache = scratch.open(options.compaction_threshold(0, 0));
    let large = vec![7; 40_000];
    cache.handle.clean_pause.store(1_000, crate::sync::Relaxed);
    for i in 0..100_u32 {
        cache.put(&i.to_le_bytes(), &large).unwrap();
    }
    cache.handle.clean_pause.store(0, crate::sync::Relaxed);
    let end = || {
        let generation = cache.handle.generation.load();
        generation.header().heap_base() + generation.header().tail().bytes()
    };
    let mut carried = 0;
    for i in 0..50_u32 {
        let (before, segment) = (end(), cache.stats().unwrap().segments);
        cache.put(b"small", &i.to_le_bytes()).unwrap();
        if cache.stats().unwrap().segments == segment {
            let more = end().saturating_sub(before);
            assert!(more < 2 * 41_000, "{more} bytes");
            carried += more;
        }
    }
    assert!(carried > 400_000, "cleaning went on: {carried}");
}

/// Each handle writes twice and is dropped with its background task in flight, which never ends, as
/// in a process that ends.
fn overwrite_by_short_lived_handles(scratch: &Scratch, handles: u32) {
    for _ in 0..handles {
        overwrite(&scratch.open(&tiny()), 2);
    }
}

fn spent_segments(cache: &MmapCache) -> u16 {
    let generation = cache.handle.generation.load();
    let cursor = generation.header().clean_cursor().unwrap();
    cursor.addr.segment - generation.header().oldest()
}

/// A handle that stays removes what short-lived handles left, without waiting for the disk. How
/// much that is depends on how many of their tasks ended in time.
#[test]
fn long_lived_writer_reclaims_segments() {
    let (scratch, cache) = flushed_cache();
    drop(cache);
    overwrite_by_short_lived_handles(&scratch, 2_000);
    let cache = scratch.open(&tiny());
    let last = |cache: &MmapCache| cache.handle.generation.load().header().tail().segment;
    for _ in 0..600 {
        let tail = inode(&scratch, last(&cache));
        let events = watched(|| overwrite(&cache, 1));
        assert!(!events.contains(&Event::Synced(tail)), "{events:?}");
    }
    assert!(spent_segments(&cache) < 10, "{}", spent_segments(&cache));
    assert_clean(&cache);
}

/// The header has the place of the next step: one handle starts the sync, another one removes the
/// file, and a third continues.
#[test]
fn removal_steps_may_change_handles() {
    let (scratch, cache) = flushed_cache();
    overwrite(&cache, 600);
    let before = cache.handle.generation.load().header().oldest();
    drop(cache);
    for _ in 0..1_000 {
        let cache = scratch.open(&tiny());
        overwrite(&cache, 1);
        // What a task does in a program, whether the program waits for it or not.
        let task = cache.handle.writer_mutex().tasks.lock().under_way.take();
        if let Some(task) = task {
            task.collect().unwrap().unwrap();
        }
    }
    let cache = scratch.open(&tiny());
    let oldest = cache.handle.generation.load().header().oldest();
    assert!(oldest > before + 5, "{before} to {oldest}");
    assert!(spent_segments(&cache) < 10, "{}", spent_segments(&cache));
    assert_clean(&cache);
}
