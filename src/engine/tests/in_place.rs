//! Records that are overwritten where they are: when, and what readers, syncs, backups and rebuilds make
//! of it.

use std::cell::RefCell;
use std::rc::Rc;

use crate::engine::read::iter::Entries;
use crate::engine::read::redo_copy;
use crate::engine::recovery::repair::Repair;
use crate::engine::tests::*;
use crate::error::ErrorKind;
use crate::format::heap_addr::HeapAddr;
use crate::index::redo::{Redo, RedoState};
use crate::sync::{Word, failpoint};

/// Small regions and segments, and overwriting in place.
fn options() -> Options {
    let mut options = tiny();
    options.in_place(true);
    options
}

/// Returns the committed end of the heap: it moves if, and only if, a record was appended.
fn tail(cache: &MmapCache) -> HeapAddr {
    generation_of(cache).header().tail()
}

/// Puts a value, and returns whether a record was overwritten where it was.
fn put_in_place(cache: &MmapCache, key: &[u8], value: &[u8]) -> bool {
    let before = tail(cache);
    let version = cache.version(key).unwrap();
    let put = cache.put(key, value).unwrap();
    assert!(version < Some(put), "versions grow");
    let entry = cache.entry(key).unwrap().unwrap();
    assert_eq!((entry.value(), entry.version()), (value, put));
    assert_eq!(cache.version(key).unwrap(), Some(put));
    tail(cache) == before
}

// No record is appended, so nothing is dead, if the new record takes as much room.
#[test]
fn equal_size_is_overwritten_in_place() {
    let scratch = scratch();
    let cache = scratch.open(&options());
    for i in 0..20_u8 {
        assert!(!put_in_place(&cache, &[i; 9], &[0; 40]));
    }
    let before = cache.stats().unwrap();
    for round in 1..50_u8 {
        for i in 0..20 {
            assert!(put_in_place(&cache, &[i; 9], &[round; 40]));
        }
    }
    // The padding absorbs some bytes.
    assert!(put_in_place(&cache, &[3; 9], &[1; 41]));
    assert!(put_in_place(&cache, &[3; 9], &[1; 47]));
    let stats = cache.stats().unwrap();
    assert_eq!(stats.overwrites, 982);
    assert_eq!(stats.dead_bytes, before.dead_bytes);
    assert_eq!(stats.heap_bytes, before.heap_bytes);
    assert!(stats.in_place);
    assert_clean(&cache);
}

// W1: another size, or more than the redo copy has room for, is appended as in any cache.
#[test]
fn other_size_is_appended() {
    let scratch = scratch();
    let cache = scratch.open(&options());
    assert!(!put_in_place(&cache, b"key", &[1; 40]));
    assert!(!put_in_place(&cache, b"key", &[2; 60]));
    assert!(!put_in_place(&cache, b"key", &[3; 20]));
    // 24 bytes of header, 7 of the key: 768 in all, or one more.
    for (len, fits) in [(737, true), (738, false), (0, true), (300, true)] {
        assert!(!put_in_place(&cache, b"another", &vec![1; len]));
        assert_eq!(
            put_in_place(&cache, b"another", &vec![2; len]),
            fits,
            "{len}"
        );
    }
    assert_clean(&cache);
    let plain = scratch_of(&tiny());
    assert!(!put_in_place(&plain.1, b"key", b"value"));
    assert!(!put_in_place(&plain.1, b"key", b"other"));
}

fn scratch_of(options: &Options) -> (Scratch, MmapCache) {
    let scratch = scratch();
    let cache = scratch.open(options);
    (scratch, cache)
}

