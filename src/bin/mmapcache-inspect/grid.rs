//! Aligned columns without lines.
//!
//! Knows how text is laid out, not what it says.

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};

/// A table under construction: a label on the left, then columns of numbers and words.
#[derive(Debug)]
pub(crate) struct Grid(Table);

impl Grid {
    pub(crate) fn new() -> Self {
        let mut table = Table::new();
        table.load_style(NOTHING);
        Self(table)
    }

    /// A line that names the rows below it, set off from those above.
    pub(crate) fn section(&mut self, title: &str) {
        if !self.0.is_empty() {
            self.0.add_row([""]);
        }
        self.0.add_row([title]);
    }

    /// A row with a value and what may be said of it.
    pub(crate) fn row(&mut self, label: &str, value: impl Into<String>, note: impl Into<String>) {
        self.0
            .add_row([format!("  {label}"), value.into(), note.into()]);
    }

    /// The text, its values flush right. Ends without a newline.
    pub(crate) fn text(mut self) -> String {
        if let Some(column) = self.0.column_mut(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        self.left_text()
    }

    /// The text, its values flush left: where they are words, not numbers.
    pub(crate) fn left_text(mut self) -> String {
        if let Some(column) = self.0.column_mut(0) {
            column.set_padding((0, 1));
        }
        self.0.trim_fmt()
    }
}
