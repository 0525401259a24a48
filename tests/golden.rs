//! A cache that an earlier build wrote, byte for byte: caches on disks must stay readable.
//!
//! If a test here fails, the format has changed: raise the version, or undo the
//! change. The ignored test writes the golden cache again.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod golden_files;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use golden_files::{FILES, copy_to, dump, path_of, with_suffix};
use mmapcache::{
    Cache, Corruption, Durability, Error, ErrorKind, MmapCache, Options, Repair, Version,
};

const GOLDEN: &str = "v2";

/// The entries of the golden cache, in the order in which they were put.
fn entries() -> Vec<(Vec<u8>, Vec<u8>)> {
    let long: Vec<u8> = (0..300_u32).map(|i| (i * 7 % 251) as u8).collect();
    vec![
        (b"k".to_vec(), b"a short key".to_vec()),
        (
            [
                b"a key longer than its slot has room for: ",
                [b'x'; 160].as_slice(),
            ]
            .concat(),
            b"found by its record".to_vec(),
        ),
        (b"empty".to_vec(), Vec::new()),
        (b"overwritten".to_vec(), b"the second value".to_vec()),
        (b"three hundred bytes".to_vec(), long),
        (b"nul\0inside".to_vec(), b"\0\0".to_vec()),
        (
            [b'='; 24].to_vec(),
            b"the whole key stands in the slot".to_vec(),
        ),
    ]
}

/// Enough keys to split the first region of sixteen slots.
fn fillers() -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
    (0..20_u32).map(|i| (format!("filler {i}").into_bytes(), i.to_le_bytes().to_vec()))
}

fn all() -> Vec<(Vec<u8>, Vec<u8>)> {
    entries().into_iter().chain(fillers()).collect()
}

/// A copy of the golden files in a directory.
struct Copy {
    _dir: tempfile::TempDir,
    path: PathBuf,
}

impl Copy {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cache");
        copy_to(GOLDEN, &path);
        Self { _dir: dir, path }
    }

    fn file(&self, suffix: &str) -> PathBuf {
        with_suffix(&self.path, suffix)
    }

    /// Overwrites bytes of one of the files.
    fn change(&self, suffix: &str, at: u64, bytes: &[u8]) {
        let file = File::options().write(true).open(self.file(suffix)).unwrap();
        file.write_all_at(bytes, at).unwrap();
    }
}

impl Copy {
    /// Gives a file another version number, under a valid checksum.
    fn raise(&self, suffix: &str, version: u32) {
        self.change(suffix, 8, &version.to_le_bytes());
        self.seal(suffix);
    }

    /// Adds a feature flag to a file, under a valid checksum.
    fn flag(&self, suffix: &str, bit: u32) {
        let at = if suffix.is_empty() { 76 } else { 52 };
        let byte = at + bit as usize / 8;
        let flags = fs::read(self.file(suffix)).unwrap()[byte] | 1 << (bit % 8);
        self.change(suffix, byte as u64, &[flags]);
        self.seal(suffix);
    }

    /// Makes the checksum of a header valid.
    fn seal(&self, suffix: &str) {
        let length = if suffix == ".roster" {
            64
        } else {
            HEADER - 8 * u64::from(suffix == ".heap")
        };
        let header = &fs::read(self.file(suffix)).unwrap()[..length as usize];
        let mut crc = crc32fast::Hasher::new();
        crc.update(&header[..12]);
        crc.update(&header[16..]);
        self.change(suffix, 12, &crc.finalize().to_le_bytes());
    }

    /// Returns every file of the directory, except the empty lock file.
    fn image(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let files = fs::read_dir(self.path.parent().unwrap()).unwrap();
        let paths = files.map(|entry| entry.unwrap().path());
        paths
            .filter(|path| *path != self.file(".lock"))
            .map(|path| (path.clone(), fs::read(path).unwrap()))
            .collect()
    }

