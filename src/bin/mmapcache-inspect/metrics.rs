//! `metrics`: numbers of caches for Prometheus.
//!
//! `exposition` has the text format.

mod exposition;

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use mmapcache::inspect::{CacheFiles, IndexState};
use mmapcache::{CacheCounts, DiskUsage, Stats};
use serde_json::{Map, Value};

use crate::cache_figures::{self, CacheFigures};
use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use crate::location::Location;
use crate::output::{self, Output};
use crate::{atomic_file, key};
use exposition::{Family, Kind, Sample};

/// Marks of files that this command wrote, in either form.
const MARKS: [&str; 2] = ["# HELP mmapcache_up ", "[\n  {\n    \"cache\": "];

/// The caches, and where their numbers go.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Caches, by the paths of their indexes; each path is the value of the label `cache`, and one
    /// given twice is shown once
    #[arg(required = true, value_name = "CACHE")]
    caches: Vec<PathBuf>,
    /// Write a file atomically, as the textfile collector of node_exporter requires
    ///
    /// Replaces a file of an earlier run; any other file only with --force.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Print JSON instead: an object for each cache
    #[arg(long)]
    json: bool,
    /// Replace a file that this command did not write
    #[arg(long, requires = "output")]
    force: bool,
}

/// The numbers of a cache.
struct Reading {
    label: String,
    numbers: Vec<Number>,
    status: ExitStatus,
}

/// A number and its name.
struct Number {
    name: &'static str,
    /// A further label, if several numbers share a name.
    part: Option<(&'static str, &'static str)>,
    value: f64,
}

/// All names with their kinds and descriptions, except those of `CacheCounts::metrics`.
const NAMES: &[(&str, Kind, &str)] = &[
    (
        "mmapcache_up",
        Kind::Gauge,
        "Whether the cache can be opened.",
    ),
    (
        "mmapcache_implausible",
        Kind::Gauge,
        "Problems in the headers.",
    ),
    ("mmapcache_entries", Kind::Gauge, "Live entries."),
    (
        "mmapcache_max_entries",
        Kind::Gauge,
        "The limit of entries; 0 for none.",
    ),
    (
        "mmapcache_deleted_slots",
        Kind::Gauge,
        "Slots of deleted entries that searches still probe.",
    ),
    (
        "mmapcache_slots",
        Kind::Gauge,
        "Slots of all regions in use.",
    ),
    (
        "mmapcache_load_ratio",
        Kind::Gauge,
        "Live entries divided by slots, from 0 to 1.",
    ),
    (
        "mmapcache_regions",
        Kind::Gauge,
        "Regions of the index, free ones included.",
    ),
    (
        "mmapcache_heap_bytes",
        Kind::Gauge,
        "Bytes of the heap up to its end, in all segments.",
    ),
    (
        "mmapcache_heap_live_bytes",
        Kind::Gauge,
        "Heap bytes of live entries.",
    ),
    (
        "mmapcache_heap_dead_bytes",
        Kind::Gauge,
        "Heap bytes that cleaning reclaims.",
    ),
    (
        "mmapcache_heap_segments",
        Kind::Gauge,
        "Segments of the heap.",
    ),
    (
        "mmapcache_disk_bytes",
        Kind::Gauge,
        "Bytes of disk blocks, by kind of file.",
    ),
    (
        "mmapcache_generation",
        Kind::Gauge,
        "How often the whole cache was replaced, counting from 1.",
    ),
    (
        "mmapcache_created_timestamp_seconds",
        Kind::Gauge,
        "When the cache was created.",
    ),
    (
        "mmapcache_rebuilt_timestamp_seconds",
        Kind::Gauge,
        "When the cache was last rebuilt or compacted as a whole; 0 if never.",
    ),
    (
        "mmapcache_last_write_timestamp_seconds",
        Kind::Gauge,
        "When an entry was last written; 0 if never.",
    ),
    (
        "mmapcache_locked",
        Kind::Gauge,
        "Whether a live process holds the writer lock.",
    ),
    (
        "mmapcache_unsynced",
        Kind::Gauge,
        "Whether a power loss could undo changes.",
    ),
    (
        "mmapcache_sync_failed",
        Kind::Gauge,
        "Whether an earlier sync failed.",
    ),
    (
        "mmapcache_puts_total",
        Kind::Counter,
        "Values stored since the cache was created, overwrites included.",
    ),
    (
        "mmapcache_overwrites_total",
        Kind::Counter,
        "Values that replaced another one.",
    ),
    ("mmapcache_deletes_total", Kind::Counter, "Entries deleted."),
    (
        "mmapcache_dropped_total",
        Kind::Counter,
        "Damaged entries that were removed.",
    ),
    (
        "mmapcache_changes_total",
        Kind::Counter,
        "Changes of any kind.",
    ),
    (
        "mmapcache_cache_max_bytes",
        Kind::Gauge,
        "The bytes of disk that a `Cache` may take; 0 for no limit.",
    ),
    (
        "mmapcache_cache_max_entries",
        Kind::Gauge,
        "The entries that a `Cache` may have; 0 for no limit.",
    ),
];

