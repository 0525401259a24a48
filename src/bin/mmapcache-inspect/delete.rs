//! `delete`: keys and their values.

use std::ffi::OsString;
use std::path::PathBuf;

use serde_json::{Map, Value, json};

use crate::change::Change;
use crate::failure::Failure;
use crate::output::{self, Output};
use crate::progress;
use crate::site::Site;
use crate::verdict::Verdict;
use crate::{json_line, key, units};

/// What to delete.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The cache: the path of its index
    pub(crate) cache: PathBuf,
    /// Written as for `get`
    #[arg(required = true)]
    keys: Vec<OsString>,
    #[command(flatten)]
    change: Change,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(site: &Site, arguments: &Arguments) -> Result<Verdict, Failure> {
    // All of them are read before the first goes.
    let keys = arguments.keys.iter().map(|text| key::asked(text, "key"));
    let keys: Vec<_> = keys.collect::<Result<_, _>>()?;
    let progress = progress::of_time("waiting for the lock or the disk");
    let cache = arguments.change.open(site, false)?;
    let mut absent = Vec::new();
    let mut writer = cache.writer()?;
    for key in &keys {
        if !writer.delete(key)? {
            absent.push(key);
        }
    }
    writer.commit()?;
    arguments.change.end(&cache)?;
    drop(progress);
    let deleted = keys.len() - absent.len();
    let mut out = Output::new();
    if arguments.json {
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
        for key in &absent {
            output::remark(&format!("{}: no such key", key::show(key)));
        }
    }
    out.end()?;
    Ok(Verdict::wrong_if(!absent.is_empty()))
}
