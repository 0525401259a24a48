//! Memoises a function in ten lines: each result is computed once, for all processes and restarts.
//!
//!     cargo run --example memoize --features serde

use std::cell::Cell;
use std::error::Error;
use std::time::Duration;

use mmapcache::{InsertOptions, TypedCache};

/// Raise it when `expensive` changes: results of the earlier one are misses then.
const VERSION: u32 = 1;

/// Takes the place of real work.
fn expensive(text: &str, times: usize) -> String {
    text.repeat(times)
}

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?; // a program would use its directory in ~/.cache
    let cache = TypedCache::<String>::open(dir.path().join("results"))?;
    let week = InsertOptions::new().ttl(Duration::from_secs(7 * 24 * 3_600));
    let computed = Cell::new(0);

    // The ten lines. Of callers with equal arguments, in any process, one computes.
    let memoised = |text: &str, times: usize| -> Result<String, Box<dyn Error>> {
        let key = cache.call_key("expensive", VERSION, &(text, times))?;
        let result = cache.get_or_insert_with(key, week, || {
            computed.set(computed.get() + 1);
            expensive(text, times)
        })?;
        Ok(result.value)
    };

    assert_eq!(memoised("ab", 3)?, "ababab");
    assert_eq!(memoised("ab", 3)?, "ababab");
    assert_eq!(memoised("ab", 2)?, "abab");
    assert_eq!(computed.get(), 2);
    println!("3 calls, {} computations", computed.get());
    Ok(())
}