// W2: what a flush synced stays on the disk; the record that replaces it may be overwritten again.
#[test]
fn synced_record_is_not_overwritten() {
    let (_scratch, cache) = scratch_of(&options());
    assert!(!put_in_place(&cache, b"key", b"first"));
    assert!(put_in_place(&cache, b"key", b"later"));
    for _ in 0..3 {
        cache.flush().unwrap();
        assert!(!put_in_place(&cache, b"key", b"third"));
        assert!(put_in_place(&cache, b"key", b"after"));
    }
    let durable = scratch_of(options().durability(Durability::Sync));
    assert!(!put_in_place(&durable.1, b"key", b"first"));
    assert!(!put_in_place(&durable.1, b"key", b"later"));
}

// W2: no record that a sync is about to cover is overwritten while it lasts. The place is stored before
// the first file is synced, also by the sync that a removal waits for.
#[test]
fn sync_freezes_before_it_begins() {
    let (_scratch, cache) = scratch_of(&options());
    cache.flush().unwrap();
    let generation = generation_of(&cache);
    let seen = Rc::new(RefCell::new((0, 0)));
    let counts = Rc::clone(&seen);
    let table = Arc::clone(&generation.table);
    failpoint::observe(move |step| {
        if let failpoint::Operation::Sync(_) = step {
            let header = table.header();
            let mut counts = counts.borrow_mut();
            counts.0 += 1;
            // Tasks of a handle run within the write in tests, and leave the last segment out.
            let frozen = header.frozen_to().unwrap();
            let least = header.tail().segment;
            counts.1 += u32::from(frozen.segment >= least);
        }
    });
    for round in 0..60_u8 {
        for i in 0..60_u8 {
            cache
                .put([i; 9], vec![round; 100 + usize::from(round)])
                .unwrap();
        }
    }
    cache.flush().unwrap();
    failpoint::stop_observing();
    let (syncs, frozen) = *seen.borrow();
    assert!(syncs > 5, "{syncs}");
    assert_eq!(syncs, frozen);
    let header = generation.header();
    assert_eq!(header.frozen_to(), Some(header.tail()));
    assert!(header.oldest() > 0, "segments were removed");
}

// A place that damage lowered would permit to overwrite what a sync covers.
#[test]
fn corrupt_frozen_place_permits_nothing() {
    let (_scratch, cache) = scratch_of(&options());
    assert!(!put_in_place(&cache, b"key", b"first"));
    let generation = generation_of(&cache);
    let header = generation.header();
    let was = header.raw(word::FROZEN);
    for bad in (0..64).map(|bit| was ^ (1 << bit)).chain([0, u64::MAX]) {
        header.corrupt(word::FROZEN, bad);
        assert_eq!(header.frozen_to(), None, "{bad:#x}");
        assert!(!put_in_place(&cache, b"key", b"value"), "{bad:#x}");
    }
    // The next sync repairs it: nothing before that may be overwritten.
    cache.flush().unwrap();
    assert_eq!(header.frozen_to(), Some(header.tail()));
    assert!(!put_in_place(&cache, b"key", b"other"));
    assert!(put_in_place(&cache, b"key", b"again"));
}

// A generation that keeps the heap freezes it: readers of the old one have no redo record of the new.
#[test]
fn new_generation_freezes_the_heap() {
    let (_scratch, cache) = scratch_of(&options());
    for i in 0..30_u8 {
        cache.put([i; 9], [1; 40]).unwrap();
    }
    let before = cache.stats().unwrap().generation;
    cache
        .writer()
        .unwrap()
        .session()
        .rearrange(crate::engine::switch::enlarge)
        .unwrap();
    assert_eq!(cache.stats().unwrap().generation, before + 1);
    assert!(!put_in_place(&cache, &[3; 9], &[2; 40]));
    assert!(put_in_place(&cache, &[3; 9], &[3; 40]));
    // A heap of its own is synced before it counts.
    cache.writer().unwrap().rewrite_heap().unwrap();
    assert!(!put_in_place(&cache, &[3; 9], &[4; 40]));
    assert!(put_in_place(&cache, &[3; 9], &[5; 40]));
    assert_clean(&cache);
}

