//! Renders records as tables, for the terminal and for docs/benchmarks.md.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use crate::chart;
use crate::curve;
use crate::figures::{Figure, median};
use crate::goals::{self, Choice};
use crate::plan::Size;
use crate::run::{Record, Run};
use crate::store::{Error, Result};
use crate::stores::{self, LIMIT};
use crate::workload::writers::{self, LONGEST, WRITERS};
use crate::workload::{COUNTS, PERCENTILES, WALL};

const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs");

pub(crate) const USUAL: Size = Size {
    entries: 1_000_000,
    value: 100,
};

const READING: &[(&str, &str)] = &[
    ("get_dependent", "hit, depends"),
    ("get", "hit, independent"),
    ("get_made", "hit, key just made"),
    ("get_zipf", "hit, zipf"),
    ("get_16", "hit, 16 a call"),
    ("miss", "miss"),
    ("contains", "contains"),
    ("list", "list, per entry"),
];
const WRITING: &[(&str, &str)] = &[
    ("put", "put new"),
    ("put_1000", "put new, by 1,000"),
    ("overwrite_synced", "overwrite after a sync"),
    ("overwrite", "overwrite, steady"),
    ("delete_synced", "delete after a sync"),
    ("delete", "delete, steady"),
];
const SEVERAL: &[(&str, &str)] = &[
    ("threads_1", "1 thread"),
    ("threads_2", "2 threads"),
    ("processes_1", "1 process"),
    ("processes_2", "2 processes"),
    ("beside_alone", "reader alone"),
    ("beside_read", "beside a writer"),
    ("beside_write", "that writer"),
    ("beside_how", "they are"),
];
const SPACE: &[(&str, &str)] = &[
    ("disk_growth", "disk, bytes per entry over the growth"),
    ("disk_end", "after closing"),
    ("private_mb", "private memory, MB"),
    ("resident_mb", "resident, MB"),
    ("reopen_us", "reopen to first get, us"),
];
const COLD: &[(&str, &str)] = &[
    ("cold_us", "get, us"),
    ("cold_bytes", "bytes read for it"),
    ("cold_open_us", "open to first get, us"),
];

/// All records of one run, by size, store and figure.
pub(crate) struct Results<'a>(pub(crate) &'a [Record]);

impl Results<'_> {
    pub(crate) fn of(&self, size: Size, store: &str) -> impl Iterator<Item = &Record> {
        self.0
            .iter()
            .filter(move |record| record.size == size && record.store == store)
    }

    /// Returns the median over the rounds; of a maximum, the largest.
    pub(crate) fn number(&self, size: Size, store: &str, figure: &str) -> Option<f64> {
        let numbers = self.numbers(size, store, figure);
        let is_maximum = |end: &&str| figure.ends_with(end);
        if ["_max", WALL, LONGEST].iter().any(is_maximum) {
            return numbers.max_by(f64::total_cmp);
        }
        median(numbers.collect())
    }

    /// Returns the number of each round.
    pub(crate) fn numbers(
        &self,
        size: Size,
        store: &str,
        figure: &str,
    ) -> impl Iterator<Item = f64> {
        self.of(size, store)
            .filter_map(move |record| record.figures.number(figure))
    }

    /// Returns how many times the limit's figure of the same round.
    pub(crate) fn ratio(&self, size: Size, store: &str, figure: &str, limit: &str) -> Option<f64> {
        median(self.limit_ratios(size, store, figure, limit))
    }

    /// The same, of each round.
    pub(crate) fn limit_ratios(
        &self,
        size: Size,
        store: &str,
        figure: &str,
        limit: &str,
    ) -> Vec<f64> {
        let ratio =
            |record: &Record| Some(record.figures.number(figure)? / record.limit.number(limit)?);
        self.of(size, store).filter_map(ratio).collect()
    }

    /// Returns how many times another store's figure of the same round, for each round.
    pub(crate) fn ratios(
        &self,
        size: Size,
        (store, figure): (&str, &str),
        (rival, rivals_figure): (&str, &str),
    ) -> Vec<f64> {
        let ratio = |own: &Record| {
            let number = own.figures.number(figure)?;
            let rival = self
                .of(size, rival)
                .filter(|rival| rival.round == own.round)
                .find_map(|rival| rival.figures.number(rivals_figure))?;
            Some(number / rival)
        };
        self.of(size, store).filter_map(ratio).collect()
    }

    pub(crate) fn refusal(&self, size: Size, store: &str, figure: &str) -> Option<&str> {
        self.of(size, store)
            .find_map(|record| match record.figures.0.get(figure) {
                Some(Figure::Refused(reason)) => Some(reason.as_str()),
                _ => None,
            })
    }

    pub(crate) fn sizes(&self) -> Vec<Size> {
        let mut sizes: Vec<Size> = self.0.iter().map(|record| record.size).collect();
        sizes.sort_by_key(|size| (size.entries, size.value));
        sizes.dedup();
        sizes
    }

    /// In the order of the tables.
    pub(crate) fn stores(&self, size: Size) -> impl Iterator<Item = &'static str> {
        stores::ALL
            .iter()
            .map(|(name, _)| *name)
            .filter(move |name| self.of(size, name).next().is_some())
    }
}

