//! Caches of format 1 are refused, and upgraded with all that is in them.
//!
//! `tests/golden/v1`, `v1_labels` and `v1_cache` are from the last release with that format.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(clippy::disallowed_methods, reason = "files are moved by hand")]

mod golden_files;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use golden_files::{copy_to, path_of, with_suffix};
use mmapcache::{Cache, Error, ErrorKind, Labels, MmapCache, Options, Upgrade, Version};

/// A place of the heap in the header of format 1.
const RESERVED: u64 = 256;
const TAIL: u64 = 264;

struct Copy {
    _dir: tempfile::TempDir,
    path: PathBuf,
}

impl Copy {
    fn of(golden: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cache");
        copy_to(golden, &path);
        Self { _dir: dir, path }
    }

    fn file(&self, suffix: &str) -> File {
        let path = with_suffix(&self.path, suffix);
        File::options().read(true).write(true).open(path).unwrap()
    }

    fn word(&self, at: u64) -> u64 {
        let mut word = [0; 8];
        self.file("").read_exact_at(&mut word, at).unwrap();
        u64::from_le_bytes(word)
    }

    fn set_word(&self, at: u64, value: u64) {
        self.file("")
            .write_all_at(&value.to_le_bytes(), at)
            .unwrap();
    }

    fn image(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let files = fs::read_dir(self.path.parent().unwrap()).unwrap();
        let paths = files.map(|entry| entry.unwrap().path());
        paths
            .filter(|path| path.extension().is_none_or(|suffix| suffix != "lock"))
            .map(|path| (path.clone(), fs::read(path).unwrap()))
            .collect()
    }
}

fn assert_refused(opened: Result<(), Error>) {
    let error = opened.unwrap_err();
    assert!(
        matches!(
            error.kind(),
            ErrorKind::UnsupportedVersion {
                found: 1,
                supported: 2,
                ..
            }
        ),
        "{error:?}"
    );
    assert!(!error.is_corruption());
    let text = error.to_string();
    assert!(text.contains("mmapcache-inspect upgrade"), "{text}");
}

/// The versions of the entries of `v1`, in the order in which they were put.
fn versions() -> Vec<Version> {
    let text = fs::read_to_string(path_of("v1", "versions.txt")).unwrap();
    text.lines()
        .map(|line| Version::from_nanos(line.parse().unwrap()))
        .collect()
}

fn assert_has_all(copy: &Copy) {
    let cache = MmapCache::open(&copy.path).unwrap();
    assert_eq!(cache.get(b"k").unwrap().unwrap(), b"a short key");
    assert_eq!(
        cache.get(b"overwritten").unwrap().unwrap(),
        b"the second value"
    );
    assert_eq!(cache.get(b"deleted").unwrap(), None);
    assert_eq!(cache.get(b"filler 19").unwrap().unwrap(), [19, 0, 0, 0]);
    let mut found: Vec<Version> = (cache.keys().unwrap())
        .map(|key| cache.version(key.unwrap()).unwrap().unwrap())
        .collect();
    found.sort();
    let mut known = versions();
    known.sort();
    assert_eq!(found, known);
    let report = cache.verify().run().unwrap();
    assert!(report.is_clean(), "{:?}", report.problems);
    assert!(cache.put(b"new", b"value").unwrap() > *known.last().unwrap());
}

// Refused by each type, by a repair too, and not a byte is changed.
#[test]
fn older_format_is_refused_unchanged() {
    let copy = Copy::of("v1");
    let before = copy.image();
    for read_only in [false, true] {
        let mut options = Options::new();
        options.read_only(read_only);
        assert_refused(options.open(&copy.path).map(drop));
    }
    assert_refused(mmapcache::Repair::new(&copy.path).run().map(drop));
    assert!(copy.image() == before);
    let labels = Copy::of("v1_labels");
    assert_refused(Labels::open(&labels.path).map(drop));
    let cache = Copy::of("v1_cache");
    assert_refused(Cache::open(&cache.path).map(drop));
}

#[test]
fn upgraded_cache_has_all_entries() {
    let copy = Copy::of("v1");
    let mut told = 0;
    let report = Upgrade::new(&copy.path)
        .on_progress(|progress| told = progress.done_bytes)
        .run()
        .unwrap()
        .unwrap();
    assert_eq!(report.entries as usize, versions().len());
    assert_eq!((report.dropped, report.damaged_bytes), (0, 0));
    assert!(told > 0);
    assert_has_all(&copy);
    let totals = MmapCache::open(&copy.path).unwrap().stats().unwrap();
    // Those of format 1, and the put of the assertion.
    assert_eq!((totals.puts, totals.overwrites, totals.deletes), (30, 1, 1));
    assert_eq!(Upgrade::new(&copy.path).run().unwrap(), None);
    assert_eq!(MmapCache::open(&copy.path).unwrap().len(), 28);
}

#[test]
fn upgraded_labels_keep_their_ids() {
    let copy = Copy::of("v1_labels");
    Upgrade::new(&copy.path).run().unwrap();
    let labels = Labels::open(&copy.path).unwrap();
    for number in 0..30_u8 {
        let label = vec![b'a' + number % 26; 1 + usize::from(number)];
        let id = labels.get_or_intern(&label).unwrap();
        assert_eq!(id.number(), u32::from(number));
    }
    assert_eq!(labels.get_or_intern(b"another").unwrap().number(), 30);
    assert!(labels.verify().run().unwrap().is_clean());
}

