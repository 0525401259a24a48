//! Caches whose heap, or a segment of it, is not at its path: writers are refused, and nothing is
//! lost.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileExt, symlink};
use std::os::unix::net::UnixListener;

use crate::engine::tests::*;
use crate::error::{Error, ErrorKind};

type Files = BTreeMap<PathBuf, Option<Vec<u8>>>;

/// Reads everything in the directory of a cache; `None` instead of contents for what is no file.
fn files(scratch: &Scratch) -> Files {
    let dir = scratch.path().parent().unwrap();
    let all = fs::read_dir(dir).unwrap().map(|entry| {
        let path = entry.unwrap().path();
        let is_file = path.symlink_metadata().unwrap().is_file();
        let bytes = is_file.then(|| fs::read(&path).unwrap());
        (path, bytes)
    });
    all.collect()
}

fn heap(scratch: &Scratch, number: u16) -> PathBuf {
    let base = format!("{}.heap", scratch.path().display());
    match number {
        0 => base.into(),
        number => format!("{base}.{number}").into(),
    }
}

#[expect(clippy::disallowed_methods, reason = "a user moves the file")]
fn rename(from: &Path, to: &Path) {
    fs::rename(from, to).unwrap();
}

/// Runs `check` while the file is not at its path.
fn while_missing<T>(path: &Path, check: impl FnOnce() -> T) -> T {
    let aside = path.with_file_name("aside");
    rename(path, &aside);
    let result = check();
    rename(&aside, path);
    result
}

fn key(i: u32) -> Vec<u8> {
    format!("key {i}, some of them longer than a slot").into_bytes()
}

/// Creates a cache of several segments.
fn filled() -> Scratch {
    let scratch = scratch();
    fill(&scratch, &tiny());
    scratch
}

/// Creates a cache of several segments whose heap is in another directory, and the options for it.
fn filled_elsewhere() -> (Scratch, tempfile::TempDir, Options) {
    let (scratch, other) = (scratch(), in_memory());
    let mut elsewhere = tiny();
    elsewhere.heap_path(other.path().join("h"));
    fill(&scratch, &elsewhere);
    (scratch, other, elsewhere)
}

fn fill(scratch: &Scratch, options: &Options) {
    let cache = scratch.open(options);
    for i in 0..200 {
        cache.put(&key(i), &[i as u8; 300]).unwrap();
    }
}

#[track_caller]
fn holds_all(cache: &MmapCache) {
    assert_eq!(cache.len(), 200);
    for i in 0..200 {
        assert_eq!(cache.get(&key(i)).unwrap().unwrap(), [i as u8; 300]);
    }
    assert_clean(cache);
}

/// Returns what the error of a writable open says, and asserts that the open changed nothing.
#[track_caller]
fn refused(scratch: &Scratch, options: &Options) -> (PathBuf, &'static str, Option<bool>) {
    let before = files(scratch);
    let error = options.open(scratch.path()).unwrap_err();
    assert!(before == files(scratch), "something was written: {error}");
    assert!(!error.is_corruption());
    let text = error.to_string();
    assert!(
        text.contains("heap_path") && text.contains("mounted"),
        "{text}"
    );
    let path = error.path().unwrap().to_owned();
    match error.into_kind() {
        ErrorKind::HeapMissing {
            cache,
            entries,
            elsewhere,
            found,
        } => {
            assert!(text.contains(path.to_str().unwrap()) && text.contains(found));
            assert_eq!((cache.as_path(), entries), (scratch.path(), 200));
            (path, found, elsewhere)
        }
        other => panic!("{other:?}"),
    }
}

/// Puts another boot's id into the header, as after a restart.
fn reboot(path: &Path) {
    let file = fs::File::options().write(true).open(path).unwrap();
    file.write_all_at(&[0x5a; 16], 8 * word::BOOT_ID as u64)
        .unwrap();
}

// The caller forgot `heap_path`, before a restart and after it, flushed and not.
#[test]
fn forgotten_heap_path_refuses_writers() {
    for (flushed, rebooted) in [(false, false), (true, false), (false, true), (true, true)] {
        let (scratch, _other, elsewhere) = filled_elsewhere();
        if flushed {
            scratch.open(&elsewhere).flush().unwrap();
        }
        if rebooted {
            reboot(scratch.path());
        }
        let first = scratch.path().with_extension("heap");
        let wanted = (first.clone(), "nothing", Some(true));
        for options in [&tiny(), tiny().exclusive(true)] {
            let (path, found, stored) = refused(&scratch, options);
            let name = path.file_name().unwrap().to_str().unwrap();
            assert!(name.starts_with("cache.heap"), "{name}");
            assert_eq!((found, stored), (wanted.1, wanted.2));
        }
        holds_all(&scratch.open(&elsewhere));
    }
}

