//! `histogram`: distributions of search lengths, key and value sizes, and ages.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use crate::index_scan::Scan;
use crate::location::Location;
use crate::output::Output;
use crate::terminal::Terminal;
use crate::value_histogram::ValueHistogram;
use crate::{bar, index_scan, units};

/// Draw distributions of search lengths, key and value sizes, and ages of entries
///
/// Reads the whole index once, 160 MB for a million entries, and nothing of the heap. Needs memory for
/// two pieces of 1 MiB of the index, and 16 bytes for each region: 2.4 MiB at a million entries.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: mmapcache-inspect histogram thumbnails")]
pub(crate) struct Arguments {
    /// The cache: the path of its index
    pub(crate) cache: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(location: &Location, arguments: &Arguments) -> Result<ExitStatus, Failure> {
    let cache_files = location.open_files()?;
    let scan = index_scan::run(&cache_files)?;
    let mut out = Output::new();
    if arguments.json {
        out.json(&value(&scan))?;
    } else {
        out.line(&text(&scan, Terminal::new()))?;
    }
    out.end()?;
    Ok(ExitStatus::problems_if(
        scan.index.consistent && scan.index.invalid > 0,
    ))
}

/// A row of a histogram: its lower bound and its count.
type Row = (String, u64);

fn text(scan: &Scan, terminal: Terminal) -> String {
    let mut text = String::new();
    let probes = (1..).zip(&scan.index.entries_by_groups);
    let probes: Vec<Row> = probes
        .map(|(groups, count)| (groups.to_string(), *count))
        .collect();
    let title = format!(
        "groups of eight slots that a search probes: {:.2} for a present key, {:.2} for an absent \
         one",
        scan.index.hit_groups(),
        scan.index.miss_groups
    );
    section(&mut text, &title, &probes, terminal);
    let bytes: fn(u64) -> String = units::bytes;
    for (name, histogram, unit) in [
        ("keys", &scan.key_bytes, bytes),
        ("values", &scan.value_bytes, bytes),
        ("ages", &scan.ages, units::span),
    ] {
        if histogram.count() > 0 {
            let title = format!(
                "{name}: from {} to {}; half of them up to {}, nine in ten up to {}",
                unit(histogram.min),
                unit(histogram.max),
                unit(histogram.quantile(0.5)),
                unit(histogram.quantile(0.9)),
            );
            section(&mut text, &title, &rows(histogram, unit), terminal);
        }
    }
    text.push_str(&remarks(scan));
    text
}

/// Returns the total and remarks on the numbers.
fn remarks(scan: &Scan) -> String {
    let mut text = format!("{} entries", units::count(scan.index.entries));
    if scan.index.invalid > 0 {
        let count = units::count(scan.index.invalid);
        text.push_str(&format!("; {count} invalid slots are left out"));
    }
    if !scan.index.consistent {
        text.push_str("; a writer was active");
    }
    text
}

/// Returns the buckets from the first to the last that is not empty.
fn rows(histogram: &ValueHistogram, unit: fn(u64) -> String) -> Vec<Row> {
    let first = histogram.buckets.iter().position(|&count| count > 0);
    let last = histogram.buckets.iter().rposition(|&count| count > 0);
    let (Some(first), Some(last)) = (first, last) else {
        return Vec::new();
    };
    (first..=last)
        .map(|bucket| {
            let label = unit(ValueHistogram::bounds(bucket).0);
            (label, histogram.buckets[bucket])
        })
        .collect()
}

fn section(text: &mut String, title: &str, rows: &[Row], terminal: Terminal) {
    let all: u64 = rows.iter().map(|(_, count)| count).sum();
    let most = rows.iter().map(|(_, count)| *count).max().unwrap_or(0);
    let labels = rows.iter().map(|(label, _)| label.len()).max().unwrap_or(0);
    let counts = units::count(most).len();
    let room = terminal.width.saturating_sub(labels + counts + 15).max(10);
    text.push_str(title);
    text.push('\n');
    for (label, count) in rows {
        let share = *count as f64 / all.max(1) as f64;
        let drawn = bar::bar(*count as f64 / most.max(1) as f64, room);
        let line = format!(
            "  {label:>labels$}  {:>counts$}  {:>7}  {drawn}",
            units::count(*count),
            units::percent(share),
        );
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text.push('\n');
}

fn value(scan: &Scan) -> Value {
    json!({
        "steady": scan.index.consistent,
        "entries": scan.index.entries,
        "deleted": scan.index.deleted,
        "empty": scan.index.empty,
        "implausible": scan.index.invalid,
        "hit_groups": scan.index.hit_groups(),
        "miss_groups": scan.index.miss_groups,
        "probes": scan.index.entries_by_groups,
        "key_bytes": histogram_value(&scan.key_bytes),
        "value_bytes": histogram_value(&scan.value_bytes),
        "age_seconds": histogram_value(&scan.ages),
    })
}

/// Returns a histogram as JSON; null if it is empty.
fn histogram_value(histogram: &ValueHistogram) -> Value {
    let count = histogram.count();
    if count == 0 {
        return Value::Null;
    }
    let buckets: Vec<Value> = (0..)
        .zip(&histogram.buckets)
        .filter(|(_, count)| **count > 0)
        .map(|(bucket, count)| {
            let (from, to) = ValueHistogram::bounds(bucket);
            json!({ "from": from, "to": to, "count": count })
        })
        .collect();
    json!({
        "count": count,
        "sum": u64::try_from(histogram.sum).unwrap_or(u64::MAX),
        "min": histogram.min,
        "max": histogram.max,
        "mean": histogram.mean(),
        "median": histogram.quantile(0.5),
        "p90": histogram.quantile(0.9),
        "p99": histogram.quantile(0.99),
        "buckets": buckets,
    })
}
