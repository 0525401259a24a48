//! `stats`: statistics of a cache; or, if the library refuses to open it, the reason and what can
//! still be read.

mod freshness;
mod full;

use std::os::unix::ffi::OsStrExt;
use std::time::SystemTime;

use mmapcache::inspect::{CacheFile, CacheFiles, LockState};
use mmapcache::{DiskUsage, Stats};
use serde_json::{Map, Value, json};

use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use crate::grid::Grid;
use crate::header_fields::{self, Fields};
use crate::location::Location;
use crate::output::{self, Output};
use crate::{cache_figures, json_number, key, lock_status, timestamp, units, verify};
use freshness::Freshness;
use full::Full;

/// Everything that `stats` shows.
struct StatsReport {
    /// The statistics, or why the library refused.
    engine: Result<(Stats, DiskUsage), Failure>,
    cache_files: CacheFiles,
    lock: Option<LockState>,
    full: Option<Full>,
    /// With `--full`, of a `Cache` that can be opened.
    freshness: Option<Freshness>,
}

pub(crate) fn run(location: &Location, full: bool, json: bool) -> Result<ExitStatus, Failure> {
    let mut picture = gather(location)?;
    if full {
        picture.full = Some(Full::gather(&picture.cache_files)?);
        if picture.engine.is_ok() && cache_figures::is_cache(&picture.cache_files) {
            picture.freshness = match Freshness::gather(location) {
                Ok(freshness) => Some(freshness),
                // Everything else is shown still.
                Err(failure) if failure.is_damage() => {
                    output::report_error(&failure);
                    None
                }
                Err(failure) => return Err(failure),
            };
        }
    }
    let mut out = Output::new();
    if json {
        out.json(&picture.value())?;
    } else {
        out.line(&picture.text())?;
    }
    out.end()?;
    picture.end()
}

/// Returns the statistics of a cache as a table.
pub(crate) fn text(location: &Location) -> Result<String, Failure> {
    Ok(gather(location)?.text())
}

fn gather(location: &Location) -> Result<StatsReport, Failure> {
    let engine = location
        .open_read_only()
        .and_then(|cache| Ok((cache.stats()?, cache.disk_usage()?)));
    match location.open_files() {
        Ok(cache_files) => Ok(StatsReport {
            engine,
            // Without an answer of the system there is no row for the lock.
            lock: cache_files.lock().ok(),
            cache_files,
            full: None,
            freshness: None,
        }),
        // Without headers there is nothing to show, and the library's error says more.
        Err(failure @ Failure::NoCache { .. }) => Err(failure),
        Err(failure) => Err(engine.err().unwrap_or(failure)),
    }
}

impl StatsReport {
    /// Returns the error of the library after everything else was shown.
    fn end(self) -> Result<ExitStatus, Failure> {
        let implausible = !self.cache_files.problems().is_empty();
        match self.engine {
            Ok(_) => Ok(ExitStatus::problems_if(implausible)),
            Err(failure) if implausible && !failure.is_damage() => {
                output::report_error(&failure);
                Ok(ExitStatus::Problems)
            }
            Err(failure) => Err(failure),
        }
    }

    fn text(&self) -> String {
        let mut grid = Grid::new();
        match &self.engine {
            Ok((stats, _)) => {
                table(&mut grid, stats, &self.cache_files);
                if let Some(figures) = cache_figures::of(&self.cache_files) {
                    figures.rows(&mut grid);
                }
                history(&mut grid, stats, &self.cache_files);
                state(&mut grid, stats, &self.cache_files, self.lock.as_ref());
            }
            Err(_) => {
                fields(
                    &mut grid,
                    "header",
                    header_fields::sealed(&self.cache_files),
                );
                fields(
                    &mut grid,
                    "counters",
                    header_fields::changing(&self.cache_files),
                );
            }
        }
        files(&mut grid, &self.cache_files);
        if let Some(freshness) = &self.freshness {
            freshness.rows(&mut grid);
        }
        if let Some(full) = &self.full {
            full.rows(&mut grid);
        }
        let path = key::show(self.cache_files.path().as_os_str().as_bytes());
        let mut text = format!("{path}\n");
        if let Err(failure) = &self.engine {
            text.push_str("the library refuses to open it: ");
            text.push_str(&output::chain(failure));
            text.push_str("\nwhat its files contain, perhaps with errors:\n");
        }
        text.push('\n');
        text.push_str(&grid.text());
        if !self.cache_files.problems().is_empty() {
            text.push_str("\n\nimplausible");
        }
        for fault in self.cache_files.problems() {
            text.push_str("\n  ");
            text.push_str(&verify::problem_line(fault));
        }
        text
    }

