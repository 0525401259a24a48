//! How options and existing files determine what an open does.
//!
//! Uses existing caches; `creation.rs` tests creation.

use crate::engine::tests::*;

#[test]
fn read_only_handle_writes_nothing() {
    let scratch = Scratch::new();
    let mut options = Options::new();
    options.read_only(true);
    assert!(matches!(
        options
            .open(scratch.path())
            .as_ref()
            .map_err(crate::Error::kind),
        Err(crate::ErrorKind::NotFound)
    ));
    assert_eq!(
        std::fs::read_dir(scratch.path().parent().unwrap())
            .unwrap()
            .count(),
        0
    );
    let writer = scratch.open(&Options::new());
    let reader = scratch.open(&options);
    writer.put(b"k", b"v").unwrap();
    assert_eq!(reader.get(b"k").unwrap().unwrap(), b"v");
    assert!(matches!(
        reader.put(b"k", b"v").as_ref().map_err(crate::Error::kind),
        Err(crate::ErrorKind::ReadOnly)
    ));
    writer.clear().unwrap();
    assert_eq!(reader.get(b"k").unwrap(), None);
}

#[test]
fn fixed_options_are_adopted_or_refused() {
    let scratch = Scratch::new();
    drop(scratch.open(&tiny()));
    drop(scratch.open(&Options::new()));
    let refused = Options::new()
        .max_segment_bytes(1 << 20)
        .open(scratch.path());
    assert!(matches!(
        refused.as_ref().map_err(crate::Error::kind),
        Err(crate::ErrorKind::OptionMismatch {
            option: "max_segment_bytes",
            ..
        })
    ));
    assert!(matches!(
        Options::new()
            .max_entries(5)
            .open(scratch.path())
            .as_ref()
            .map_err(crate::Error::kind),
        Err(crate::ErrorKind::OptionMismatch { .. })
    ));
    assert!(matches!(
        Options::new()
            .create_new(true)
            .open(scratch.path())
            .as_ref()
            .map_err(crate::Error::kind),
        Err(crate::ErrorKind::AlreadyExists)
    ));
    let odd = Scratch::new();
    assert!(matches!(
        Options::new()
            .region_slots(17)
            .open(odd.path())
            .as_ref()
            .map_err(crate::Error::kind),
        Err(crate::ErrorKind::InvalidOption { .. })
    ));
    assert!(matches!(
        Options::new()
            .create(false)
            .open(odd.path())
            .as_ref()
            .map_err(crate::Error::kind),
        Err(crate::ErrorKind::NotFound)
    ));
}

#[test]
fn non_utf8_names_are_accepted() {
    use std::os::unix::ffi::OsStrExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(std::ffi::OsStr::from_bytes(b"c\xff\xfe"));
    let cache = tiny().open(&path).unwrap();
    for i in 0..300_u32 {
        cache.put(&i.to_le_bytes(), &[1; 100]).unwrap();
    }
    let failing = [Ok((b"k", b"v")), Err("gave out")];
    assert!(cache.atomic_rebuild(failing).is_err());
    assert_eq!(cache.len(), 300);
    cache
        .atomic_rebuild([Ok::<_, crate::Error>((b"k", b"v"))])
        .unwrap();
    drop(cache);
    let cache = tiny().open(&path).unwrap();
    assert_eq!(cache.get(b"k").unwrap().unwrap(), b"v");
    assert_clean(&cache);
}

// A heap at a path of its own stays there through rebuilding, cleaning and recovery.
#[test]
fn separate_heap_stays_separate() {
    let scratch = Scratch::new();
    let elsewhere = tempfile::tempdir().unwrap();
    let mut options = tiny();
    options.heap_path(elsewhere.path().join("values"));
    let cache = scratch.open(&options);
    for round in 0..400_u32 {
        cache
            .put(&(round % 20).to_le_bytes(), &[round as u8; 300])
            .unwrap();
    }
    cache.compact().unwrap();
    cache
        .atomic_rebuild((0..50_u32).map(|i| Ok::<_, crate::Error>((i.to_le_bytes(), [7; 100]))))
        .unwrap();
    drop(cache);
    let cache = scratch.open(&options);
    assert_eq!(cache.len(), 50);
    assert_clean(&cache);
    let names = |path: &Path| -> Vec<String> {
        let mut names: Vec<_> = std::fs::read_dir(path)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    assert_eq!(
        names(scratch.path().parent().unwrap()),
        ["cache", "cache.lock", "cache.roster"]
    );
    assert!(
        names(elsewhere.path())
            .iter()
            .all(|name| name.starts_with("values"))
    );
    // Without the option the heap is not found, and readers get an error.
    let lost = scratch.open(Options::new().read_only(true));
    assert_eq!(lost.get(&7_u32.to_le_bytes()).unwrap(), None);
    assert!(matches!(
        lost.entry(&7_u32.to_le_bytes())
            .as_ref()
            .map_err(crate::Error::kind),
        Err(crate::ErrorKind::HeapMissing { .. })
    ));
}

// Files get the requested mode, and keep the one they have.
#[test]
fn files_get_and_keep_their_mode() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let scratch = Scratch::new();
    let cache = scratch.open(tiny().file_mode(0o640));
    let modes = || -> Vec<u32> {
        let files = std::fs::read_dir(scratch.path().parent().unwrap()).unwrap();
        files
            .map(|entry| entry.unwrap().metadata().unwrap().mode() & 0o777)
            .collect()
    };
    assert_eq!(modes(), [0o640; 4]);
    std::fs::set_permissions(scratch.path(), std::fs::Permissions::from_mode(0o660)).unwrap();
    cache.clear().unwrap();
    cache.put(b"k", b"v").unwrap();
    let index = scratch.path().metadata().unwrap().mode() & 0o777;
    assert_eq!(index, 0o660, "a rebuild repeats the index's own mode");
    let plain = Scratch::new();
    drop(plain.open(&Options::new()));
    assert_eq!(plain.path().metadata().unwrap().mode() & 0o777, 0o600);
}

