//! A reqwest client and an origin on loopback: what of HTTP caching works with this manager. Calls
//! `common`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::common::{Origin, answer, client, get, get_with};
use mmapcache::{Cache, Eviction};
use mmapcache_http::MmapManager;
use mmapcache_http::http_cache::CacheManager;

fn manager() -> (MmapManager, tempfile::TempDir) {
    let dir = tempfile::tempdir().expect("a directory");
    let manager = MmapManager::open(dir.path().join("cache")).expect("a cache");
    (manager, dir)
}

/// Answers 200 with an ETag, and 304 to who has it; the response is stale at once.
fn tagged(
    tag: &'static str,
    body: Vec<u8>,
) -> impl Fn(&http::request::Parts) -> axum::response::Response + Clone {
    move |request| {
        let headers = [("etag", tag), ("cache-control", "max-age=0")];
        match request.headers.get("if-none-match") {
            Some(known) if known == tag => answer(304, &headers, ""),
            _ => answer(200, &headers, body.clone()),
        }
    }
}

#[tokio::test]
async fn fresh_response_needs_no_request() {
    let (manager, _dir) = manager();
    let origin = Origin::start(|_| {
        let headers = [("cache-control", "max-age=100"), ("x-one", "a, b")];
        answer(200, &headers, "hello")
    })
    .await;
    let client = client(manager);
    let first = get(&client, &origin.url).await;
    let second = get(&client, &origin.url).await;
    assert_eq!(
        (first.cache.as_str(), second.cache.as_str()),
        ("MISS", "HIT")
    );
    assert_eq!(
        (second.status, second.body.as_slice()),
        (200, &b"hello"[..])
    );
    assert_eq!(second.header("x-one"), "a, b");
    assert_eq!(origin.requests(), 1);
}

#[tokio::test]
async fn stale_response_is_revalidated() {
    let (manager, _dir) = manager();
    let origin = Origin::start(tagged("\"1\"", b"hello".to_vec())).await;
    let client = client(manager);
    assert_eq!(get(&client, &origin.url).await.cache, "MISS");
    // The second revalidation needs what the first one stored again.
    for requests in [2, 3] {
        let got = get(&client, &origin.url).await;
        assert_eq!((got.status, got.cache.as_str()), (200, "HIT"));
        assert_eq!(got.body, b"hello");
        assert_eq!(origin.requests(), requests);
        assert_eq!(origin.last_header("if-none-match"), "\"1\"");
    }
}

#[tokio::test]
async fn changed_response_replaces_old() {
    let (manager, _dir) = manager();
    let version = Arc::new(AtomicUsize::new(0));
    let origin = Origin::start(move |_| {
        let version = version.fetch_add(1, Ordering::Relaxed);
        let tag = format!("\"{version}\"");
        let headers = [("etag", tag.as_str()), ("cache-control", "max-age=0")];
        answer(200, &headers, format!("version {version}"))
    })
    .await;
    let client = client(manager);
    assert_eq!(get(&client, &origin.url).await.body, b"version 0");
    assert_eq!(get(&client, &origin.url).await.body, b"version 1");
    assert_eq!(get(&client, &origin.url).await.body, b"version 2");
    assert_eq!(origin.last_header("if-none-match"), "\"1\"");
}

#[tokio::test]
async fn no_store_is_not_kept() {
    let (manager, _dir) = manager();
    let origin = Origin::start(|_| answer(200, &[("cache-control", "no-store")], "secret")).await;
    let client = client(manager.clone());
    for requests in [1, 2] {
        assert_eq!(get(&client, &origin.url).await.cache, "MISS");
        assert_eq!(origin.requests(), requests);
    }
    assert_eq!(manager.cache().len_with_expired(), 0);
}

// http-cache has one entry for a URL: alternating languages replace each other.
#[tokio::test]
async fn vary_mismatch_asks_the_origin() {
    let (manager, _dir) = manager();
    let origin = Origin::start(|request| {
        let headers = [
            ("vary", "accept-language"),
            ("cache-control", "max-age=100"),
        ];
        let language = request.headers["accept-language"]
            .to_str()
            .expect("text")
            .to_owned();
        answer(200, &headers, language)
    })
    .await;
    let client = client(manager);
    let rounds = [("en", 1), ("en", 1), ("de", 2), ("de", 2), ("en", 3)];
    for (language, requests) in rounds {
        let got = get_with(&client, &origin.url, &[("accept-language", language)]).await;
        assert_eq!(got.body, language.as_bytes());
        assert_eq!(origin.requests(), requests, "{language}");
    }
}

