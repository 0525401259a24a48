//! Two clients with a handle each on one cache, as two processes have, and a server on loopback.
//!
//! `cargo run --example two_clients`

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use http_cache_reqwest::{Cache, CacheMode, HttpCache, HttpCacheOptions};
use mmapcache_http::MmapManager;
use reqwest_middleware::{ClientBuilder, ClientWithMiddleware};

type Error = Box<dyn std::error::Error>;

/// Opens the cache, as each process does.
fn client(path: &std::path::Path) -> Result<ClientWithMiddleware, Error> {
    let files = mmapcache::Cache::builder(path).max_bytes(64 << 20).open()?;
    let cache = HttpCache {
        mode: CacheMode::Default,
        manager: MmapManager::new(files),
        options: HttpCacheOptions::default(),
    };
    Ok(
        ClientBuilder::new(reqwest::Client::builder().no_proxy().build()?)
            .with(Cache(cache))
            .build(),
    )
}

/// Answers with a page that is stale after a second, and to who has it, that it is unchanged.
async fn page(headers: HeaderMap) -> impl IntoResponse {
    let terms = [("cache-control", "max-age=1"), ("etag", "\"1\"")];
    match headers.get("if-none-match") {
        Some(tag) if tag == "\"1\"" => (StatusCode::NOT_MODIFIED, terms, ""),
        _ => (StatusCode::OK, terms, "<h1>Hello</h1>"),
    }
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let requests = Arc::new(AtomicUsize::new(0));
    let counted = requests.clone();
    let handler = move |headers: HeaderMap| {
        counted.fetch_add(1, Ordering::Relaxed);
        page(headers)
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/", listener.local_addr()?);
    let server = axum::serve(listener, Router::new().fallback(handler));
    tokio::spawn(async move { server.await });

    let dir = tempfile::tempdir()?;
    let (one, two) = (
        client(&dir.path().join("cache"))?,
        client(&dir.path().join("cache"))?,
    );
    for (name, client, pause) in [
        ("one", &one, 0),
        ("two", &two, 0),
        ("two", &two, 1100),
        ("one", &one, 0),
    ] {
        tokio::time::sleep(std::time::Duration::from_millis(pause)).await;
        let response = client.get(&url).send().await?;
        let status = response.headers()["x-cache"].to_str()?.to_owned();
        let (body, requests) = (response.text().await?, requests.load(Ordering::Relaxed));
        println!("client {name}: {status:4} {body}; requests to the server so far: {requests}");
    }
    assert_eq!(
        requests.load(Ordering::Relaxed),
        2,
        "one to fetch, one to revalidate"
    );
    Ok(())
}
