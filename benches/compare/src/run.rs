//! Decides which store is measured when: rounds over all stores, with the limit before and after
//! each.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use crate::figures::Figures;
use crate::machine;
use crate::plan::{Size, Workload};
use crate::store::{Error, Result};
use crate::stores::{ALL, LIMIT, is_durable};

/// Entries of the stores that sync each write.
const DURABLE: u64 = 20_000;

#[derive(Args)]
pub(crate) struct Settings {
    /// Stores to measure; by default all that are compiled in.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Workloads; by default all at a million entries, and those of one process at other sizes.
    #[arg(long, value_enum, value_delimiter = ',')]
    workload: Vec<Workload>,
    /// Only this many entries.
    #[arg(long)]
    entries: Option<u64>,
    /// Bytes of each value, with `--entries`.
    #[arg(long, default_value_t = 100)]
    value: usize,
    /// Also 10 million entries, with the stores that are compared there.
    #[arg(long)]
    soak: bool,
    /// How often everything is measured; medians count.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Directory for the stores' files, on a real disk.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/target"))]
    dir: PathBuf,
    /// Reads the measurements of earlier runs from their files, and measures nothing.
    #[arg(long, value_delimiter = ',')]
    render: Vec<PathBuf>,
    /// Also writes tables and charts to docs/.
    #[arg(long)]
    pub(crate) write: bool,
}

/// One store at one size in one round.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) store: String,
    pub(crate) size: Size,
    pub(crate) figures: Figures,
    /// The mean of the limit before and after the store.
    pub(crate) limit: Figures,
    pub(crate) error: Option<String>,
}

struct Series {
    size: Size,
    stores: Vec<String>,
    workload: Vec<Workload>,
}

/// All of one run.
#[derive(Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) machine: String,
    /// The compared libraries and their versions.
    pub(crate) versions: String,
    pub(crate) records: Vec<Record>,
}

pub(crate) fn run(settings: &Settings) -> Result<Run> {
    if let [first, others @ ..] = settings.render.as_slice() {
        let mut run: Run = serde_json::from_slice(&fs::read(first)?)?;
        for other in others {
            let other: Run = serde_json::from_slice(&fs::read(other)?)?;
            run.records.extend(other.records);
        }
        return Ok(run);
    }
    fs::create_dir_all(&settings.dir)?;
    machine::on_a_disk(&settings.dir)?;
    let scratch = tempfile::Builder::new()
        .prefix("compare-")
        .tempdir_in(&settings.dir)?;
    let file = settings.dir.join("compare.json");
    let mut run = Run {
        machine: machine::describe(&settings.dir),
        versions: env!("VERSIONS").to_owned(),
        records: Vec::new(),
    };
    for round in 1..=settings.rounds {
        for series in series(settings)? {
            eprintln!("round {round}, {} entries", series.size.entries);
            one_round(&series, scratch.path(), &mut run.records)?;
            fs::write(&file, serde_json::to_vec(&run)?)?;
        }
    }
    eprintln!("all figures are in {}", file.display());
    Ok(run)
}

