//! Decides which store is measured when: rounds over all series, with the limit before and after
//! each store.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use crate::figures::Figures;
use crate::goals::{self, Choice, Group};
use crate::machine;
use crate::plan::{Size, Workload};
use crate::series::{self, Asked, Series};
use crate::store::{Error, Result};
use crate::stores::LIMIT;

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
    /// Measures only what these goals need, and prints which are met; by default those for reading.
    #[arg(
        long,
        value_enum,
        num_args = 0..=1,
        default_missing_value = "reading",
        conflicts_with_all = ["only", "workload", "entries", "soak"],
    )]
    goals: Option<Group>,
    /// The same for the goals with these names, of either group; a wrong name lists all.
    #[arg(long, value_delimiter = ',', conflicts_with_all = ["only", "workload", "entries", "soak"])]
    only_goal: Vec<String>,
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

impl Settings {
    /// Returns the goals to measure; `None` if stores and sizes are chosen instead.
    pub(crate) fn chosen_goals(&self) -> Option<Choice<'_>> {
        match self.only_goal.as_slice() {
            [] => self.goals.map(Choice::Group),
            names => Some(Choice::Named(names)),
        }
    }
}

/// One store at one size in one round.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) store: String,
    pub(crate) size: Size,
    pub(crate) round: u32,
    pub(crate) figures: Figures,
    /// The mean of the limit before and after the store.
    pub(crate) limit: Figures,
    pub(crate) error: Option<String>,
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
            let mut other: Run = serde_json::from_slice(&fs::read(other)?)?;
            // Rounds of different runs are different rounds.
            let before = run.records.iter().map(|record| record.round).max();
            for record in &mut other.records {
                record.round += before.unwrap_or_default();
            }
            run.records.extend(other.records);
        }
        return Ok(run);
    }
    fs::create_dir_all(&settings.dir)?;
    machine::on_a_disk(&settings.dir)?;
    let scratch = tempfile::Builder::new()
        .prefix("compare-")
        .tempdir_in(&settings.dir)?;
    let name = match settings.chosen_goals() {
        Some(_) => "goals.json",
        None => "compare.json",
    };
    let file = settings.dir.join(name);
    let mut run = Run {
        machine: machine::describe(&settings.dir),
        versions: env!("VERSIONS").to_owned(),
        records: Vec::new(),
    };
    let all = series(settings)?;
    for round in 1..=settings.rounds {
        for series in &all {
            let Size { entries, value } = series.size;
            eprintln!("round {round}, {entries} entries of {value} bytes");
            one_round(series, round, scratch.path(), &mut run.records)?;
            fs::write(&file, serde_json::to_vec(&run)?)?;
        }
    }
    eprintln!("all figures are in {}", file.display());
    Ok(run)
}

fn series(settings: &Settings) -> Result<Vec<Series>> {
    if let Some(choice) = settings.chosen_goals() {
        return goals::series(choice);
    }
    series::asked_for(&Asked {
        only: &settings.only,
        workload: &settings.workload,
        size: settings.entries.map(|entries| Size {
            entries,
            value: settings.value,
        }),
        soak: settings.soak,
    })
}

/// Measures a series, with the limit before and after each store if it has one.
fn one_round(series: &Series, round: u32, scratch: &Path, records: &mut Vec<Record>) -> Result<()> {
    let record = |store: &str, figures, limit, error| Record {
        store: store.to_owned(),
        size: series.size,
        round,
        figures,
        limit,
        error,
    };
    let compared: Vec<_> = series
        .workload
        .iter()
        .copied()
        .filter(|workload| workload.has_a_limit())
        .collect();
    let limit = |workload: &[Workload], records: &mut Vec<Record>| -> Result<Figures> {
        if !series.limit {
            return Ok(Figures::default());
        }
        let figures = measured(LIMIT, series, workload, scratch)?;
        records.push(record(LIMIT, figures.clone(), Figures::default(), None));
        Ok(figures)
    };
    let mut before = limit(&series.workload, records)?;
    for store in &series.stores {
        let result = measured(store, series, &series.workload, scratch);
        let after = limit(&compared, records)?;
        let (figures, error) = match result {
            Ok(figures) => (figures, None),
            Err(Error::Failed(reason)) => (Figures::default(), Some(reason)),
            Err(error) => return Err(error),
        };
        records.push(record(store, figures, before.mean(&after), error));
        before = after;
    }
    Ok(())
}

/// Runs all workloads on one store, in as few processes as they allow.
fn measured(
    store: &str,
    series: &Series,
    workload: &[Workload],
    scratch: &Path,
) -> Result<Figures> {
    let (alone, together): (Vec<_>, Vec<_>) = workload
        .iter()
        .copied()
        .partition(|workload| workload.stands_alone());
    let mut figures = Figures::default();
    let processes = std::iter::once(together).chain(alone.into_iter().map(|one| vec![one]));
    for workload in processes.filter(|workload| !workload.is_empty()) {
        let dir = scratch.join(store);
        fs::create_dir_all(&dir)?;
        let result = in_a_process(store, series, &workload, &dir);
        // The files of a failed run must not affect the next one.
        fs::remove_dir_all(&dir)?;
        figures.0.extend(result?.0);
    }
    Ok(figures)
}

fn in_a_process(
    store: &str,
    series: &Series,
    workload: &[Workload],
    dir: &Path,
) -> Result<Figures> {
    let names: Vec<String> = workload
        .iter()
        .filter_map(ValueEnum::to_possible_value)
        .map(|name| name.get_name().to_owned())
        .collect();
    eprintln!("  {store}: {}", names.join(", "));
    let size = series.size;
    let mut command = Command::new("/proc/self/exe");
    command.args(["measure", "--store", store]);
    if !series.figures.is_empty() {
        command.args(["--figure", &series.figures.join(",")]);
    }
    let output = command
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
