//! Backs a cache up every so often while a program goes on writing to it, and keeps a backup only
//! after it was checked.
//!
//! `hot_copy` takes no lock: the copy is what the cache contained at one moment. `verify` then reads
//! all of it. A good backup exists at any time: under its name, or for a moment as `backup.old`.
//!
//!     cargo run --example backup

use std::error::Error;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use mmapcache::MmapCache;

/// Replaces the directory `backup` by a checked copy, and returns its number of entries.
#[allow(clippy::disallowed_methods, reason = "the library's rule")]
fn back_up(cache: &MmapCache, backup: &Path) -> Result<u64, Box<dyn Error>> {
    let (new, old) = (backup.with_extension("new"), backup.with_extension("old"));
    remove(&new)?; // from a run that was interrupted
    fs::create_dir(&new)?;
    let copied = cache.backup().to(new.join("cache"))?;

    let report = MmapCache::open(new.join("cache"))?.verify().run()?;
    if !report.is_clean() {
        return Err(format!("the copy is damaged: {report:?}").into());
    }
    if backup.exists() {
        remove(&old)?;
        fs::rename(backup, &old)?;
    }
    fs::rename(&new, backup)?;
    remove(&old)?;
    Ok(copied.entries)
}

fn remove(dir: &Path) -> std::io::Result<()> {
    if dir.exists() {
        fs::remove_dir_all(dir)
    } else {
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let (cache, backup) = (
        MmapCache::open(dir.path().join("cache"))?,
        dir.path().join("backup"),
    );
    let done = AtomicBool::new(false);
    thread::scope(|scope| -> Result<(), Box<dyn Error>> {
        // Writes pairs, the left one first: a copy of one moment never has a right one alone.
        let writer = scope.spawn(|| -> mmapcache::Result<u32> {
            let mut pairs = 0;
            while !done.load(Ordering::Relaxed) {
                cache.put(format!("left {pairs}").as_bytes(), &[1; 500])?;
                cache.put(format!("right {pairs}").as_bytes(), &[2; 500])?;
                pairs += 1;
            }
            Ok(pairs)
        });
        let backed_up = (0..3).try_for_each(|round| {
            println!("backup {round}: {} entries", back_up(&cache, &backup)?);
            Ok(())
        });
        done.store(true, Ordering::Relaxed);
        println!("{} pairs were written", writer.join().expect("no panic")?);
        backed_up
    })?;

    let restored = MmapCache::open(backup.join("cache"))?;
    for key in restored.keys()? {
        if let Some(pair) = String::from_utf8(key?)?.strip_prefix("right ") {
            assert!(restored.contains(format!("left {pair}").as_bytes())?);
        }
    }
    Ok(())
}
