//! The entries of one cache, put into another.
//!
//! Knows two open caches; who asked for it, and which way round, it does not.

use crate::batch::Batch;
use crate::failure::Failure;
use crate::site::Site;
use crate::tally::Tally;
use crate::{change, progress};

/// Puts every sound entry into the other cache, which is made if there is none. Each gets a new
/// version.
pub(crate) fn run(from: &Site, to: &Site) -> Result<Tally, Failure> {
    let source = from.look()?;
    let instead = "`copy` keeps their ids, `labels` lists them";
    change::refuse_labels(from, instead)?;
    let target = to.change()?;
    change::refuse_labels(to, "make a cache at another path")?;
    if source.path() == target.path() {
        let path = source.path().display();
        let what = format!("{path}: the entries are there already; name another cache");
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
