//! `labels`: lists the labels of an id cache.

use std::ffi::OsString;
use std::path::PathBuf;

use mmapcache::{LabelId, Labels};
use serde_json::{Map, Value};

use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use crate::location::Location;
use crate::output::{self, Output};
use crate::progress::{self, Progress};
use crate::{json_line, key};

/// The labels to list.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The cache: the path of its index
    pub(crate) cache: PathBuf,
    /// Only the label with this id; the exit code is 1 if there is none
    #[arg(long, conflicts_with_all = ["limit", "prefix"])]
    id: Option<u32>,
    /// Stop after this many labels
    #[arg(long)]
    limit: Option<u64>,
    /// Only labels that start with this prefix; written as for `get`
    #[arg(long, default_value = "", hide_default_value = true)]
    prefix: OsString,
    /// Print a line of JSON for each label
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(location: &Location, arguments: &Arguments) -> Result<ExitStatus, Failure> {
    let prefix = key::parse_argument(&arguments.prefix, "prefix")?;
    let opened = Labels::open_with(&location.cache, location.options().read_only(true));
    let labels = opened.map_err(|error| location.explain(error))?;
    let mut out = Output::new();
    if let Some(id) = arguments.id {
        let Some(label) = labels.resolve(LabelId::new(id))? else {
            let path = labels.path().display();
            output::warn(&format!("{path}: no label has the id {id}"));
            return Ok(ExitStatus::Problems);
        };
        show(&mut out, id, &label, arguments.json)?;
        out.end()?;
        return Ok(ExitStatus::Success);
    }
    let mut left = arguments.limit.unwrap_or(u64::MAX);
    let mut all = labels.iter()?;
    let progress = progress::of_printing("listing labels", labels.len());
    while left > 0
        && let Some(listed) = all.next_borrowed()
    {
        progress.iter().for_each(Progress::step);
        let (id, label) = listed?;
        if label.starts_with(&prefix) {
            left -= 1;
            show(&mut out, id.number(), label, arguments.json)?;
        }
    }
    out.end()?;
    Ok(ExitStatus::Success)
}

fn show(out: &mut Output, id: u32, label: &[u8], json: bool) -> Result<(), Failure> {
    if !json {
        return out.line(&format!("{id}\t{}", key::show(label)));
    }
    let mut object = Map::new();
    object.insert("id".to_owned(), id.into());
    json_line::insert(&mut object, "label", label);
    out.json_line(Value::Object(object))
}
