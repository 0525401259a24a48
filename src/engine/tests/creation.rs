//! Creation of a cache beside other creators and files at its path.
//!
//! `recovery/creation.rs` stops creators; here all of them live.

use crate::engine::tests::*;

// Many threads open a new cache at the same time; all of them get the same one.
#[test]
fn concurrent_creators_share_one_cache() {
    for _ in 0..30 {
        let scratch = Scratch::new();
        std::thread::scope(|scope| {
            for thread in 0..4_u8 {
                let scratch = &scratch;
                scope.spawn(move || {
                    let cache = scratch.open(&tiny());
                    cache.put(&[thread], &[thread]).unwrap();
                    assert_eq!(cache.get(&[thread]).unwrap().unwrap(), [thread]);
                });
            }
        });
        let cache = scratch.open(&tiny());
        assert_eq!(cache.len(), 4);
        assert_clean(&cache);
    }
}

// A file that appears at the path during creation is not replaced.
#[test]
fn creation_replaces_no_file() {
    use crate::sync::failpoint;
    let mut planted = 0;
    for steps in 0.. {
        let scratch = Scratch::new();
        let path = scratch.path().to_owned();
        failpoint::interrupt(steps, move || {
            if !path.exists() {
                std::fs::write(path, "mine").unwrap();
            }
        });
        let opened = tiny().open(scratch.path());
        if failpoint::clear() {
            break;
        }
        if std::fs::read(scratch.path()).unwrap() == b"mine" {
            planted += 1;
            let error = opened.unwrap_err();
            let early = error.is_corruption();
            assert!(early || matches!(error.kind(), crate::ErrorKind::AlreadyExists));
            let dir = scratch.path().parent().unwrap();
            assert_eq!(std::fs::read_dir(dir).unwrap().count(), 2, "and the lock");
        } else {
            assert!(opened.is_ok(), "{opened:?}");
        }
    }
    assert!(planted > 20, "{planted}");
}

// A creation that fails after its commit keeps the files.
#[test]
fn committed_creation_keeps_its_files() {
    use crate::sync::failpoint;
    let mut failed = 0;
    for steps in 0.. {
        let scratch = Scratch::new();
        let path = scratch.path().to_owned();
        let roster = path.with_file_name("cache.roster");
        let in_the_way = roster.clone();
        failpoint::interrupt(steps, move || {
            if path.exists() && !in_the_way.exists() {
                std::fs::create_dir(in_the_way).unwrap();
            }
        });
        let opened = tiny().open(scratch.path());
        if failpoint::clear() {
            break;
        }
        if opened.is_err() {
            failed += 1;
            std::fs::remove_dir(roster).unwrap();
        }
        let cache = scratch.open(&tiny());
        cache.put(b"k", b"v").unwrap();
        assert_clean(&cache);
    }
    assert!(failed > 0);
}

/// Returns how many files, and how many directories, `work` syncs.
fn syncs_of(work: impl FnOnce()) -> [usize; 2] {
    use crate::sync::failpoint::{self, Operation};
    let counted = std::rc::Rc::new(std::cell::Cell::new([0; 2]));
    let counter = std::rc::Rc::clone(&counted);
    failpoint::observe(move |step| {
        let [files, dirs] = counter.get();
        match step {
            Operation::Sync(_) => counter.set([files + 1, dirs]),
            Operation::SyncDir(_) => counter.set([files, dirs + 1]),
            _ => {}
        }
    });
    work();
    failpoint::stop_observing();
    counted.get()
}

// A cache that promises nothing about power syncs only its index, before the index gets its name: also
// when it outgrows its first table.
#[test]
fn unpromising_cache_syncs_its_index_only() {
    let scratch = scratch();
    let mut options = tiny();
    options.directory_bits = 2;
    let open = || scratch.open(&options);
    assert_eq!(syncs_of(|| drop(open())), [1, 0]);
    let cache = open();
    let generation = cache.stats().unwrap().generation;
    let put_until_larger = || {
        for i in 0..100_u32 {
            cache.put(&i.to_le_bytes(), b"v").unwrap();
        }
    };
    let switches = || (cache.stats().unwrap().generation - generation) as usize;
    let synced = syncs_of(put_until_larger);
    assert!(switches() > 0);
    assert_eq!(synced, [switches(), 0]);
    // A flush syncs heap, roster and index, and the directory; then the index without its mark.
    assert_eq!(syncs_of(|| cache.flush().unwrap()), [5, 1]);
    assert_eq!(
        syncs_of(|| {
            cache.put(b"k", b"v").unwrap();
        }),
        [1, 0]
    );
    assert_clean(&cache);
}

