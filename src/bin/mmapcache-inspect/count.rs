//! A census of the index, and how far it is.
//!
//! Knows how it is watched, not what is done with it.

use mmapcache::inspect::{Anatomy, Census};

use crate::failure::Failure;
use crate::progress;

/// Counts what is in the index.
pub(crate) fn census(anatomy: &Anatomy) -> Result<Census, Failure> {
    let progress = progress::of_count("reading the index: regions", 0);
    let census = anatomy.census_with(|done, all| {
        progress.set(done.into(), all.into());
        true
    });
    Ok(census?)
}
