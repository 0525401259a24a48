//! Keeps small pictures of large ones, so that each is computed once and not at every start.
//!
//! The key names the method and its version together with the picture, so a new release of the
//! program never reads what an older one computed. The value begins with the picture's modification
//! time and length: a picture that was edited since is computed again.
//!
//!     cargo run --example thumbnails

use std::error::Error;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use mmapcache::MmapCache;

/// Raise it when `shrink` changes.
const METHOD: &str = "thumbnail/2";
/// Modification time in nanoseconds, and length.
const STAMP_BYTES: usize = 24;

/// Returns the thumbnail of a picture, and whether it had to be computed.
fn thumbnail(cache: &MmapCache, picture: &Path) -> Result<(Vec<u8>, bool), Box<dyn Error>> {
    let key = format!("{METHOD}/{}", picture.display());
    let stamp = stamp(&fs::metadata(picture)?);
    if let Some(value) = cache.get(key.as_bytes())?
        && let Some(small) = value.strip_prefix(&stamp)
    {
        return Ok((small.to_vec(), false));
    }
    // The stamp was taken before the picture is read: an edit in between costs one more
    // computation, and never leaves an old thumbnail under a new stamp.
    let small = shrink(&fs::read(picture)?);
    cache.put(key.as_bytes(), &[&stamp[..], &small].concat())?;
    Ok((small, true))
}

fn stamp(meta: &fs::Metadata) -> [u8; STAMP_BYTES] {
    let mut stamp = [0; STAMP_BYTES];
    stamp[..8].copy_from_slice(&meta.mtime().to_le_bytes());
    stamp[8..16].copy_from_slice(&meta.mtime_nsec().to_le_bytes());
    stamp[16..].copy_from_slice(&meta.len().to_le_bytes());
    stamp
}

/// Takes the place of the expensive work.
fn shrink(picture: &[u8]) -> Vec<u8> {
    picture.iter().step_by(16).copied().collect()
}

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?; // a program would use its directory in ~/.cache
    let picture = dir.path().join("cat.raw");
    fs::write(&picture, vec![7; 64_000])?;

    let cache = MmapCache::open(dir.path().join("thumbnails"))?;
    let (small, computed) = thumbnail(&cache, &picture)?;
    assert!(computed && small.len() == 4_000);

    // The next process opens the same files and computes nothing.
    drop(cache);
    let cache = MmapCache::open(dir.path().join("thumbnails"))?;
    assert!(!thumbnail(&cache, &picture)?.1);

    // The picture is edited.
    fs::write(&picture, vec![9; 32_000])?;
    let (small, computed) = thumbnail(&cache, &picture)?;
    assert!(computed && small == vec![9; 2_000]);
    println!("{} thumbnail, {} computations", cache.len(), 2);
    Ok(())
}
