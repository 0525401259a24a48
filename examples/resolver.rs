//! A resolver's cache: addresses for as long as their record says, and names that do not exist for a
//! shorter time, so that a misspelt name is not asked for again and again. Of all processes that look for
//! a name, one asks.
//!
//! The name server is a function here.
//!
//!     cargo run --example resolver

use std::error::Error;
use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use mmapcache::{Cache, ComputeError, ComputeOptions, InsertOptions};

/// The life of an address here. A record with a shorter one would be stored by `insert_with`.
const LIFE: Duration = Duration::from_secs(300);
/// How long a name is known not to exist.
const ABSENT: Duration = Duration::from_secs(30);

/// Returns the address of a name, `None` if it does not exist, an error if there is no answer.
fn name_server(name: &str) -> io::Result<Option<Ipv4Addr>> {
    match name {
        "www.example" => Ok(Some(Ipv4Addr::new(192, 0, 2, 1))),
        "down.example" => Err(io::ErrorKind::TimedOut.into()),
        _ => Ok(None),
    }
}

/// Returns the address of a name, `None` if it does not exist. Counts questions to the name server, of
/// all processes, in the cache itself.
fn resolve(cache: &Cache, name: &str) -> Result<Option<Ipv4Addr>, Box<dyn Error>> {
    // An old address is better than none for an hour more.
    let options = ComputeOptions::from(InsertOptions::new().ttl(LIFE))
        .absent_for(ABSENT)
        .stale_on_error(Duration::from_secs(3_600));
    let found = cache.get_or_try_insert_optional_with(format!("A {name}"), options, || {
        cache.increment("questions", 1, &InsertOptions::new())?;
        let address = name_server(name)?;
        Ok::<_, Box<dyn Error>>(address.map(|address| address.octets()))
    });
    match found {
        Ok(Some(found)) => {
            let octets: [u8; 4] = found.value[..].try_into()?;
            Ok(Some(octets.into()))
        }
        Ok(None) => Ok(None),
        Err(ComputeError::Failed(error)) => Err(error),
        Err(error) => Err(error.to_string().into()),
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
    // A failure is not stored.
    assert!(resolve(&cache, "down.example").is_err());
    assert!(cache.entry("A down.example")?.is_none());
    println!("2,000 look-ups, {questions} questions");
    Ok(())
}
