//! `metrics`: what caches are doing, for Prometheus.
//!
//! Knows which numbers there are and what they are called; how they are written, `exposition`
//! knows.

mod exposition;

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use mmapcache::inspect::{Anatomy, Changing, Holder};
use mmapcache::{DiskUsage, Stats};
use serde_json::{Map, Value};

use crate::failure::Failure;
use crate::output::{self, Output};
use crate::site::Site;
use crate::verdict::Verdict;
use crate::{key, staged};
use exposition::{Family, Kind, Sample};

/// By which a file is known as one that this command wrote, in either form.
const MARKS: [&str; 2] = ["# HELP mmapcache_up ", "[\n  {\n    \"cache\": "];

/// Which caches, and where their numbers go.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Caches, by the paths of their indexes; each becomes the label `cache` as it is written here, and
    /// one named twice counts once
    #[arg(required = true, value_name = "CACHE")]
    caches: Vec<PathBuf>,
    /// Write a file, whole or not at all, as node_exporter's textfile collector wants it
    ///
    /// A file of an earlier run is replaced; any other only with --force.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Print JSON instead: an object for each cache
    #[arg(long)]
    json: bool,
    /// Replace a file that this command did not write
    #[arg(long, requires = "output")]
    force: bool,
}

/// A cache's numbers.
struct Reading {
    label: String,
    numbers: Vec<Number>,
    verdict: Verdict,
}

/// A number by its name.
struct Number {
    name: &'static str,
    /// A further label, where several numbers share a name.
    part: Option<(&'static str, &'static str)>,
    value: f64,
}

/// Every name: what kind of number it is, and what it means.
const NAMES: &[(&str, Kind, &str)] = &[
    (
        "mmapcache_up",
        Kind::Gauge,
        "Whether the engine opens the cache.",
    ),
    (
        "mmapcache_implausible",
        Kind::Gauge,
        "Things in the headers that cannot be right.",
    ),
    ("mmapcache_entries", Kind::Gauge, "Live entries."),
    (
        "mmapcache_max_entries",
        Kind::Gauge,
        "Entries that the cache may hold; 0 for no limit.",
    ),
    (
        "mmapcache_deleted_slots",
        Kind::Gauge,
        "Slots of deleted entries that searches still pass.",
    ),
    (
        "mmapcache_slots",
        Kind::Gauge,
        "Slots of all regions in use.",
    ),
    (
        "mmapcache_load_ratio",
        Kind::Gauge,
        "Live entries by slots, from 0 to 1.",
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
        "Bytes of disk blocks, by the file's part in the cache.",
    ),
    (
        "mmapcache_generation",
        Kind::Gauge,
        "How often the whole cache was replaced, counted from 1.",
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
        "Whether a writer who is alive holds the lock.",
    ),
    (
        "mmapcache_unsynced",
        Kind::Gauge,
        "Whether there are changes that a power loss could take.",
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
        "Values stored over another one.",
    ),
    ("mmapcache_deletes_total", Kind::Counter, "Entries deleted."),
    (
        "mmapcache_dropped_total",
        Kind::Counter,
        "Damaged entries that were given up.",
    ),
    (
        "mmapcache_changes_total",
        Kind::Counter,
        "Changes of any kind.",
    ),
];

pub(crate) fn run(arguments: &Arguments, heap: Option<PathBuf>) -> Result<Verdict, Failure> {
    if heap.is_some() && arguments.caches.len() > 1 {
        let what = "--heap-path is one cache's: name a single cache with it";
        return Err(Failure::Request(what.to_owned()));
    }
    let mut readings: Vec<Reading> = Vec::new();
    for cache in &arguments.caches {
        let label = label(cache);
        if readings.iter().all(|reading| reading.label != label) {
            let site = Site {
                cache: cache.clone(),
                heap: heap.clone(),
            };
            readings.push(Reading::take(&site, label));
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
        Some(path) => staged::write(path, text.as_bytes(), &MARKS, arguments.force)?,
        None => {
            let mut out = Output::new();
            out.with(|out| out.write_all(text.as_bytes()))?;
            out.end()?;
        }
    }
    let worst = |one: Verdict, other| match (one, other) {
        (Verdict::Incomplete, _) | (_, Verdict::Incomplete) => Verdict::Incomplete,
        (Verdict::Wrong, _) | (_, Verdict::Wrong) => Verdict::Wrong,
        (Verdict::Fine, Verdict::Fine) => Verdict::Fine,
    };
    let verdicts = readings.iter().map(|reading| reading.verdict);
    Ok(verdicts.fold(Verdict::Fine, worst))
}

/// A path as a label, which is text: escaped as keys are, so that no two paths share one.
fn label(cache: &std::path::Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    key::show(cache.as_os_str().as_bytes())
}

/// The numbers by their names, as collectors want them.
fn families(readings: &[Reading]) -> Vec<Family<'_>> {
    let families = NAMES.iter().map(|&(name, kind, help)| {
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
    /// Looks at a cache. One that cannot be read is reported, and is down.
    fn take(site: &Site, label: String) -> Self {
        let mut numbers = Vec::new();
        let anatomy = site.anatomy();
        if let Ok(anatomy) = &anatomy {
            let faults = anatomy.overview().implausible.len();
            numbers.push(Number::new("mmapcache_implausible", faults as f64));
        }
        let engine = site
            .look()
            .and_then(|cache| Ok((cache.stats()?, cache.disk_usage()?)));
        let verdict = match (&anatomy, &engine) {
            (Ok(anatomy), Ok((stats, disk))) => {
                numbers.extend(by_engine(stats, disk));
                numbers.extend(by_header(anatomy));
                Verdict::wrong_if(!anatomy.overview().implausible.is_empty())
            }
            (Err(failure), _) | (_, Err(failure)) => {
                output::complain(failure);
                match failure.is_damage() {
                    true => Verdict::Wrong,
                    false => Verdict::Incomplete,
                }
            }
        };
        let up = anatomy.is_ok() && engine.is_ok();
        numbers.push(Number::new("mmapcache_up", f64::from(u8::from(up))));
        Self {
            label,
            numbers,
            verdict,
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
            // Whole numbers as such, as far as they are exact.
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

fn by_header(anatomy: &Anatomy) -> Vec<Number> {
    let overview = anatomy.overview();
    let header = overview.changing.as_ref();
    let of_header =
        |name, of: fn(&Changing) -> f64| header.map(|header| Number::new(name, of(header)));
    let limit = overview
        .sealed
        .as_ref()
        .map(|sealed| sealed.max_entries as f64);
    let held = anatomy.lock().map(|lock| lock.holder == Holder::Alive);
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

/// Seconds since 1970; 0 for never.
fn seconds(moment: Option<SystemTime>) -> f64 {
    let since = moment.and_then(|moment| moment.duration_since(UNIX_EPOCH).ok());
    since.unwrap_or_default().as_secs_f64()
}
