//! The key figures at the top of a report.

use std::time::SystemTime;

use mmapcache::inspect::{IndexState, LockState};

use super::findings::Findings;
use crate::cache_figures::{self, CacheFigures};
use crate::{lock_status, timestamp, units};

/// A number and a note.
#[derive(Debug)]
pub(super) struct Figure {
    pub(super) label: &'static str,
    pub(super) value: String,
    pub(super) note: String,
}

fn figure(label: &'static str, value: String, note: impl Into<String>) -> Figure {
    Figure {
        label,
        value,
        note: note.into(),
    }
}

/// Returns all figures.
pub(super) fn all(found: &Findings) -> Vec<Figure> {
    let mut figures = Vec::new();
    if let Some(header) = found.header() {
        figures.extend(contents(found, header));
    }
    if let Some(cache) = cache_figures::of(&found.cache_files) {
        figures.extend(of_cache(&cache));
    }
    figures.push(disk(found));
    if let Some(header) = found.header() {
        figures.extend(history(found, header));
    }
    if let Some(lock) = &found.lock {
        figures.push(writer(lock));
    }
    figures
}

fn contents(found: &Findings, header: &IndexState) -> Vec<Figure> {
    let limit = found.sealed().map_or(0, |sealed| sealed.max_entries);
    let limit = match limit {
        0 => "no limit".to_owned(),
        limit => format!("at most {}", units::count(limit)),
    };
    let mut figures = vec![figure("Entries", units::count(header.occupied), limit)];
    if let Ok(scan) = &found.scan {
        let load = scan.index.entries as f64 / scan.index.slots().max(1) as f64;
        let slots = format!("of {} slots in use", units::count(scan.index.slots()));
        figures.push(figure("Load", units::percent(load), slots));
    }
    let live = header.live_bytes;
    let dead = match &found.scan {
        // The headers of segments are not dead bytes, although cleaning counts them.
        Ok(scan) => scan.segments.iter().map(|segment| segment.dead_bytes).sum(),
        Err(_) => header.dead_bytes(),
    };
    let all = live.saturating_add(dead).max(1);
    let share = |part: u64| format!("{} of the heap", units::percent(part as f64 / all as f64));
    figures.push(figure("Live", units::bytes(live), share(live)));
    figures.push(figure("Dead", units::bytes(dead), share(dead)));
    figures
}

/// Returns the figures that only a `Cache` has.
fn of_cache(cache: &CacheFigures) -> Vec<Figure> {
    let counts = &cache.counts;
    let ratio = counts
        .hit_ratio()
        .map_or("none yet".to_owned(), units::percent);
    let lookups = format!("of {} look-ups", units::count(counts.lookups()));
    let evicted = counts.evicted_size.saturating_add(counts.evicted_number);
    let causes = format!(
        "{} to keep the bytes, {} the number",
        units::count(counts.evicted_size),
        units::count(counts.evicted_number)
    );
    let limit = match &cache.settings {
        None => "corrupt".to_owned(),
        Some(settings) => settings.max_bytes.map_or("none".to_owned(), units::bytes),
    };
    let expired = format!("{} invalidated", units::count(counts.invalidated));
    vec![
        figure("Hits", ratio, lookups),
        figure("Evicted", units::count(evicted), causes),
        figure("Expired", units::count(counts.expired), expired),
        figure("Limit of bytes", limit, "see `stats` for all settings"),
    ]
}

/// Returns bytes on the disk of index, heap and roster.
pub(super) fn disk_bytes(found: &Findings) -> [u64; 3] {
    let mut sums = [0_u64; 3];
    for file in found.cache_files.files() {
        let sum = match file.kind() {
            "index" => 0,
            "segment" => 1,
            "roster" => 2,
            _ => continue,
        };
        sums[sum] = sums[sum].saturating_add(file.allocated);
    }
    sums
}

fn disk(found: &Findings) -> Figure {
    let [index, heap, roster] = disk_bytes(found);
    let total = units::bytes(index.saturating_add(heap).saturating_add(roster));
    let [index, heap, roster] = [index, heap, roster].map(units::bytes);
    let note = format!("index {index}, heap {heap}, roster {roster}");
    figure("On the disk", total, note)
}

fn history(found: &Findings, header: &IndexState) -> Vec<Figure> {
    let ago = |moment| span_between(moment, found.taken);
    let mut figures = Vec::new();
    if let Some(sealed) = found.sealed() {
        let created = format!("created {}", timestamp::format(sealed.created));
        figures.push(figure("Age", ago(sealed.created), created));
        let replaced = match header.compacted {
            Some(at) => format!("the last on {}", timestamp::format(at)),
            None => "never rebuilt".to_owned(),
        };
        let generation = units::count(sealed.generation);
        figures.push(figure("Generation", generation, replaced));
    }
    figures.push(match header.last_write {
        Some(at) => figure(
            "Last write",
            format!("{} ago", ago(at)),
            timestamp::format(at),
        ),
        None => figure("Last write", "never".to_owned(), ""),
    });
    let overwrites = format!("{} of them overwrites", units::count(header.overwrites));
    figures.push(figure("Puts", units::count(header.puts), overwrites));
    let dropped = format!("{} damaged ones were removed", units::count(header.dropped));
    figures.push(figure("Deletes", units::count(header.deletes), dropped));
    let (value, note) = match (header.sync_failed, header.dirty) {
        (true, _) => ("failed", "a sync failed"),
        (false, true) => ("not yet", "a power loss can undo changes"),
        (false, false) => ("yes", "all changes are on the disk"),
    };
    figures.push(figure("Synced", value.to_owned(), note));
    figures
}

fn span_between(from: SystemTime, to: SystemTime) -> String {
    units::span(to.duration_since(from).unwrap_or_default().as_secs())
}

fn writer(lock: &LockState) -> Figure {
    let (value, note) = lock_status::describe(lock);
    figure("Writer lock", value, note)
}
