//! Styles and the width of the terminal.
//!
//! All output is readable without colour.

use std::io;

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};

/// Columns if standard output is not a terminal.
const WIDTH: usize = 80;
/// The range of widths that drawings are made for.
const WIDTHS: std::ops::RangeInclusive<usize> = 40..=160;

/// A problem.
pub(crate) const ERROR: Style = AnsiColor::Red.on_default().bold();
/// Something that deserves attention.
pub(crate) const WARNING: Style = AnsiColor::Yellow.on_default();
/// A good state.
pub(crate) const OK: Style = AnsiColor::Green.on_default();
/// Secondary information.
pub(crate) const DIM: Style = Style::new().dimmed();

/// What standard output can show.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terminal {
    colour: bool,
    pub(crate) width: usize,
}

impl Terminal {
    /// Detects colour and width: colour on a terminal that supports it, unless `NO_COLOR` or a similar
    /// variable forbids it.
    pub(crate) fn new() -> Self {
        let size = terminal_size::terminal_size_of(io::stdout());
        let width = size.map_or(WIDTH, |(width, _)| width.0.into());
        Self {
            colour: AutoStream::choice(&io::stdout()) != ColorChoice::Never,
            width: width.clamp(*WIDTHS.start(), *WIDTHS.end()),
        }
    }

    /// Returns text in a style.
    pub(crate) fn styled(self, style: Style, text: &str) -> String {
        if self.colour && !text.is_empty() {
            format!("{style}{text}{style:#}")
        } else {
            text.to_owned()
        }
    }
}

#[cfg(test)]
impl Terminal {
    pub(crate) fn plain(width: usize) -> Self {
        Self {
            colour: false,
            width,
        }
    }
}
