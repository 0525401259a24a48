//! Several processes on one cache, and kills. A test starts its program again, as the same test in
//! another role. Calls `common`.

use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use crate::common::{Origin, answer, client, get, response};
use futures_lite::future::block_on;
use mmapcache_http::http_cache::CacheManager;
use mmapcache_http::{ManagerStats, MmapManager};

const CACHE: &str = "MMAPCACHE_HTTP_TEST_CACHE";
const URL: &str = "MMAPCACHE_HTTP_TEST_URL";

/// A child that does not outlive the test, also if that fails.
struct Started(Child);

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn again(test: &str, path: &Path, url: &str) -> Started {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command
        .args(["--exact", test, "--nocapture"])
        .env(CACHE, path)
        .env(URL, url);
    Started(command.spawn().expect("a child"))
}

// A second redb manager on one file is refused. Here each process has the other's responses.
#[tokio::test]
async fn two_processes_share_responses() {
    if let Ok(path) = std::env::var(CACHE) {
        let url = std::env::var(URL).expect("a URL");
        let client = client(MmapManager::open(path).expect("the cache"));
        assert_eq!(get(&client, &format!("{url}parent")).await.cache, "HIT");
        assert_eq!(get(&client, &format!("{url}child")).await.cache, "MISS");
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("cache");
    let client = client(MmapManager::open(&path).expect("a cache"));
    let origin = Origin::start(|request| {
        let tag = format!("\"{}\"", request.uri.path());
        let headers = [("etag", tag.as_str()), ("cache-control", "max-age=100")];
        let size = if request.uri.path() == "/parent" {
            10
        } else {
            300_000
        };
        answer(200, &headers, vec![1_u8; size])
    })
    .await;
    assert_eq!(
        get(&client, &format!("{}parent", origin.url)).await.cache,
        "MISS"
    );
    let mut child = again(
        "processes::two_processes_share_responses",
        &path,
        &origin.url,
    );
    let status = tokio::task::spawn_blocking(move || child.0.wait())
        .await
        .expect("a thread");
    assert!(status.expect("the child").success());
    let got = get(&client, &format!("{}child", origin.url)).await;
    assert!(got.cache == "HIT" && got.body == vec![1; 300_000]);
    assert_eq!(origin.requests(), 2);
}

/// A body of a record of its own, and one within its entry.
const ENTRIES: [(&str, usize); 2] = [("GET:large", 3 << 20), ("GET:small", 200 << 10)];

/// Stores version `n` of both entries: each byte of its bodies is `n`, and so is its tag.
fn store(manager: &MmapManager, n: u8) {
    for (key, size) in ENTRIES {
        let tag = n.to_string();
        let headers = [("etag", tag.as_str()), ("cache-control", "max-age=1000")];
        let (response, policy) = response(&headers, vec![n; size]);
        block_on(manager.put(key.to_owned(), response, policy)).expect("a store");
    }
}

/// Returns the version of an entry that is one version as a whole.
fn version(manager: &MmapManager, (key, size): (&str, usize)) -> Option<u8> {
    let (response, policy) = block_on(manager.get(key)).expect("a lookup")?;
    let n: u8 = response
        .headers
        .get("etag")
        .expect("a tag")
        .parse()
        .expect("a number");
    assert_eq!(response.body.len(), size, "{key}");
    assert!(
        response.body.iter().all(|byte| *byte == n),
        "{key}: a torn body of version {n}"
    );
    assert!(policy.time_to_live(std::time::SystemTime::now()) > Duration::from_secs(900));
    Some(n)
}

#[test]
fn killed_store_leaves_whole_entry() {
    if let Ok(path) = std::env::var(CACHE) {
        let manager = MmapManager::open(path).expect("the cache");
        let first = version(&manager, ENTRIES[0]).expect("an entry");
        let end = Instant::now() + Duration::from_secs(30);
        for n in 1_u32.. {
            store(&manager, first.wrapping_add(n as u8));
            assert!(
                Instant::now() < end,
                "the parent does not kill this process"
            );
        }
    }
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("cache");
    let manager = MmapManager::open(&path).expect("a cache");
    store(&manager, 0);
    for round in 0..25_u64 {
        let before = version(&manager, ENTRIES[1]);
        let mut child = again("processes::killed_store_leaves_whole_entry", &path, "");
        let deadline = Instant::now() + Duration::from_secs(30);
        // Reads while the child writes; an entry may be missing for the moment.
        while version(&manager, ENTRIES[1]) == before {
            assert!(Instant::now() < deadline, "the child stores nothing");
        }
        std::thread::sleep(Duration::from_micros(round * 397 % 8_000));
        child.0.kill().expect("a kill");
        child.0.wait().expect("the child");
        for entry in ENTRIES {
            // The old version or the new one, never none.
            assert!(
                version(&manager, entry).is_some(),
                "round {round}: {} is gone",
                entry.0
            );
        }
    }
    store(&manager, 0);
    assert!(
        manager
            .cache()
            .verify()
            .run()
            .expect("a verification")
            .is_clean()
    );
    assert_eq!(manager.statistics(), ManagerStats::default());
}
