//! `expire`: removes the expired entries of a `Cache`.

use std::path::PathBuf;
use std::time::Instant;

use serde_json::json;

use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use crate::location::Location;
use crate::output::Output;
use crate::write_options::WriteOptions;
use crate::{progress, units};

/// The cache to sweep.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The cache: the path of its index
    pub(crate) cache: PathBuf,
    #[command(flatten)]
    change: WriteOptions,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(location: &Location, arguments: &Arguments) -> Result<ExitStatus, Failure> {
    let cache = arguments.change.open_cache(location, false)?;
    let (before, began) = (cache.len_with_expired(), Instant::now());
    let progress = progress::of_time("removing expired entries");
    let removed = cache.sweep()?;
    arguments.change.end_cache(&cache)?;
    drop(progress);
    let time = began.elapsed();
    let mut out = Output::new();
    if arguments.json {
        out.json(&json!({
            "removed": removed,
            "entries_before": before,
            "entries": cache.len_with_expired(),
            "seconds": time.as_secs_f64(),
        }))?;
    } else {
        out.line(&format!(
            "removed {} of {} entries in {}",
            units::count(removed),
            units::count(before),
            units::duration(time),
        ))?;
    }
    out.end()?;
    Ok(ExitStatus::Success)
}
