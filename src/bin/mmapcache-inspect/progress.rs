//! How far a long piece of work is, on standard error, and only where that is a terminal.
//!
//! Knows how it is drawn, not what the work is.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar for so many bytes, named by what is done to them.
pub(crate) fn of_bytes(what: &str) -> ProgressBar {
    let place = "{bar:30} {binary_bytes}/{binary_total_bytes}, {eta} left";
    drawn(&format!("{what} {place}"))
}

/// A bar for so many entries.
pub(crate) fn of_entries(what: &str, count: u64) -> ProgressBar {
    let bar = drawn(&format!(
        "{what} {{bar:30}} {{human_pos}}/{{human_len}}, {{eta}} left"
    ));
    bar.set_length(count);
    bar
}

fn drawn(template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template);
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(0).with_style(style)
}