/// Formats a number with three significant digits.
pub(crate) fn shown(number: f64) -> String {
    let digits = match number {
        number if number < 10.0 => 2,
        number if number < 100.0 => 1,
        _ => return thousands(number.round() as u64),
    };
    let text = format!("{number:.digits$}");
    match text.strip_suffix(".0") {
        Some(whole) => whole.to_owned(),
        None => text,
    }
}

fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Renders a table with a row for each store, and the reasons for gaps below it.
fn table(results: &Results<'_>, size: Size, columns: &[(&str, &str)]) -> String {
    let columns: Vec<_> = columns
        .iter()
        .filter(|(figure, _)| {
            let has = |record: &Record| record.figures.0.contains_key(*figure);
            results
                .0
                .iter()
                .any(|record| record.size == size && has(record))
        })
        .collect();
    if columns.is_empty() {
        return String::new();
    }
    let titles: Vec<_> = columns.iter().map(|(_, title)| *title).collect();
    let mut text = format!("| store | {} |\n|---|", titles.join(" | "));
    text.push_str(&"--:|".repeat(columns.len()));
    text.push('\n');
    let mut reasons = Vec::new();
    for store in results.stores(size) {
        let _ = write!(text, "| {} |", stores::title(store));
        for (figure, _) in &columns {
            let _ = write!(
                text,
                " {} |",
                cell(results, size, store, figure, &mut reasons)
            );
        }
        text.push('\n');
    }
    text.push_str(&notes(&reasons));
    text
}

fn cell(
    results: &Results<'_>,
    size: Size,
    store: &str,
    figure: &str,
    reasons: &mut Vec<String>,
) -> String {
    if results.of(size, store).any(|record| record.error.is_some()) {
        return "failed".to_owned();
    }
    if let Some(number) = results.number(size, store, figure) {
        let ratio = results.ratio(size, store, figure, figure);
        return match ratio.filter(|_| store != LIMIT) {
            Some(ratio) => format!("{} ({ratio:.2})", shown(number)),
            None => shown(number),
        };
    }
    match results.refusal(size, store, figure) {
        Some(how) if figure == "beside_how" => how.to_owned(),
        Some(reason) => {
            let at = reasons.iter().position(|known| known == reason);
            let at = at.unwrap_or_else(|| {
                reasons.push(reason.to_owned());
                reasons.len() - 1
            });
            format!("- <sup>{}</sup>", at + 1)
        }
        None => String::new(),
    }
}

