//! Corruption whose effect shows only from inside or needs many entries. `tests/damage.rs` changes
//! any byte.

use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::engine::tests::*;
use crate::sync::failpoint;

fn options() -> Options {
    let mut options = tiny();
    options.directory_bits = 3;
    options
}

fn files(path: &Path) -> Vec<PathBuf> {
    ["", ".heap", ".roster"]
        .iter()
        .map(|suffix| PathBuf::from(format!("{}{suffix}", path.display())))
        .collect()
}

fn flip(file: &std::fs::File, at: u64, mask: u8) {
    let mut byte = [0];
    if file.read_at(&mut byte, at).unwrap() == 1 {
        file.write_all_at(&[byte[0] ^ mask], at).unwrap();
    }
}

// The cleaner finds the live records that follow a corrupt one.
#[test]
fn cleaning_finds_records_after_corruption() {
    let scratch = scratch();
    let cache = scratch.open(&options());
    let first = cache.put(b"damaged", &[1; 200]).unwrap();
    for i in 0..30_u8 {
        cache.put(&[b'k', i], &[i; 300]).unwrap();
    }
    cache.put(b"dead", b"1").unwrap();
    cache.put(b"dead", b"2").unwrap();
    let heap = std::fs::File::options()
        .read(true)
        .write(true)
        .open(&files(scratch.path())[1])
        .unwrap();
    flip(&heap, 128 + 100, 0xff);
    assert_eq!(
        cache.get(b"damaged").unwrap(),
        None,
        "a damaged entry is a miss"
    );
    assert!(cache.entry(b"damaged").unwrap_err().is_corruption());
    assert_eq!(
        cache.version(b"damaged").unwrap(),
        Some(first),
        "the index still has the entry"
    );
    assert!(cache.stats().unwrap().damaged_seen > 0);
    cache.compact().unwrap();
    assert_eq!(
        cache.version(b"damaged").unwrap(),
        None,
        "its segment is gone, and with it the entry"
    );
    assert_eq!(cache.stats().unwrap().dropped, 1);
    for i in 0..30_u8 {
        assert_eq!(cache.get(&[b'k', i]).unwrap().unwrap(), [i; 300]);
    }
    assert_clean(&cache);
    cache.put(b"damaged", b"whole again").unwrap();
    assert_eq!(cache.get(b"damaged").unwrap().unwrap(), b"whole again");
}

// The records still have all that a corrupt segment header had.
#[test]
fn corrupt_segment_header_costs_nothing() {
    for at in [3, 8, 20, 40, 57, 70] {
        let scratch = scratch();
        let cache = scratch.open(&options());
        for i in 0..200_u32 {
            cache.put(&i.to_le_bytes(), &[1; 100]).unwrap();
        }
        let last = files(scratch.path())[1].with_extension("heap.1");
        let file = std::fs::File::options()
            .read(true)
            .write(true)
            .open(&last)
            .unwrap();
        flip(&file, at, 0x41);
        assert!(cache.delete(&0_u32.to_le_bytes()).unwrap());
        cache.put(&1_u32.to_le_bytes(), b"new").unwrap();
        let other = scratch.open(&options());
        other.put(b"x", b"y").unwrap();
        for handle in [&cache, &other] {
            assert_eq!(
                handle.get(&0_u32.to_le_bytes()).unwrap(),
                None,
                "byte {at}: it was deleted"
            );
            assert_eq!(
                handle.get(&1_u32.to_le_bytes()).unwrap().unwrap(),
                b"new",
                "byte {at}"
            );
            assert_eq!(handle.len(), 200);
        }
        other.compact().unwrap();
        assert_clean(&other);
    }
}

