//! `put`: stores a value under a key.

use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mmapcache::{InsertOptions, Version};
use serde_json::json;

use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use crate::location::Location;
use crate::output::{self, Output};
use crate::progress;
use crate::write_options::{DroppedEntries, WriteOptions};
use crate::{either_cache, json_number, key, units};

/// The entry to store, and where.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The cache: the path of its index
    pub(crate) cache: PathBuf,
    /// Written as for `get`
    key: OsString,
    /// Written like the key; `-` for standard input, byte for byte
    #[arg(required_unless_present = "file")]
    value: Option<OsString>,
    /// Take the value from this file
    #[arg(long, value_name = "PATH", conflicts_with = "value")]
    file: Option<PathBuf>,
    /// Only if the key has no value yet; the exit code is 1 if it has
    #[arg(long)]
    if_absent: bool,
    /// Store it in a `Cache`, where it expires after this many seconds; without it, after the time that
    /// the `Cache` has for such entries
    #[arg(long, value_name = "SECONDS")]
    ttl: Option<u64>,
    /// Create the cache if it does not exist; with --ttl a `Cache`
    #[arg(long)]
    create: bool,
    #[command(flatten)]
    change: WriteOptions,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(location: &Location, arguments: &Arguments) -> Result<ExitStatus, Failure> {
    let key = key::parse_argument(&arguments.key, "key")?;
    // Read before the cache is opened, so that no other writer waits for a pipe.
    let value = arguments.value()?;
    let progress = progress::of_time("waiting for the lock or the disk");
    if arguments.ttl.is_some() || either_cache::is_expiring(location) {
        let version = arguments.store_expiring(location, &key, &value)?;
        drop(progress);
        arguments.show(&key, &value, version)?;
        return Ok(ExitStatus::problems_if(version.is_none()));
    }
    let cache = arguments.change.open(location, arguments.create)?;
    let dropped = DroppedEntries::before(&cache)?;
    let version = if arguments.if_absent {
        cache.insert_if_absent(&key, &value)?
    } else {
        Some(cache.put(&key, &value)?)
    };
    arguments.change.end(&cache)?;
    drop(progress);
    arguments.show(&key, &value, version)?;
    dropped.report(&cache, ExitStatus::problems_if(version.is_none()))
}

impl Arguments {
    /// Stores an entry of a `Cache`. Returns its version, `None` if the key has a value already.
    fn store_expiring(
        &self,
        location: &Location,
        key: &[u8],
        value: &[u8],
    ) -> Result<Option<Version>, Failure> {
        let cache = self.change.open_cache(location, self.create)?;
        let mut life = InsertOptions::new();
        if let Some(seconds) = self.ttl {
            life = life.ttl(Duration::from_secs(seconds));
        }
        let version = match self.if_absent {
            true => cache.add(key, value, &life)?,
            false => Some(cache.insert_with(key, value, &life)?),
        };
        self.change.end_cache(&cache)?;
        Ok(version)
    }

    fn show(&self, key: &[u8], value: &[u8], version: Option<Version>) -> Result<(), Failure> {
        let mut out = Output::new();
        if self.json {
            out.json(&json!({
                "stored": version.is_some(),
                "bytes": value.len(),
                "version": version.map(|version| json_number::string(version.as_nanos())),
            }))?;
        } else if let Some(version) = version {
            let bytes = units::bytes(value.len() as u64);
            out.line(&format!("stored {bytes}, version {}", version.as_nanos()))?;
        } else {
            output::warn(&format!("{}: has a value already", key::show(key)));
        }
        out.end()
    }

    fn value(&self) -> Result<Vec<u8>, Failure> {
        if let Some(path) = &self.file {
            return std::fs::read(path).map_err(Failure::file(path, "read the value"));
        }
        let text = self.value.as_deref().unwrap_or_default();
        if text != "-" {
            return key::parse_argument(text, "value");
        }
        let mut value = Vec::new();
        std::io::stdin()
            .lock()
            .read_to_end(&mut value)
            .map_err(Failure::file(Path::new("standard input"), "read the value"))?;
        Ok(value)
    }
}
