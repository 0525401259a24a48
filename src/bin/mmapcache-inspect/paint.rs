//! Colour where somebody can see it, and how wide the terminal is.
//!
//! Knows the terminal, not what is drawn on it. Everything can be read without colour as well.

use std::io;

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};

/// Columns where there is no terminal to ask.
const WIDTH: usize = 80;
/// The narrowest and the widest that is drawn for.
const WIDTHS: std::ops::RangeInclusive<usize> = 40..=160;

/// What is wrong.
pub(crate) const WRONG: Style = AnsiColor::Red.on_default().bold();
/// What deserves a look.
pub(crate) const WARNING: Style = AnsiColor::Yellow.on_default();
/// What is as it should be.
pub(crate) const FINE: Style = AnsiColor::Green.on_default();
/// What is beside the matter.
pub(crate) const FAINT: Style = Style::new().dimmed();

/// How to draw on standard output.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paint {
    colour: bool,
    pub(crate) width: usize,
}

impl Paint {
    /// As standard output is: colour on a terminal that has it, unless `NO_COLOR` or the like says
    /// otherwise.
    pub(crate) fn new() -> Self {
        let size = terminal_size::terminal_size_of(io::stdout());
        let width = size.map_or(WIDTH, |(width, _)| width.0.into());
        Self {
            colour: AutoStream::choice(&io::stdout()) != ColorChoice::Never,
            width: width.clamp(*WIDTHS.start(), *WIDTHS.end()),
        }
    }

    /// Text in a style.
    pub(crate) fn text(self, style: Style, text: &str) -> String {
        if self.colour && !text.is_empty() {
            format!("{style}{text}{style:#}")
        } else {
            text.to_owned()
        }
    }
}

#[cfg(test)]
impl Paint {
    pub(crate) fn plain(width: usize) -> Self {
        Self {
            colour: false,
            width,
        }
    }
}
