//! Aligned columns without lines.

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

    /// Adds a title for the rows that follow, and an empty line before it.
    pub(crate) fn section(&mut self, title: &str) {
        if !self.0.is_empty() {
            self.0.add_row([""]);
        }
        self.0.add_row([title]);
    }

    /// Adds a row with a value and a note.
    pub(crate) fn row(&mut self, label: &str, value: impl Into<String>, note: impl Into<String>) {
        self.0
            .add_row([format!("  {label}"), value.into(), note.into()]);
    }

    /// Returns the text with right-aligned values, without a newline at the end.
    pub(crate) fn text(mut self) -> String {
        if let Some(column) = self.0.column_mut(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        self.left_text()
    }

    /// Returns the text with left-aligned values, for words instead of numbers.
    pub(crate) fn left_text(mut self) -> String {
        if let Some(column) = self.0.column_mut(0) {
            column.set_padding((0, 1));
        }
        self.0.trim_fmt()
    }
}
