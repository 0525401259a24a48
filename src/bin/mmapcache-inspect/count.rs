//! A census of the index, with a bar on the terminal while it takes time.
//!
//! Knows how it is watched, not what is done with it.

use indicatif::{ProgressBar, ProgressStyle};
use mmapcache::inspect::{Anatomy, Census};

use crate::failure::Failure;

/// Counts what is in the index. The bar is drawn on standard error, and only where that is a
/// terminal.
pub(crate) fn census(anatomy: &Anatomy) -> Result<Census, Failure> {
    let template = "reading the index {bar:30} {percent} %, {eta} left";
    let style = ProgressStyle::with_template(template);
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::new(0).with_style(style);
    let census = anatomy.census_with(|done, all| {
        bar.set_length(all.into());
        bar.set_position(done.into());
        true
    });
    bar.finish_and_clear();
    Ok(census?)
}
