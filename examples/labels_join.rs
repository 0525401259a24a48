//! Joins two tables by a name without storing the name in either of them.
//!
//! `Labels` gives each name a number of four bytes that never means another name, in any process
//! and after any restart. Rows carry the number: they are small, of one size, and are compared by
//! an integer. The name is looked up once, when a result is printed.
//!
//!     cargo run --example labels_join

use std::collections::HashMap;
use std::error::Error;

use mmapcache::{LabelId, Labels};

/// A row of the first table: 8 bytes instead of a path of 30 and more.
#[derive(Clone, Copy)]
struct Size {
    path: u32,
    bytes: u32,
}

/// A row of the second one.
#[derive(Clone, Copy)]
struct Download {
    path: u32,
    hour: u8,
}

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let labels = Labels::open(dir.path().join("paths"))?;

    // One program measures files. A list of names takes the lock once for all of them.
    let paths = [
        "/releases/2.1/app.tar.zst",
        "/releases/2.0/app.tar.zst",
        "/index.html",
    ];
    let mut sizes = Vec::new();
    let ids = labels.get_or_intern_many(paths)?;
    for (id, bytes) in ids.into_iter().zip([48_000_000, 45_000_000, 3_000]) {
        sizes.push(Size {
            path: id.number(),
            bytes,
        });
    }

    // Another one reads a log, and gets the same numbers for the same names.
    let log = [
        (9, "/index.html"),
        (9, "/releases/2.1/app.tar.zst"),
        (10, "/releases/2.1/app.tar.zst"),
    ];
    let elsewhere = Labels::open(dir.path().join("paths"))?;
    let mut downloads = Vec::new();
    for (hour, path) in log {
        let path = elsewhere.get_or_intern(path)?.number();
        downloads.push(Download { path, hour });
    }
    assert_eq!(labels.len(), 3, "a name that both know is stored once");

    // The join compares integers.
    let bytes: HashMap<u32, u32> = sizes.iter().map(|row| (row.path, row.bytes)).collect();
    let mut sent: HashMap<u32, u64> = HashMap::new();
    for row in downloads.iter().filter(|row| row.hour >= 9) {
        *sent.entry(row.path).or_default() += u64::from(bytes[&row.path]);
    }

    let mut sent: Vec<_> = sent.into_iter().collect();
    sent.sort_by_key(|&(_, bytes)| std::cmp::Reverse(bytes));
    for (path, bytes) in &sent {
        let name = labels.resolve_str(LabelId::new(*path))?;
        println!(
            "{bytes:>12} bytes  {}",
            name.ok_or("a number without a name")?
        );
    }
    assert_eq!(sent[0], (sizes[0].path, 96_000_000));
    Ok(())
}