// http-cache stores it, never finds it fresh, and would serve it to any request while the origin is away.
#[tokio::test]
async fn vary_star_is_not_stored() {
    let (manager, _dir) = manager();
    let count = AtomicUsize::new(0);
    let count = Arc::new(count);
    let origin = Origin::start(move |_| match count.fetch_add(1, Ordering::Relaxed) {
        0 => answer(200, &[("cache-control", "max-age=0")], "for all"),
        _ => answer(
            200,
            &[("vary", "accept, *"), ("cache-control", "max-age=100")],
            "for one",
        ),
    })
    .await;
    let client = client(manager.clone());
    assert_eq!(get(&client, &origin.url).await.body, b"for all");
    assert_eq!(get(&client, &origin.url).await.body, b"for one");
    assert_eq!(manager.statistics().declined, 1);
    // The older response went with it.
    assert_eq!(manager.cache().len_with_expired(), 0);
    let url = origin.url.clone();
    origin.stop().await;
    let other = crate::common::client(manager);
    assert!(other.get(url).send().await.is_err());
}

// The origin's 304 is about another body than ours: http-cache stores ours under the new tag, and
// revalidates it successfully from then on.
#[tokio::test]
async fn other_tag_on_304_ends_entry() {
    for size in [5, 300 << 10] {
        let (manager, _dir) = manager();
        let count = Arc::new(AtomicUsize::new(0));
        let origin = Origin::start(move |request| {
            let (old, new) = ([("etag", "\"1\""), AGE], [("etag", "\"2\""), AGE]);
            const AGE: (&str, &str) = ("cache-control", "max-age=0");
            match (
                count.fetch_add(1, Ordering::Relaxed),
                request.headers.get("if-none-match"),
            ) {
                (0, _) => answer(200, &old, vec![1_u8; size]),
                (1, _) => answer(304, &new, ""),
                (_, Some(known)) if known == "\"2\"" => answer(304, &new, ""),
                _ => answer(200, &new, vec![2_u8; size]),
            }
        })
        .await;
        let client = client(manager.clone());
        get(&client, &origin.url).await;
        get(&client, &origin.url).await;
        assert_eq!(manager.statistics().declined, 1);
        let third = get(&client, &origin.url).await;
        assert_eq!(origin.last_header("if-none-match"), "");
        assert_eq!(third.header("etag"), "\"2\"");
        assert!(third.body == vec![2; size]);
    }
}

#[tokio::test]
async fn response_survives_a_restart() {
    let (manager, dir) = manager();
    let origin = Origin::start(|_| answer(200, &[("cache-control", "max-age=100")], "hello")).await;
    get(&client(manager), &origin.url).await;
    let reopened = MmapManager::open(dir.path().join("cache")).expect("the cache");
    let got = get(&client(reopened), &origin.url).await;
    assert_eq!(
        (got.cache.as_str(), got.body.as_slice()),
        ("HIT", &b"hello"[..])
    );
    assert_eq!(origin.requests(), 1);
}

#[tokio::test]
async fn post_removes_the_entry() {
    let (manager, _dir) = manager();
    let origin = Origin::start(|_| answer(200, &[("cache-control", "max-age=100")], "hello")).await;
    let client = client(manager.clone());
    get(&client, &origin.url).await;
    assert_eq!(manager.cache().len_with_expired(), 1);
    client.post(&origin.url).send().await.expect("a response");
    assert_eq!(manager.cache().len_with_expired(), 0);
    assert_eq!(get(&client, &origin.url).await.cache, "MISS");
    assert_eq!(origin.requests(), 3);
}

#[tokio::test]
async fn hundred_megabytes_come_back_whole() {
    let (manager, _dir) = manager();
    let body: Vec<u8> = (0..100_u32 << 20 >> 2)
        .flat_map(|n| n.wrapping_mul(0x9E37_79B9).to_le_bytes())
        .collect();
    let of_origin = axum::body::Bytes::from(body.clone());
    let origin =
        Origin::start(move |_| answer(200, &[("cache-control", "max-age=100")], of_origin.clone()))
            .await;
    let client = client(manager);
    for cache in ["MISS", "HIT"] {
        let got = get(&client, &origin.url).await;
        assert_eq!(got.cache, cache);
        assert!(
            got.body == body,
            "{} bytes differ from {}",
            got.body.len(),
            body.len()
        );
    }
    assert_eq!(origin.requests(), 1);
}

#[tokio::test]
async fn revalidation_leaves_large_body_alone() {
    let (manager, _dir) = manager();
    let origin = Origin::start(tagged("\"1\"", vec![7; 4 << 20])).await;
    let client = client(manager.clone());
    get(&client, &origin.url).await;
    let before = manager.cache().disk_usage().expect("the usage").total();
    for _ in 0..10 {
        let got = get(&client, &origin.url).await;
        assert!(got.cache == "HIT" && got.body == vec![7; 4 << 20]);
    }
    assert_eq!(origin.requests(), 11);
    let grown = manager.cache().disk_usage().expect("the usage").total() - before;
    assert!(grown < 4 << 20, "{grown} bytes more");
}