// Deadlines, tags and counts stay.
#[test]
fn upgraded_cache_keeps_its_terms() {
    let copy = Copy::of("v1_cache");
    Upgrade::new(&copy.path).run().unwrap();
    let cache = Cache::open(&copy.path).unwrap();
    for number in 0..20_u8 {
        let entry = cache.entry([b'k', number]).unwrap();
        assert_eq!(entry.is_some(), number != 3);
        if let Some(entry) = entry {
            assert!(entry.has_tag("even") && entry.expires_at().is_some());
            assert_eq!(entry.value(), vec![number; usize::from(number) * 20]);
        }
    }
    assert_eq!(cache.get(b"plain").unwrap().unwrap(), b"no deadline");
    assert_eq!(cache.get(b"overdue").unwrap(), None);
    let stats = cache.stats().unwrap();
    assert_eq!((stats.total.insertions, stats.total.removed), (23, 1));
    assert!(cache.verify().run().unwrap().is_clean());
    assert_eq!(
        cache.sweep().unwrap(),
        1,
        "the hints of deadlines are there"
    );
}

// A writer of the old release that was killed left a part of a record, which is no damage.
#[test]
fn record_in_flight_is_cleared() {
    let copy = Copy::of("v1");
    let tail = copy.word(TAIL);
    let at = (tail & 0xffff_ffff) * 8;
    copy.file(".heap").write_all_at(&[0x5a; 40], at).unwrap();
    copy.set_word(RESERVED, tail + 9);
    let report = Upgrade::new(&copy.path).run().unwrap().unwrap();
    assert_eq!((report.dropped, report.damaged_bytes), (0, 0));
    assert_has_all(&copy);
}

// What was synced and does not verify any more is reported.
#[test]
fn damaged_records_are_reported() {
    let copy = Copy::of("v1");
    copy.file(".heap").write_all_at(&[0xff; 4], 300).unwrap();
    let report = Upgrade::new(&copy.path).run().unwrap().unwrap();
    assert!(report.damaged_bytes > 0);
    assert_eq!(report.entries + report.dropped, versions().len() as u64);
    assert_eq!(report.dropped, 1);
}

#[test]
fn missing_and_newer_indexes_are_refused() {
    let copy = Copy::of("v1");
    fs::remove_file(&copy.path).unwrap();
    let error = Upgrade::new(&copy.path).run().unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::NotFound), "{error:?}");
    let copy = Copy::of("v2");
    let mut header = fs::read(&copy.path).unwrap();
    header.truncate(128);
    header[8] = 3;
    let mut crc = crc32fast::Hasher::new();
    crc.update(&header[..12]);
    crc.update(&header[16..]);
    header[12..16].copy_from_slice(&crc.finalize().to_le_bytes());
    copy.file("").write_all_at(&header, 0).unwrap();
    let error = Upgrade::new(&copy.path).run().unwrap_err();
    let is_newer = matches!(error.kind(), ErrorKind::UnsupportedVersion { found: 3, .. });
    assert!(is_newer, "{error:?}");
}

// A disk that is not mounted, or an incomplete copy: nothing is replaced.
#[test]
fn missing_heap_refuses_the_upgrade() {
    let copy = Copy::of("v1");
    fs::rename(
        with_suffix(&copy.path, ".heap"),
        with_suffix(&copy.path, ".away"),
    )
    .unwrap();
    let before = copy.image();
    let error = Upgrade::new(&copy.path).run().unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::HeapMissing { .. }),
        "{error:?}"
    );
    assert!(copy.image() == before);
    // The last of two segments alone is away.
    let copy = Copy::of("v1");
    for at in [RESERVED, TAIL] {
        copy.set_word(at, 1 << 32 | 16);
    }
    let before = copy.image();
    let error = Upgrade::new(&copy.path).run().unwrap_err();
    let names_it = error.path() == Some(&with_suffix(&copy.path, ".heap.1"));
    let is_missing = matches!(error.kind(), ErrorKind::HeapMissing { .. });
    assert!(is_missing && names_it, "{error:?}");
    assert!(copy.image() == before);
}

// The index knows ids of which no record is left.
#[test]
fn given_ids_stay_given() {
    let copy = Copy::of("v1_labels");
    // The length of the roster, and one of five positions after the last label.
    copy.set_word(224, 35);
    Upgrade::new(&copy.path).run().unwrap();
    let labels = Labels::open(&copy.path).unwrap();
    assert_eq!(labels.get_or_intern(b"another").unwrap().number(), 35);
}

// A count that a kill left too high is no damage, and expires nothing.
#[test]
fn high_counts_are_no_damage() {
    let copy = Copy::of("v1_cache");
    copy.set_word(192, copy.word(192) + 1);
    let report = Upgrade::new(&copy.path).run().unwrap().unwrap();
    assert_eq!((report.dropped, report.unwritten), (0, 1));
    let cache = Cache::open(&copy.path).unwrap();
    assert!(cache.get([b'k', 5]).unwrap().is_some());
}

// The switch that made the index was killed before its roster had its final name.
#[test]
fn staged_roster_survives_a_failed_upgrade() {
    let copy = Copy::of("v1");
    let [roster, staged] = [".roster", ".roster.new"].map(|suffix| with_suffix(&copy.path, suffix));
    fs::rename(&roster, staged).unwrap();
    // The staged index has a directory's name, so the upgrade fails after that.
    fs::create_dir(with_suffix(&copy.path, ".new")).unwrap();
    Upgrade::new(&copy.path).run().unwrap_err();
    assert!(roster.exists());
}

#[test]
fn concurrent_upgrades_are_one() {
    for _ in 0..20 {
        let copy = Copy::of("v1");
        let upgraded: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| Upgrade::new(&copy.path).run().unwrap()))
                .collect();
            let reports = threads.into_iter().map(|thread| thread.join().unwrap());
            reports.flatten().count()
        });
        assert_eq!(upgraded, 1);
        assert_eq!(MmapCache::open(&copy.path).unwrap().len(), 27);
    }
}