pub(crate) fn run(arguments: &Arguments, heap: Option<PathBuf>) -> Result<ExitStatus, Failure> {
    if heap.is_some() && arguments.caches.len() > 1 {
        let what = "--heap-path applies to one cache: name a single cache with it";
        return Err(Failure::Request(what.to_owned()));
    }
    let mut readings: Vec<Reading> = Vec::new();
    for cache in &arguments.caches {
        let label = label(cache);
        if readings.iter().all(|reading| reading.label != label) {
            let location = Location {
                cache: cache.clone(),
                heap: heap.clone(),
            };
            readings.push(Reading::take(&location, label));
        }
    }
    let text = match arguments.json {
        true => format!(
            "{:#}\n",
            readings.iter().map(Reading::value).collect::<Value>()
        ),
        false => exposition::text(&families(&readings)),
    };
    match &arguments.output {
        Some(path) => atomic_file::write(path, text.as_bytes(), &MARKS, arguments.force)?,
        None => {
            let mut out = Output::new();
            out.with(|out| out.write_all(text.as_bytes()))?;
            out.end()?;
        }
    }
    let worst = |one: ExitStatus, other| match (one, other) {
        (ExitStatus::Incomplete, _) | (_, ExitStatus::Incomplete) => ExitStatus::Incomplete,
        (ExitStatus::Problems, _) | (_, ExitStatus::Problems) => ExitStatus::Problems,
        (ExitStatus::Success, ExitStatus::Success) => ExitStatus::Success,
    };
    let statuses = readings.iter().map(|reading| reading.status);
    Ok(statuses.fold(ExitStatus::Success, worst))
}

/// Returns a path as a label, escaped like a key, so that different paths have different labels.
fn label(cache: &std::path::Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    key::show(cache.as_os_str().as_bytes())
}

/// Groups the numbers by name, as the text format requires.
fn families(readings: &[Reading]) -> Vec<Family<'_>> {
    let mut counted: Vec<_> = CacheCounts::default()
        .metrics()
        .map(|metric| (metric.name, Kind::Counter, metric.help))
        .collect();
    counted.dedup_by_key(|(name, ..)| *name);
    let families = NAMES.iter().copied().chain(counted);
    let families = families.map(|(name, kind, help)| {
        let samples = readings.iter().flat_map(|reading| {
            let named = reading
                .numbers
                .iter()
                .filter(move |number| number.name == name);
            named.map(|number| Sample {
                labels: [("cache", reading.label.as_str())]
                    .into_iter()
                    .chain(number.part)
                    .collect(),
                value: number.value,
            })
        });
        Family {
            name,
            kind,
            help,
            samples: samples.collect(),
        }
    });
    families.collect()
}

impl Reading {
    /// Reads the numbers of a cache. Reports an error, and marks that cache as down.
    fn take(location: &Location, label: String) -> Self {
        let mut numbers = Vec::new();
        let cache_files = location.open_files();
        if let Ok(cache_files) = &cache_files {
            let faults = cache_files.problems().len();
            numbers.push(Number::new("mmapcache_implausible", faults as f64));
        }
        let engine = location
            .open_read_only()
            .and_then(|cache| Ok((cache.stats()?, cache.disk_usage()?)));
        let status = match (&cache_files, &engine) {
            (Ok(cache_files), Ok((stats, disk))) => {
                numbers.extend(by_engine(stats, disk));
                numbers.extend(by_header(cache_files));
                let figures = cache_figures::of(cache_files);
                numbers.extend(figures.iter().flat_map(of_cache));
                ExitStatus::problems_if(!cache_files.problems().is_empty())
            }
            (Err(failure), _) | (_, Err(failure)) => {
                output::report_error(failure);
                match failure.is_damage() {
                    true => ExitStatus::Problems,
                    false => ExitStatus::Incomplete,
                }
            }
        };
        let up = cache_files.is_ok() && engine.is_ok();
        numbers.push(Number::new("mmapcache_up", f64::from(u8::from(up))));
        Self {
            label,
            numbers,
            status,
        }
    }

