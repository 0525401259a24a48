//! `evict`: makes a `Cache` smaller by eviction.

use std::path::PathBuf;
use std::time::Instant;

use serde_json::json;

use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use crate::location::Location;
use crate::output::Output;
use crate::write_options::WriteOptions;
use crate::{progress, units};

/// The cache, and the size that it shall have.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The cache: the path of its index
    pub(crate) cache: PathBuf,
    /// The bytes that all files may take, such as 500000000, 64MiB or 1.5GiB
    #[arg(long, value_name = "BYTES", value_parser = units::parse_bytes)]
    to: u64,
    #[command(flatten)]
    change: WriteOptions,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(location: &Location, arguments: &Arguments) -> Result<ExitStatus, Failure> {
    let cache = arguments.change.open_cache(location, false)?;
    let (entries_before, began) = (cache.len_with_expired(), Instant::now());
    let bytes_before = cache.disk_usage()?.total();
    let progress = progress::of_time("evicting entries");
    cache.evict_to(arguments.to)?;
    arguments.change.end_cache(&cache)?;
    drop(progress);
    let (entries, bytes) = (cache.len_with_expired(), cache.disk_usage()?.total());
    let time = began.elapsed();
    let mut out = Output::new();
    if arguments.json {
        out.json(&json!({
            "entries_before": entries_before,
            "entries": entries,
            "bytes_before": bytes_before,
            "bytes": bytes,
            "seconds": time.as_secs_f64(),
        }))?;
    } else {
        out.line(&format!(
            "evicted {} of {} entries in {}; the files take {} instead of {}",
            units::count(entries_before.saturating_sub(entries)),
            units::count(entries_before),
            units::duration(time),
            units::bytes(bytes),
            units::bytes(bytes_before),
        ))?;
    }
    out.end()?;
    Ok(match bytes > arguments.to {
        // The index alone takes more, or others write.
        true => ExitStatus::Problems,
        false => ExitStatus::Success,
    })
}
