//! `stats --full`: lengths of searches, the heap by segment, and how much of the files is in memory.

use mmapcache::inspect::{Anatomy, Census, Companion, Residency, Role, SegmentCount};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::grid::Grid;
use crate::{header_fields, index_scan, map, output, units};

/// The most segments that get a row: those with the most dead bytes.
const SEGMENTS: usize = 24;

/// The results of reading the index.
pub(super) struct Full {
    /// `None` if the layout of the index is unknown.
    census: Option<Census>,
    /// Each file, and how much of it is in memory if the system tells.
    memory: Vec<(Companion, Option<Residency>)>,
}

impl Full {
    pub(super) fn gather(anatomy: &Anatomy) -> Result<Self, Failure> {
        // Before the scan, which loads the index into memory.
        let mut memory = Vec::new();
        for file in &anatomy.overview().files {
            // The table of files shows why a file cannot be opened.
            let resident = anatomy.residency(file).unwrap_or(None);
            memory.push((file.clone(), resident));
        }
        let census = match index_scan::run(anatomy) {
            Ok(census) => Some(census),
            Err(failure) if failure.is_damage() => {
                output::report_error(&failure);
                None
            }
            Err(failure) => return Err(failure),
        };
        Ok(Self { census, memory })
    }

    pub(super) fn rows(&self, grid: &mut Grid) {
        if let Some(census) = &self.census {
            searches(grid, census);
            segments(grid, census);
        }
        self.memory_rows(grid);
    }

    fn memory_rows(&self, grid: &mut Grid) {
        grid.section("memory");
        let heap = |role: Role| matches!(role, Role::Segment(_));
        for (label, counts) in [
            (
                "index",
                &(|role| role == Role::Index) as &dyn Fn(Role) -> bool,
            ),
            ("roster", &|role| role == Role::Roster),
            ("heap", &heap),
            ("all files", &|_| true),
        ] {
            let files = self.memory.iter().filter(|(file, _)| counts(file.role));
            let (mut mapped, mut on_disk, mut resident) = (0, 0, Some(0));
            for (file, found) in files.filter(|(file, _)| file.len > 0) {
                mapped += file.len;
                on_disk += file.allocated;
                let bytes = found.as_ref().map(Residency::bytes);
                resident = resident.zip(bytes).map(|(sum, bytes)| sum + bytes);
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
                    "role": header_fields::role(file.role),
                    "mapped": file.len,
                    "resident": resident.as_ref().map(Residency::bytes),
                    "allocated": file.allocated,
                })
            })
            .collect();
        let census = self.census.as_ref().map(|census| {
            let segments: Vec<Value> = census.segments.iter().map(map::segment_value).collect();
            json!({
                "steady": census.steady,
                "entries": census.entries,
                "implausible": census.implausible,
                "hit_groups": census.hit_groups(),
                "miss_groups": census.miss_groups,
                "segments": segments,
            })
        });
        json!({ "census": census, "memory": memory })
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

fn searches(grid: &mut Grid, census: &Census) {
    grid.section("searches");
    let note = "groups of eight slots probed, on average";
    let shown = |groups: f64| format!("{groups:.2}");
    grid.row("for present keys", shown(census.hit_groups()), note);
    grid.row("for absent keys", shown(census.miss_groups), note);
    if census.implausible > 0 {
        let count = units::count(census.implausible);
        grid.row("invalid slots", count, "see `verify`");
    }
    if !census.steady {
        grid.row("a writer was active", "", "");
    }
}

fn segments(grid: &mut Grid, census: &Census) {
    grid.section("heap by segment");
    let mut shown: Vec<&SegmentCount> = census.segments.iter().collect();
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
