//! Scans the index, and shows the progress.

use mmapcache::inspect::{Anatomy, Census};

use crate::failure::Failure;
use crate::progress;

/// Counts what is in the index.
pub(crate) fn run(anatomy: &Anatomy) -> Result<Census, Failure> {
    let progress = progress::of_count("reading the index: regions", 0);
    let census = anatomy.census_with(|done, all| {
        progress.set(done.into(), all.into());
        true
    });
    Ok(census?)
}
