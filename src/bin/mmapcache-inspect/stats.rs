//! `stats`: how a cache is doing; or, where the engine refuses to open it, what can still be read
//! and why it refused.

mod full;

use std::os::unix::ffi::OsStrExt;
use std::time::SystemTime;

use mmapcache::inspect::{Anatomy, Companion, Holder, LockState, Overview, Role};
use mmapcache::{DiskUsage, Stats};
use serde_json::{Map, Value, json};

use crate::failure::Failure;
use crate::grid::Grid;
use crate::header::{self, Fields};
use crate::output::{self, Output};
use crate::site::Site;
use crate::verdict::Verdict;
use crate::{exact, key, moment, units, verify};
use full::Full;

/// What there is to say of a cache.
struct Picture {
    /// What the engine says, or why it refused.
    engine: Result<(Stats, DiskUsage), Failure>,
    anatomy: Anatomy,
    lock: Option<LockState>,
    full: Option<Full>,
}

pub(crate) fn run(site: &Site, full: bool, json: bool) -> Result<Verdict, Failure> {
    let mut picture = look(site)?;
    if full {
        picture.full = Some(Full::look(&picture.anatomy)?);
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

/// The statistics of a cache, as a table.
pub(crate) fn text(site: &Site) -> Result<String, Failure> {
    Ok(look(site)?.text())
}

fn look(site: &Site) -> Result<Picture, Failure> {
    let engine = site
        .look()
        .and_then(|cache| Ok((cache.stats()?, cache.disk_usage()?)));
    match site.anatomy() {
        Ok(anatomy) => Ok(Picture {
            engine,
            // What the system does not tell is left out.
            lock: anatomy.lock().ok(),
            anatomy,
            full: None,
        }),
        // Without headers there is nothing to show, and the engine's own words are the better ones.
        Err(failure @ Failure::NoCache { .. }) => Err(failure),
        Err(failure) => Err(engine.err().unwrap_or(failure)),
    }
}

impl Picture {
    fn overview(&self) -> &Overview {
        self.anatomy.overview()
    }

    /// A refusal is reported as any failure is, after all that could be shown.
    fn end(self) -> Result<Verdict, Failure> {
        let implausible = !self.overview().implausible.is_empty();
        match self.engine {
            Ok(_) => Ok(Verdict::wrong_if(implausible)),
            Err(failure) if implausible && !failure.is_damage() => {
                output::complain(&failure);
                Ok(Verdict::Wrong)
            }
            Err(failure) => Err(failure),
        }
    }

    fn text(&self) -> String {
        let mut grid = Grid::new();
        match &self.engine {
            Ok((stats, _)) => {
                table(&mut grid, stats, self.overview());
                history(&mut grid, stats, self.overview());
                state(&mut grid, stats, self.overview(), self.lock.as_ref());
            }
            Err(_) => {
                fields(&mut grid, "header", header::sealed(self.overview()));
                fields(&mut grid, "counters", header::changing(self.overview()));
            }
        }
        files(&mut grid, self.overview());
        if let Some(full) = &self.full {
            full.rows(&mut grid);
        }
        let path = key::show(self.overview().path.as_os_str().as_bytes());
        let mut text = format!("{path}\n");
        if let Err(failure) = &self.engine {
            text.push_str("the engine refuses to open it: ");
            text.push_str(&output::chain(failure));
            text.push_str("\nwhat its files say all the same, some of it wrong perhaps:\n");
        }
        text.push('\n');
        text.push_str(&grid.text());
        if !self.overview().implausible.is_empty() {
            text.push_str("\n\nimplausible");
        }
        for fault in &self.overview().implausible {
            text.push_str("\n  ");
            text.push_str(&verify::fault_line(fault));
        }
        text
    }

    fn value(&self) -> Value {
        let mut value = match &self.engine {
            Ok((stats, disk)) => stats_value(stats, disk),
            Err(failure) => {
                let mut value = remains(self.overview());
                value.insert("refused".to_owned(), output::chain(failure).into());
                value
            }
        };
        let overview = self.overview();
        let path = overview.path.to_string_lossy();
        let header = json!({
            "sealed": header::object(header::sealed(overview)),
            "changing": header::object(header::changing(overview)),
            "steady": overview.steady,
        });
        value.insert("path".to_owned(), path.into());
        value.insert("header".to_owned(), header);
        value.insert("files".to_owned(), header::files(&overview.files));
        let implausible = verify::fault_values(&overview.implausible);
        value.insert("implausible".to_owned(), implausible);
        value.insert("lock".to_owned(), self.lock.as_ref().map(lock_value).into());
        let full = self.full.as_ref().map_or(Value::Null, Full::value);
        value.insert("full".to_owned(), full);
        value.into()
    }
}

fn table(grid: &mut Grid, stats: &Stats, overview: &Overview) {
    grid.section("table");
    grid.row("entries", units::count(stats.occupied), "");
    grid.row("deleted slots", units::count(stats.deleted), "");
    let load = format!("{} of them hold entries", units::percent(stats.load));
    grid.row("slots", units::count(stats.slots), load);
    let most = units::count(stats.high_water_mark);
    grid.row("slots ever used", most, "");
    if let Some(header) = &overview.changing {
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

fn history(grid: &mut Grid, stats: &Stats, overview: &Overview) {
    grid.section("history");
    grid.row("generation", units::count(stats.generation), "");
    let created = moment::show(stats.created);
    grid.row("created", created, ago(Some(stats.created)));
    let compacted = stats.compacted.map_or("never".to_owned(), moment::show);
    grid.row("rebuilt or compacted", compacted, ago(stats.compacted));
    // Numbers in the place of versions are no moments.
    let numbered = overview
        .sealed
        .as_ref()
        .is_some_and(|it| it.record_variant == 2);
    if let Some(header) = overview.changing.as_ref().filter(|_| !numbered) {
        let written = header.last_write.map_or("never".to_owned(), moment::show);
        grid.row("last write", written, ago(header.last_write));
    }
    let overwrites = format!("{} of them overwrites", units::count(stats.overwrites));
    grid.row("puts", units::count(stats.puts), overwrites);
    grid.row("deletes", units::count(stats.deletes), "");
    let dropped = "entries given up as damaged";
    grid.row("dropped", units::count(stats.dropped), dropped);
    grid.row("changes", units::count(stats.changes), "");
}

/// How long ago a moment was.
fn ago(moment: Option<SystemTime>) -> String {
    let age = moment.and_then(|moment| SystemTime::now().duration_since(moment).ok());
    age.map_or_else(String::new, |age| {
        format!("{} ago", units::span(age.as_secs()))
    })
}

fn state(grid: &mut Grid, stats: &Stats, overview: &Overview, lock: Option<&LockState>) {
    grid.section("state");
    let yes_no = |yes| if yes { "yes" } else { "no" };
    grid.row("append-only", yes_no(stats.append_only), "");
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
        grid.row("writer lock", holder(lock.holder), format!("{by}{waiting}"));
    }
    if let Some(header) = &overview.changing {
        let note = "changes that a power loss could take";
        grid.row("unsynced", yes_no(header.dirty), note);
        let note = "a writer is at work, or was killed at it";
        grid.row("change under way", yes_no(header.pending.is_some()), note);
    }
    let failed = if stats.sync_failed { "FAILED" } else { "no" };
    grid.row("failed sync", failed, "");
}

fn holder(holder: Holder) -> &'static str {
    match holder {
        Holder::Nobody => "free",
        Holder::Alive => "held",
        Holder::Dead => "held by a dead one",
        _ => "unknown",
    }
}

pub(crate) fn lock_value(lock: &LockState) -> Value {
    json!({
        "by_word": lock.by_word,
        "holder": match lock.holder {
            Holder::Nobody => "nobody",
            Holder::Alive => "alive",
            Holder::Dead => "dead",
            _ => "unknown",
        },
        "number": lock.number,
        "next": lock.next,
        "awaited": lock.awaited,
        "process": lock.process,
    })
}

fn fields(grid: &mut Grid, title: &str, fields: Option<Fields>) {
    grid.section(title);
    for (name, value) in fields.unwrap_or_default() {
        let text = match value {
            Value::String(text) => text,
            Value::Null => "none".to_owned(),
            other => other.to_string(),
        };
        grid.row(&name.replace('_', " "), text, "");
    }
}

/// Segments of which nothing is to be told share a row where there are more than so many.
const SEGMENTS_BY_THEMSELVES: usize = 8;

fn files(grid: &mut Grid, overview: &Overview) {
    grid.section("files");
    let is_ordinary = |file: &Companion| {
        matches!(file.role, Role::Segment(_)) && !file.staged && file.fault.is_none()
    };
    let ordinary = overview
        .files
        .iter()
        .filter(|file| is_ordinary(file))
        .count();
    let together = ordinary > SEGMENTS_BY_THEMSELVES;
    let (mut total, mut len, mut allocated) = (0, 0, 0);
    for file in &overview.files {
        total += file.allocated;
        if together && is_ordinary(file) {
            (len, allocated) = (len + file.len, allocated + file.allocated);
            continue;
        }
        let mut note = format!("{} on the disk", units::bytes(file.allocated));
        if file.staged {
            note.push_str(", under a preliminary name");
        }
        if let Some(fault) = file.fault {
            note.push_str(&format!(", but {fault}"));
        }
        grid.row(&header::role(file.role), units::bytes(file.len), note);
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
        "damaged_seen": stats.damaged_seen,
        "changes": stats.changes,
        "created_nanos": exact::wide(moment::nanos(stats.created)),
        "compacted_nanos": stats.compacted.map(|at| exact::wide(moment::nanos(at))),
        "writer": stats.writer,
        "sync_failed": stats.sync_failed,
        "append_only": stats.append_only,
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

/// What the header alone says under the same names. Slots it does not: which regions are free
/// stands elsewhere.
fn remains(overview: &Overview) -> Map<String, Value> {
    let header = overview.changing.as_ref();
    into_map(json!({
        "occupied": header.map(|header| header.occupied),
        "deleted": header.map(|header| header.deleted),
        "high_water_mark": header.map(|header| header.high_water_mark),
        "slots": null,
        "heap_bytes": header.map(|header| header.heap_bytes()),
        "live_bytes": header.map(|header| header.live_bytes),
        "dead_bytes": header.map(|header| header.dead_bytes()),
        "generation": overview.sealed.as_ref().map(|header| header.generation),
        "changes": header.map(|header| header.changes),
        "append_only": overview.sealed.as_ref().map(|header| header.append_only),
    }))
}

fn into_map(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}
