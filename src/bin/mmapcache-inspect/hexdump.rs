//! Bytes as rows of hexadecimal digits, with carets under marked bytes.

use std::ops::Range;

use crate::terminal::{self, Terminal};

/// Bytes in a row.
const ROW: usize = 16;

/// A remark on a range of bytes.
#[derive(Clone, Debug)]
pub(crate) struct Mark {
    pub(crate) range: Range<u64>,
    pub(crate) what: &'static str,
}

/// Returns the lines that show `bytes`; `at` is the offset of the first.
pub(crate) fn lines(at: u64, bytes: &[u8], marks: &[Mark], terminal: Terminal) -> Vec<String> {
    let mut lines = Vec::new();
    for (number, row) in bytes.chunks(ROW).enumerate() {
        let start = at.saturating_add((number * ROW) as u64);
        let (mut hex, mut text) = (String::new(), String::new());
        for (place, &byte) in (start..).zip(row) {
            let marked = marks.iter().any(|mark| mark.range.contains(&place));
            let style = if marked {
                terminal::ERROR
            } else {
                Default::default()
            };
            if !hex.is_empty() {
                hex.push_str(if place - start == 8 { "  " } else { " " });
            }
            hex.push_str(&terminal.styled(style, &format!("{byte:02x}")));
            let shown = if byte.is_ascii_graphic() || byte == b' ' {
                byte.into()
            } else {
                '.'
            };
            text.push_str(&terminal.styled(style, &String::from(shown)));
        }
        let padding = " ".repeat(column(ROW) - column(row.len()));
        lines.push(format!("  {start:08x}  {hex}{padding}  |{text}|"));
        let here = start..start + row.len() as u64;
        lines.extend(
            marks
                .iter()
                .filter_map(|mark| carets(mark, &here, terminal)),
        );
    }
    lines
}

/// Returns the column after the given number of bytes.
fn column(bytes: usize) -> usize {
    match bytes {
        0 => 0,
        _ => bytes * 3 - 1 + usize::from(bytes > ROW / 2),
    }
}

/// Returns the line that marks bytes of the row above it. The remark follows the carets in the first
/// row that the mark reaches.
fn carets(mark: &Mark, row: &Range<u64>, terminal: Terminal) -> Option<String> {
    let from = mark.range.start.max(row.start);
    let to = mark.range.end.min(row.end);
    if from >= to {
        return None;
    }
    let (from, to) = ((from - row.start) as usize, (to - row.start) as usize);
    let begin = column(from + 1) - 2;
    let pointer = "^".repeat(column(to) - begin);
    let what = if row.contains(&mark.range.start) {
        mark.what
    } else {
        ""
    };
    let pointing = format!("{pointer} {what}");
    let padding = " ".repeat(12 + begin);
    Some(format!(
        "{padding}{}",
        terminal.styled(terminal::ERROR, pointing.trim_end())
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marked_bytes_get_carets_per_row() {
        let bytes: Vec<u8> = (0x41..0x41 + 20).collect();
        let marks = [
            Mark {
                range: 103..104,
                what: "one byte",
            },
            Mark {
                range: 107..118,
                what: "over the row's end",
            },
        ];
        let shown = lines(100, &bytes, &marks, Terminal::plain(80)).join("\n");
        let expected = "  \
  00000064  41 42 43 44 45 46 47 48  49 4a 4b 4c 4d 4e 4f 50  |ABCDEFGHIJKLMNOP|
                     ^^ one byte
                                 ^^^^^^^^^^^^^^^^^^^^^^^^^^^ over the row's end
  00000074  51 52 53 54                                       |QRST|
            ^^^^^";
        assert_eq!(shown, expected, "\n{shown}\n{expected}");
    }
}
