//! `delete`: deletes keys.

use std::ffi::OsString;
use std::path::PathBuf;

use serde_json::{Map, Value, json};

use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use crate::location::Location;
use crate::output::{self, Output};
use crate::progress;
use crate::write_options::{DroppedEntries, WriteOptions};
use crate::{either_cache, json_line, key, units};

/// The keys to delete.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The cache: the path of its index
    pub(crate) cache: PathBuf,
    /// Written as for `get`
    #[arg(required = true)]
    keys: Vec<OsString>,
    #[command(flatten)]
    change: WriteOptions,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(location: &Location, arguments: &Arguments) -> Result<ExitStatus, Failure> {
    // Parse all keys before the first is deleted.
    let keys = arguments
        .keys
        .iter()
        .map(|text| key::parse_argument(text, "key"));
    let keys: Vec<_> = keys.collect::<Result<_, _>>()?;
    let progress = progress::of_time("waiting for the lock or the disk");
    if either_cache::is_expiring(location) {
        let cache = arguments.change.open_cache(location, false)?;
        let mut absent = Vec::new();
        let mut writer = cache.writer()?;
        for key in &keys {
            if !writer.remove(key)? {
                absent.push(&key[..]);
            }
        }
        writer.commit()?;
        arguments.change.end_cache(&cache)?;
        drop(progress);
        return arguments.show(keys.len(), &absent);
    }
    let cache = arguments.change.open(location, false)?;
    let dropped = DroppedEntries::before(&cache)?;
    let mut absent = Vec::new();
    let mut writer = cache.writer()?;
    for key in &keys {
        if !writer.delete(key)? {
            absent.push(&key[..]);
        }
    }
    writer.commit()?;
    arguments.change.end(&cache)?;
    drop(progress);
    let status = arguments.show(keys.len(), &absent)?;
    dropped.report(&cache, status)
}

impl Arguments {
    fn show(&self, asked: usize, absent: &[&[u8]]) -> Result<ExitStatus, Failure> {
        let deleted = asked - absent.len();
        let mut out = Output::new();
        if self.json {
            let absent: Vec<_> = absent
                .iter()
                .map(|key| {
                    let mut object = Map::new();
                    json_line::insert(&mut object, "key", key);
                    Value::Object(object)
                })
                .collect();
            out.json(&json!({ "deleted": deleted, "absent": absent }))?;
        } else {
            out.line(&format!("deleted {}", units::count(deleted as u64)))?;
            for key in absent {
                output::warn(&format!("{}: no such key", key::show(key)));
            }
        }
        out.end()?;
        Ok(ExitStatus::problems_if(!absent.is_empty()))
    }
}
