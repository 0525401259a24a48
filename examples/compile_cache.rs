//! A compile cache: what a compiler makes of the same sources and flags is taken from the files, for
//! all processes of a build. Sources that do not compile are remembered too. The compiler is a function.
//!
//!     cargo run --example compile_cache

use std::cell::Cell;
use std::convert::Infallible;
use std::error::Error;
use std::time::Duration;

use mmapcache::{Cache, ComputeOptions, InsertOptions};
use xxhash_rust::xxh3::Xxh3;

/// Part of every key: another compiler makes other artefacts.
const COMPILER: &str = "cc 14.2.0";
/// An artefact that no build has used for so long is not worth its room.
const MONTH: Duration = Duration::from_secs(30 * 24 * 3_600);
/// Shorter: a failure costs little, and may be due to the machine.
const HOUR: Duration = Duration::from_secs(3_600);

/// Returns the key of a compilation: 128 bits of a hash of everything that it depends on. A cache that
/// takes sources from strangers needs a cryptographic hash.
fn key(flags: &[&str], sources: &[&str]) -> [u8; 16] {
    let mut hash = Xxh3::new();
    for parts in [&[COMPILER], flags, sources] {
        hash.update(&(parts.len() as u64).to_le_bytes());
        for part in parts {
            // With its length: "a", "bc" is not "ab", "c".
            hash.update(&(part.len() as u64).to_le_bytes());
            hash.update(part.as_bytes());
        }
    }
    hash.digest128().to_le_bytes()
}

/// The artefact, `None` if the sources do not compile; and whether the compiler ran.
type Compiled = (Option<Vec<u8>>, bool);

/// Takes an artefact from the cache, or compiles: of all processes of a build, one for each key.
fn compile(cache: &Cache, flags: &[&str], sources: &[&str]) -> Result<Compiled, Box<dyn Error>> {
    let key = key(flags, sources);
    let options = ComputeOptions::from(InsertOptions::new().ttl(MONTH)).absent_for(HOUR);
    let ran = Cell::new(false);
    let found = cache.get_or_try_insert_optional_with(key, options, || {
        ran.set(true);
        Ok::<_, Infallible>(run_compiler(sources))
    })?;
    // What is used stays for another month. A day's uses cost one change of the deadline.
    if found.is_some() && !ran.get() {
        let left = cache.entry(key)?.and_then(|entry| entry.remaining());
        if left.is_some_and(|left| left < MONTH * 29 / 30) {
            cache.touch(key, MONTH)?;
        }
    }
    Ok((found.map(|found| found.value), ran.get()))
}

/// Takes the place of the compiler.
fn run_compiler(sources: &[&str]) -> Option<Vec<u8>> {
    let text = sources.concat();
    (!text.contains("error")).then(|| text.to_uppercase().into_bytes())
}

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?; // a build would use a directory in ~/.cache
    let cache = Cache::open(dir.path().join("artefacts"))?;
    let artefact = Some(b"MAIN".to_vec());
    assert_eq!(
        compile(&cache, &["-O2"], &["main"])?,
        (artefact.clone(), true)
    );
    assert_eq!(compile(&cache, &["-O2"], &["main"])?, (artefact, false));
    assert!(compile(&cache, &["-O0"], &["main"])?.1, "other flags");
    assert!(compile(&cache, &["-O2"], &["ma", "in"])?.1, "other files");
    assert_eq!(compile(&cache, &["-O2"], &["error"])?, (None, true));
    assert_eq!(compile(&cache, &["-O2"], &["error"])?, (None, false));
    println!("{} compilations remembered", cache.keys()?.count());
    Ok(())
}