// A durable handle's cache is on the disk when it is open, and its writes are when they return.
#[test]
fn durable_cache_syncs_each_write() {
    let scratch = scratch();
    let mut options = tiny();
    options.durability(Durability::Sync);
    assert_eq!(syncs_of(|| drop(scratch.open(&options))), [1, 1]);
    let cache = scratch.open(&options);
    assert_eq!(
        syncs_of(|| {
            cache.put(b"k", b"v").unwrap();
        }),
        [2, 1]
    );
    assert_eq!(
        syncs_of(|| {
            cache.put(b"k", b"w").unwrap();
        }),
        [1, 0]
    );
}

// After a power loss a heap elsewhere without any segment counts as not mounted. So segments are removed
// only after those that come after them are on the disk, from the creation on.
#[test]
fn heap_elsewhere_never_becomes_empty() {
    let (scratch, other) = (scratch(), scratch());
    let mut options = tiny();
    options.heap_path(other.path());
    // Heap, roster and index; their names, the rename of the index, and the renames after that.
    assert_eq!(syncs_of(|| drop(scratch.open(&options))), [3, 5]);
    let cache = scratch.open(&options);
    assert!(generation_of(&cache).header().is_flushed());
}

/// Lets the index say that it was last written to under another boot.
fn boot_again(cache: MmapCache) {
    let generation = generation_of(&cache);
    generation.header().corrupt(word::BOOT_ID, 7);
}

fn write_blank(path: &Path) {
    let len = path.metadata().unwrap().len();
    std::fs::write(path, vec![0; len as usize]).unwrap();
}

// A power loss before the first flush may take the roster, or what it contains. The heap still has
// the entries.
#[test]
fn unflushed_cache_outlives_its_roster() {
    let take: [fn(&Path); 4] = [
        |path| std::fs::remove_file(path).unwrap(),
        |path| std::fs::write(path, b"").unwrap(),
        write_blank,
        |path| crate::os::files::rename(path, &path.with_extension("roster.new")).unwrap(),
    ];
    for take_roster in take {
        let scratch = scratch();
        let cache = scratch.open(&tiny());
        for i in 0..20_u8 {
            cache.put(&[i], b"v").unwrap();
        }
        boot_again(cache);
        take_roster(&scratch.path().with_file_name("cache.roster"));
        let cache = scratch.open(&tiny());
        assert_eq!(cache.len(), 20);
        assert_clean(&cache);
    }
}

// The first that opens the cache restores the roster; the others must not report that it is missing.
#[test]
fn concurrent_openers_restore_one_roster() {
    for round in 0..60 {
        let scratch = scratch();
        let cache = scratch.open(&tiny());
        for i in 0..20_u8 {
            cache.put(&[i], b"v").unwrap();
        }
        boot_again(cache);
        std::fs::remove_file(scratch.path().with_file_name("cache.roster")).unwrap();
        let start = std::sync::Barrier::new(4);
        std::thread::scope(|scope| {
            for thread in 0..4_u8 {
                let (scratch, start) = (&scratch, &start);
                scope.spawn(move || {
                    start.wait();
                    let mut cache = tiny().open(scratch.path());
                    while matches!(&cache, Err(error) if error.is_retryable()) {
                        cache = tiny().open(scratch.path());
                    }
                    let cache = cache.unwrap_or_else(|error| panic!("{round}: {error:?}"));
                    cache.put(&[100 + thread], b"w").unwrap();
                    assert_eq!(cache.get(&[7]).unwrap().unwrap(), b"v");
                });
            }
        });
        let cache = scratch.open(&tiny());
        assert_eq!(cache.len(), 24);
        assert_clean(&cache);
    }
}

// What was flushed was promised: a lost roster is damage, and so is one that was lost while the system
// was running.
#[test]
fn lost_roster_is_reported() {
    for is_flushed in [false, true] {
        let scratch = scratch();
        let cache = scratch.open(&tiny());
        cache.put(b"k", b"v").unwrap();
        if is_flushed {
            cache.flush().unwrap();
            cache.put(b"l", b"v").unwrap();
            boot_again(cache);
        } else {
            drop(cache);
        }
        std::fs::remove_file(scratch.path().with_file_name("cache.roster")).unwrap();
        let error = tiny().open(scratch.path()).unwrap_err();
        assert!(error.is_corruption(), "{error}");
    }
}

