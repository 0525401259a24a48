//! Renders the figures of all caches as one table, and what each promises as another.

use std::fmt::Write;

use super::{ALL, OURS};
use crate::figures::{Figures, median};
use crate::report::shown;

/// One cache with one size of values in one round.
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) value: usize,
    pub(super) round: u32,
    pub(super) figures: Figures,
}

fn of<'a>(rows: &'a [Row], value: usize, name: &str) -> impl Iterator<Item = &'a Row> {
    rows.iter()
        .filter(move |row| row.value == value && row.name == name)
}

fn number(rows: &[Row], value: usize, name: &str, figure: &str) -> Option<f64> {
    let numbers = of(rows, value, name).filter_map(|row| row.figures.number(figure));
    median(numbers.collect())
}

/// Returns how many times our figure of the same round.
fn ratio(rows: &[Row], value: usize, name: &str, figure: &str) -> Option<f64> {
    let ratios = of(rows, value, name).filter_map(|row| {
        let ours = of(rows, value, OURS).find(|ours| ours.round == row.round)?;
        Some(row.figures.number(figure)? / ours.figures.number(figure)?)
    });
    median(ratios.collect())
}

fn cell(rows: &[Row], value: usize, name: &str, figure: &str) -> String {
    let Some(number) = number(rows, value, name, figure) else {
        return String::new();
    };
    match ratio(rows, value, name, figure).filter(|_| name != OURS) {
        Some(ratio) => format!("{} ({})", shown(number), shown(ratio)),
        None => shown(number),
    }
}

/// Returns both tables. In parentheses: the figure over ours of the same round.
pub(super) fn render(rows: &[Row]) -> String {
    let mut text = "\
| values, bytes | cache | insertion that evicts, ns | hit, ns | hits, % | entries kept | files, MiB |
|--:|---|--:|--:|--:|--:|--:|
"
    .to_owned();
    let mut values: Vec<_> = rows.iter().map(|row| row.value).collect();
    values.sort_unstable();
    values.dedup();
    for value in values {
        for (name, title, _) in ALL {
            if of(rows, value, name).next().is_none() {
                continue;
            }
            let scaled = |figure: &str, factor: f64| {
                number(rows, value, name, figure).map_or_else(String::new, |n| shown(n * factor))
            };
            let _ = writeln!(
                text,
                "| {value} | {title} | {} | {} | {} | {} | {} |",
                cell(rows, value, name, "insert"),
                cell(rows, value, name, "get"),
                scaled("hits", 100.0),
                cell(rows, value, name, "kept"),
                scaled("disk", 1.0 / f64::from(1 << 20)),
            );
        }
    }
    text.push_str("\n| cache | shared by | a kill loses | a power loss costs | what goes |\n|---|---|---|---|---|\n");
    for (name, title, promises) in ALL {
        if rows.iter().any(|row| row.name == *name) {
            let _ = writeln!(
                text,
                "| {title} | {} | {} | {} | {} |",
                promises.shared_by, promises.kill, promises.power, promises.goes
            );
        }
    }
    text
}
