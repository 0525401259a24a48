//! Measures caches that expire and evict, beside each other: insertions in steady state, and hits.
//!
//! May call `keys`, `clock`, `figures`, `machine`, `store` for errors, and `report` for numbers.

mod bounded;
#[cfg(feature = "diskcache")]
mod diskcache;
#[cfg(feature = "foyer")]
mod foyer;
mod mmapcache;
#[cfg(feature = "sqlite")]
mod sqlite;
mod table;
#[cfg(test)]
mod tests;
mod work;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::Args;

use crate::figures::Figures;
use crate::machine;
use crate::store::{Error, Result};

use bounded::Promises;
use work::Load;

/// The cache that all ratios refer to.
const OURS: &str = "mmapcache";

/// Measures caches with a bound beside each other, and prints one table.
#[derive(Args)]
pub(crate) struct Settings {
    /// Caches to measure; by default all that are compiled in.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Bytes of each value.
    #[arg(long, value_delimiter = ',', default_value = "100,4096")]
    value: Vec<usize>,
    /// The bound of each cache, in MiB.
    #[arg(long, default_value_t = 64)]
    bound: u64,
    /// Insertions that are timed, after the cache was filled twice. As many gets.
    #[arg(long, default_value_t = 100_000)]
    count: u64,
    /// How often everything is measured; medians count.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Directory for the files, on a real disk.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/target"))]
    dir: PathBuf,
}

/// What one process measures.
#[derive(Args)]
pub(crate) struct One {
    cache: String,
    #[command(flatten)]
    load: Load,
    /// An empty directory.
    #[arg(long)]
    dir: PathBuf,
}

macro_rules! caches {
    ($($(#[$condition:meta])? $name:literal, $title:literal => $cache:ty;)*) => {
        /// Every cache: its name, its title in the table, what it promises.
        const ALL: &[(&str, &str, Promises)] = &[
            $($(#[$condition])? ($name, $title, <$cache as bounded::Bounded>::PROMISES),)*
        ];

        fn measured(name: &str, load: &Load, dir: &Path) -> Result<Figures> {
            match name {
                $($(#[$condition])? $name => work::measure::<$cache>(load, dir),)*
                _ => Err(unknown(name)),
            }
        }
    };
}

caches! {
    "mmapcache", "**mmapcache** `Cache`" => mmapcache::Ours;
    #[cfg(feature = "sqlite")]
    "sqlite", "SQLite, expiry in a column" => sqlite::Sqlite;
    #[cfg(feature = "diskcache")]
    "diskcache", "diskcache (Python)" => diskcache::Diskcache;
    #[cfg(feature = "foyer")]
    "foyer", "foyer, from its disk engine" => foyer::Disk;
    #[cfg(feature = "foyer")]
    "foyer-memory", "foyer, from its memory" => foyer::Memory;
}

fn unknown(name: &str) -> Error {
    let known: Vec<_> = ALL.iter().map(|(name, ..)| *name).collect();
    let known = known.join(", ");
    Error::Failed(format!(
        "no cache `{name}` was compiled in; there are {known}"
    ))
}

/// Measures one cache in this process, and prints its figures.
pub(crate) fn measure(one: &One) -> Result<()> {
    let figures = measured(&one.cache, &one.load, &one.dir)?;
    println!("{}", serde_json::to_string(&figures)?);
    Ok(())
}

/// Measures all caches in rounds, each in processes of its own, and prints the table.
pub(crate) fn everything(settings: &Settings) -> Result<()> {
    let known = |name: &&String| ALL.iter().any(|(own, ..)| own == name);
    if let Some(name) = settings.only.iter().find(|name| !known(name)) {
        return Err(unknown(name));
    }
    std::fs::create_dir_all(&settings.dir)?;
    machine::on_a_disk(&settings.dir)?;
    let wanted = |name: &str| {
        // Ratios refer to it.
        name == OURS || settings.only.is_empty() || settings.only.iter().any(|only| only == name)
    };
    let mut rows = Vec::new();
    for round in 1..=settings.rounds {
        for &value in &settings.value {
            let load = Load {
                value,
                bound: settings.bound << 20,
                count: settings.count,
            };
            for (name, ..) in ALL.iter().filter(|(name, ..)| wanted(name)) {
                eprintln!("round {round}, values of {value} bytes: {name}");
                let figures = in_a_process(name, &load, &settings.dir)?;
                rows.push(table::Row {
                    name,
                    value,
                    round,
                    figures,
                });
            }
        }
    }
    println!(
        "{}\n\n{}",
        machine::describe(&settings.dir),
        table::render(&rows)
    );
    Ok(())
}

fn in_a_process(name: &str, load: &Load, parent: &Path) -> Result<Figures> {
    let dir = tempfile::Builder::new()
        .prefix("caches-")
        .tempdir_in(parent)?;
    // This same program, even if its file has been rebuilt since.
    let output = Command::new("/proc/self/exe")
        .args(["measure-cache", name])
        .args(["--value", &load.value.to_string()])
        .args(["--bound", &load.bound.to_string()])
        .args(["--count", &load.count.to_string()])
        .arg("--dir")
        .arg(dir.path())
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err(Error::Failed(format!("{name} failed: {}", output.status)));
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}