// The heap is moved away and back, as with a disk that is not mounted yet.
#[test]
fn moved_heap_refuses_writers() {
    for (flushed, rebooted) in [(false, false), (true, false), (true, true)] {
        let scratch = filled();
        if flushed {
            scratch.open(&tiny()).flush().unwrap();
            scratch.open(&tiny()).put(&key(0), &[0; 300]).unwrap();
        }
        if rebooted {
            reboot(scratch.path());
        }
        let away = in_memory();
        let segments: Vec<_> = (0..99)
            .map(|n| heap(&scratch, n))
            .filter(|p| p.exists())
            .collect();
        assert!(segments.len() > 3);
        for path in &segments {
            fs::copy(path, away.path().join(path.file_name().unwrap())).unwrap();
            fs::remove_file(path).unwrap();
        }
        let (_, found, stored) = refused(&scratch, &tiny());
        assert_eq!((found, stored), ("nothing", Some(false)));
        for path in &segments {
            fs::copy(away.path().join(path.file_name().unwrap()), path).unwrap();
        }
        holds_all(&scratch.open(&tiny()));
    }
}

// A copy of index and roster alone: a recovery would make an empty cache of it.
#[test]
fn copy_without_heap_refuses_writers() {
    for clean in [true, false] {
        let original = filled();
        if clean {
            original.open(&tiny()).flush().unwrap();
        }
        let copy = scratch();
        for suffix in ["", ".roster"] {
            let name = |scratch: &Scratch| format!("{}{suffix}", scratch.path().display());
            fs::copy(name(&original), name(&copy)).unwrap();
        }
        refused(&copy, &tiny());
        // With its heap the copy is complete.
        for number in (0..99).filter(|&number| heap(&original, number).exists()) {
            fs::copy(heap(&original, number), heap(&copy, number)).unwrap();
        }
        holds_all(&copy.open(&tiny()));
    }
}

#[test]
fn other_file_as_segment_is_named() {
    type Make = fn(&Path);
    let others: [(&str, Make); 7] = [
        ("a directory", |path| fs::create_dir(path).unwrap()),
        ("a FIFO", |path| {
            let mode = rustix::fs::Mode::from_raw_mode(0o600);
            rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0)
                .unwrap();
        }),
        ("a socket", |path| drop(UnixListener::bind(path).unwrap())),
        ("a symbolic link that leads nowhere", |path| {
            symlink("nowhere", path).unwrap();
        }),
        ("a symbolic link", |path| {
            symlink("/dev/null", path).unwrap()
        }),
        ("a file that is no heap segment", |path| {
            fs::write(path, "not a segment".repeat(1000)).unwrap();
        }),
        ("a heap segment of another cache", |path| {
            let other = filled();
            fs::copy(heap(&other, 0), path).unwrap();
        }),
    ];
    for (what, make) in others {
        for number in [0, 2] {
            let scratch = filled();
            let path = heap(&scratch, number);
            while_missing(&path, || {
                make(&path);
                let (at, found, _) = refused(&scratch, &tiny());
                assert_eq!((at.as_path(), found), (path.as_path(), what));
                if path.is_dir() {
                    fs::remove_dir(&path).unwrap();
                } else {
                    fs::remove_file(&path).unwrap();
                }
            });
            holds_all(&scratch.open(&tiny()));
        }
    }
}

// First, middle or last: no segment may be missing until it is cleaned.
#[test]
fn missing_segment_refuses_writers() {
    for number in 0.. {
        let scratch = filled();
        let path = heap(&scratch, number);
        if !path.exists() {
            assert!(number > 3);
            return;
        }
        let named = while_missing(&path, || refused(&scratch, &tiny()).0);
        assert_eq!(named, path);
        holds_all(&scratch.open(&tiny()));
    }
}

// After a restart, a missing segment that was synced cannot be due to the power loss.
#[test]
fn missing_synced_segment_refuses_writers() {
    for number in 1.. {
        let scratch = filled();
        let cache = scratch.open(&tiny());
        cache.flush().unwrap();
        cache.put(&key(0), &[0; 300]).unwrap();
        drop(cache);
        reboot(scratch.path());
        let path = heap(&scratch, number);
        if !path.exists() {
            assert!(number > 3);
            return;
        }
        while_missing(&path, || refused(&scratch, &tiny()));
        holds_all(&scratch.open(&tiny()));
    }
}