// A power loss before the first flush may take the heap, or what it contains, and leave words of
// different times in the header: then those of the heap's end contradict each other.
#[test]
fn unflushed_cache_outlives_its_heap() {
    let take: [fn(&Path); 3] = [
        |path| std::fs::remove_file(path).unwrap(),
        |path| std::fs::write(path, b"").unwrap(),
        write_blank,
    ];
    for (take_heap, is_torn) in take
        .into_iter()
        .flat_map(|take| [(take, false), (take, true)])
    {
        let scratch = scratch();
        let cache = scratch.open(&tiny());
        cache.put(b"k", b"v").unwrap();
        if is_torn {
            let generation = generation_of(&cache);
            generation.header().corrupt(word::RESERVED, 2 << 48 | 8);
        }
        boot_again(cache);
        take_heap(&scratch.path().with_file_name("cache.heap"));
        let cache = scratch.open(&tiny());
        assert_eq!(cache.len(), 0);
        cache.put(b"k", b"w").unwrap();
        assert_clean(&cache);
    }
}

// A power loss may take the rename of a new index, and leave those of the other files. Nothing was
// promised, so the cache is created again.
#[test]
fn undone_creation_is_done_again() {
    // Of a segment the header may be incomplete.
    for torn in [&[][..], &["heap"], &["heap", "heap.1"]] {
        let scratch = scratch();
        let cache = scratch.open(&tiny());
        for i in 0..100_u8 {
            cache.put(&[i], &[1; 400]).unwrap();
        }
        assert!(cache.stats().unwrap().segments > 1);
        drop(cache);
        for extension in torn {
            let path = scratch.path().with_extension(extension);
            let mut bytes = std::fs::read(&path).unwrap();
            bytes[16..24].fill(0);
            std::fs::write(&path, bytes).unwrap();
        }
        take_rename_back(scratch.path());
        let reader = Options::new().read_only(true).open(scratch.path());
        assert!(matches!(
            reader.as_ref().map_err(crate::Error::kind),
            Err(crate::ErrorKind::NotFound)
        ));
        let cache = scratch.open(&tiny());
        assert_eq!(cache.len(), 0);
        cache.put(b"k", b"v").unwrap();
        assert_clean(&cache);
        drop(cache);
        let dir = scratch.path().parent().unwrap();
        assert_eq!(std::fs::read_dir(dir).unwrap().count(), 4);
    }
}

// A segment of another cache was not left by this creation, so it and all others stay.
#[test]
fn foreign_segment_forbids_undoing() {
    let two = [scratch(), scratch()];
    for scratch in &two {
        let cache = scratch.open(&tiny());
        for i in 0..100_u8 {
            cache.put(&[i], &[1; 400]).unwrap();
        }
        assert!(cache.stats().unwrap().segments > 1);
    }
    let [ours, other] = two.each_ref().map(|scratch| scratch.path().to_owned());
    let path = |index: &Path, extension| index.with_extension(extension);
    std::fs::copy(path(&other, "heap.1"), path(&ours, "heap.1")).unwrap();
    let mut torn = std::fs::read(path(&ours, "heap")).unwrap();
    torn[16..24].fill(0);
    std::fs::write(path(&ours, "heap"), torn).unwrap();
    take_rename_back(&ours);
    let error = tiny().open(&ours).unwrap_err();
    assert!(error.is_corruption(), "{error}");
    assert!(path(&ours, "heap").exists() && path(&ours, "heap.1").exists());
}

// Of a cache that was flushed the index is lost, whatever has its first name.
#[test]
fn flushed_creation_is_never_undone() {
    let scratch = scratch();
    let cache = scratch.open(&tiny());
    cache.flush().unwrap();
    drop(cache);
    take_rename_back(scratch.path());
    let error = tiny().open(scratch.path()).unwrap_err();
    assert!(error.is_corruption(), "{error}");
}

/// Gives an index the name again that it had before it was complete.
fn take_rename_back(index: &Path) {
    crate::os::files::rename(index, &index.with_extension("new")).unwrap();
}

// Opening waits for another creator at most as long as the lock timeout.
#[test]
fn waiting_for_creator_times_out() {
    use std::time::Duration;
    let scratch = Scratch::new();
    let mut options = tiny();
    options.lock_timeout(Some(Duration::from_millis(20)));
    let names = crate::os::file_names::FileNames::resolve(scratch.path(), None).unwrap();
    let creating = crate::engine::locking::lock_creation(&names, &options).unwrap();
    let refused = options.open(scratch.path()).unwrap_err();
    assert!(
        matches!(refused.kind(), crate::ErrorKind::Locked { .. }),
        "{refused}"
    );
    drop(creating);
    assert!(scratch.open(&options).is_empty());
}