    fn value(&self) -> Value {
        let mut object = Map::new();
        object.insert("cache".to_owned(), self.label.as_str().into());
        for number in &self.numbers {
            let name = match number.part {
                Some((_, part)) => format!("{}_{part}", number.name),
                None => number.name.to_owned(),
            };
            // Integers are shown without a fraction.
            let value = match number.value {
                whole if whole.fract() == 0.0 => (whole as u64).into(),
                other => other.into(),
            };
            object.insert(name, value);
        }
        object.into()
    }
}

impl Number {
    fn new(name: &'static str, value: f64) -> Self {
        Self {
            name,
            part: None,
            value,
        }
    }
}

fn by_engine(stats: &Stats, disk: &DiskUsage) -> Vec<Number> {
    let mut numbers: Vec<Number> = [
        ("mmapcache_entries", stats.occupied),
        ("mmapcache_deleted_slots", stats.deleted),
        ("mmapcache_slots", stats.slots),
        ("mmapcache_heap_bytes", stats.heap_bytes),
        ("mmapcache_heap_live_bytes", stats.live_bytes),
        ("mmapcache_heap_dead_bytes", stats.dead_bytes),
        ("mmapcache_heap_segments", stats.segments),
        ("mmapcache_generation", stats.generation),
        ("mmapcache_sync_failed", stats.sync_failed.into()),
        ("mmapcache_puts_total", stats.puts),
        ("mmapcache_overwrites_total", stats.overwrites),
        ("mmapcache_deletes_total", stats.deletes),
        ("mmapcache_dropped_total", stats.dropped),
        ("mmapcache_changes_total", stats.changes),
    ]
    .into_iter()
    .map(|(name, value)| Number::new(name, value as f64))
    .collect();
    numbers.push(Number::new("mmapcache_load_ratio", stats.load));
    numbers.push(Number::new(
        "mmapcache_created_timestamp_seconds",
        seconds(Some(stats.created)),
    ));
    numbers.push(Number::new(
        "mmapcache_rebuilt_timestamp_seconds",
        seconds(stats.compacted),
    ));
    for (part, bytes) in [
        ("index", disk.index),
        ("heap", disk.heap),
        ("roster", disk.roster),
    ] {
        numbers.push(Number {
            part: Some(("file", part)),
            ..Number::new("mmapcache_disk_bytes", bytes as f64)
        });
    }
    numbers
}

fn by_header(cache_files: &CacheFiles) -> Vec<Number> {
    let header = cache_files.state();
    let of_header =
        |name, of: fn(&IndexState) -> f64| header.map(|header| Number::new(name, of(header)));
    let limit = cache_files.header().map(|header| header.max_entries as f64);
    let held = cache_files.lock().map(|lock| lock.is_held() == Some(true));
    [
        limit.map(|limit| Number::new("mmapcache_max_entries", limit)),
        of_header("mmapcache_regions", |header| header.regions as f64),
        of_header("mmapcache_last_write_timestamp_seconds", |header| {
            seconds(header.last_write)
        }),
        of_header("mmapcache_unsynced", |header| {
            f64::from(u8::from(header.dirty))
        }),
        held.ok()
            .map(|held| Number::new("mmapcache_locked", f64::from(u8::from(held)))),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Returns the numbers that only a `Cache` has.
fn of_cache(figures: &CacheFigures) -> Vec<Number> {
    let counts = &figures.counts;
    let mut numbers: Vec<_> = counts
        .metrics()
        .map(|metric| Number {
            part: metric.labels.first().copied(),
            ..Number::new(metric.name, metric.value as f64)
        })
        .collect();
    if let Some(settings) = &figures.settings {
        let limit = |limit: Option<u64>| limit.unwrap_or(0) as f64;
        let bytes = limit(settings.max_bytes);
        numbers.push(Number::new("mmapcache_cache_max_bytes", bytes));
        let entries = limit(settings.max_entries);
        numbers.push(Number::new("mmapcache_cache_max_entries", entries));
    }
    numbers
}

/// Returns seconds since 1970; 0 for never.
fn seconds(time: Option<SystemTime>) -> f64 {
    let since = time.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    since.unwrap_or_default().as_secs_f64()
}