// Every later generation, every segment and every copy has the flag.
#[test]
fn every_generation_keeps_the_flag() {
    let (scratch, cache) = scratch_of(&options());
    for i in 0..100_u8 {
        cache.put([i; 9], [1; 300]).unwrap();
    }
    cache.compact().unwrap();
    cache
        .atomic_rebuild([Ok::<_, crate::Error>((b"key", [1; 40]))])
        .unwrap();
    cache.clear().unwrap();
    assert!(!put_in_place(&cache, b"key", &[1; 40]));
    assert!(put_in_place(&cache, b"key", &[2; 40]));
    let copy = scratch.path().with_extension("copy");
    cache.backup().to(&copy).unwrap();
    let copied = MmapCache::open(&copy).unwrap();
    assert!(copied.stats().unwrap().in_place);
    assert_eq!(copied.get(b"key").unwrap().as_deref(), Some(&[2; 40][..]));
    drop(cache);
    std::fs::remove_file(scratch.path()).unwrap();
    Repair::new(scratch.path()).run().unwrap();
    let cache = scratch.open(&options());
    assert!(cache.stats().unwrap().in_place);
    assert!(!put_in_place(&cache, b"key", &[3; 40]));
    assert!(put_in_place(&cache, b"key", &[4; 40]));
    assert_clean(&cache);
}

#[test]
fn other_options_exclude_in_place() {
    let (scratch, cache) = scratch_of(&options());
    drop(cache);
    assert!(
        MmapCache::open(scratch.path())
            .unwrap()
            .stats()
            .unwrap()
            .in_place
    );
    let refused = tiny().in_place(false).open(scratch.path()).unwrap_err();
    let kind = refused.kind();
    assert!(
        matches!(
            kind,
            ErrorKind::OptionMismatch {
                option: "in_place",
                asked: 0,
                found: 1
            }
        ),
        "{refused}"
    );
    let (plain, _cache) = scratch_of(&tiny());
    let refused = options().open(plain.path()).unwrap_err();
    assert!(
        matches!(refused.kind(), ErrorKind::OptionMismatch { .. }),
        "{refused}"
    );
    let new = Scratch::new();
    let refused = options().append_only(true).open(new.path()).unwrap_err();
    let kind = refused.kind();
    assert!(
        matches!(
            kind,
            ErrorKind::InvalidOption {
                option: "in_place",
                ..
            }
        ),
        "{refused}"
    );
    let builder = crate::Cache::builder(new.path()).options(&options());
    let refused = builder.open().unwrap_err();
    assert!(
        matches!(refused.kind(), ErrorKind::InvalidOption { .. }),
        "{refused}"
    );
    // Options about values have no effect on labels.
    assert!(crate::Labels::open_with(new.path(), &options()).is_ok());
}

// M3: no bytes are lent that a writer may overwrite.
#[test]
#[expect(unsafe_code, reason = "the call is refused")]
fn lent_value_is_refused() {
    let (_scratch, cache) = scratch_of(&options());
    cache.put(b"key", b"value").unwrap();
    for key in [&b"key"[..], b"absent"] {
        // SAFETY: M3: no other program has the files, and nothing is lent.
        let refused = unsafe { cache.get_ref(key) }.unwrap_err();
        assert!(
            matches!(refused.kind(), ErrorKind::Unsupported { .. }),
            "{refused}"
        );
    }
}

// A torn value is never returned, whatever the handle's option says.
#[test]
fn checksums_are_always_verified() {
    let (scratch, cache) = scratch_of(&options());
    cache.put(b"key", [1; 40]).unwrap();
    let unverified = scratch.open(Options::new().verify_checksums(false));
    let generation = generation_of(&cache);
    let segment = generation.segment(0).unwrap();
    let unit = tail(&cache).unit - 4;
    let word = segment.record_word(unit);
    crate::sync::store(word, 7);
    assert_eq!(unverified.get(b"key").unwrap(), None);
}

