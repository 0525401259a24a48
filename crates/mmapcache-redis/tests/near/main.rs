//! The near cache in front of a real server. Each module names what it shows.

#![allow(clippy::unwrap_used, reason = "tests")]

mod children;
mod computing;
mod losses;
mod observer;
mod opening;
mod processes;
mod reading;
mod server;
mod writing;

use std::path::Path;
use std::time::Duration;

use mmapcache_redis::{NearCache, NearCacheBuilder, Server, Source};
use server::wait_until;

const HOUR: Duration = Duration::from_secs(3_600);
const WINDOW: Duration = Duration::from_millis(200);

/// Begins to open a near cache whose file is in a folder.
fn builder(dir: &Path, server: Server) -> NearCacheBuilder {
    NearCache::builder(dir.join("near"), server, HOUR)
        .window(WINDOW)
        .response_timeout(Duration::from_millis(500))
}

/// Opens one, and waits until it serves copies.
fn open(dir: &Path, server: Server) -> NearCache {
    let near = builder(dir, server).open().unwrap();
    wait_until_served(&near);
    near
}

fn wait_until_served(near: &NearCache) {
    wait_until("copies are served", || near.serves_copies());
}

/// Reads a key until the answer comes from the file.
fn read_until_local(near: &NearCache, key: &str, value: Option<&str>) {
    wait_until("there is a copy", || {
        let answer = near.lookup(key).unwrap();
        assert_eq!(answer.value.as_deref(), value.map(str::as_bytes));
        answer.source == Source::Local
    });
}

fn text(value: Option<Vec<u8>>) -> Option<String> {
    value.map(|value| String::from_utf8(value).unwrap())
}

/// Says that a test is over when it is dropped, also by a panic: other threads wait for that.
struct Ending<'a>(&'a std::sync::atomic::AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, std::sync::atomic::Ordering::SeqCst);
    }
}
