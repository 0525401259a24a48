//! `record`: what stands at one place of the heap, field by field and byte by byte.

use std::path::PathBuf;

use mmapcache::inspect::{Anatomy, HeapPlace, Record, RecordKind};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::grid::Grid;
use crate::hexdump::{self, Mark};
use crate::output::{self, Output};
use crate::paint::Paint;
use crate::site::Site;
use crate::verdict::Verdict;
use crate::{exact, json_line, key, moment, place, units, verify};

/// Bytes that are shown of a place where the lengths cannot be believed.
const LEAST: u64 = 64;

/// One record of the heap: decoded, and byte by byte, with what is wrong pointed at
///
/// Decodes damaged files too. Needs memory for its key and for the bytes that are shown: 0.4 MiB,
/// however many entries there are.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: mmapcache-inspect record thumbnails 0:128")]
pub(crate) struct Arguments {
    /// The cache: the path of its index
    pub(crate) cache: PathBuf,
    /// Segment and byte, as SEGMENT:BYTE; the byte may be hexadecimal, as 0x1000
    #[arg(value_parser = place::parse)]
    place: HeapPlace,
    /// Show so many bytes of it
    #[arg(long, default_value_t = 256)]
    limit: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(site: &Site, arguments: &Arguments) -> Result<Verdict, Failure> {
    let anatomy = site.anatomy()?;
    let Some(record) = anatomy.record(arguments.place)? else {
        let there: Vec<String> = anatomy
            .segments()
            .iter()
            .take(20)
            .map(u16::to_string)
            .collect();
        let number = arguments.place.segment;
        output::remark(&format!(
            "there is no segment {number}, but {}",
            there.join(", ")
        ));
        return Ok(Verdict::Wrong);
    };
    let mut out = Output::new();
    if arguments.json {
        let mut value = value(&record);
        let bytes = bytes(&anatomy, &record, arguments.limit)?;
        let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        value["bytes"] = digits.into();
        out.json(&value)?;
    } else {
        let mut grid = Grid::new();
        rows(&mut grid, &record);
        out.line(&grid.left_text())?;
        out.line("")?;
        dump(&anatomy, &record, arguments.limit, &mut out)?;
        for fault in &record.doubts {
            out.line(&format!("  {}", verify::fault_line(fault)))?;
        }
    }
    out.end()?;
    Ok(Verdict::wrong_if(!record.is_sound()))
}

/// Bytes from the record's start: all of it, as far as its lengths can be believed.
fn bytes(anatomy: &Anatomy, record: &Record, limit: u64) -> Result<Vec<u8>, Failure> {
    let HeapPlace { segment, at, .. } = record.place;
    let own = record.end.saturating_sub(at);
    let len = if record.computed_sum.is_some() {
        own
    } else {
        own.max(LEAST)
    };
    Ok(anatomy.bytes(segment, at, len.min(limit))?)
}

fn dump(anatomy: &Anatomy, record: &Record, limit: u64, out: &mut Output) -> Result<(), Failure> {
    let at = record.place.at;
    let bytes = bytes(anatomy, record, limit)?;
    let marks: Vec<Mark> = record
        .doubts
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
    for line in hexdump::lines(at, &bytes, &marks, Paint::new()) {
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

/// Where the parts of a record begin and end.
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
    let at = record.place.at;
    let content = record.value_at.saturating_add(record.value_len.into());
    fields
        .iter()
        .map(|(from, to)| (at.saturating_add(*from), at.saturating_add(*to)))
        .chain([(content, record.end)])
        .collect()
}

/// A record as rows of a table.
pub(crate) fn rows(grid: &mut Grid, record: &Record) {
    let sound = if record.is_sound() {
        "sound"
    } else {
        "DAMAGED"
    };
    grid.section(&format!("record {}: {sound}", place::show(record.place)));
    let kind = record.kind.map_or("unknown", kind);
    grid.row("kind", kind, "");
    let (stored, computed) = (record.stored_sum, record.computed_sum);
    let note = match computed {
        Some(computed) if computed == stored => "fits".to_owned(),
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
    let note = if whole { "" } else { "cut by the file's end" };
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
    grid.row("next record", format!("byte {}", record.end), "");
}

/// A version as a moment or, of a numbered key, as its number.
pub(crate) fn version(version: u64, numbered: bool) -> String {
    if numbered {
        units::count(version)
    } else {
        moment::show_nanos(version)
    }
}

/// A record for programs.
pub(crate) fn value(record: &Record) -> Value {
    let mut value = json!({
        "place": place::show(record.place),
        "path": record.path.to_string_lossy(),
        "sound": record.is_sound(),
        "kind": record.kind.map(kind),
        "numbered": record.numbered,
        "version": exact::wide(record.version),
        "key_len": record.key_len,
        "value_len": record.value_len,
        "value_at": record.value_at,
        "end": record.end,
        "stored_sum": format!("{:08x}", record.stored_sum),
        "computed_sum": record.computed_sum.map(|sum| format!("{sum:08x}")),
        "doubts": verify::fault_values(&record.doubts),
    });
    if let Some(object) = value.as_object_mut() {
        json_line::insert(object, "key", &record.key);
    }
    value
}

/// What a record is, in a word.
pub(crate) fn kind(kind: RecordKind) -> &'static str {
    match kind {
        RecordKind::Entry => "entry",
        RecordKind::Deletion => "deletion",
        RecordKind::Gap => "gap",
        RecordKind::Reservation => "reservation",
        _ => "other",
    }
}