    /// Asserts that opening and repairing report that this file is of a newer release, and change
    /// no byte.
    fn assert_left_to_a_newer_release(&self, suffix: &str) {
        let before = self.image();
        let opened = |options: &mut Options| options.open(&self.path).map(drop);
        let repaired = |repair: Repair<'_>| repair.run().map(drop);
        let refusals = [
            opened(Options::new().read_only(true)),
            opened(&mut Options::new()),
            opened(Options::new().exclusive(true).durability(Durability::Sync)),
            repaired(Repair::new(&self.path)),
            repaired(Repair::new(&self.path).rewrite_heap(true)),
            repaired(Repair::new(&self.path).keep_damaged(true)),
        ];
        for (number, refusal) in refusals.into_iter().enumerate() {
            let error = refusal.unwrap_err();
            assert_is_of_a_newer_release(&error, &self.file(suffix));
            assert!(self.image() == before, "refusal {number} changed a file");
        }
    }
}

fn assert_is_of_a_newer_release(error: &Error, file: &Path) {
    let said = matches!(error.kind(), ErrorKind::UnsupportedVersion { .. });
    assert!(said && error.path() == Some(file), "{error:?}");
    assert!(!error.is_corruption(), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("release"), "{text}");
}

/// Bytes of the index's sealed header; a segment's has eight less, a roster's 64.
const HEADER: u64 = 128;

/// The versions of the entries since the golden cache was created.
fn versions() -> Vec<Version> {
    let text = fs::read_to_string(path_of(GOLDEN, "versions.txt")).unwrap();
    text.lines()
        .map(|line| Version::from_nanos(line.parse().unwrap()))
        .collect()
}

#[track_caller]
fn assert_holds_everything(cache: &MmapCache) {
    assert_eq!(cache.len() as usize, all().len());
    for ((key, value), version) in all().into_iter().zip(versions()) {
        let name = String::from_utf8_lossy(&key).into_owned();
        let entry = cache
            .entry(&key)
            .unwrap()
            .unwrap_or_else(|| panic!("{name} is gone"));
        assert_eq!(entry.value(), value, "{name}");
        assert_eq!(entry.version(), version, "{name}");
        assert_eq!(cache.version(&key).unwrap(), Some(version), "{name}");
    }
    assert_eq!(cache.get(b"deleted").unwrap(), None);
    let mut listed: Vec<_> = cache.keys().unwrap().map(Result::unwrap).collect();
    let mut known: Vec<_> = all().into_iter().map(|(key, _)| key).collect();
    listed.sort();
    known.sort();
    assert_eq!(listed, known);
    let report = cache.verify().run().unwrap();
    assert!(report.is_clean(), "{:?}", report.problems);
    assert!(report.totals_compared);
    assert!(
        report.regions > 1,
        "the golden cache has more than one region"
    );
}

// A cache written by an earlier build is read to the last byte, without changing one.
#[test]
fn golden_cache_is_read_unchanged() {
    let copy = Copy::new();
    let before: Vec<_> = FILES
        .map(|(_, suffix)| fs::read(copy.file(suffix)).unwrap())
        .into();
    let cache = Options::new().read_only(true).open(&copy.path).unwrap();
    assert_holds_everything(&cache);
    drop(cache);
    let after: Vec<_> = FILES
        .map(|(_, suffix)| fs::read(copy.file(suffix)).unwrap())
        .into();
    assert!(before == after, "a read-only handle wrote");
}

/// The copy has another inode than the original, and another boot id. But the original was flushed,
/// so that neither matters: a recovery would replace the index for nothing.
#[test]
fn flushed_copy_needs_no_recovery() {
    let copy = Copy::new();
    let inode = fs::metadata(&copy.path).unwrap().ino();
    let cache = MmapCache::open(&copy.path).unwrap();
    assert_holds_everything(&cache);
    let newest = versions().into_iter().max().unwrap();
    let version = cache.put(b"new", b"value").unwrap();
    assert!(version > newest);
    assert!(cache.delete(b"new").unwrap());
    assert_holds_everything(&cache);
    assert_eq!(cache.stats().unwrap().generation, 1);
    assert_eq!(
        fs::metadata(&copy.path).unwrap().ino(),
        inode,
        "the index was replaced"
    );
}

