//! `stats --full`: lengths of searches, the heap by segment, and how much of the files is in memory.

use mmapcache::inspect::{CacheFile, CacheFiles};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::grid::Grid;
use crate::index_scan::{Scan, SegmentUse};
use crate::{header_fields, index_scan, map, output, units};

/// The most segments that get a row: those with the most dead bytes.
const SEGMENTS: usize = 24;

/// The results of reading the index.
pub(super) struct Full {
    /// `None` if the layout of the index is unknown.
    scan: Option<Scan>,
    /// Each file, and how much of it is in memory if the system tells.
    memory: Vec<(CacheFile, Option<u64>)>,
}

impl Full {
    pub(super) fn gather(cache_files: &CacheFiles) -> Result<Self, Failure> {
        // Before the scan, which loads the index into memory.
        let mut memory = Vec::new();
        for file in cache_files.files() {
            // The table of files shows why a file cannot be opened.
            let resident = cache_files.resident_bytes(file).unwrap_or(None);
            memory.push((file.clone(), resident));
        }
        let scan = match index_scan::run(cache_files) {
            Ok(scan) => Some(scan),
            Err(failure) if failure.is_damage() => {
                output::report_error(&failure);
                None
            }
            Err(failure) => return Err(failure),
        };
        Ok(Self { scan, memory })
    }

    pub(super) fn rows(&self, grid: &mut Grid) {
        if let Some(scan) = &self.scan {
            searches(grid, scan);
            uses(grid, scan);
            segments(grid, scan);
        }
        self.memory_rows(grid);
    }

    fn memory_rows(&self, grid: &mut Grid) {
        grid.section("memory");
        for (label, kind) in [
            ("index", Some("index")),
            ("roster", Some("roster")),
            ("heap", Some("segment")),
            ("all files", None),
        ] {
            let wanted = |file: &CacheFile| kind.is_none_or(|kind| file.kind() == kind);
            let files = self.memory.iter().filter(|(file, _)| wanted(file));
            let (mut mapped, mut on_disk, mut resident) = (0, 0, Some(0));
            for (file, found) in files.filter(|(file, _)| file.len > 0) {
                mapped += file.len;
                on_disk += file.allocated;
                resident = resident.zip(*found).map(|(sum, bytes)| sum + bytes);
            }
            memory_row(grid, label, resident, mapped, on_disk);
        }
    }

    pub(super) fn value(&self) -> Value {
        let memory: Vec<Value> = self
            .memory
            .iter()
            .map(|(file, resident)| {
                json!({
                    "role": header_fields::file_name(file),
                    "mapped": file.len,
                    "resident": resident,
                    "allocated": file.allocated,
                })
            })
            .collect();
        let scan = self.scan.as_ref().map(|scan| {
            let segments: Vec<Value> = scan.segments.iter().map(map::segment_value).collect();
            json!({
                "steady": scan.index.consistent,
                "entries": scan.index.entries,
                "implausible": scan.index.invalid,
                "hit_groups": scan.index.hit_groups(),
                "miss_groups": scan.index.miss_groups,
                "uses": scan.index.entries_by_uses,
                "segments": segments,
            })
        });
        json!({ "census": scan, "memory": memory })
    }
}

/// Shows how much of a `Cache` eviction finds unused.
fn uses(grid: &mut Grid, scan: &Scan) {
    let by_uses = scan.index.entries_by_uses;
    let all: u64 = by_uses.iter().sum();
    if all == 0 {
        return;
    }
    grid.section("uses");
    for (uses, count) in ["unused, go first", "one", "two", "three or more"]
        .into_iter()
        .zip(by_uses)
    {
        let share = units::percent(count as f64 / all as f64);
        grid.row(uses, units::count(count), share);
    }
}

fn memory_row(grid: &mut Grid, label: &str, resident: Option<u64>, mapped: u64, on_disk: u64) {
    let sizes = format!(
        "of {} that is mapped, {} on the disk",
        units::bytes(mapped),
        units::bytes(on_disk)
    );
    match resident {
        Some(bytes) => grid.row(label, format!("about {}", units::bytes(bytes)), sizes),
        None => grid.row(
            label,
            "unknown",
            format!("{sizes}; the system does not tell"),
        ),
    }
}

fn searches(grid: &mut Grid, scan: &Scan) {
    grid.section("searches");
    let note = "groups of eight slots probed, on average";
    let shown = |groups: f64| format!("{groups:.2}");
    grid.row("for present keys", shown(scan.index.hit_groups()), note);
    grid.row("for absent keys", shown(scan.index.miss_groups), note);
    if scan.index.invalid > 0 {
        let count = units::count(scan.index.invalid);
        grid.row("invalid slots", count, "see `verify`");
    }
    if !scan.index.consistent {
        grid.row("a writer was active", "", "");
    }
}

fn segments(grid: &mut Grid, scan: &Scan) {
    grid.section("heap by segment");
    let mut shown: Vec<&SegmentUse> = scan.segments.iter().collect();
    shown.sort_by_key(|segment| std::cmp::Reverse(segment.dead_bytes));
    let left = shown.split_off(shown.len().min(SEGMENTS));
    shown.sort_by_key(|segment| segment.number);
    for segment in shown {
        let label = format!("segment {}", segment.number);
        let note = format!(
            "{} live in {} records, {} dead",
            units::bytes(segment.live_bytes),
            units::count(segment.live_records),
            units::bytes(segment.dead_bytes),
        );
        grid.row(&label, units::bytes(segment.len), note);
    }
    if !left.is_empty() {
        let bytes = left.iter().map(|segment| segment.len).sum();
        let label = format!("{} others", left.len());
        grid.row(&label, units::bytes(bytes), "less dead in each; see `map`");
    }
}
