//! Limits how often something is done by all processes of a machine together: each asks a shared
//! counter for a ticket, and no two get the same one.
//!
//! `update` runs its closure under the writer lock, so reading, deciding and storing are one step
//! across processes. A process that is killed in the middle leaves the count as it was, or counted.
//!
//!     cargo run --example shared_counter

use std::error::Error;
use std::path::Path;
use std::process::Command;

use mmapcache::{Entry, MmapCache, Update};

const LIMIT: u64 = 1_500;

fn count(entry: Option<&Entry>) -> u64 {
    let bytes = entry.and_then(|entry| entry.value().try_into().ok());
    bytes.map_or(0, u64::from_le_bytes)
}

/// Returns the next ticket, or `None` if all were given out.
fn take_ticket(cache: &MmapCache) -> mmapcache::Result<Option<u64>> {
    let mut ticket = None;
    cache.update(b"tickets", |entry| {
        let given = count(entry);
        if given == LIMIT {
            return Update::Keep;
        }
        ticket = Some(given + 1);
        Update::Put((given + 1).to_le_bytes().to_vec())
    })?;
    Ok(ticket)
}

/// What each of the processes does: asks until there are no more, and prints what it got.
fn customer(path: &Path) -> Result<(), Box<dyn Error>> {
    let cache = MmapCache::open(path)?;
    while let Some(ticket) = take_ticket(&cache)? {
        println!("{ticket}");
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    if let Some(path) = std::env::args_os().nth(1) {
        return customer(Path::new(&path));
    }
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("limits");
    let start = || {
        Command::new(std::env::current_exe()?)
            .arg(&path)
            .stdout(std::process::Stdio::piped())
            .spawn()
    };
    let customers = [start()?, start()?];
    let mut tickets = Vec::new();
    for customer in customers {
        let output = customer.wait_with_output()?;
        assert!(output.status.success());
        for line in String::from_utf8(output.stdout)?.lines() {
            tickets.push(line.parse::<u64>()?);
        }
    }
    tickets.sort_unstable();
    assert!(
        tickets.iter().copied().eq(1..=LIMIT),
        "a ticket was lost or given twice"
    );
    println!("two processes took {LIMIT} tickets, each of them once");
    Ok(())
}