    fn value(&self) -> Value {
        let mut value = match &self.engine {
            Ok((stats, disk)) => stats_value(stats, disk),
            Err(failure) => {
                let mut value = header_stats(&self.cache_files);
                value.insert("refused".to_owned(), output::chain(failure).into());
                value
            }
        };
        let cache_files = &self.cache_files;
        let path = cache_files.path().to_string_lossy();
        let header = json!({
            "sealed": header_fields::object(header_fields::sealed(cache_files)),
            "changing": header_fields::object(header_fields::changing(cache_files)),
            "steady": cache_files.is_consistent(),
        });
        value.insert("path".to_owned(), path.into());
        value.insert("header".to_owned(), header);
        value.insert(
            "files".to_owned(),
            header_fields::files(cache_files.files()),
        );
        let implausible = verify::problem_values(cache_files.problems());
        value.insert("implausible".to_owned(), implausible);
        value.insert(
            "lock".to_owned(),
            self.lock.as_ref().map(lock_status::value).into(),
        );
        let full = self.full.as_ref().map_or(Value::Null, Full::value);
        value.insert("full".to_owned(), full);
        // Files of other types have no such figures.
        if let Some(figures) = cache_figures::of(cache_files) {
            value.insert("cache".to_owned(), figures.value());
        }
        if let Some(freshness) = &self.freshness {
            value.insert("freshness".to_owned(), freshness.value());
        }
        value.into()
    }
}

fn table(grid: &mut Grid, stats: &Stats, cache_files: &CacheFiles) {
    grid.section("table");
    grid.row("entries", units::count(stats.occupied), "");
    grid.row("deleted slots", units::count(stats.deleted), "");
    let load = format!("{} of them hold entries", units::percent(stats.load));
    grid.row("slots", units::count(stats.slots), load);
    let most = units::count(stats.high_water_mark);
    grid.row("slots ever used", most, "");
    if let Some(header) = &cache_files.state() {
        let note = format!("over a directory of depth {}", header.depth);
        grid.row("regions", units::count(header.regions), note);
    }
    grid.section("heap");
    let share = |part| units::percent(part as f64 / stats.heap_bytes.max(1) as f64);
    let plural = if stats.segments == 1 { "" } else { "s" };
    let segments = format!("in {} segment{plural}", units::count(stats.segments));
    grid.row("size", units::bytes(stats.heap_bytes), segments);
    let (live, dead) = (stats.live_bytes, stats.dead_bytes);
    grid.row("live", units::bytes(live), share(live));
    grid.row("dead", units::bytes(dead), share(dead));
}

fn history(grid: &mut Grid, stats: &Stats, cache_files: &CacheFiles) {
    grid.section("history");
    grid.row("generation", units::count(stats.generation), "");
    let created = timestamp::format(stats.created);
    grid.row("created", created, ago(Some(stats.created)));
    let compacted = stats
        .compacted
        .map_or("never".to_owned(), timestamp::format);
    grid.row("rebuilt or compacted", compacted, ago(stats.compacted));
    // In an id cache this is an id, not a time.
    let numbered = cache_files
        .header()
        .as_ref()
        .is_some_and(|it| it.record_variant == 2);
    if let Some(header) = cache_files.state().filter(|_| !numbered) {
        let written = header
            .last_write
            .map_or("never".to_owned(), timestamp::format);
        grid.row("last write", written, ago(header.last_write));
    }
    let overwrites = format!("{} of them overwrites", units::count(stats.overwrites));
    grid.row("puts", units::count(stats.puts), overwrites);
    grid.row("deletes", units::count(stats.deletes), "");
    let dropped = "damaged entries that were removed";
    grid.row("dropped", units::count(stats.dropped), dropped);
    let recoveries = "rebuilds of the index from the heap";
    grid.row("recoveries", units::count(stats.recoveries), recoveries);
    grid.row("changes", units::count(stats.changes), "");
}

/// Returns how long ago a time was.
fn ago(time: Option<SystemTime>) -> String {
    let age = time.and_then(|time| SystemTime::now().duration_since(time).ok());
    age.map_or_else(String::new, |age| {
        format!("{} ago", units::span(age.as_secs()))
    })
}

