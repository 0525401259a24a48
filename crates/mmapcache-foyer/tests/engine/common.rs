//! What the tests share: opening a hybrid cache on this crate's engine, and running a test of this binary
//! in another process.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use foyer::{Code, HybridCache, HybridCacheBuilder, HybridCachePolicy};
use mmapcache_foyer::MmapEngineConfig;

pub(crate) type Strings = HybridCache<u64, String>;

/// Opens a cache that writes each entry when it is inserted, with a memory tier for 10,000 entries.
pub(crate) async fn open(path: &Path) -> Strings {
    open_with(
        MmapEngineConfig::new(path),
        HybridCachePolicy::WriteOnInsertion,
        10_000,
    )
    .await
}

pub(crate) async fn open_with(
    engine: MmapEngineConfig<u64, String>,
    policy: HybridCachePolicy,
    memory: usize,
) -> Strings {
    HybridCacheBuilder::new()
        .with_policy(policy)
        .memory(memory)
        .with_shards(1)
        .storage()
        .with_engine_config(engine)
        .build()
        .await
        .expect("a cache")
}

/// Returns the value of a key, from either tier.
pub(crate) async fn get(cache: &Strings, key: u64) -> Option<String> {
    let entry = cache.get(&key).await.expect("a lookup");
    entry.map(|entry| entry.value().clone())
}

/// Returns the value of a key on the disk, or on the way to it.
pub(crate) async fn get_from_disk(cache: &Strings, key: u64) -> Option<String> {
    cache.memory().clear();
    get(cache, key).await
}

/// Waits until something is so; panics if that takes more than 20 seconds.
pub(crate) async fn wait_until(mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < end, "not within 20 s");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The variable that names the files to a test in another process.
const CHILD: &str = "MMAPCACHE_FOYER_CHILD";

/// Returns the path that this process is to use, if it is the child of a test.
pub(crate) fn child_path() -> Option<String> {
    std::env::var(CHILD).ok()
}

/// Runs a test of this program in another process, which gets a path.
pub(crate) fn run_child(test: &str, path: &Path) -> Child {
    Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", test, "--nocapture"])
        .env(CHILD, path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a child process")
}

/// A value whose encoding fails or panics, or whose end does, on the engine's thread.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fragile(pub(crate) u8);

impl Drop for Fragile {
    fn drop(&mut self) {
        let thread = std::thread::current();
        if self.0 == 15 && thread.name() == Some("mmapcache-foyer") {
            panic!("fifteen");
        }
    }
}

impl Code for Fragile {
    fn encode(&self, writer: &mut impl std::io::Write) -> foyer::Result<()> {
        match self.0 {
            13 => Err(foyer::Error::new(foyer::ErrorKind::Unsupported, "thirteen")),
            14 => panic!("fourteen"),
            number => number.encode(writer),
        }
    }

    fn decode(reader: &mut impl std::io::Read) -> foyer::Result<Self> {
        u8::decode(reader).map(Self)
    }

    fn estimated_size(&self) -> usize {
        1
    }
}
