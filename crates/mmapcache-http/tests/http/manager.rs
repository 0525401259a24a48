//! What a manager does with its cache, called as http-cache calls it, without an executor. Calls
//! `common`.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use crate::common::response;
use futures_lite::future::block_on;
use http_cache_semantics::{BeforeRequest, CachePolicy};
use mmapcache::{Cache, ErrorKind, Options};
use mmapcache_http::http_cache::{CacheManager, HttpResponse};
use mmapcache_http::{MmapManager, Threads};

const KEY: &str = "GET:http://example.test/";

fn manager() -> (MmapManager, tempfile::TempDir) {
    let dir = tempfile::tempdir().expect("a directory");
    let manager = MmapManager::open(dir.path().join("cache")).expect("a cache");
    (manager, dir)
}

fn put(manager: &MmapManager, key: &str, body: Vec<u8>) -> HttpResponse {
    let (response, policy) = response(&[("cache-control", "max-age=100")], body);
    block_on(manager.put(key.to_owned(), response, policy)).expect("a store")
}

fn get(manager: &MmapManager, key: &str) -> Option<(HttpResponse, CachePolicy)> {
    block_on(manager.get(key)).expect("a lookup")
}

fn body(manager: &MmapManager, key: &str) -> Option<Vec<u8>> {
    get(manager, key).map(|(response, _)| response.body)
}

/// Collects the log.
struct Log(Mutex<Vec<String>>);

static LOG: Log = Log(Mutex::new(Vec::new()));

impl log::Log for Log {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        if record.level() <= log::Level::Warn {
            self.0
                .lock()
                .expect("the log")
                .push(record.args().to_string());
        }
    }

    fn flush(&self) {}
}

fn logged(part: &str) -> usize {
    LOG.0
        .lock()
        .expect("the log")
        .iter()
        .filter(|line| line.contains(part))
        .count()
}

#[test]
fn response_comes_back_whole() {
    for threads in [Threads::Task, Threads::LargeOnPool, Threads::Pool] {
        let (manager, _dir) = manager();
        let manager = manager.threads(threads);
        for size in [0, 1, 256 << 10, 3 << 20] {
            let body: Vec<u8> = (0..size as u32).map(|n| (n / 3) as u8).collect();
            let headers = [("etag", "\"1\""), ("x-two", "a"), ("x-two", "b, c")];
            let (mut stored, policy) = response(&headers, body.clone());
            stored.status = 404;
            stored.metadata = Some(vec![0, 200, 7]);
            let put = block_on(manager.put(KEY.to_owned(), stored, policy)).expect("a store");
            let (got, policy) = get(&manager, KEY).expect("an entry");
            for response in [&put, &got] {
                assert!(response.body == body, "{threads:?}, {size} bytes");
                assert_eq!(
                    (response.status, response.version.to_string().as_str()),
                    (404, "HTTP/1.1")
                );
                assert_eq!(response.url.as_str(), "http://example.test/");
                assert_eq!(response.metadata.as_deref(), Some(&[0, 200, 7][..]));
                let mut headers: Vec<_> = response.headers.iter().collect();
                headers.sort();
                let headers: Vec<_> = headers
                    .iter()
                    .map(|(k, v)| (k.as_str(), v.as_str()))
                    .collect();
                assert_eq!(
                    headers,
                    [("etag", "\"1\""), ("x-two", "a"), ("x-two", "b, c")]
                );
            }
            assert!(policy.is_storable());
        }
    }
}