fn state(grid: &mut Grid, stats: &Stats, cache_files: &CacheFiles, lock: Option<&LockState>) {
    grid.section("state");
    let yes_no = |yes| if yes { "yes" } else { "no" };
    grid.row("append-only", yes_no(stats.append_only), "");
    if stats.in_place {
        grid.row("overwrites in place", "yes", "");
    }
    let writer = stats
        .writer
        .map_or("none".to_owned(), |pid| pid.to_string());
    grid.row("writer's process", writer, "");
    if let Some(lock) = lock {
        let by = if lock.by_word {
            "by a word of the index"
        } else {
            "by flock"
        };
        let waiting = if lock.awaited {
            "; others wait for it"
        } else {
            ""
        };
        grid.row(
            "writer lock",
            lock_status::summary(lock),
            format!("{by}{waiting}"),
        );
    }
    if let Some(header) = &cache_files.state() {
        let note = "changes that a power loss could take";
        grid.row("unsynced", yes_no(header.dirty), note);
        let note = "by a writer that is active or was killed";
        grid.row("change under way", yes_no(header.pending().is_some()), note);
    }
    let failed = if stats.sync_failed { "FAILED" } else { "no" };
    grid.row("failed sync", failed, "");
}

fn fields(grid: &mut Grid, title: &str, fields: Option<Fields>) {
    grid.section(title);
    for (name, value) in fields.unwrap_or_default() {
        grid.row(&name.replace('_', " "), header_fields::text(value), "");
    }
}

/// More segments than this share a row, unless there is a remark on one.
const MOST_SEGMENT_ROWS: usize = 8;

fn files(grid: &mut Grid, cache_files: &CacheFiles) {
    grid.section("files");
    let is_ordinary =
        |file: &CacheFile| file.segment().is_some() && !file.staged && file.problem.is_none();
    let ordinary = cache_files
        .files()
        .iter()
        .filter(|file| is_ordinary(file))
        .count();
    let together = ordinary > MOST_SEGMENT_ROWS;
    let (mut total, mut len, mut allocated) = (0, 0, 0);
    for file in cache_files.files() {
        total += file.allocated;
        if together && is_ordinary(file) {
            (len, allocated) = (len + file.len, allocated + file.allocated);
            continue;
        }
        let mut note = format!("{} on the disk", units::bytes(file.allocated));
        if file.staged {
            note.push_str(", under a temporary name");
        }
        if let Some(fault) = file.problem {
            note.push_str(&format!(", but {fault}"));
        }
        grid.row(
            &header_fields::file_name(file),
            units::bytes(file.len),
            note,
        );
    }
    if together {
        let name = format!("{} segments", units::count(ordinary as u64));
        let note = format!("{} on the disk; see `map`", units::bytes(allocated));
        grid.row(&name, units::bytes(len), note);
    }
    grid.row("on the disk", units::bytes(total), "");
}

fn stats_value(stats: &Stats, disk: &DiskUsage) -> Map<String, Value> {
    let value = json!({
        "occupied": stats.occupied,
        "deleted": stats.deleted,
        "high_water_mark": stats.high_water_mark,
        "slots": stats.slots,
        "load": stats.load,
        "heap_bytes": stats.heap_bytes,
        "live_bytes": stats.live_bytes,
        "dead_bytes": stats.dead_bytes,
        "segments": stats.segments,
        "generation": stats.generation,
        "puts": stats.puts,
        "overwrites": stats.overwrites,
        "deletes": stats.deletes,
        "dropped": stats.dropped,
        "recoveries": stats.recoveries,
        "damaged_seen": stats.damaged_seen,
        "changes": stats.changes,
        "created_nanos": json_number::string(timestamp::to_nanos(stats.created)),
        "compacted_nanos": stats.compacted.map(|at| json_number::string(timestamp::to_nanos(at))),
        "writer": stats.writer,
        "sync_failed": stats.sync_failed,
        "append_only": stats.append_only,
        "in_place": stats.in_place,
        "disk": {
            "index": disk.index,
            "heap": disk.heap,
            "roster": disk.roster,
            "total": disk.total(),
        },
        "refused": null,
    });
    into_map(value)
}

/// Returns what the header alone contains, under the same names. It does not contain the number of
/// slots: free regions are not in it.
fn header_stats(cache_files: &CacheFiles) -> Map<String, Value> {
    let header = cache_files.state();
    into_map(json!({
        "occupied": header.map(|header| header.occupied),
        "deleted": header.map(|header| header.deleted),
        "high_water_mark": header.map(|header| header.high_water_mark),
        "slots": null,
        "heap_bytes": header.map(|header| header.heap_bytes()),
        "live_bytes": header.map(|header| header.live_bytes),
        "dead_bytes": header.map(|header| header.dead_bytes()),
        "generation": cache_files.header().map(|header| header.generation),
        "changes": header.map(|header| header.changes),
        "append_only": cache_files.header().map(|header| header.append_only),
        "in_place": cache_files.header().map(|header| header.in_place),
    }))
}

fn into_map(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}