// A network file system is refused unless the caller vouches for a single machine.
#[test]
#[cfg(target_os = "linux")]
fn network_file_system_needs_a_voucher() {
    const EXT4: u32 = 0xef53;
    const NFS: u32 = 0x6969;
    const CIFS: u32 = 0xff53_4d42;
    const FUSE: u32 = 0x6573_5546;
    let scratch = Scratch::new();
    for (kind, refused) in [(NFS, true), (CIFS, true), (FUSE, true), (EXT4, false)] {
        let dir = scratch.path().parent().unwrap().canonicalize().unwrap();
        crate::os::files::PRETENDED.set(Some((dir, kind)));
        let opened = tiny().open(scratch.path());
        let repaired = crate::Repair::new(scratch.path()).run();
        let vouched = tiny().allow_network_fs(true).open(scratch.path());
        crate::os::files::PRETENDED.set(None);
        assert_eq!(
            matches!(
                opened.as_ref().map_err(crate::Error::kind),
                Err(crate::ErrorKind::Unsupported { .. })
            ),
            refused
        );
        assert_eq!(
            matches!(
                repaired.as_ref().map_err(crate::Error::kind),
                Err(crate::ErrorKind::Unsupported { .. })
            ),
            refused
        );
        vouched.unwrap().put(b"k", b"v").unwrap();
    }
}

/// A handle serves the segments that it mapped before the files were removed. One that has not read
/// yet has mapped none: its lookups miss, and its listing fails.
/// M1: what a handle has mapped stays mapped, also of removed files.
#[test]
fn removed_files_serve_mapped_segments() {
    let scratch = Scratch::new();
    let writer = scratch.open(&Options::new());
    writer.put(b"key", b"value").unwrap();
    drop(writer);
    let (reader, other) = (
        scratch.open(Options::new().read_only(true)),
        scratch.open(Options::new().read_only(true)),
    );
    assert_eq!(reader.get(b"key").unwrap().unwrap(), b"value");
    std::fs::remove_dir_all(scratch.path().parent().unwrap()).unwrap();
    assert_eq!(reader.get(b"key").unwrap().unwrap(), b"value");
    assert_eq!(other.get(b"key").unwrap(), None);
    let missing = other.entry(b"key").unwrap_err();
    assert!(
        matches!(missing.kind(), crate::ErrorKind::HeapMissing { .. }),
        "{missing:?}"
    );
    let listed: crate::Result<Vec<_>> = other.iter().and_then(Iterator::collect);
    assert!(listed.is_err());
}

/// The heap may be on another file system than the index.
#[test]
#[cfg(target_os = "linux")]
fn shared_heap_file_system_is_refused() {
    const LUSTRE: u32 = 0x0bd0_0bd0;
    let (scratch, elsewhere) = (Scratch::new(), Scratch::new());
    let dir = elsewhere.path().parent().unwrap().canonicalize().unwrap();
    crate::os::files::PRETENDED.set(Some((dir.clone(), LUSTRE)));
    let opened = tiny()
        .heap_path(elsewhere.path())
        .open(scratch.path())
        .unwrap_err();
    let vouched = tiny()
        .heap_path(elsewhere.path())
        .allow_network_fs(true)
        .open(scratch.path());
    crate::os::files::PRETENDED.set(None);
    let text = opened.to_string();
    assert!(
        matches!(opened.kind(), crate::ErrorKind::Unsupported { .. })
            && opened.path().and_then(Path::parent) == Some(&dir)
    );
    assert!(
        text.contains("Lustre") && text.contains("allow_network_fs"),
        "{text}"
    );
    vouched.unwrap().put(b"k", b"v").unwrap();
}