// A policy keeps the bytes of headers that are no ASCII: by `Vary` they select the response.
#[test]
fn policy_keeps_all_header_bytes() {
    let (manager, _dir) = manager();
    let request = |name: &[u8]| {
        let value = http::HeaderValue::from_bytes(name).expect("a value");
        http::Request::get("http://example.test/")
            .header("x-name", value)
            .body(())
            .expect("a request")
    };
    let (stored, _) = response(&[], b"for Zoe".to_vec());
    let of_origin = http::Response::builder()
        .header("vary", "x-name")
        .header("cache-control", "max-age=100")
        .body(())
        .expect("a response");
    let policy = CachePolicy::new(&request(b"Zo\xEB"), &of_origin);
    block_on(manager.put(KEY.to_owned(), stored, policy)).expect("a store");
    let (_, policy) = get(&manager, KEY).expect("an entry");
    let is_fresh = |name: &[u8]| {
        let decision = policy.before_request(&request(name), SystemTime::now());
        matches!(decision, BeforeRequest::Fresh(_))
    };
    assert!(is_fresh(b"Zo\xEB"));
    assert!(!is_fresh(b"Zo"));
}

#[test]
fn foreign_value_is_logged_and_replaced() {
    let _ = log::set_logger(&LOG);
    log::set_max_level(log::LevelFilter::Trace);
    let (manager, _dir) = manager();
    for (n, value) in [&b""[..], b"x", b"{\"status\": 200}", &[0xFF; 100]]
        .into_iter()
        .enumerate()
    {
        manager.cache().insert(KEY, value).expect("a store");
        assert!(get(&manager, KEY).is_none());
        assert_eq!(manager.statistics().unreadable, n as u64 + 1);
        put(&manager, KEY, b"new".to_vec());
        assert_eq!(body(&manager, KEY).expect("an entry"), b"new");
    }
    // One line for all that come within a second.
    let path = manager.cache().path().display().to_string();
    assert_eq!(logged(&path), 1, "{:?}", LOG.0);
}

/// Changes the one place of a cache's heap that has these bytes, as a failing disk does.
fn damage(dir: &Path, bytes: &[u8]) {
    for file in std::fs::read_dir(dir).expect("a listing") {
        let path = file.expect("a file").path();
        let stored = std::fs::read(&path).expect("its contents");
        let found = stored
            .windows(bytes.len())
            .rposition(|window| window == bytes);
        if let Some(at) = found {
            let file = std::fs::File::options()
                .write(true)
                .open(&path)
                .expect("the file");
            file.write_all_at(b"!", at as u64).expect("a write");
            return;
        }
    }
    panic!("no file has these bytes");
}

#[test]
fn damaged_entry_is_a_miss() {
    let (manager, dir) = manager();
    for size in [100, 1 << 20] {
        let mark = format!("a mark in a body of {size} bytes");
        let mut of_entry = mark.clone().into_bytes();
        of_entry.resize(size, b'.');
        put(&manager, KEY, of_entry.clone());
        damage(dir.path(), mark.as_bytes());
        let before = manager.statistics().failed_lookups;
        assert_eq!(body(&manager, KEY), None);
        assert!(manager.statistics().failed_lookups > before);
        put(&manager, KEY, of_entry.clone());
        assert!(body(&manager, KEY) == Some(of_entry), "{size} bytes");
    }
}

#[test]
fn unusable_keys_are_used() {
    let (manager, _dir) = manager();
    let long = "GET:http://example.test/".to_owned() + &"?".repeat(100_000);
    let longer = long.clone() + "?";
    let keys = [
        "",
        long.as_str(),
        longer.as_str(),
        "\u{1F980}\0",
        "GET:short",
    ];
    for (n, key) in keys.iter().enumerate() {
        put(&manager, key, vec![n as u8; 300_000 * (n % 2)]);
    }
    for (n, key) in keys.iter().enumerate() {
        assert!(
            body(&manager, key) == Some(vec![n as u8; 300_000 * (n % 2)]),
            "key {n}"
        );
    }
    block_on(manager.delete(&long)).expect("a deletion");
    assert_eq!(body(&manager, &long), None);
    assert!(body(&manager, &longer).is_some());
}

