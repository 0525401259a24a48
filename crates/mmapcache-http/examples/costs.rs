//! What a store and a lookup cost, by the size of the body and the threads that work.
//!
//! `cargo run --release --example costs`; some 5 seconds. The median of several rounds each, in
//! microseconds; the files are in memory.

use std::time::{Duration, Instant, SystemTime};

use http_cache_semantics::CachePolicy;
use mmapcache_http::http_cache::{CacheManager, HttpHeaders, HttpResponse, HttpVersion, url_parse};
use mmapcache_http::{MmapManager, Threads};

type Error = Box<dyn std::error::Error + Send + Sync>;

/// A response with ten headers, as an origin sends it.
fn response(size: usize) -> Result<(HttpResponse, CachePolicy), Error> {
    let mut headers = HttpHeaders::new();
    let mut builder = http::Response::builder();
    for n in 0..8 {
        headers.append(
            format!("x-header-{n}"),
            "a value of usual length".to_owned(),
        );
        builder = builder.header(format!("x-header-{n}"), "a value of usual length");
    }
    for (name, value) in [
        ("etag", "\"0123456789abcdef\""),
        ("cache-control", "public, max-age=600"),
    ] {
        headers.append(name.to_owned(), value.to_owned());
        builder = builder.header(name, value);
    }
    let request = http::Request::get("http://example.test/")
        .header("accept", "*/*")
        .body(())?;
    let policy = CachePolicy::new_options(
        &request,
        &builder.body(())?,
        SystemTime::now(),
        Default::default(),
    );
    let response = HttpResponse {
        body: vec![7; size],
        headers,
        status: 200,
        url: url_parse("http://example.test/")?,
        version: HttpVersion::Http11,
        metadata: None,
    };
    Ok((response, policy))
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1e6
}

fn main() -> Result<(), Error> {
    futures_lite::future::block_on(measure())
}

async fn measure() -> Result<(), Error> {
    let dir = tempfile::tempdir()?;
    println!(
        "{:>11} {:>12} {:>12} {:>12} {:>12}",
        "body", "threads", "new", "revalidated", "lookup"
    );
    for size in [10_usize << 10, 100 << 10, 1 << 20, 100 << 20] {
        for threads in [Threads::Task, Threads::LargeOnPool, Threads::Pool] {
            let path = dir.path().join(format!("{size}-{threads:?}"));
            let manager = MmapManager::open(path)?.threads(threads);
            let (mut new, mut again, mut lookup) = (Vec::new(), Vec::new(), Vec::new());
            let rounds = (50 << 20) / size + 3;
            for round in 0..rounds.min(300) {
                let key = format!("GET:http://example.test/{}", round % 5);
                manager.delete(&key).await?;
                for times in [&mut new, &mut again] {
                    let (response, policy) = response(size)?;
                    let begin = Instant::now();
                    manager.put(key.clone(), response, policy).await?;
                    times.push(begin.elapsed());
                }
                let begin = Instant::now();
                let found = manager.get(&key).await?;
                lookup.push(begin.elapsed());
                assert_eq!(found.map(|(response, _)| response.body.len()), Some(size));
            }
            let threads = format!("{threads:?}");
            let (new, again, lookup) = (median(new), median(again), median(lookup));
            println!("{size:>11} {threads:>12} {new:>12.1} {again:>12.1} {lookup:>12.1}");
        }
    }
    Ok(())
}
