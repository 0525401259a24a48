//! `map`: draws the regions of the index and the segments of the heap.

use std::path::PathBuf;

use anstyle::Style;
use mmapcache::inspect::RegionScan;
use serde_json::json;

use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use crate::index_scan::{Scan, SegmentUse};
use crate::location::Location;
use crate::output::Output;
use crate::terminal::{self, Terminal};
use crate::{bar, index_scan, json_number, units};

/// The most rows of regions, and of segments.
const REGION_ROWS: usize = 12;
const SEGMENT_ROWS: usize = 40;
/// The share of deleted slots at which a writer rebuilds a region.
const MOST_DELETED: f64 = 1.0 / 8.0;

/// Draw how full the regions of the index are, and the live and dead bytes of the heap's segments
///
/// Reads the whole index once, 160 MB for a million entries, and nothing of the heap. Needs memory for
/// two pieces of 1 MiB of the index, 16 bytes for each region and 48 for each segment: 2.4 MiB at a
/// million entries.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: mmapcache-inspect map thumbnails")]
pub(crate) struct Arguments {
    /// The cache: the path of its index
    pub(crate) cache: PathBuf,
    /// Print JSON: each region and each segment
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(location: &Location, arguments: &Arguments) -> Result<ExitStatus, Failure> {
    let cache_files = location.open_files()?;
    let scan = index_scan::run(&cache_files)?;
    let mut out = Output::new();
    if arguments.json {
        write_json(&scan, &mut out)?;
    } else {
        for line in lines(&scan, Terminal::new()) {
            out.line(&line)?;
        }
    }
    out.end()?;
    Ok(ExitStatus::problems_if(
        scan.index.consistent && scan.index.invalid > 0,
    ))
}

fn lines(scan: &Scan, terminal: Terminal) -> Vec<String> {
    let room = terminal.width.saturating_sub(4);
    let each = scan.index.regions.len().div_ceil(room * REGION_ROWS).max(1);
    let live = |region: &&RegionScan| region.is_live();
    let full = scan.index.entries as f64 / scan.index.slots().max(1) as f64;
    let mut lines = vec![
        format!(
            "{} live regions of {}: {} entries in {} slots, {}",
            units::count(scan.index.regions.iter().filter(live).count() as u64),
            units::count(scan.index.regions.len() as u64),
            units::count(scan.index.entries),
            units::count(scan.index.slots()),
            units::percent(full),
        ),
        match each {
            1 => "each cell is a region; its height shows how full it is".to_owned(),
            _ => format!("each cell is {each} regions; its height shows how full they are"),
        },
    ];
    let cells: Vec<Cell> = scan.index.regions.chunks(each).map(Cell::of).collect();
    lines.extend(rows(&cells, room, terminal, Cell::occupancy));
    lines.extend(legend(&cells));
    if scan.index.deleted > 0 {
        lines.push(String::new());
        lines.push(format!(
            "{} deleted slots that searches still probe; a full cell means an eighth of all slots",
            units::count(scan.index.deleted),
        ));
        lines.extend(rows(&cells, room, terminal, Cell::tombstones));
    }
    lines.push(String::new());
    segments(&mut lines, scan, terminal);
    lines
}

/// One or more neighbouring regions, drawn as one character.
#[derive(Default)]
struct Cell {
    live: u64,
    building: u64,
    unknown: u64,
    slots: u64,
    occupied: u64,
    deleted: u64,
    implausible: u64,
}

impl Cell {
    fn of(regions: &[RegionScan]) -> Self {
        let mut cell = Self::default();
        for region in regions {
            match region.state() {
                "live" => cell.live += 1,
                "being built" => cell.building += 1,
                "free" | "unused" => {}
                _ => cell.unknown += 1,
            }
            if region.is_live() {
                cell.slots += u64::from(region.slots);
                cell.occupied += u64::from(region.occupied);
                cell.deleted += u64::from(region.deleted);
                cell.implausible += u64::from(region.invalid);
            }
        }
        cell
    }

    fn has_problems(&self) -> bool {
        self.implausible + self.unknown > 0
    }

    fn occupancy(&self) -> (Style, char) {
        if self.has_problems() {
            return (terminal::ERROR, '!');
        }
        if self.live == 0 {
            return (terminal::DIM, if self.building > 0 { '+' } else { '·' });
        }
        let share = self.occupied as f64 / self.slots as f64;
        (terminal::OK, bar::level(share))
    }

