//! A local hit beside a round trip, and what the server has to do with and without a near cache.
//!
//! `cargo run --release --example near_redis` starts a `redis-server` of its own on loopback and ends
//! it. Another server: `near_redis redis://host/`; keys that begin with `near_redis:` are written there.

use std::error::Error;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mmapcache_redis::{NearCache, redis};

const KEYS: usize = 1_000;
const READS: usize = 20_000;
const VALUE: usize = 200;

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start() -> Result<(Server, String), Box<dyn Error>> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    drop(listener);
    let child = Command::new("redis-server")
        .args([
            "--port",
            &port.to_string(),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
        ])
        .stdout(Stdio::null())
        .spawn()
        .map_err(|error| {
            format!("no `redis-server` (Debian: apt-get install redis-server): {error}")
        })?;
    let server = Server(child);
    let end = Instant::now() + Duration::from_secs(10);
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        if Instant::now() > end {
            return Err("redis-server does not answer".into());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok((server, format!("redis://127.0.0.1:{port}/")))
}

fn commands(connection: &mut redis::Connection) -> Result<u64, Box<dyn Error>> {
    let info: String = redis::cmd("INFO").arg("stats").query(connection)?;
    let line = info
        .lines()
        .find_map(|line| line.strip_prefix("total_commands_processed:"));
    Ok(line
        .ok_or("INFO has no number of commands")?
        .trim()
        .parse()?)
}

/// Keys as a skewed load asks for them: half of the reads go to a tenth of the keys.
fn keys() -> impl Iterator<Item = String> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    (0..READS).map(move |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let range = if state & 1 == 0 { KEYS / 10 } else { KEYS };
        format!("near_redis:{}", (state >> 8) as usize % range)
    })
}

/// Reads all keys; returns nanoseconds for each, and the commands on the server.
fn measure(
    counter: &mut redis::Connection,
    mut read: impl FnMut(&str) -> Result<Option<Vec<u8>>, Box<dyn Error>>,
) -> Result<(f64, u64), Box<dyn Error>> {
    let keys: Vec<String> = keys().collect();
    let before = commands(counter)?;
    let begun = Instant::now();
    for key in &keys {
        if read(key)?.is_none_or(|value| value.len() != VALUE) {
            return Err("a value is missing".into());
        }
    }
    let nanos = begun.elapsed().as_nanos() as f64 / READS as f64;
    // Less the INFO itself.
    Ok((nanos, commands(counter)? - before - 1))
}

fn main() -> Result<(), Box<dyn Error>> {
    let (_server, url) = match std::env::args().nth(1) {
        Some(url) => (None, url),
        None => start().map(|(server, url)| (Some(server), url))?,
    };
    let mut client = redis::Client::open(&*url)?.get_connection()?;
    let mut counter = redis::Client::open(&*url)?.get_connection()?;
    for number in 0..KEYS {
        let key = format!("near_redis:{number}");
        redis::cmd("SET")
            .arg(key)
            .arg(&[b'v'; VALUE][..])
            .exec(&mut client)?;
    }

    let dir = tempfile::tempdir()?;
    let near = NearCache::open(dir.path().join("near"), &*url, Duration::from_secs(600))?;
    let end = Instant::now() + Duration::from_secs(10);
    while !near.serves_copies() {
        if Instant::now() > end {
            return Err("the near cache does not serve copies".into());
        }
        std::thread::sleep(Duration::from_millis(10));
    }

    let direct = measure(&mut counter, |key| {
        Ok(redis::cmd("GET").arg(key).query(&mut client)?)
    })?;
    let first = measure(&mut counter, |key| Ok(near.get(key)?))?;
    let again = measure(&mut counter, |key| Ok(near.get(key)?))?;
    let stats = near.stats();
    println!("{READS} reads of {KEYS} keys, values of {VALUE} bytes, one thread");
    for (name, (nanos, commands)) in [
        ("GET of the server", direct),
        ("near cache, empty at first", first),
        ("near cache, filled", again),
    ] {
        let ratio = direct.0 / nanos;
        println!("{name:<28} {nanos:>9.0} ns  {ratio:>6.1} x  {commands:>6} commands");
    }
    println!(
        "{} hits, {} fetches, {} stored",
        stats.local_hits, stats.fetches, stats.stored
    );
    Ok(())
}