// A cache of another version is refused by name, and left as it is.
#[test]
fn other_version_is_refused_unchanged() {
    for (suffix, found, known) in [("", 3, 2), ("", 0, 2), (".roster", 2, 1), (".roster", 0, 1)] {
        let copy = Copy::new();
        copy.raise(suffix, found);
        let before = fs::read(copy.file(suffix)).unwrap();
        for read_only in [true, false] {
            let error = Options::new()
                .read_only(read_only)
                .open(&copy.path)
                .unwrap_err();
            let said = matches!(error.kind(), ErrorKind::UnsupportedVersion { found: f, supported, .. } if (*f, *supported) == (found, known));
            assert!(said, "{suffix:?}, version {found}: {error:?}");
            assert!(!error.is_corruption());
        }
        assert!(fs::read(copy.file(suffix)).unwrap() == before);
    }
}

// A version number that was corrupted is corruption, and not another version.
#[test]
fn corrupt_version_number_is_corrupt() {
    for suffix in ["", ".roster"] {
        let copy = Copy::new();
        copy.change(suffix, 9, &[0x40]);
        let error = MmapCache::open(&copy.path).unwrap_err();
        assert!(error.is_corruption(), "{suffix:?}: {error:?}");
    }
}

// A segment of another version is an error, and never a miss.
#[test]
fn other_version_segment_never_misses() {
    let copy = Copy::new();
    copy.raise(".heap", 2);
    let cache = Options::new().read_only(true).open(&copy.path).unwrap();
    assert!(matches!(
        cache.get(b"k").as_ref().map_err(Error::kind),
        Err(ErrorKind::UnsupportedVersion { found: 2, .. })
    ));
}

// An index with a feature of a newer release is refused, and left as it is.
#[test]
fn newer_index_is_left_alone() {
    for bit in 4..32 {
        let copy = Copy::new();
        copy.flag("", bit);
        copy.assert_left_to_a_newer_release("");
    }
}

// The flag of a `Cache` in the index of an engine is corruption: neither type would read it rightly.
#[test]
fn expiring_flag_needs_expiring_records() {
    let copy = Copy::new();
    copy.flag("", 2);
    let error = MmapCache::open(&copy.path).unwrap_err();
    let what = Corruption::RecordVariant;
    assert!(
        matches!(error.kind(), ErrorKind::Corrupted { what: said, at: 92 } if *said == what),
        "{error:?}"
    );
    assert!(Cache::open(&copy.path).is_err());
    Repair::new(&copy.path).run().unwrap();
    let repaired = MmapCache::open(&copy.path).unwrap();
    assert_eq!(repaired.len() as usize, all().len());
}

/// The flag may change what other fields mean, so that they are not checked.
#[test]
fn newer_flag_excuses_other_fields() {
    let copy = Copy::new();
    copy.change("", 80, &7_u32.to_le_bytes());
    copy.flag("", 31);
    copy.assert_left_to_a_newer_release("");
}

// A lost index is not rebuilt from a heap with a feature of a newer release.
#[test]
fn newer_heap_yields_no_index() {
    for bit in (0..32).filter(|bit| ![1, 2, 3].contains(bit)) {
        let copy = Copy::new();
        fs::remove_file(&copy.path).unwrap();
        copy.flag(".heap", bit);
        copy.assert_left_to_a_newer_release(".heap");
    }
}

// A lost index is not rebuilt from a heap of another version.
#[test]
fn other_version_heap_yields_no_index() {
    let copy = Copy::new();
    fs::remove_file(&copy.path).unwrap();
    copy.raise(".heap", 2);
    copy.assert_left_to_a_newer_release(".heap");
}

// A corrupt index of a newer release is not repaired from its heap.
#[test]
fn corrupt_newer_index_is_not_repaired() {
    for at in [0, 40] {
        let copy = Copy::new();
        copy.change("", at, b"?");
        copy.flag(".heap", 31);
        let before = copy.image();
        assert!(MmapCache::open(&copy.path).unwrap_err().is_corruption());
        let error = Repair::new(&copy.path).run().unwrap_err();
        assert_is_of_a_newer_release(&error, &copy.file(".heap"));
        assert!(copy.image() == before, "byte {at}");
    }
}

