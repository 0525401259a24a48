//! Compares this crate's engine with foyer's own, and prints tables: restarts, and a Zipf load.
//!
//! ```sh
//! cargo run --release --example compare -- fill DIR 1000000
//! cargo run --release --example compare -- restart DIR
//! cargo run --release --example compare -- zipf DIR
//! ```
//!
//! `fill` makes a cache of so many entries for each engine; `restart` opens each in a new process, and
//! measures the time to its first hit; `zipf` needs no fill.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use foyer::{
    BlockEngineConfig, DeviceBuilder, FsDeviceBuilder, HybridCache, HybridCacheBuilder,
    HybridCachePolicy, Source,
};
use mmapcache_foyer::MmapEngineConfig;
use rand::SeedableRng;
use rand::distr::Distribution;
use rand::rngs::SmallRng;
use rand_distr::Zipf;

type Result<T> = std::result::Result<T, Box<dyn Error>>;
type Cache = HybridCache<u64, Vec<u8>>;

const ENGINES: [&str; 2] = ["mmapcache", "foyer"];

/// Bytes of a value of the restarts.
const SMALL: usize = 100;

/// Distinct keys of the Zipf load, and its exponent.
const KEYS: u64 = 1_000_000;
const EXPONENT: f64 = 0.9;

/// Entries in memory, and bytes on disk, under the Zipf load.
const MEMORY: usize = 10_000;
const DISK: usize = 256 << 20;

#[derive(Clone, Copy)]
struct Shape<'a> {
    engine: &'a str,
    policy: HybridCachePolicy,
    memory: usize,
    disk: usize,
}

async fn open(dir: &Path, shape: Shape<'_>) -> Result<Cache> {
    let dir = dir.join(shape.engine);
    std::fs::create_dir_all(&dir)?;
    let builder = HybridCacheBuilder::new()
        .with_policy(shape.policy)
        .memory(shape.memory)
        .storage();
    let builder = if shape.engine == "mmapcache" {
        let bound = u64::try_from(shape.disk)?;
        builder.with_engine_config(MmapEngineConfig::new(dir.join("cache")).with_max_bytes(bound))
    } else {
        let device = FsDeviceBuilder::new(&dir)
            .with_capacity(shape.disk)
            .build()?;
        builder.with_engine_config(BlockEngineConfig::new(device))
    };
    Ok(builder.build().await?)
}

fn value(key: u64, len: usize) -> Vec<u8> {
    let mut value = vec![0; len];
    value[..8].copy_from_slice(&key.to_le_bytes());
    value
}

/// A cache of the restarts. foyer's engine takes a block of 4 KiB for an entry, and needs some to spare.
fn filled(engine: &str, entries: usize) -> Shape<'_> {
    Shape {
        engine,
        policy: HybridCachePolicy::WriteOnInsertion,
        memory: 1_000,
        disk: (entries * 5 * 1_024).max(256 << 20),
    }
}

async fn fill(dir: &Path, entries: usize) -> Result<()> {
    println!("| engine | entries | seconds | bytes of disk an entry |\n|---|--:|--:|--:|");
    for engine in ENGINES {
        let start = Instant::now();
        let cache = open(dir, filled(engine, entries)).await?;
        for key in 0..u64::try_from(entries)? {
            cache.insert(key, value(key, SMALL));
            // So that neither queue is ever full.
            if key % 2_000 == 0 {
                cache.storage().wait().await;
            }
        }
        cache.close().await?;
        let bytes = disk_bytes(&dir.join(engine))? / u64::try_from(entries)?;
        let seconds = start.elapsed().as_secs_f64();
        println!("| {engine} | {entries} | {seconds:.1} | {bytes} |");
    }
    std::fs::write(dir.join("entries"), entries.to_string())?;
    Ok(())
}

/// Returns the bytes that the files of a directory take, by their blocks.
fn disk_bytes(dir: &Path) -> Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir)? {
        bytes += entry?.metadata()?.blocks() * 512;
    }
    Ok(bytes)
}