/// Stops an overwrite in place after so many stores. Returns whether it was stopped.
fn stop_overwrite(cache: &MmapCache, steps: u64, value: &[u8]) -> bool {
    failpoint::set(steps);
    let stopped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        cache.put(b"key 5", value).unwrap();
    }));
    failpoint::clear();
    stopped.is_err()
}

/// Returns whether a redo record of an overwrite is committed.
fn is_overwriting(cache: &MmapCache) -> bool {
    let redo = generation_of(cache).header().redo();
    matches!(redo, RedoState::Committed(Redo::Overwrite { .. }))
}

fn filled(options: &Options) -> (Scratch, MmapCache) {
    let (scratch, cache) = scratch_of(options);
    for i in 0..20 {
        cache.put(format!("key {i}"), [1; 200]).unwrap();
    }
    (scratch, cache)
}

/// Reads an entry in every way without the lock, and asserts that all agree.
fn read_in_every_way(reader: &MmapCache) -> Vec<u8> {
    let entry = reader.entry(b"key 5").unwrap().unwrap();
    assert_eq!(
        reader.get(b"key 5").unwrap().as_deref(),
        Some(entry.value())
    );
    assert_eq!(reader.version(b"key 5").unwrap(), Some(entry.version()));
    assert!(reader.contains(b"key 5").unwrap());
    reader
        .get_many([b"key 5", b"key 6"], |_, value| assert!(value.is_some()))
        .unwrap();
    let listed = |items: Entries<'_>| {
        let all: Vec<_> = items.map(|item| item.unwrap()).collect();
        assert_eq!(all.len(), 20, "each entry once");
        let mut found = all.into_iter().filter(|(key, _)| key == b"key 5");
        found.next().unwrap().1
    };
    assert_eq!(listed(reader.entries().unwrap()), entry);
    let in_heap_order = Entries::in_heap_order(&reader.handle, 5).unwrap();
    assert_eq!(listed(in_heap_order.unwrap()), entry);
    assert_eq!(reader.keys().unwrap().filter(Result::is_ok).count(), 20);
    let report = reader.verify().run().unwrap();
    assert!(
        report.is_clean() && report.records == 20,
        "{:?}",
        report.problems
    );
    entry.into_value()
}

// W3, W4: a writer that was stopped at any store keeps no reader from a whole value, and no reader sees
// the old one again after the new one.
#[test]
fn stopped_overwrite_is_read_whole() {
    let (mut old, mut half, mut new) = (0, 0, 0);
    for steps in 0.. {
        let (scratch, cache) = filled(&options());
        let reader = scratch.open(Options::new().read_only(true));
        let stopped = stop_overwrite(&cache, steps, &[2; 200]);
        let seen = read_in_every_way(&reader);
        assert!(
            seen == [1; 200] || seen == [2; 200],
            "step {steps}: {seen:?}"
        );
        old += u32::from(seen == [1; 200]);
        new += u32::from(seen == [2; 200]);
        half += u32::from(seen == [2; 200] && is_overwriting(&reader));
        assert!(seen == [1; 200] || old > 0);
        drop(cache);
        if !stopped {
            break;
        }
    }
    assert!(old > 30 && half > 20 && new > half, "{old}, {half}, {new}");
}

