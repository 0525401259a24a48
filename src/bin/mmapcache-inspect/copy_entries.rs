//! Copies the entries of a cache to another cache.

use crate::batch::Batch;
use crate::either_cache::EitherCache;
use crate::failure::Failure;
use crate::import_counts::ImportCounts;
use crate::location::Location;
use crate::portable_entry::PortableEntry;
use crate::{progress, write_options};

/// Stores every valid entry in the other cache, with a new version. Creates that cache if it does not
/// exist, with the type of the source.
pub(crate) fn run(from: &Location, to: &Location) -> Result<ImportCounts, Failure> {
    let instead = "`copy` keeps their ids, `labels` lists them";
    let source = EitherCache::open_read_only(from)?;
    write_options::refuse_labels(from, instead)?;
    let target = EitherCache::open_or_create(to, source.is_expiring())?;
    write_options::refuse_labels(to, "use a cache at another path")?;
    if source.path() == target.path() {
        let path = source.path().display();
        let what = format!("{path}: source and destination are the same; name another cache");
        return Err(Failure::Request(what));
    }
    let progress = progress::of_count("storing entries", source.len());
    let mut batch = Batch::new(&target)?;
    source.each(|item| {
        progress.step();
        match item {
            Ok((key, value, terms)) => batch.push(PortableEntry {
                key: key.to_vec(),
                value: value.to_vec(),
                terms,
            }),
            Err(error) if error.is_corruption() => {
                batch.unreadable(&error.into());
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    })?;
    batch.end()
}