    fn tombstones(&self) -> (Style, char) {
        let share = self.deleted as f64 / self.slots.max(1) as f64 / MOST_DELETED;
        let style = if share > 0.5 {
            terminal::WARNING
        } else {
            Style::new()
        };
        (style, bar::level(share))
    }
}

fn rows(
    cells: &[Cell],
    room: usize,
    terminal: Terminal,
    draw: fn(&Cell) -> (Style, char),
) -> Vec<String> {
    cells
        .chunks(room)
        .map(|row| {
            let mut line = String::from("  ");
            // One escape sequence for neighbours of the same style.
            let drawn: Vec<_> = row.iter().map(draw).collect();
            for run in drawn.chunk_by(|one, next| one.0 == next.0) {
                let text: String = run.iter().map(|(_, shown)| shown).collect();
                line.push_str(&terminal.styled(run[0].0, &text));
            }
            line.trim_end().to_owned()
        })
        .collect()
}

/// Returns a legend for the special characters that occur.
fn legend(cells: &[Cell]) -> Option<String> {
    let mut known = Vec::new();
    for (there, what) in [
        (cells.iter().any(Cell::has_problems), "! has invalid values"),
        (
            cells.iter().any(|cell| cell.occupancy().1 == '+'),
            "+ being built",
        ),
        (cells.iter().any(|cell| cell.occupancy().1 == '·'), "· free"),
    ] {
        if there {
            known.push(what);
        }
    }
    (!known.is_empty()).then(|| format!("  {}", known.join("   ")))
}

fn segments(lines: &mut Vec<String>, scan: &Scan, terminal: Terminal) {
    let each = scan.segments.len().div_ceil(SEGMENT_ROWS).max(1);
    let rows: Vec<Row> = scan.segments.chunks(each).map(Row::of).collect();
    let total = Row::of(&scan.segments);
    lines.push(format!(
        "heap of {} in {}: {} live, {} dead; █ live, ▒ dead, · not in use",
        units::bytes(total.len),
        match scan.segments.len() {
            1 => "one segment".to_owned(),
            count => format!("{} segments", units::count(count as u64)),
        },
        units::bytes(total.live),
        units::bytes(total.dead),
    ));
    let longest = rows.iter().map(|row| row.len).max().unwrap_or(0);
    let labels = rows.iter().map(|row| row.label.len()).max().unwrap_or(0);
    let room = terminal.width.saturating_sub(labels + 36).max(10);
    for row in rows {
        let width = room as f64 * row.len as f64 / longest.max(1) as f64;
        let width = (width.round() as usize).max(1);
        let rest = row.len.saturating_sub(row.live + row.dead);
        let cells = bar::cells(&[row.live, row.dead, rest], row.len, width);
        let drawn = [
            terminal.styled(terminal::OK, &"█".repeat(cells[0])),
            terminal.styled(terminal::WARNING, &"▒".repeat(cells[1])),
            terminal.styled(terminal::DIM, &"·".repeat(cells[2])),
        ];
        let share = row.live as f64 / (row.live + row.dead).max(1) as f64;
        lines.push(format!(
            "  {:>labels$}  {:>10}  {:>7} live  {}",
            row.label,
            units::bytes(row.len),
            units::percent(share),
            drawn.concat(),
        ));
    }
}

/// One or more neighbouring segments, drawn as one bar.
struct Row {
    label: String,
    len: u64,
    live: u64,
    dead: u64,
}

impl Row {
    fn of(segments: &[SegmentUse]) -> Self {
        let sum = |of: fn(&SegmentUse) -> u64| segments.iter().map(of).sum();
        let label = match segments {
            [only] => only.number.to_string(),
            [first, .., last] => format!("{}-{}", first.number, last.number),
            [] => String::new(),
        };
        Self {
            label,
            len: sum(|segment| segment.len),
            live: sum(|segment| segment.live_bytes),
            dead: sum(|segment| segment.dead_bytes),
        }
    }
}

/// Writes JSON region by region, so that memory stays small.
fn write_json(scan: &Scan, out: &mut Output) -> Result<(), Failure> {
    out.line(&format!(
        "{{\"steady\":{},\"regions\":[",
        scan.index.consistent
    ))?;
    for (number, region) in scan.index.regions.iter().enumerate() {
        let line = json!({
            "number": region.number,
            "state": region.state(),
            "slots": region.slots,
            "occupied": region.occupied,
            "deleted": region.deleted,
            "implausible": region.invalid,
        });
        let comma = if number > 0 { "," } else { "" };
        out.line(&format!("{comma}{line}"))?;
    }
    out.line("],\"segments\":[")?;
    for (number, segment) in scan.segments.iter().enumerate() {
        let comma = if number > 0 { "," } else { "" };
        let mut value = segment_value(segment);
        json_number::stringify_large(&mut value);
        out.line(&format!("{comma}{value}"))?;
    }
    out.line("]}")
}

/// Returns a segment as JSON.
pub(crate) fn segment_value(segment: &SegmentUse) -> serde_json::Value {
    json!({
        "number": segment.number,
        "len": segment.len,
        "used": segment.used,
        "live_records": segment.live_records,
        "live_bytes": segment.live_bytes,
        "dead_bytes": segment.dead_bytes,
    })
}
