//! `record`: one record of the heap, field by field and byte by byte.

use std::path::PathBuf;
use std::time::Duration;

use mmapcache::inspect::{CacheFiles, HeapAddress, Record};
use serde_json::{Value, json};

use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use crate::grid::Grid;
use crate::hexdump::{self, Mark};
use crate::location::Location;
use crate::output::{self, Output};
use crate::terminal::Terminal;
use crate::{heap_address, json_line, json_number, key, timestamp, units, verify};

/// The bytes to show of a record with invalid lengths.
const LEAST: u64 = 64;

/// Print one record of the heap, decoded and byte by byte, and mark what is wrong
///
/// Also decodes damaged files. Needs memory for the key and for the bytes that are shown: 0.4 MiB for
/// any number of entries.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: mmapcache-inspect record thumbnails 0:128")]
pub(crate) struct Arguments {
    /// The cache: the path of its index
    pub(crate) cache: PathBuf,
    /// The address: segment and byte, as SEGMENT:BYTE; the byte may be hexadecimal, as 0x1000
    #[arg(value_parser = heap_address::parse)]
    address: HeapAddress,
    /// Show at most this many bytes
    #[arg(long, default_value_t = 256)]
    limit: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(location: &Location, arguments: &Arguments) -> Result<ExitStatus, Failure> {
    let cache_files = location.open_files()?;
    let Some(record) = cache_files.record(arguments.address)? else {
        let there: Vec<String> = cache_files
            .segments()
            .iter()
            .take(20)
            .map(u16::to_string)
            .collect();
        let number = arguments.address.segment;
        output::warn(&format!(
            "there is no segment {number}; these exist: {}",
            there.join(", ")
        ));
        return Ok(ExitStatus::Problems);
    };
    let mut out = Output::new();
    if arguments.json {
        let mut value = value(&record);
        let bytes = bytes(&cache_files, &record, arguments.limit)?;
        value["bytes"] = units::hex(&bytes).into();
        out.json(&value)?;
    } else {
        let mut grid = Grid::new();
        rows(&mut grid, &record);
        out.line(&grid.left_text())?;
        out.line("")?;
        dump(&cache_files, &record, arguments.limit, &mut out)?;
        for fault in &record.problems {
            out.line(&format!("  {}", verify::problem_line(fault)))?;
        }
    }
    out.end()?;
    Ok(ExitStatus::problems_if(!record.is_valid()))
}

/// Returns the bytes of the record, or a fixed number if its lengths are invalid.
fn bytes(cache_files: &CacheFiles, record: &Record, limit: u64) -> Result<Vec<u8>, Failure> {
    let at = record.address.at;
    let stated = record.end.saturating_sub(at);
    let len = if record.computed_sum.is_some() {
        stated
    } else {
        stated.max(LEAST)
    };
    Ok(cache_files.segment_bytes(record.address, len.min(limit))?)
}

fn dump(
    cache_files: &CacheFiles,
    record: &Record,
    limit: u64,
    out: &mut Output,
) -> Result<(), Failure> {
    let at = record.address.at;
    let bytes = bytes(cache_files, record, limit)?;
    let marks: Vec<Mark> = record
        .problems
        .iter()
        .map(|fault| {
            let covers = |&(from, to): &(u64, u64)| (from..to).contains(&fault.at);
            let field = parts(record).into_iter().find(covers);
            let (from, to) = field.unwrap_or((fault.at, fault.at.saturating_add(1)));
            Mark {
                range: from..to,
                what: fault.what.as_str(),
            }
        })
        .collect();
    for line in hexdump::lines(at, &bytes, &marks, Terminal::new()) {
        out.line(&line)?;
    }
    let left = record
        .end
        .saturating_sub(at)
        .saturating_sub(bytes.len() as u64);
    if left > 0 && record.computed_sum.is_some() {
        out.line(&format!("  and {} more (--limit)", units::bytes(left)))?;
    }
    Ok(())
}

/// Returns where the parts of a record begin and end.
fn parts(record: &Record) -> Vec<(u64, u64)> {
    let fields: &[(u64, u64)] = if record.numbered {
        &[(0, 4), (4, 8), (8, 10), (10, 11), (11, 12)]
    } else {
        &[
            (0, 4),
            (4, 8),
            (8, 16),
            (16, 20),
            (20, 22),
            (22, 23),
            (23, 24),
        ]
    };
    let at = record.address.at;
    let content = record.value_at.saturating_add(record.value_len.into());
    fields
        .iter()
        .map(|(from, to)| (at.saturating_add(*from), at.saturating_add(*to)))
        .chain([(content, record.end)])
        .collect()
}

/// Adds a record to a table.
pub(crate) fn rows(grid: &mut Grid, record: &Record) {
    let state = if record.is_valid() {
        "valid"
    } else {
        "DAMAGED"
    };
    grid.section(&format!(
        "record {}: {state}",
        heap_address::format(record.address)
    ));
    let kind = record.kind().unwrap_or("unknown");
    grid.row("kind", kind, "");
    let stored = record.stored_sum.unwrap_or_default();
    let computed = record.computed_sum;
    let note = match computed {
        Some(computed) if computed == stored => "matches".to_owned(),
        Some(computed) => format!("but its bytes have 0x{computed:08x}"),
        None => "cannot be computed".to_owned(),
    };
    grid.row("checksum", format!("0x{stored:08x}"), note);
    let name = if record.numbered { "number" } else { "version" };
    let nanos = if record.numbered {
        String::new()
    } else {
        record.version.to_string()
    };
    grid.row(name, version(record.version, record.numbered), nanos);
    let whole = record.key.len() == usize::from(record.key_len);
    let note = if whole {
        ""
    } else {
        "cut off by the end of the file"
    };
    grid.row("key", key::show(&record.key), note);
    grid.row("key length", units::count(record.key_len.into()), "");
    if !record.numbered {
        let value = units::bytes(record.value_len.into());
        grid.row(
            "value length",
            value,
            format!("from byte {}", record.value_at),
        );
    }
    for &(name, term) in &record.terms {
        let (label, shown) = shown_term(name, term);
        grid.row(label, shown, "");
    }
    grid.row("next record", format!("byte {}", record.end), "");
}

/// Returns what is shown of a term of an entry of a `Cache`.
fn shown_term(name: &'static str, term: u64) -> (&'static str, String) {
    match name {
        "expires_at_ms" => {
            let at = timestamp::format_nanos(term.saturating_mul(1_000_000));
            ("expires", at)
        }
        "stale_for_ms" => ("stale for", units::duration(Duration::from_millis(term))),
        "cost_us" => ("cost", units::duration(Duration::from_micros(term))),
        "tag_hash" => ("tag's hash", format!("{term:016x}")),
        "namespace_hash" => ("namespace's hash", format!("{term:016x}")),
        _ => (name, "yes".to_owned()),
    }
}

/// Returns a version as a time or, in an id cache, as a number.
pub(crate) fn version(version: u64, numbered: bool) -> String {
    if numbered {
        units::count(version)
    } else {
        timestamp::format_nanos(version)
    }
}

/// Returns a record as JSON.
pub(crate) fn value(record: &Record) -> Value {
    let mut value = json!({
        "place": heap_address::format(record.address),
        "path": record.path().to_string_lossy(),
        "sound": record.is_valid(),
        "kind": record.kind(),
        "numbered": record.numbered,
        "version": json_number::string(record.version),
        "key_len": record.key_len,
        "value_len": record.value_len,
        "value_at": record.value_at,
        "end": record.end,
        "stored_sum": record.stored_sum.map(|sum| format!("{sum:08x}")),
        "computed_sum": record.computed_sum.map(|sum| format!("{sum:08x}")),
        "doubts": verify::problem_values(&record.problems),
    });
    if let Some(object) = value.as_object_mut() {
        json_line::insert(object, "key", &record.key);
        for &(name, term) in &record.terms {
            let term = match name {
                "tag_hash" | "namespace_hash" => format!("{term:016x}").into(),
                "negative" | "internal" | "idle" => (term != 0).into(),
                _ => term.into(),
            };
            object.insert(name.to_owned(), term);
        }
    }
    value
}