// Of a cache of 1 MiB, 64 KiB are the most for one value.
#[tokio::test]
async fn too_large_body_is_returned() {
    let dir = tempfile::tempdir().expect("a directory");
    let cache = Cache::builder(dir.path().join("cache"))
        .max_bytes(1 << 20)
        .open()
        .expect("a cache");
    let manager = MmapManager::new(cache);
    for (size, declined) in [(200_usize << 10, 1), (1 << 20, 2)] {
        let origin = Origin::start(move |_| {
            answer(200, &[("cache-control", "max-age=100")], vec![3_u8; size])
        })
        .await;
        let got = get(&client(manager.clone()), &origin.url).await;
        assert!(got.status == 200 && got.body == vec![3; size]);
        assert_eq!(manager.statistics().declined, declined);
    }
    assert_eq!(manager.cache().len_with_expired(), 0);
}

#[tokio::test]
async fn full_cache_fails_no_request() {
    let dir = tempfile::tempdir().expect("a directory");
    let builder = Cache::builder(dir.path().join("cache")).max_bytes(1 << 20);
    let manager = MmapManager::new(builder.eviction(Eviction::None).open().expect("a cache"));
    let origin =
        Origin::start(|_| answer(200, &[("cache-control", "max-age=100")], vec![3_u8; 50_000]))
            .await;
    let client = client(manager.clone());
    // The bound may be exceeded by 4 MiB. A refusal takes long: the cache cleans all its segments before.
    let mut requests = 0;
    while manager.statistics().failed_stores == 0 {
        let got = get(&client, &format!("{}{requests}", origin.url)).await;
        assert!(got.status == 200 && got.body == vec![3; 50_000]);
        requests += 1;
        assert!(requests < 500, "{:?}", manager.statistics());
    }
}

#[tokio::test]
async fn bound_evicts_old_responses() {
    let dir = tempfile::tempdir().expect("a directory");
    let cache = Cache::builder(dir.path().join("cache"))
        .max_bytes(8 << 20)
        .open()
        .expect("a cache");
    let manager = MmapManager::new(cache);
    let origin = Origin::start(|_| {
        answer(
            200,
            &[("cache-control", "max-age=100")],
            vec![3_u8; 300_000],
        )
    })
    .await;
    let client = client(manager.clone());
    for n in 0..60 {
        get(&client, &format!("{}{n}", origin.url)).await;
    }
    let used = manager.cache().disk_usage().expect("the usage").total();
    assert!(used <= 12 << 20, "{used} bytes");
    assert_eq!(
        get(&client, &format!("{}59", origin.url)).await.cache,
        "HIT"
    );
    assert_eq!(
        get(&client, &format!("{}0", origin.url)).await.cache,
        "MISS"
    );
}

// As http-cache treats it: 200 with `Warning: 111`.
#[tokio::test]
async fn stale_entry_serves_without_origin() {
    for (retention, is_served) in [(Duration::from_secs(60), true), (Duration::ZERO, false)] {
        let (manager, _dir) = manager();
        let manager = manager.retention(retention);
        let origin = Origin::start(tagged("\"1\"", b"hello".to_vec())).await;
        let url = origin.url.clone();
        get(&client(manager.clone()), &url).await;
        origin.stop().await;
        let got = client(manager).get(&url).send().await;
        assert_eq!(got.is_ok(), is_served, "{retention:?}");
        if let Ok(got) = got {
            let warning = got.headers()["warning"].to_str().expect("text").to_owned();
            assert!(warning.starts_with("111 "), "{warning}");
            assert_eq!(got.bytes().await.expect("a body"), "hello");
        }
    }
}

// A max-age of 584 years, as some origins send, is no deadline, and no overflow.
#[tokio::test]
async fn endless_life_is_accepted() {
    let (manager, _dir) = manager();
    let origin = Origin::start(|_| {
        answer(
            200,
            &[("cache-control", "max-age=18446744073709551615")],
            "hello",
        )
    })
    .await;
    let client = client(manager.clone());
    get(&client, &origin.url).await;
    assert_eq!(get(&client, &origin.url).await.cache, "HIT");
    let key = format!("GET:{}", origin.url);
    let entry = manager
        .cache()
        .entry(&key)
        .expect("a lookup")
        .expect("an entry");
    assert_eq!(entry.remaining(), None);
    assert!(manager.get(&key).await.expect("a lookup").is_some());
}

// The README says so of http-cache 1.0.0-alpha.9. If a newer one does better, change the README.
#[tokio::test]
async fn headers_lose_what_readme_says() {
    let (manager, _dir) = manager();
    let origin = Origin::start(|_| {
        let headers = [
            ("cache-control", "max-age=100"),
            ("x-two", "a"),
            ("x-two", "b"),
            ("x-name", "Zo\u{EB}"),
        ];
        answer(200, &headers, "hello")
    })
    .await;
    let client = client(manager);
    for lines in [&["a", "b"][..], &["b"]] {
        let got = get(&client, &origin.url).await;
        let found: Vec<_> = got.headers.get_all("x-two").iter().collect();
        assert_eq!(found, lines);
        assert!(!got.headers.contains_key("x-name"));
    }
}