/// Opens the caches in new processes, in turn.
fn restart(dir: &Path) -> Result<()> {
    println!("| engine | ms to the first hit |\n|---|--:|");
    for _ in 0..3 {
        for engine in ENGINES {
            let program = std::env::current_exe()?;
            let status = Command::new(program)
                .arg("first")
                .arg(dir)
                .arg(engine)
                .status()?;
            if !status.success() {
                return Err(format!("{engine} did not start again").into());
            }
        }
    }
    Ok(())
}

async fn first(dir: &Path, engine: &str) -> Result<()> {
    let entries: usize = std::fs::read_to_string(dir.join("entries"))?.parse()?;
    let start = Instant::now();
    let cache = open(dir, filled(engine, entries)).await?;
    let mut hits = 0;
    let mut time = None;
    for turn in 0..1_000 {
        let key = turn * u64::try_from(entries)? / 1_000;
        if let Some(found) = cache.get(&key).await? {
            assert_eq!(found.value(), &value(key, SMALL));
            time.get_or_insert(start.elapsed());
            hits += 1;
        }
    }
    let time = time.ok_or("no key was found")?.as_secs_f64() * 1e3;
    println!("| {engine} ({hits} of 1,000 keys there) | {time:.1} |");
    Ok(())
}

async fn zipf(dir: &Path) -> Result<()> {
    println!(
        "| engine | bytes of a value | hits | of them on disk | operations/s |\n|---|--:|--:|--:|--:|"
    );
    for len in [SMALL, 4_000] {
        for engine in ENGINES {
            let dir = dir.join(format!("zipf-{len}"));
            let _ = std::fs::remove_dir_all(dir.join(engine));
            zipf_of(&dir, engine, len).await?;
            std::fs::remove_dir_all(dir.join(engine))?;
        }
    }
    Ok(())
}

async fn zipf_of(dir: &Path, engine: &str, len: usize) -> Result<()> {
    let shape = Shape {
        engine,
        policy: HybridCachePolicy::WriteOnEviction,
        memory: MEMORY,
        disk: DISK,
    };
    let cache = open(dir, shape).await?;
    let load = Zipf::new(KEYS as f64, EXPONENT)?;
    let mut random = SmallRng::seed_from_u64(1);
    let (warm, measured) = (400_000, 200_000);
    let (mut memory, mut disk, mut start) = (0_u64, 0_u64, Instant::now());
    for turn in 0..warm + measured {
        if turn == warm {
            (memory, disk, start) = (0, 0, Instant::now());
        }
        let key = scatter(load.sample(&mut random));
        let fetch = || async move { Ok::<_, std::io::Error>(value(key, len)) };
        let entry = cache.get_or_fetch(&key, fetch).await?;
        assert_eq!(entry.value()[..8], key.to_le_bytes());
        match entry.source() {
            Source::Memory => memory += 1,
            Source::Disk => disk += 1,
            Source::Outer => {}
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    let share = |hits: u64| 100.0 * hits as f64 / f64::from(measured);
    println!(
        "| {engine} | {len} | {:.1} % | {:.1} % | {:.0} |",
        share(memory + disk),
        share(disk),
        f64::from(measured) / seconds
    );
    cache.close().await?;
    Ok(())
}

/// Returns the key of a rank: neighbours in rank are none as keys.
fn scatter(rank: f64) -> u64 {
    (rank as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

#[tokio::main(flavor = "multi_thread")]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let dir = |dir: &str| PathBuf::from(dir);
    match words[..] {
        ["fill", path] => fill(&dir(path), 100_000).await,
        ["fill", path, entries] => fill(&dir(path), entries.parse()?).await,
        ["restart", path] => restart(&dir(path)),
        ["first", path, engine] => first(&dir(path), engine).await,
        ["zipf", path] => zipf(&dir(path)).await,
        _ => {
            let dir = tempfile::tempdir()?;
            fill(dir.path(), 20_000).await?;
            restart(dir.path())
        }
    }
}
