//! `invalidate`: ends all entries of a `Cache` with a tag, or in a namespace.

use std::ffi::OsString;
use std::path::PathBuf;

use serde_json::{Map, Value};

use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use crate::location::Location;
use crate::output::Output;
use crate::write_options::WriteOptions;
use crate::{json_line, key, progress};

/// The group to invalidate.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The cache: the path of its index
    pub(crate) cache: PathBuf,
    /// The tag; written as keys are for `get`
    #[arg(value_name = "TAG")]
    group: OsString,
    /// TAG is the name of a namespace
    #[arg(long)]
    namespace: bool,
    #[command(flatten)]
    change: WriteOptions,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(location: &Location, arguments: &Arguments) -> Result<ExitStatus, Failure> {
    let kind = match arguments.namespace {
        true => "namespace",
        false => "tag",
    };
    let group = key::parse_argument(&arguments.group, kind)?;
    let progress = progress::of_time("waiting for the lock or the disk");
    let cache = arguments.change.open_cache(location, false)?;
    match arguments.namespace {
        true => cache.invalidate_namespace(&group)?,
        false => cache.invalidate_tag(&group)?,
    }
    arguments.change.end_cache(&cache)?;
    drop(progress);
    let mut out = Output::new();
    if arguments.json {
        let mut object = Map::new();
        object.insert("invalidated".to_owned(), true.into());
        json_line::insert(&mut object, kind, &group);
        out.json(&Value::Object(object))?;
    } else {
        out.line(&format!("invalidated the {kind} {}", key::show(&group)))?;
    }
    out.end()?;
    Ok(ExitStatus::Success)
}