// As if two long keys had one hash: the entry of the one is under the key of the other.
#[test]
fn colliding_key_is_a_miss() {
    let (manager, _dir) = manager();
    let keys = ["1".repeat(70_000), "2".repeat(70_000)];
    let mut stored = Vec::new();
    for key in &keys {
        put(&manager, key, key.as_bytes()[..1].to_vec());
        let listed = manager.cache().keys().expect("a listing");
        let new = listed
            .map(|key| key.expect("a key"))
            .find(|key| !stored.contains(key));
        stored.push(new.expect("the new key"));
    }
    let value = manager
        .cache()
        .get(&stored[0])
        .expect("a lookup")
        .expect("a value");
    manager.cache().insert(&stored[1], value).expect("a store");
    assert_eq!(body(&manager, &keys[1]), None);
    assert_eq!(body(&manager, &keys[0]).expect("an entry"), b"1");
    put(&manager, &keys[1], b"2".to_vec());
    assert_eq!(body(&manager, &keys[1]).expect("an entry"), b"2");
}

#[test]
fn prefix_removes_its_entries_only() {
    let (manager, _dir) = manager();
    let long = "GET:http://a.test/".to_owned() + &"x".repeat(70_000);
    let (mine, others) = (
        ["GET:http://a.test/1", long.as_str()],
        ["GET:http://b.test/1", "HEAD:http://a.test/1"],
    );
    for key in mine.iter().chain(&others) {
        put(&manager, key, vec![1; 300_000]);
    }
    let removed = block_on(manager.remove_prefix("GET:http://a.test/")).expect("a removal");
    assert_eq!(removed, 2);
    assert!(mine.iter().all(|key| get(&manager, key).is_none()));
    assert!(others.iter().all(|key| get(&manager, key).is_some()));
    // Two entries, and the body of each: the bodies of the removed ones went with them.
    assert_eq!(manager.cache().len_with_expired(), 4);
}

#[test]
fn clear_removes_everything() {
    let (manager, _dir) = manager();
    put(&manager, "GET:a", vec![1; 300_000]);
    put(&manager, "GET:b", vec![1; 3]);
    block_on(manager.clear()).expect("a clearing");
    assert_eq!(
        (body(&manager, "GET:a"), body(&manager, "GET:b")),
        (None, None)
    );
    assert_eq!(manager.cache().len_with_expired(), 0);
}

#[test]
fn replaced_body_is_removed() {
    let (manager, _dir) = manager();
    for size in [1 << 20, 2 << 20] {
        put(&manager, KEY, vec![1; size]);
        assert_eq!(manager.cache().len_with_expired(), 2);
    }
    put(&manager, KEY, vec![1; 10]);
    assert_eq!(manager.cache().len_with_expired(), 1);
    put(&manager, KEY, vec![1; 1 << 20]);
    block_on(manager.delete(KEY)).expect("a deletion");
    assert_eq!(manager.cache().len_with_expired(), 0);
}

// The cache may evict the body of an entry and not the entry.
#[test]
fn entry_without_body_is_a_miss() {
    let (manager, _dir) = manager();
    put(&manager, KEY, vec![1; 1 << 20]);
    let keys: Vec<_> = manager
        .cache()
        .keys()
        .expect("a listing")
        .map(|key| key.expect("a key"))
        .collect();
    let of_body = keys
        .iter()
        .find(|key| key.starts_with(b"\xFF"))
        .expect("a body");
    assert!(manager.cache().remove(of_body).expect("a removal"));
    assert_eq!(body(&manager, KEY), None);
    put(&manager, KEY, vec![1; 1 << 20]);
    assert!(body(&manager, KEY) == Some(vec![1; 1 << 20]));
    // Something else under the key of the body is not served as one.
    let life = Duration::from_secs(60);
    manager
        .cache()
        .insert_absent(of_body, life)
        .expect("a store");
    assert_eq!(body(&manager, KEY), None);
}

