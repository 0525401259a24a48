//! A resolver's cache: addresses for as long as their record says, and names that do not exist for a
//! shorter time, so that a misspelt name is not asked for again and again.
//!
//! The name server is a function here.
//!
//!     cargo run --example resolver

use std::error::Error;
use std::net::Ipv4Addr;
use std::time::Duration;

use mmapcache::{Cache, InsertOptions};

/// What a name server answers: an address and the life of the record, or how long the name is known
/// not to exist.
type Answer = Result<(Ipv4Addr, Duration), Duration>;

fn name_server(name: &str) -> Answer {
    match name {
        "www.example" => Ok((Ipv4Addr::new(192, 0, 2, 1), Duration::from_secs(300))),
        _ => Err(Duration::from_secs(30)),
    }
}

/// Returns the address of a name, `None` if it does not exist. Counts questions to the name server, of
/// all processes, in the cache itself.
fn resolve(cache: &Cache, name: &str) -> Result<Option<Ipv4Addr>, Box<dyn Error>> {
    let key = format!("A {name}");
    if let Some(entry) = cache.entry(&key)? {
        if entry.is_negative() {
            return Ok(None);
        }
        let octets: [u8; 4] = entry.value().try_into()?;
        return Ok(Some(octets.into()));
    }
    cache.increment("questions", 1, &InsertOptions::new())?;
    match name_server(name) {
        Ok((address, life)) => {
            let options = InsertOptions::new().ttl(life);
            cache.insert_with(key, address.octets(), &options)?;
            Ok(Some(address))
        }
        Err(life) => {
            cache.insert_absent(key, life)?;
            Ok(None)
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?; // a resolver would use a directory in /var/cache
    let cache = Cache::open(dir.path().join("names"))?;
    for _ in 0..1_000 {
        assert!(resolve(&cache, "www.example")?.is_some());
        assert!(resolve(&cache, "wwww.example")?.is_none());
    }
    let questions = cache.increment("questions", 0, &InsertOptions::new())?;
    assert_eq!(questions, 2);
    println!("2,000 look-ups, {questions} questions");
    Ok(())
}