// A segment with a feature of a newer release is an error, and never a miss.
#[test]
fn newer_segment_never_misses() {
    let copy = Copy::new();
    copy.flag(".heap", 31);
    let (file, before) = (copy.file(".heap"), copy.image());
    let cache = Options::new().read_only(true).open(&copy.path).unwrap();
    let copied = cache.backup().to(copy.file(".copy")).map(drop);
    fs::remove_file(copy.file(".copy.lock")).unwrap();
    for refusal in [
        cache.get(b"k").map(drop),
        cache
            .get(b"absent")
            .map(drop)
            .and(cache.entry(b"k").map(drop)),
        cache.verify().run().map(drop),
        copied,
        MmapCache::open(&copy.path).map(drop),
        Repair::new(&copy.path).run().map(drop),
    ] {
        assert_is_of_a_newer_release(&refusal.unwrap_err(), &file);
        assert!(copy.image() == before);
    }
}

// A segment of a newer release is not written to, though the index is of this one.
#[test]
fn newer_segment_is_never_written() {
    let copy = Copy::new();
    // From here on the index was written under this boot, and needs no recovery.
    drop(MmapCache::open(&copy.path).unwrap().writer().unwrap());
    let cache = MmapCache::open(&copy.path).unwrap();
    copy.flag(".heap", 31);
    let (file, before) = (copy.file(".heap"), copy.image());
    for refusal in [
        MmapCache::open(&copy.path).map(drop),
        cache.put(b"k", b"v").map(drop),
        cache.put(b"new", b"v").map(drop),
        cache.delete(b"k").map(drop),
        cache.compact().map(drop),
        cache.clear().map(drop),
        Repair::new(&copy.path).run().map(drop),
    ] {
        assert_is_of_a_newer_release(&refusal.unwrap_err(), &file);
    }
    let after = copy.image();
    assert!(before.keys().eq(after.keys()), "{:?}", after.keys());
    for suffix in [".heap", ".roster"] {
        assert!(before[&copy.file(suffix)] == after[&copy.file(suffix)]);
    }
}

// A flag under an invalid checksum is corruption, not a newer release.
#[test]
fn unsealed_flag_is_corruption() {
    let copy = Copy::new();
    copy.change("", 79, &[0x80]);
    assert!(MmapCache::open(&copy.path).unwrap_err().is_corruption());
    copy.change(".heap", 55, &[0x80]);
    let error = Repair::new(&copy.path).run().unwrap_err();
    assert!(error.is_corruption(), "{error:?}");
}

#[test]
fn other_magic_is_no_cache() {
    for (suffix, at) in [("", 0), ("", 7), (".roster", 0)] {
        let copy = Copy::new();
        copy.change(suffix, at, b"?");
        for read_only in [true, false] {
            let error = Options::new()
                .read_only(read_only)
                .open(&copy.path)
                .unwrap_err();
            assert!(
                matches!(error.kind(), ErrorKind::NotACacheFile { .. }),
                "{suffix:?}: {error:?}"
            );
        }
    }
}

#[test]
fn corrupt_header_byte_is_refused() {
    for at in (0..128).chain([128 + 64]) {
        let copy = Copy::new();
        let mut byte = [0];
        File::open(&copy.path)
            .unwrap()
            .read_exact_at(&mut byte, at)
            .unwrap();
        copy.change("", at, &[byte[0] ^ 0x40]);
        let opened = Options::new().read_only(true).open(&copy.path);
        assert_eq!(opened.is_ok(), at >= 128, "byte {at}");
    }
}

#[test]
#[ignore = "writes the golden cache again"]
fn write_the_golden_cache() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache");
    let cache = Options::new().region_slots(16).open(&path).unwrap();
    cache
        .put(
            b"overwritten",
            b"the first value, which is longer than the second",
        )
        .unwrap();
    cache.put(b"deleted", b"soon").unwrap();
    let versions: Vec<Version> = all()
        .iter()
        .map(|(key, value)| cache.put(key, value).unwrap())
        .collect();
    assert!(cache.delete(b"deleted").unwrap());
    cache.flush().unwrap();
    drop(cache);
    fs::create_dir_all(path_of(GOLDEN, "")).unwrap();
    for (name, suffix) in FILES {
        fs::write(
            path_of(GOLDEN, &format!("{name}.hex")),
            dump(&with_suffix(&path, suffix)),
        )
        .unwrap();
    }
    let lines: String = versions
        .iter()
        .map(|version| format!("{}\n", version.as_nanos()))
        .collect();
    fs::write(path_of(GOLDEN, "versions.txt"), lines).unwrap();
}