// A rebuild from the heap, after a kill and a restart, has the old value or the new one: half of the new
// record may be all that the heap has. So has a repair, whose roster is lost too.
#[test]
fn rebuild_completes_stopped_overwrite() {
    let mut completed = 0;
    for steps in 0.. {
        let (scratch, cache) = filled(&options());
        let stopped = stop_overwrite(&cache, steps, &[2; 200]);
        let was_committed = is_overwriting(&cache);
        drop(cache);
        if steps % 2 == 0 {
            reboot(scratch.path());
        } else {
            std::fs::write(scratch.path().with_extension("roster"), b"lost").unwrap();
            Repair::new(scratch.path()).run().unwrap();
        }
        let cache = scratch.open(&options());
        let found = cache.get(b"key 5").unwrap().unwrap();
        assert!(found == [1; 200] || found == [2; 200], "step {steps}");
        assert!(!was_committed || found == [2; 200], "step {steps}");
        assert_eq!(cache.len(), 20);
        assert_clean(&cache);
        completed += u32::from(was_committed);
        drop(cache);
        if !stopped {
            break;
        }
    }
    assert!(completed > 20, "{completed}");
}

/// Puts another boot's id into the header, as after a restart.
fn reboot(path: &Path) {
    use std::os::unix::fs::FileExt;
    let mut options = std::fs::File::options();
    let file = options.read(true).write(true).open(path).unwrap();
    file.write_all_at(&[0x5a; 16], 8 * word::BOOT_ID as u64)
        .unwrap();
}

// A redo record that a power loss left from long ago changes nothing that is newer.
#[test]
fn outdated_redo_copy_changes_nothing() {
    let (scratch, cache) = filled(&options());
    for steps in 0.. {
        assert!(stop_overwrite(&cache, steps, &[2; 200]));
        if is_overwriting(&cache) {
            break;
        }
    }
    let generation = generation_of(&cache);
    let page: Vec<u64> = (0..512).map(|at| generation.header().raw(at)).collect();
    cache.put(b"key 5", [3; 200]).unwrap();
    assert!(cache.delete(b"key 6").unwrap());
    // The redo record and its copy, as they were.
    let redo = (word::INTENT..word::INTENT + 4)
        .chain(word::INTENT_COUNTERS..word::INTENT_COUNTERS + 8)
        .chain(word::REDO_COPY..512);
    for at in redo {
        generation.header().corrupt(at, page[at]);
    }
    assert!(is_overwriting(&cache));
    drop((cache, generation));
    reboot(scratch.path());
    let cache = scratch.open(&options());
    assert_eq!(cache.get(b"key 5").unwrap().as_deref(), Some(&[3; 200][..]));
    assert_eq!(cache.len(), 19);
    assert_clean(&cache);
}

// Damage is still damage: no redo record names the place, or its copy is damaged too.
#[test]
fn damaged_record_is_reported() {
    let (_scratch, cache) = filled(&options());
    for steps in 0.. {
        assert!(stop_overwrite(&cache, steps, &[2; 200]));
        if is_overwriting(&cache) {
            break;
        }
    }
    let generation = generation_of(&cache);
    let RedoState::Committed(Redo::Overwrite { place, .. }) = generation.header().redo() else {
        panic!("it is committed");
    };
    let segment = generation.segment(place.segment).unwrap();
    crate::sync::store(segment.record_word(place.unit + 9), 7);
    assert_eq!(
        cache.get(b"key 5").unwrap().as_deref(),
        Some(&[2; 200][..]),
        "by the copy"
    );
    generation.header().corrupt(word::REDO_COPY + 9, 7);
    assert_eq!(cache.get(b"key 5").unwrap(), None);
    assert!(cache.entry(b"key 5").unwrap_err().is_corruption());
    assert!(!cache.verify().run().unwrap().is_clean());
    // The next writer gives the entry up, and goes on.
    cache.put(b"key 7", [4; 200]).unwrap();
    assert_eq!(cache.get(b"key 5").unwrap(), None);
    assert_eq!(cache.stats().unwrap().dropped, 1);
    cache.put(b"key 5", [4; 200]).unwrap();
    assert_eq!(cache.len(), 20);
}

