//! An HTTP cache: ETags, `Vary`, stale responses while one process asks the origin, a function here.
//!
//!     cargo run --example http_cache --features serde

use std::error::Error;
use std::time::Duration;

use mmapcache::{InsertOptions, TypedCache};

/// How long after its `max-age` a response may be served, while one caller asks the origin.
const STALE_FOR: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

/// The ETag of a response, and its body.
type Stored = (String, String);
/// The ETag, `max-age`, the header that `Vary` names, and the body: `None` for 304 Not Modified.
type Reply = (&'static str, Duration, Option<&'static str>, Option<String>);

/// Returns the body of a response, and where it comes from. `header` returns a header of the request.
fn get(
    responses: &TypedCache<Stored>,
    url: &str,
    header: &dyn Fn(&str) -> String,
    origin: &dyn Fn(Option<&str>) -> Reply,
) -> Result<(String, &'static str), Box<dyn Error>> {
    let cache = responses.cache();
    let key = |vary: Option<&str>| match vary {
        Some(name) => format!("GET {url}\n{name}: {}", header(name)),
        None => format!("GET {url}"),
    };
    let vary = cache.get(format!("Vary {url}"))?;
    let vary = vary.map(String::from_utf8).transpose()?;
    let entry = responses.entry(key(vary.as_deref()))?;
    let is_fresh = entry.as_ref().is_some_and(|(_, entry)| !entry.is_stale());
    let stored = entry.and_then(|(response, _)| response);
    let asking = format!("asking {}", key(vary.as_deref()));
    if let Some((_, body)) = &stored {
        if is_fresh {
            return Ok((body.clone(), "fresh"));
        }
        // One caller of all processes stores this. Its life ends the wait if that caller dies.
        let ten_seconds = InsertOptions::new().ttl(Duration::from_secs(10));
        if cache.add(&asking, "", &ten_seconds)?.is_none() {
            return Ok((body.clone(), "stale"));
        }
    }
    let (etag, max_age, vary, body) = origin(stored.as_ref().map(|(etag, _)| &etag[..]));
    let from = ["revalidated", "origin"][usize::from(body.is_some())];
    let body = body.or(stored.map(|(_, body)| body)).ok_or("304?")?;
    if let Some(name) = vary {
        cache.insert(format!("Vary {url}"), name)?;
    }
    let response = (etag.to_owned(), body);
    let life = InsertOptions::new().ttl(max_age).stale_for(STALE_FOR);
    responses.insert_with(key(vary), &response, &life)?;
    cache.remove(asking)?;
    Ok((response.1, from))
}

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?; // a program would use its directory in ~/.cache
    let cache = TypedCache::<Stored>::open(dir.path().join("http"))?;
    let (english, german) = (|_: &str| "en".to_owned(), |_: &str| "de".to_owned());
    // A page in two languages: each has a response of its own.
    let page = |_: Option<&str>| ("\"1\"", HOUR, Some("accept-language"), Some("hello".into()));
    assert_eq!(get(&cache, "/", &english, &page)?.1, "origin");
    assert_eq!(get(&cache, "/", &english, &page)?.1, "fresh");
    assert_eq!(get(&cache, "/", &german, &page)?.1, "origin");
    // A page that is stale at once: while one caller asks the origin, another gets what is stored.
    let news = |_: Option<&str>| ("\"7\"", Duration::ZERO, None, Some("news".into()));
    assert_eq!(get(&cache, "/news", &english, &news)?.1, "origin");
    let unchanged = |seen: Option<&str>| {
        let other = get(&cache, "/news", &english, &news).map(|(_, from)| from);
        assert_eq!((other.ok(), seen), (Some("stale"), Some("\"7\"")));
        ("\"7\"", HOUR, None, None)
    };
    assert_eq!(get(&cache, "/news", &english, &unchanged)?.1, "revalidated");
    println!("{} entries", cache.cache().keys()?.count());
    Ok(())
}
