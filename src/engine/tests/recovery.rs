//! Stops a writer at each of its stores and file operations, one after the other; and single power
//! losses, copies and syncs that recovery must distinguish.
//!
//! What a stopped writer leaves must be the old or the new state to every reader at once, and must
//! be complete and clean after one more write. The writer stops by a panic that leaves the files as
//! a kill would: the only stores that unwinding adds are the holder's hint and the lock's release.

mod changes;
mod clearing;
mod copies;
mod counts;
mod creation;
mod evicting;
mod losses;
mod rearrangement;
mod recovering;
mod stop;
mod syncs;

use std::collections::BTreeMap;

use crate::engine::tests::recovery::rearrangement::{
    larger_regions, roster_without_holes, stop_cleaning, stop_rebuild,
};
use crate::engine::tests::recovery::recovering::{stop_finishing, stop_recovery};
use crate::engine::tests::*;

type Contents = BTreeMap<Vec<u8>, Vec<u8>>;

/// Tiny, with a directory so small that it soon doubles and reaches its limit.
fn options() -> Options {
    let mut options = tiny();
    options.directory_bits = 3;
    options
}

fn key(i: u32) -> Vec<u8> {
    format!("key {i:03}{}", "+".repeat(i as usize % 40)).into_bytes()
}

fn contents(cache: &MmapCache) -> Contents {
    let listed: Contents = cache.iter().unwrap().map(|item| item.unwrap()).collect();
    for (key, value) in &listed {
        assert_eq!(
            cache.get(key).unwrap().as_ref(),
            Some(value),
            "listed but not found"
        );
    }
    listed
}

fn fill(count: u32) -> impl Fn(&MmapCache) {
    move |cache| {
        for i in 0..count {
            cache.put(&key(i), format!("value {i}").as_bytes()).unwrap();
        }
    }
}

/// Puts another boot's id into the header, as after a power loss.
fn reboot(path: &Path) {
    use std::os::unix::fs::FileExt;
    let file = std::fs::File::options()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    file.write_all_at(&[0x5a; 16], 8 * word::BOOT_ID as u64)
        .unwrap();
}

/// What the tests above stop at some steps, stopped at each.
#[test]
#[ignore = "a soak: minutes; see docs/testing.md"]
fn all_operations_recover_from_every_stop() {
    let mut options = options();
    options.directory_bits = 0;
    let images = [
        ("larger regions", larger_regions(&options, 1)),
        ("a roster without its holes", roster_without_holes(97)),
        ("cleaning", stop_cleaning(1)),
        ("a rebuild", stop_rebuild(1)),
        ("recovery", stop_recovery(1)),
        ("finishing", stop_finishing(1)),
    ];
    for (name, images) in images {
        println!("{name}: {images} images");
    }
}
