//! Bar charts of the main figures, as hand-written SVG: rectangles and names.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use crate::report::{Results, USUAL, shown};
use crate::store::Result;
use crate::stores::{self, LIMIT};

const CHARTS: &[(&str, &str)] = &[
    ("get", "get of a key that is there, nanoseconds"),
    ("miss", "get of a key that is not, nanoseconds"),
    ("put", "put of a new key, one by one, nanoseconds"),
    ("overwrite", "overwrite, nanoseconds"),
    ("list", "list all items, nanoseconds per entry"),
    ("disk_growth", "bytes on disk per entry of 128 bytes"),
];
/// Longer bars are cut at this many times the shortest one.
const CUT: f64 = 10.0;
const WIDTH: f64 = 760.0;
const NAMES: f64 = 230.0;
const NUMBERS: f64 = 80.0;
const ROW: f64 = 24.0;
const TOP: f64 = 44.0;

/// Writes a file for each chart that has figures. Returns the lines of Markdown that show them.
pub(crate) fn draw(results: &Results<'_>, dir: &Path) -> Result<String> {
    fs::create_dir_all(dir)?;
    let mut markdown = String::new();
    for (figure, title) in CHARTS {
        let mut bars: Vec<_> = results
            .stores(USUAL)
            .filter_map(|store| Some((store, results.number(USUAL, store, figure)?)))
            .collect();
        if bars.is_empty() {
            continue;
        }
        bars.sort_by(|a, b| a.1.total_cmp(&b.1));
        fs::write(dir.join(format!("{figure}.svg")), chart(title, &bars))?;
        let _ = writeln!(markdown, "![{title}](benchmarks/{figure}.svg)\n");
    }
    Ok(markdown)
}

/// Bars by size, the shortest first. The stores differ by a hundred times, so that longer bars are
/// cut, and paler.
fn chart(title: &str, bars: &[(&str, f64)]) -> String {
    let least = bars.first().map_or(1.0, |bar| bar.1);
    let most = bars.last().map_or(1.0, |bar| bar.1).min(CUT * least);
    let scale = (WIDTH - NAMES - NUMBERS) / most;
    let height = TOP + ROW * bars.len() as f64 + 12.0;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n\
         <text x=\"12\" y=\"24\" font-size=\"15\" font-weight=\"bold\">{title} \
         (shorter is better; pale: cut)</text>\n"
    );
    for (row, (store, number)) in (0_u32..).zip(bars) {
        let y = TOP + ROW * f64::from(row);
        let length = scale * number.min(most);
        let opacity = if *number > most { 0.45 } else { 1.0 };
        let colour = match *store {
            LIMIT => "#9aa0a6",
            own if own.starts_with("mmapcache") => "#c2410c",
            _ => "#4f7cac",
        };
        let (middle, end) = (y + 16.0, NAMES + length + 6.0);
        let name = stores::title(store).replace(['*', '`'], "");
        let _ = writeln!(
            text,
            "<text x=\"{}\" y=\"{middle}\" text-anchor=\"end\">{name}</text>\
             <rect x=\"{NAMES}\" y=\"{}\" width=\"{length:.1}\" height=\"{}\" fill=\"{colour}\" fill-opacity=\"{opacity}\"/>\
             <text x=\"{end:.1}\" y=\"{middle}\">{}</text>",
            NAMES - 8.0,
            y + 3.0,
            ROW - 6.0,
            shown(*number),
        );
    }
    text.push_str("</svg>\n");
    text
}