/// Times of fresh stores, in microseconds, with what each does about a power loss.
fn small(results: &Results<'_>, size: Size) -> String {
    let mut text = String::new();
    let mut reasons = Vec::new();
    for store in results.stores(size) {
        let is_measured = |count| {
            let has = |record: &Record| record.figures.0.contains_key(&named("create", count));
            results.of(size, store).any(has)
        };
        let syncs = if stores::is_durable(store) {
            "each put"
        } else {
            "no put"
        };
        for count in COUNTS.into_iter().filter(|&count| is_measured(count)) {
            let mut cell = |what| cell(results, size, store, &named(what, count), &mut reasons);
            let [create, reopen, disk] = ["create", "reopen", "disk"].map(&mut cell);
            let _ = writeln!(
                text,
                "| {} | {syncs} | {} | {create} | {reopen} | {disk} |",
                stores::title(store),
                thousands(count),
            );
        }
    }
    if text.is_empty() {
        return text;
    }
    format!(
        "| store | syncs | entries | open a new one, put all, close | open, get all, close | \
         bytes on disk |\n|---|---|--:|--:|--:|--:|\n{text}{}",
        notes(&reasons)
    )
}

fn named(what: &str, count: u64) -> String {
    format!("small_{what}_{count}")
}

/// Says why there are gaps in a table.
fn notes(reasons: &[String]) -> String {
    if reasons.is_empty() {
        return String::new();
    }
    let notes: Vec<_> = (1..)
        .zip(reasons)
        .map(|(number, reason)| format!("{number} {reason}"))
        .collect();
    format!("\n`-`: {}.\n", notes.join("; "))
}

/// Percentiles of single operations, in microseconds.
fn latency(results: &Results<'_>, size: Size) -> String {
    let mut text = String::new();
    let mut names: Vec<_> = PERCENTILES.iter().map(|(name, _)| *name).collect();
    names.push(WALL);
    for (what, title) in [
        ("put", "put of a new key, while the store grows"),
        ("overwrite", "overwrite, while the store cleans up"),
        ("get", "get, beside a writer"),
        ("nothing", "nothing at all: the machine's own pauses"),
    ] {
        for store in results.stores(size) {
            let one = |name: &&str| {
                let number = results.number(size, store, &format!("latency_{what}_{name}"))?;
                Some(shown(number / 1e3))
            };
            let Some(cells) = names.iter().map(one).collect::<Option<Vec<_>>>() else {
                continue;
            };
            let store = if what == "nothing" {
                ""
            } else {
                stores::title(store)
            };
            let _ = writeln!(text, "| {title} | {store} | {} |", cells.join(" | "));
        }
    }
    if text.is_empty() {
        return text;
    }
    let head = names
        .iter()
        .map(|&name| match name {
            "max" => "longest".to_owned(),
            WALL => "longest, waiting included".to_owned(),
            name => format!("{name} %"),
        })
        .collect::<Vec<_>>()
        .join(" | ");
    let rule = "--:|".repeat(names.len());
    format!("| operation | store | {head} |\n|---|---|{rule}\n{text}")
}

/// Threads, or processes, that overwrite at once.
fn several_write(results: &Results<'_>, size: Size, how: &str) -> String {
    let mut text = String::new();
    let mut reasons = Vec::new();
    for store in results.stores(size) {
        let mut refused = false;
        for count in WRITERS {
            let name = writers::named(how, count, "");
            let has = |record: &Record| record.figures.0.contains_key(&name);
            // More writers are refused for the same reason.
            if refused || !results.of(size, store).any(has) {
                continue;
            }
            refused = results.number(size, store, &name).is_none();
            let time = cell(results, size, store, &name, &mut reasons);
            let rest = beside_one(results, size, store, how, count);
            let _ = writeln!(
                text,
                "| {} | {count} | {time} | {} |",
                stores::title(store),
                rest.join(" | ")
            );
        }
    }
    if text.is_empty() {
        return text;
    }
    format!(
        "| store | {how} | overwrite | as fast as one, times | 99 %, us | longest, us | \
         slowest, of the mean | waiting for a processor |\n\
         |---|--:|--:|--:|--:|--:|--:|--:|\n{text}{}",
        notes(&reasons)
    )
}