// A segment that cannot be opened is not taken for one that was cleaned and removed.
#[test]
fn corrupt_segments_count_as_present() {
    let scratch = scratch();
    let cache = scratch.open(&options());
    for round in 0..3_u8 {
        for i in 0..100_u32 {
            cache.put(&i.to_le_bytes(), &[round; 200]).unwrap();
        }
    }
    drop(cache);
    let names: Vec<_> = std::fs::read_dir(scratch.path().parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().contains(".heap"))
        .collect();
    for name in &names {
        flip(
            &std::fs::File::options()
                .read(true)
                .write(true)
                .open(name)
                .unwrap(),
            57,
            0xcc,
        );
    }
    let began = std::time::Instant::now();
    let cache = scratch.open(&options());
    cache.compact().unwrap();
    assert_eq!(
        cache.iter().unwrap().filter(|item| item.is_ok()).count(),
        100
    );
    assert!(
        began.elapsed() < std::time::Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    assert_clean(&cache);
}

// S3: a control byte that says that a slot is vacant hides its entry, and those after it. Without a
// recovery their keys would get second entries, and the old values come back with the next split.
#[test]
fn corrupt_control_bytes_hide_no_entry() {
    for control in [0x00, 0x01, 0x4e] {
        let scratch = scratch();
        let cache = scratch.open(&options());
        for i in 0..12_u32 {
            cache.put(&i.to_le_bytes(), b"old").unwrap();
        }
        let generation = cache.handle.generation.load_full();
        let hash = generation.hasher.hash(&3_u32.to_le_bytes());
        let region = region_of(&generation, hash);
        let (index, _, _) = region.probe(hash).next().unwrap();
        let at = generation.table.region_at(region.number()) + 64 + u64::from(index);
        drop(generation);
        let file = std::fs::File::options().write(true).open(scratch.path());
        file.unwrap().write_all_at(&[control], at).unwrap();
        assert_eq!(cache.get(&3_u32.to_le_bytes()).unwrap(), None);
        cache.put(&3_u32.to_le_bytes(), b"new").unwrap();
        assert_eq!(cache.len(), 12);
        assert_eq!(cache.get(&3_u32.to_le_bytes()).unwrap().unwrap(), b"new");
        assert_clean(&cache);
    }
}

// An entry with a corrupt roster position is not lost when its region is rebuilt.
#[test]
fn corrupt_position_keeps_its_entry() {
    let scratch = scratch();
    let cache = scratch.open(&options());
    for i in 0..10_u32 {
        cache.put(&i.to_le_bytes(), b"old").unwrap();
    }
    let generation = cache.handle.generation.load_full();
    let hash = generation.hasher.hash(&3_u32.to_le_bytes());
    let region = region_of(&generation, hash);
    let (_, slot, _) = region.probe(hash).next().unwrap();
    let mut identity = slot.identity();
    identity.position = 70_000;
    slot.set_identity(identity);
    // Acknowledged after the corruption: it must survive splits and larger regions.
    cache.put(&3_u32.to_le_bytes(), b"new").unwrap();
    for i in 10..400_u32 {
        cache.put(&i.to_le_bytes(), b"more").unwrap();
    }
    assert_eq!(cache.get(&3_u32.to_le_bytes()).unwrap().unwrap(), b"new");
    assert_eq!(cache.keys().unwrap().count(), 400);
    assert_clean(&cache);
}

/// The committed end is moved into the middle of the heap: what follows is not a record in flight,
/// and must not be erased as one.
#[test]
fn corrupt_heap_end_costs_nothing() {
    // Each record takes eleven units: the end is moved to the beginning of one, and inside one.
    for units in [1, 7, 11, 22, 45, 200] {
        let scratch = scratch();
        let cache = scratch.open(&options());
        for i in 0..40_u32 {
            cache.put(&i.to_le_bytes(), &[7; 60]).unwrap();
        }
        let generation = cache.handle.generation.load_full();
        let mut end = generation.header().tail();
        end.unit -= units;
        generation.header().corrupt(word::TAIL, end.to_word());
        cache.put(b"another", b"value").unwrap();
        for i in 0..40_u32 {
            assert_eq!(
                cache.get(&i.to_le_bytes()).unwrap().unwrap(),
                [7; 60],
                "{i}"
            );
        }
        assert_clean(&cache);
    }
}

// Index and roster are restored from a copy, beside a heap that has grown since: they agree with
// each other in everything. A check that called them clean would hide the loss.
#[test]
fn stale_index_is_not_clean() {
    let scratch = scratch();
    let cache = scratch.open(&options());
    cache.put(b"key", b"old").unwrap();
    cache.flush().unwrap();
    let copies = ["", ".roster"].map(|suffix| {
        let path = PathBuf::from(format!("{}{suffix}", scratch.path().display()));
        (std::fs::read(&path).unwrap(), path)
    });
    cache.put(b"key", b"new").unwrap();
    cache.flush().unwrap();
    drop(cache);
    for (bytes, path) in copies {
        std::fs::write(path, bytes).unwrap();
    }
    let report = scratch
        .open(Options::new().read_only(true))
        .verify()
        .run()
        .unwrap();
    assert!(!report.is_clean());
    Repair::new(scratch.path()).run().unwrap();
    let cache = scratch.open(&options());
    assert_eq!(cache.get(b"key").unwrap().unwrap(), b"new");
    assert_clean(&cache);
}

// What looks corrupt beside a writer is read again after a pause. A killed writer seems to be at
// work forever, so that a check must not pause at each entry.
#[test]
fn check_beside_killed_writer_is_fast() {
    let scratch = scratch();
    let cache = scratch.open(&tiny());
    for i in 0..1_500_u32 {
        cache.put(&i.to_le_bytes(), b"value").unwrap();
    }
    let generation = cache.handle.generation.load_full();
    generation.header().corrupt(word::HOLDER, 1);
    drop(cache);
    for number in 0..4 {
        let name = match number {
            0 => files(scratch.path())[1].clone(),
            number => files(scratch.path())[1].with_extension(format!("heap.{number}")),
        };
        let _ = std::fs::remove_file(name);
    }
    let cache = scratch.open(Options::new().read_only(true));
    let began = std::time::Instant::now();
    let report = cache.verify().run().unwrap();
    assert!(report.problem_count >= 1_000, "{}", report.problem_count);
    let took = began.elapsed();
    assert!(took < std::time::Duration::from_secs(8), "{took:?}");
}

// A corrupt number of the oldest segment brings no deleted entry back.
// H5: a deletion record stays as long as an older segment may have its key.
#[test]
fn corrupt_oldest_segment_resurrects_nothing() {
    let scratch = scratch();
    let mut paused = options();
    paused.compaction_threshold(10_000, 1 << 30);
    let cache = scratch.open(&paused);
    cache.put(b"deleted", b"old").unwrap();
    for i in 0..100_u8 {
        cache.put(&[i], &[i; 400]).unwrap();
    }
    assert!(cache.delete(b"deleted").unwrap());
    let generation = cache.handle.generation.load_full();
    let segment = generation.header().tail().segment;
    for i in 0..100_u8 {
        cache.put(&[i], &[i; 400]).unwrap();
    }
    // As if the deletion were the oldest record, and could be dropped.
    generation
        .header()
        .corrupt(word::OLDEST, u64::from(segment));
    cache.compact().unwrap();
    drop(cache);
    let index = &files(scratch.path())[0];
    std::fs::remove_file(index).unwrap();
    crate::Repair::new(scratch.path()).run().unwrap();
    let cache = scratch.open(&paused);
    assert_eq!(cache.get(b"deleted").unwrap(), None);
    assert_eq!(cache.len(), 100);
    assert_clean(&cache);
}

// An entry that corruption hid does not replace a newer value of its key when the table grows.
#[test]
fn hidden_entry_replaces_no_newer_value() {
    let scratch = scratch();
    let mut options = tiny();
    options.directory_bits = 0;
    let cache = scratch.open(&options);
    put_hide_and_put_again(&scratch, &cache);
    // Beyond sixteen slots the table is rebuilt with larger regions.
    for i in 0..60_u8 {
        cache.put(&[i], b"v").unwrap();
    }
    assert_eq!(cache.get(b"key").unwrap().unwrap(), b"new");
    assert_eq!(cache.len(), 61);
    assert_clean(&cache);
}

// An entry that corruption hid is left out when the heap is rewritten.
#[test]
fn heap_rewrite_drops_hidden_entry() {
    let scratch = scratch();
    let cache = scratch.open(&tiny());
    put_hide_and_put_again(&scratch, &cache);
    cache.writer().unwrap().rewrite_heap().unwrap();
    assert_eq!(cache.get(b"key").unwrap().unwrap(), b"new");
    assert_eq!(cache.len(), 1);
    assert_clean(&cache);
}

/// Leaves `key` with two entries: the older one has another key's control byte, and is listed after
/// the newer one.
fn put_hide_and_put_again(scratch: &Scratch, cache: &MmapCache) {
    cache.put(b"first listed", b"").unwrap();
    cache.put(b"key", b"old").unwrap();
    cache.delete(b"first listed").unwrap();
    let generation = cache.handle.generation.load_full();
    let hash = generation.hasher.hash(b"key");
    let region = region_of(&generation, hash);
    let (index, _, _) = region.probe(hash).next().unwrap();
    let control = generation.table.region_at(region.number()) + 64 + u64::from(index);
    flip(&open_index(scratch), control, 0x7f);
    cache.put(b"key", b"new").unwrap();
    assert_eq!(cache.len(), 2, "the corruption hid no entry");
}

fn open_index(scratch: &Scratch) -> std::fs::File {
    let index = &files(scratch.path())[0];
    std::fs::File::options()
        .read(true)
        .write(true)
        .open(index)
        .unwrap()
}

// H1: a heap that ends within its segment's header is rebuilt, before a record is stored there.
#[test]
fn heap_end_in_header_is_rebuilt() {
    for unit in [0, 1, 8, 15] {
        let scratch = scratch();
        let cache = scratch.open(&options());
        let generation = cache.handle.generation.load_full();
        let mut end = generation.header().tail();
        end.unit = unit;
        generation.header().corrupt(word::TAIL, end.to_word());
        cache.put(b"another", b"value").unwrap();
        assert_eq!(cache.get(b"another").unwrap().unwrap(), b"value", "{unit}");
        assert_clean(&cache);
    }
}

// H1: a writer was killed in a change, and its reserved end was damaged since: the committed end does
// not go back over the records before it.
#[test]
fn corrupt_reserved_end_costs_nothing() {
    let mut met = 0;
    for steps in 0..200 {
        let scratch = scratch();
        let cache = scratch.open(&options());
        for i in 0..5_u32 {
            cache.put(&i.to_le_bytes(), &[7; 60]).unwrap();
        }
        failpoint::set(steps);
        let outcome = catch_unwind(AssertUnwindSafe(|| drop(cache.put(b"new", b"value"))));
        failpoint::clear();
        if outcome.is_ok() {
            break;
        }
        let generation = cache.handle.generation.load_full();
        if !generation.header().has_redo() {
            continue;
        }
        met += 1;
        let mut end = generation.header().tail();
        end.unit -= 11;
        generation.header().corrupt(word::RESERVED, end.to_word());
        cache.put(b"another", b"value").unwrap();
        for i in 0..5_u32 {
            assert_eq!(
                cache.get(&i.to_le_bytes()).unwrap().unwrap(),
                [7; 60],
                "{i}"
            );
        }
        assert_clean(&cache);
    }
    assert!(met > 5);
}

// S6: a free region that the free list names twice is given once, so each half of a split gets a region
// of its own.
#[test]
fn looped_free_list_costs_nothing() {
    let scratch = scratch();
    let cache = scratch.open(&options());
    let generation = cache.handle.generation.load_full();
    let table = &generation.table;
    for i in 0..100_u32 {
        if let Some(free) = table.header().counters().free_region.checked_sub(1) {
            table.region(free as u32).unwrap().set_next_free(free + 1);
        }
        cache.put(&i.to_le_bytes(), &[7; 60]).unwrap();
    }
    assert_eq!(generation.header().recoveries(), 0);
    for i in 0..100_u32 {
        let value = cache.get(&i.to_le_bytes()).unwrap();
        assert_eq!(value.unwrap(), [7; 60], "{i}");
    }
    assert_clean(&cache);
}