fn series(settings: &Settings) -> Result<Vec<Series>> {
    use Workload::{Batch, Change, Latency, Load, Processes, Read, Reopen, Space, Threads};
    let every = [
        Load, Batch, Read, Change, Space, Reopen, Threads, Processes, Latency,
    ];
    let alone = [Load, Batch, Read, Change, Space, Reopen];
    let size = |entries, value| Size { entries, value };
    let sizes: Vec<(Size, &[Workload])> = match settings.entries {
        Some(entries) => vec![(size(entries, settings.value), &every)],
        None => vec![
            (size(1_000_000, 100), &every),
            (size(100_000, 100), &alone),
            (size(200_000, 1024), &alone),
        ],
    };
    let rivals: Vec<&str> = ALL.iter().map(|(name, _)| *name).skip(1).collect();
    for name in &settings.only {
        if !ALL.iter().any(|(known, _)| known == name) {
            return Err(Error::Failed(format!(
                "no store `{name}` was compiled in; there are {LIMIT}, {}",
                rivals.join(", ")
            )));
        }
    }
    let wanted =
        |name: &&str| settings.only.is_empty() || settings.only.iter().any(|only| only == name);
    let chosen = |names: &[&str]| {
        names
            .iter()
            .copied()
            .filter(wanted)
            .map(str::to_owned)
            .collect()
    };
    let make = |size, workload: &[Workload], names: &[&str]| Series {
        size,
        stores: chosen(names),
        workload: match settings.workload.as_slice() {
            [] => workload.to_vec(),
            asked => asked.to_vec(),
        },
    };
    // A store that syncs each write is compared with others that do, at a size that does not take
    // hours.
    let is_named = |name: &str| settings.only.iter().any(|only| only == name);
    let (durable, cached): (Vec<&str>, Vec<&str>) = rivals
        .iter()
        .partition(|name| is_durable(name) && !(settings.entries.is_some() && is_named(name)));
    let mut all: Vec<_> = sizes
        .into_iter()
        .map(|(size, workload)| make(size, workload, &cached))
        .collect();
    if settings.entries.is_none() {
        let workload = [Load, Batch, Read, Change, Space, Reopen, Processes];
        all.push(make(size(DURABLE, 100), &workload, &durable));
    }
    all.retain(|series| !series.stores.is_empty());
    if settings.soak {
        let few: Vec<&str> = cached
            .iter()
            .copied()
            .filter(|name| name.starts_with("mmapcache") || *name == "lmdb")
            .collect();
        all.push(make(size(10_000_000, 100), &every, &few));
    }
    Ok(all)
}

fn one_round(series: &Series, scratch: &Path, records: &mut Vec<Record>) -> Result<()> {
    let limit = |workload: &[Workload], records: &mut Vec<Record>| -> Result<Figures> {
        let figures = measured(LIMIT, series.size, workload, scratch)?;
        records.push(Record {
            store: LIMIT.to_owned(),
            size: series.size,
            figures: figures.clone(),
            limit: Figures::default(),
            error: None,
        });
        Ok(figures)
    };
    // The limit is measured again after each store.
    let compared: Vec<_> = series
        .workload
        .iter()
        .copied()
        .filter(|workload| workload.has_a_limit())
        .collect();
    let mut before = limit(&series.workload, records)?;
    for store in &series.stores {
        let result = measured(store, series.size, &series.workload, scratch);
        let after = limit(&compared, records)?;
        let (figures, error) = match result {
            Ok(figures) => (figures, None),
            Err(Error::Failed(reason)) => (Figures::default(), Some(reason)),
            Err(error) => return Err(error),
        };
        records.push(Record {
            store: store.clone(),
            size: series.size,
            figures,
            limit: before.mean(&after),
            error,
        });
        before = after;
    }
    Ok(())
}

/// Runs all workloads on one store, in as few processes as they allow.
fn measured(store: &str, size: Size, workload: &[Workload], scratch: &Path) -> Result<Figures> {
    let (alone, together): (Vec<_>, Vec<_>) = workload
        .iter()
        .copied()
        .partition(|workload| workload.stands_alone());
    let mut figures = Figures::default();
    let processes = std::iter::once(together).chain(alone.into_iter().map(|one| vec![one]));
    for workload in processes.filter(|workload| !workload.is_empty()) {
        let dir = scratch.join(store);
        fs::create_dir_all(&dir)?;
        let result = in_a_process(store, size, &workload, &dir);
        // The files of a failed run must not affect the next one.
        fs::remove_dir_all(&dir)?;
        figures.0.extend(result?.0);
    }
    Ok(figures)
}

fn in_a_process(store: &str, size: Size, workload: &[Workload], dir: &Path) -> Result<Figures> {
    let names: Vec<String> = workload
        .iter()
        .filter_map(ValueEnum::to_possible_value)
        .map(|name| name.get_name().to_owned())
        .collect();
    eprintln!("  {store}: {}", names.join(", "));
    let output = Command::new("/proc/self/exe")
        .args(["measure", "--store", store])
        .args(["--entries", &size.entries.to_string()])
        .args(["--value", &size.value.to_string()])
        .args(["--workload", &names.join(",")])
        .arg("--dir")
        .arg(dir)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err(Error::Failed(format!("{store} failed: {}", output.status)));
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}