/// Everything of one row but the time of an overwrite.
fn beside_one(
    results: &Results<'_>,
    size: Size,
    store: &str,
    how: &str,
    count: u64,
) -> [String; 5] {
    let name = |count, end| writers::named(how, count, end);
    let number = |end| results.number(size, store, &name(count, end));
    let one = (store, &*name(1, ""));
    let times = median(results.ratios(size, one, (store, &name(count, ""))));
    let us = |end| number(end).map(|nanoseconds| nanoseconds / 1e3);
    let several = |number: Option<f64>| number.filter(|_| count > 1);
    [
        several(times),
        us("_p99"),
        us(LONGEST),
        several(number("_slowest")),
        number("_waiting"),
    ]
    .map(|number| number.map(shown).unwrap_or_default())
}

/// The tables of several writers, at each size where they were measured.
fn writers(results: &Results<'_>) -> String {
    let mut text = String::new();
    for size in by_use(results) {
        for how in ["processes", "threads"] {
            let table = several_write(results, size, how);
            if !table.is_empty() {
                let _ = write!(text, "#### {}: {how}\n\n{table}\n", title(size));
            }
        }
    }
    text
}

fn title(size: Size) -> String {
    format!(
        "{} entries of {} bytes",
        thousands(size.entries),
        thousands(size.value as u64)
    )
}

/// All sizes, the usual one first.
fn by_use(results: &Results<'_>) -> Vec<Size> {
    let mut sizes = results.sizes();
    sizes.sort_by_key(|&size| size != USUAL);
    sizes
}

fn tables(results: &Results<'_>) -> String {
    let mut text = String::new();
    for size in by_use(results) {
        let _ = write!(text, "### {}\n\n", title(size));
        for (title, table) in [
            ("Reading", table(results, size, READING)),
            ("Writing", table(results, size, WRITING)),
            ("Several at once", table(results, size, SEVERAL)),
            ("Space, and opening", table(results, size, SPACE)),
            (
                "From the disk, the page cache dropped",
                table(results, size, COLD),
            ),
            ("A fresh store of a few entries", small(results, size)),
            ("Single operations, microseconds", latency(results, size)),
        ] {
            if !table.is_empty() {
                let _ = write!(text, "#### {title}\n\n{table}\n");
            }
        }
    }
    text
}

/// Puts a heading above a text, unless there is none.
fn headed(heading: &str, text: &str) -> String {
    if text.is_empty() {
        return String::new();
    }
    format!("{heading}\n\n{text}")
}

fn machine_of(run: &Run) -> String {
    format!("{}\n\nVersions: {}.", run.machine, run.versions)
}

/// Prints everything and, if asked to, writes it into the documents.
pub(crate) fn publish(run: &Run, write: bool) -> Result<()> {
    let results = Results(&run.records);
    let tables = tables(&results);
    let measured = goals::measured(&results);
    let writers = writers(&results);
    println!(
        "{}\n\n{tables}{}### Goals\n\n{measured}",
        machine_of(run),
        headed("### Several writers", &writers)
    );
    if !write {
        return Ok(());
    }
    let pictures = Path::new(DOCS).join("benchmarks");
    // A run of one workload leaves what the others show as it is.
    if !writers.is_empty() {
        let curves = curve::draw_writers(&results, &pictures)?;
        let machine = machine_of(run);
        replace(&[("writers", &format!("{machine}\n\n{curves}{writers}"))])?;
    }
    let charts = chart::draw(&results, &pictures)?;
    if charts.is_empty() {
        return Ok(());
    }
    replace(&[
        ("machine", &machine_of(run)),
        ("charts", &charts),
        ("curves", &curve::draw(&results, &pictures)?),
        ("goals", &goals::table(&results)),
        ("tables", &tables),
    ])
}