// A cache whose files serve entries after their deadline: not these.
#[test]
fn retention_has_no_grace_period() {
    let dir = tempfile::tempdir().expect("a directory");
    let cache = Cache::builder(dir.path().join("cache"))
        .stale_while_revalidate(Duration::from_secs(3_600))
        .open()
        .expect("a cache");
    let manager = MmapManager::new(cache).retention(Duration::from_secs(1));
    for size in [10, 300_000] {
        let (response, policy) = response(&[("cache-control", "max-age=0")], vec![1; size]);
        block_on(manager.put(KEY.to_owned(), response, policy)).expect("a store");
        assert!(get(&manager, KEY).is_some());
        std::thread::sleep(Duration::from_millis(1_010));
        assert!(get(&manager, KEY).is_none(), "{size} bytes");
    }
}

#[test]
fn retention_follows_freshness() {
    for size in [10, 300_000] {
        for retention in [Some(Duration::from_secs(1_000)), None] {
            let (manager, _dir) = manager();
            let manager = manager.retention(retention);
            put(&manager, KEY, vec![1; size]);
            for item in manager.cache().entries().expect("a listing") {
                let (key, entry) = item.expect("an entry");
                // A body lives a minute longer.
                let more = if key.starts_with(b"\xFF") { 60 } else { 0 };
                let left = entry.remaining().map(|left| left.as_secs());
                match retention {
                    Some(_) => {
                        assert!((1_090 + more..=1_100 + more).contains(&left.expect("an end")))
                    }
                    None => assert_eq!(left, None),
                }
            }
        }
    }
}

#[test]
fn failed_deletion_is_an_error() {
    let (writing, dir) = manager();
    put(&writing, KEY, b"kept".to_vec());
    let cache = Cache::open_with(dir.path().join("cache"), Options::new().read_only(true));
    let manager = MmapManager::new(cache.expect("the cache"));
    let error = block_on(manager.delete(KEY)).expect_err("a refusal");
    let error = error.downcast_ref::<mmapcache::Error>().expect("its type");
    assert!(matches!(error.kind(), ErrorKind::ReadOnly), "{error}");
    // A lookup needs no right to write, and a response that cannot be stored is returned.
    assert_eq!(body(&manager, KEY).expect("an entry"), b"kept");
    assert_eq!(put(&manager, KEY, b"new".to_vec()).body, b"new");
    let statistics = manager.statistics();
    assert_eq!(
        (statistics.failed_stores, statistics.failed_removals),
        (1, 1)
    );
}

// RFC 9111 bounds ages; http-cache-semantics would add to this one without a check.
#[test]
fn senseless_age_is_not_stored() {
    let (manager, _dir) = manager();
    for (age, declined) in [("2147483648", 0), ("18446744073709551615", 1)] {
        let (response, policy) = response(&[("age", age), ("cache-control", "max-age=1")], vec![]);
        let put = block_on(manager.put(KEY.to_owned(), response, policy)).expect("a store");
        assert_eq!(put.headers.get("age").expect("an age"), age);
        assert_eq!(manager.statistics().declined, declined);
        assert_eq!(get(&manager, KEY).is_some(), declined == 0);
    }
}

#[test]
fn clones_share_everything() {
    fn is_for_threads<T: Send + Sync + Clone + 'static>(_: &T) {}
    let (manager, _dir) = manager();
    is_for_threads(&manager);
    let clone = manager.clone();
    std::thread::scope(|scope| {
        for n in 0..4 {
            let clone = &clone;
            scope.spawn(move || put(clone, &format!("GET:{n}"), vec![n; 1000]));
        }
    });
    for n in 0..4 {
        assert_eq!(body(&manager, &format!("GET:{n}")), Some(vec![n; 1000]));
    }
    clone.cache().insert(KEY, "foreign").expect("a store");
    assert!(get(&clone, KEY).is_none());
    assert_eq!(manager.statistics().unreadable, 1);
}