// The state between the removal of a segment's file and the next store.
#[test]
fn cleaned_segment_may_be_missing() {
    let scratch = filled();
    let cache = scratch.open(&tiny());
    for i in 0..200 {
        cache.put(&key(i), &[i as u8; 300]).unwrap();
    }
    cache.compact().unwrap();
    let oldest = cache.handle.generation.load().header().oldest();
    assert!(oldest > 0 && !heap(&scratch, oldest - 1).exists());
    generation_of(&cache)
        .header()
        .clean_words()
        .set_oldest(oldest - 1);
    drop(cache);
    holds_all(&scratch.open(&tiny()));
}

// The segment disappears while a handle is open that has not read it.
#[test]
fn open_handle_outlives_missing_segment() {
    let scratch = filled();
    for number in [1, 2, 3] {
        let cache = scratch.open(&tiny());
        let path = heap(&scratch, number);
        let error = while_missing(&path, || cache.compact());
        let error = error.expect_err(&format!("without segment {number}"));
        assert!(
            matches!(error.kind(), ErrorKind::HeapMissing { .. }),
            "{error:?}"
        );
        assert_eq!((cache.len(), cache.stats().unwrap().dropped), (200, 0));
        cache.put(&key(0), &[0; 300]).unwrap();
        holds_all(&cache);
    }
    // All segments: a put needs the last one.
    let cache = scratch.open(&tiny());
    let numbers: Vec<_> = (0..99).filter(|&n| heap(&scratch, n).exists()).collect();
    let away = |number| scratch.path().with_extension(format!("away{number}"));
    for &number in &numbers {
        rename(&heap(&scratch, number), &away(number));
    }
    let before = files(&scratch);
    let items = cache.iter().unwrap();
    for (what, refused) in [
        ("put", cache.put(b"new", b"1").map(drop)),
        ("delete", cache.delete(&key(1)).map(drop)),
        ("compact", cache.compact()),
        ("rebuild", cache.atomic_rebuild(items)),
    ] {
        let error = refused.expect_err(what);
        let source = match error.kind() {
            ErrorKind::RebuildSource { source } => source.downcast_ref::<Error>().unwrap(),
            _ => &error,
        };
        assert!(
            matches!(source.kind(), ErrorKind::HeapMissing { .. }),
            "{error:?}"
        );
    }
    let names = |files: &Files| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&before), names(&files(&scratch)));
    for &number in &numbers {
        rename(&away(number), &heap(&scratch, number));
    }
    holds_all(&cache);
    holds_all(&scratch.open(&tiny()));
}

// A key whose record cannot be read is not absent: otherwise it would get a second entry.
#[test]
fn key_in_missing_segment_exists() {
    let scratch = filled();
    let (path, aside) = (heap(&scratch, 2), scratch.path().with_extension("aside"));
    let cache = scratch.open(&tiny());
    rename(&path, &aside);
    let mut kept = Vec::new();
    for i in 0..200 {
        match cache.delete(&key(i)) {
            Ok(deleted) => assert!(deleted),
            Err(error) if matches!(error.kind(), ErrorKind::HeapMissing { .. }) => kept.push(i),
            Err(other) => panic!("{other:?}"),
        }
    }
    assert!(kept.len() > 20 && kept.len() < 200);
    rename(&aside, &path);
    let cache = scratch.open(&tiny());
    assert_eq!(cache.len(), kept.len() as u64);
    for i in kept {
        assert_eq!(cache.get(&key(i)).unwrap().unwrap(), [i as u8; 300]);
        assert!(cache.delete(&key(i)).unwrap());
        assert_eq!(cache.get(&key(i)).unwrap(), None);
    }
    assert_clean(&cache);
}

#[test]
fn readers_miss_and_report_missing_segment() {
    let (scratch, _other, _) = filled_elsewhere();
    let reader = scratch.open(Options::new().read_only(true));
    assert_eq!(reader.len(), 200);
    assert_eq!(reader.get(&key(1)).unwrap(), None);
    let copy = scratch.path().with_extension("copy");
    for error in [
        reader.entry(&key(1)).unwrap_err(),
        reader.iter().unwrap().next().unwrap().unwrap_err(),
        reader.backup().to(copy).unwrap_err(),
    ] {
        let text = error.to_string();
        assert!(
            matches!(error.kind(), ErrorKind::HeapMissing { .. }),
            "{error:?}"
        );
        assert!(
            text.contains("heap_path") && !text.contains("repair"),
            "{text}"
        );
    }
    assert!(!reader.verify().run().unwrap().is_clean());
    assert_eq!(reader.stats().unwrap().occupied, 200);
    assert_eq!(reader.disk_usage().unwrap().heap, 0);
}