/// Prints the goals that were measured alone and, if asked to, writes these into the document.
pub(crate) fn publish_goals(run: &Run, choice: Choice<'_>, write: bool) -> Result<()> {
    let results = Results(&run.records);
    let goals = goals::table_of(&results, choice)?;
    let writers = headed("### Several writers", &writers(&results));
    println!("{}\n\n{writers}{goals}", machine_of(run));
    if write {
        replace(&[("goals", &goals)])?;
    }
    Ok(())
}

/// Replaces the texts between marks in docs/benchmarks.md.
fn replace(texts: &[(&str, &str)]) -> Result<()> {
    let path = Path::new(DOCS).join("benchmarks.md");
    let mut page = fs::read_to_string(&path)?;
    for (name, text) in texts {
        page = between(&page, name, text)?;
    }
    Ok(fs::write(&path, page)?)
}

/// Returns the page with a new text between two marks.
fn between(page: &str, name: &str, text: &str) -> Result<String> {
    let (begin, end) = (
        format!("<!-- begin:{name} -->\n"),
        format!("<!-- end:{name} -->"),
    );
    let missing = || Error::Failed(format!("docs/benchmarks.md has no marks for {name}"));
    let (head, rest) = page.split_once(&begin).ok_or_else(missing)?;
    let (_, tail) = rest.split_once(&end).ok_or_else(missing)?;
    Ok(format!("{head}{begin}\n{}\n\n{end}{tail}", text.trim()))
}

#[cfg(test)]
mod tests {
    use super::{Results, USUAL, between, several_write, shown};
    use crate::figures::{Figure, Figures};
    use crate::run::Record;

    fn record(store: &str, figures: &[(&str, Figure)]) -> Record {
        let figures = figures.iter().cloned();
        Record {
            store: store.to_owned(),
            size: USUAL,
            round: 1,
            figures: Figures(
                figures
                    .map(|(name, figure)| (name.to_owned(), figure))
                    .collect(),
            ),
            limit: Figures::default(),
            error: None,
        }
    }

    // A store that takes one thread has two rows, the second with the reason.
    #[test]
    fn writers_have_rows_until_they_are_refused() {
        let refused = || Figure::Refused("is not for several".to_owned());
        let records = [
            record(
                "mmapcache",
                &[
                    ("writers_threads_1", Figure::Number(400.0)),
                    ("writers_threads_2", Figure::Number(160.0)),
                    ("writers_threads_2_longest", Figure::Number(7_000.0)),
                    ("writers_threads_2_slowest", Figure::Number(0.75)),
                ],
            ),
            record(
                "hashbrown",
                &[
                    ("writers_threads_1", Figure::Number(100.0)),
                    ("writers_threads_2", refused()),
                    ("writers_threads_4", refused()),
                ],
            ),
        ];
        let results = Results(&records);
        let table = several_write(&results, USUAL, "threads");
        assert!(
            table.contains("| 2 | 160 | 2.50 |  | 7.00 | 0.75 |  |"),
            "{table}"
        );
        assert_eq!(table.matches("<sup>1</sup>").count(), 1, "{table}");
        assert!(table.ends_with("`-`: 1 is not for several.\n"), "{table}");
        assert!(several_write(&results, USUAL, "processes").is_empty());
    }

    #[test]
    fn numbers_have_three_significant_digits() {
        let texts = [0.987, 19.04, 99.96, 426.4, 1_234_567.0].map(shown);
        assert_eq!(texts, ["0.99", "19", "100", "426", "1,234,567"]);
    }

    // Only the text between a section's two markers is replaced.
    #[test]
    fn replacing_section_keeps_other_text() {
        let page = "a\n<!-- begin:x -->\nold\n<!-- end:x -->\nb\n";
        let new = between(page, "x", "new\n").expect("the marks are there");
        assert_eq!(new, "a\n<!-- begin:x -->\n\nnew\n\n<!-- end:x -->\nb\n");
        assert_eq!(between(&new, "x", "new\n").expect("still"), new);
        assert!(between(page, "y", "").is_err());
    }
}
