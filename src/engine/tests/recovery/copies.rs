//! Copies of a cache's files, which the first writer must recognize as copies.
//!
//! Here they are made between two changes; `power/copier.rs` makes them during changes.

use crate::engine::tests::recovery::*;

/// Enough regions for any seed: enlarging them would make another generation without any copy.
fn roomy() -> Options {
    let mut options = options();
    options.directory_bits = 10;
    options
}

#[test]
fn copied_files_are_noticed_and_recovered() {
    let scratch = scratch();
    let cache = scratch.open(&roomy());
    fill(60)(&cache);
    let copy = crate::engine::tests::recovery::scratch();
    for suffix in ["", ".heap", ".roster"] {
        let name = |path: &Path| PathBuf::from(format!("{}{suffix}", path.display()));
        std::fs::copy(name(scratch.path()), name(copy.path())).unwrap();
    }
    let copied = copy.open(&roomy());
    assert_eq!(contents(&copied), contents(&cache));
    assert_eq!(
        copied.stats().unwrap().generation,
        2,
        "dirty files under another inode do not count"
    );
    copied.flush().unwrap();
    drop(copied);
    let third = crate::engine::tests::recovery::scratch();
    for name in std::fs::read_dir(copy.path().parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap())
    {
        std::fs::copy(
            name.path(),
            third.path().parent().unwrap().join(name.file_name()),
        )
        .unwrap();
    }
    assert_eq!(
        third.open(&roomy()).stats().unwrap().generation,
        2,
        "clean ones are, once they were found to agree"
    );
}

// A copy on another device is noticed, though its inode has the same number.
#[test]
fn copy_with_equal_inode_is_noticed() {
    use std::os::unix::fs::FileExt;
    for (boot_again, generation) in [(false, 2), (true, 1)] {
        let scratch = scratch();
        let cache = scratch.open(&roomy());
        fill(60)(&cache);
        let before = contents(&cache);
        if boot_again {
            // Now nothing is dirty, and devices may have other numbers.
            cache.flush().unwrap();
        }
        drop(cache);
        let file = std::fs::File::options()
            .write(true)
            .open(scratch.path())
            .unwrap();
        file.write_all_at(&[0x77; 8], 8 * word::DEVICE as u64)
            .unwrap();
        if boot_again {
            reboot(scratch.path());
        }
        let cache = scratch.open(&roomy());
        assert_eq!(contents(&cache), before);
        assert_eq!(cache.stats().unwrap().generation, generation);
    }
}

// A copy begun after a flush, and ended later, is recovered.
#[test]
fn torn_copy_is_recovered() {
    // The first page of the index, or all of it, is as it was flushed.
    for early in [4096, 1 << 20] {
        let scratch = scratch();
        let cache = scratch.open(&roomy());
        fill(30)(&cache);
        cache.flush().unwrap();
        let before = contents(&cache);
        let mut index = std::fs::read(scratch.path()).unwrap();
        index.truncate(early);
        for i in 30..60 {
            cache.put(&key(i), &[1; 300]).unwrap();
        }
        cache.compact().unwrap();
        let copy = crate::engine::tests::recovery::scratch();
        let dir = |scratch: &Scratch| scratch.path().parent().unwrap().to_owned();
        for entry in std::fs::read_dir(dir(&scratch)).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), dir(&copy).join(entry.file_name())).unwrap();
        }
        let now = std::fs::read(scratch.path()).unwrap();
        index.extend_from_slice(now.get(index.len()..).unwrap_or(&[]));
        std::fs::write(copy.path(), &index).unwrap();
        let copied = copy.open(&roomy());
        let found = contents(&copied);
        for (key, value) in &before {
            assert_eq!(found.get(key), Some(value), "{early}");
        }
        assert_clean(&copied);
    }
}