#[test]
fn labels_refuse_missing_heap() {
    let (scratch, other) = (scratch(), in_memory());
    let mut options = Options::new();
    options.heap_path(other.path().join("h"));
    let open = || crate::Labels::open_with(scratch.path(), &options).unwrap();
    let labels = open();
    let id = labels.get_or_intern("en").unwrap();
    drop(labels);
    let error = crate::Labels::open(scratch.path()).unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::HeapMissing { .. }),
        "{error:?}"
    );
    let labels = open();
    assert_eq!(labels.get("en").unwrap(), Some(id));
}

// Without any segment a repair is impossible; if one is missing, the report names it.
#[test]
fn repair_needs_a_segment() {
    let (scratch, other, elsewhere) = filled_elsewhere();
    let before = files(&scratch);
    let error = Repair::new(scratch.path()).run().unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::HeapMissing { entries: 200, .. }),
        "{error:?}"
    );
    assert!(before == files(&scratch));
    fs::remove_file(other.path().join("h.2")).unwrap();
    let repaired = Repair::new(scratch.path())
        .options(&elsewhere)
        .run()
        .unwrap();
    assert_eq!(repaired.missing_segments, [2]);
    assert!(repaired.entries < 200 && repaired.entries > 100);
    // From here on the segment is known to be lost.
    let cache = scratch.open(&elsewhere);
    assert_eq!(cache.len(), repaired.entries);
    assert_clean(&cache);
    drop(cache);
    assert_eq!(scratch.open(&elsewhere).len(), repaired.entries);
}

// The next writer stores where it found the heap, even in files of an older release.
#[test]
fn heap_home_follows_the_heap() {
    let (scratch, other) = (scratch(), in_memory());
    fill(&scratch, &tiny());
    let file = fs::File::options()
        .write(true)
        .open(scratch.path())
        .unwrap();
    file.write_all_at(&[0; 8], 8 * word::HEAP_HOME as u64)
        .unwrap();
    let mut elsewhere = tiny();
    elsewhere.heap_path(other.path().join("h"));
    let mut last = 0;
    for number in 0..99 {
        let to = match number {
            0 => other.path().join("h"),
            number => other.path().join(format!("h.{number}")),
        };
        if heap(&scratch, number).exists() {
            fs::copy(heap(&scratch, number), to).unwrap();
            fs::remove_file(heap(&scratch, number)).unwrap();
            last = number;
        }
    }
    let unknown = (heap(&scratch, last), "nothing", None);
    assert_eq!(refused(&scratch, &tiny()), unknown);
    scratch.open(&elsewhere).put(&key(0), &[0; 300]).unwrap();
    assert_eq!(refused(&scratch, &tiny()).2, Some(true));
    holds_all(&scratch.open(&elsewhere));
}

// A reader is told that the index is lost, not that no cache exists.
#[test]
fn lost_index_is_reported() {
    for removed in [
        &["cache"][..],
        &["cache", "cache.heap"],
        &["cache", "cache.roster"],
    ] {
        let scratch = filled();
        for name in removed {
            fs::remove_file(scratch.path().with_file_name(name)).unwrap();
        }
        for options in [
            Options::new().read_only(true),
            Options::new().create(false),
            &mut Options::new(),
        ] {
            let error = options.open(scratch.path()).unwrap_err();
            let text = error.to_string();
            assert!(
                error.is_corruption() && text.contains("index is missing"),
                "{text}"
            );
        }
    }
    let empty = scratch();
    let none = Options::new().create(false).open(empty.path());
    assert!(matches!(
        none.as_ref().map_err(Error::kind),
        Err(ErrorKind::NotFound)
    ));
}

/// A header that leaves out the first segment would let cleaning drop the deletions of that
/// segment's keys, and a recovery would then restore these keys.
#[test]
fn forgotten_segment_is_recovered() {
    let scratch = filled();
    let cache = scratch.open(&tiny());
    let oldest = cache.handle.generation.load().header().oldest();
    generation_of(&cache)
        .header()
        .clean_words()
        .set_oldest(oldest + 1);
    drop(cache);
    let cache = scratch.open(&tiny());
    cache.put(&key(0), &[0; 300]).unwrap();
    assert_eq!(cache.last_recovery().unwrap().dropped, 0);
    holds_all(&cache);
}
