//! Copies the entries of a cache to another cache.

use crate::batch::Batch;
use crate::failure::Failure;
use crate::import_counts::ImportCounts;
use crate::location::Location;
use crate::{progress, write_options};

/// Stores every valid entry in the other cache, with a new version. Creates that cache if it does not
/// exist.
pub(crate) fn run(from: &Location, to: &Location) -> Result<ImportCounts, Failure> {
    let source = from.open_read_only()?;
    let instead = "`copy` keeps their ids, `labels` lists them";
    write_options::refuse_labels(from, instead)?;
    let target = to.open_or_create()?;
    write_options::refuse_labels(to, "use a cache at another path")?;
    if source.path() == target.path() {
        let path = source.path().display();
        let what = format!("{path}: source and destination are the same; name another cache");
        return Err(Failure::Request(what));
    }
    let progress = progress::of_count("storing entries", source.len());
    let mut batch = Batch::new(&target)?;
    for item in source.iter()? {
        match item {
            Ok((key, value)) => batch.push(key, value)?,
            Err(error) if error.is_corruption() => batch.unreadable(&error.into()),
            Err(error) => return Err(error.into()),
        }
        progress.step();
    }
    batch.end()
}