// A record that does not verify is damaged only if no writer was overwriting it: none has finished since,
// and none is at work.
#[test]
fn overwritten_record_is_not_damaged() {
    let (_scratch, cache) = filled(&options());
    let generation = generation_of(&cache);
    let header = generation.header();
    let (place, before) = (tail(&cache), header.changes());
    assert!(redo_copy::is_settled(&generation, place, before));
    cache.put(b"key 5", [2; 200]).unwrap();
    assert!(!redo_copy::is_settled(&generation, place, before));
    for steps in 0.. {
        assert!(stop_overwrite(&cache, steps, &[3; 200]));
        if is_overwriting(&cache) {
            break;
        }
    }
    let RedoState::Committed(Redo::Overwrite { place: of, .. }) = header.redo() else {
        panic!("it is committed");
    };
    let changes = header.changes();
    assert!(!redo_copy::is_settled(&generation, of, changes));
    assert!(redo_copy::is_settled(&generation, place, changes));
}

// W2: the backup copies files while writers go on: what it has not copied yet is not overwritten. It
// reports progress after each segment.
#[test]
fn backup_freezes_what_it_copies() {
    let (scratch, cache) = scratch_of(&options());
    let key = |i: u32| format!("key {i:03}");
    for i in 0..200 {
        cache.put(key(i), [1; 200]).unwrap();
    }
    assert!(tail(&cache).segment > 1, "several segments");
    let other = scratch.open(&options());
    let mut rounds = 0_u8;
    let copy = scratch.path().with_extension("copy");
    let backup = cache.backup().on_progress(|_| {
        rounds += 1;
        for i in 0..200 {
            other.put(key(i), [10 + rounds; 200]).unwrap();
        }
    });
    assert_eq!(backup.to(&copy).unwrap().entries, 200);
    assert!(rounds > 1, "{rounds}");
    let copied = MmapCache::open(&copy).unwrap();
    for item in &copied {
        assert_eq!(item.unwrap().1, [1; 200]);
    }
    assert_clean(&copied);
    // A handle that cannot store that refuses.
    let reader = scratch.open(Options::new().read_only(true));
    let refused = reader.backup().to(scratch.path().with_extension("other"));
    assert!(matches!(refused.unwrap_err().kind(), ErrorKind::ReadOnly));
}

// Readers of other threads beside writers of other handles, which overwrite a few records all the time.
#[test]
fn readers_beside_writers_see_whole_values() {
    let (scratch, cache) = scratch_of(&options());
    let keys: Vec<Vec<u8>> = (0..3_u8).map(|i| vec![i; 9]).collect();
    // All words of a value are its number: any mixture is noticed, whatever its checksum.
    let value = |number: u64| number.to_le_bytes().repeat(60);
    for key in &keys {
        cache.put(key, value(0)).unwrap();
    }
    let (is_over, read) = (Word::new(0), Word::new(0));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let reader = scratch.open(Options::new().read_only(true));
                let mut last = [0; 3];
                while is_over.load(Relaxed) == 0 {
                    for (key, last) in keys.iter().zip(&mut last) {
                        let found = reader.entry(key).unwrap().unwrap();
                        let number = u64::from_le_bytes(found.value()[..8].try_into().unwrap());
                        assert_eq!(found.value(), value(number));
                        assert!(number >= *last, "{number} after {last}");
                        *last = number;
                    }
                    assert_eq!(
                        reader.iter().unwrap().filter(|item| item.is_ok()).count(),
                        3
                    );
                    read.fetch_add(1, Relaxed);
                }
            });
        }
        let began = std::time::Instant::now();
        // Not for ever, if a reader has failed.
        let is_done = || match began.elapsed().as_secs_f64() {
            passed if passed < 0.4 => false,
            passed => passed > 30.0 || read.load(Relaxed) >= 20,
        };
        let (mut number, before) = (0, tail(&cache));
        while !is_done() {
            number += 1;
            for key in &keys {
                cache.put(key, value(number)).unwrap();
            }
        }
        assert_eq!(tail(&cache), before, "all in place");
        is_over.store(1, Relaxed);
    });
    assert_clean(&cache);
}
