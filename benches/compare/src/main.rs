//! Measures the cache beside the stores that people would use instead, in one run.
//!
//! Each store is measured in its own processes, between two runs of the in-memory map that is the
//! limit. `docs/benchmarks.md` says how to read the results; this program writes its tables and
//! charts.

mod caches;
mod chart;
mod clock;
mod curve;
mod figures;
mod goals;
mod keys;
mod machine;
mod peer;
mod plan;
mod report;
mod run;
mod series;
mod store;
mod stores;
mod workload;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use plan::Plan;
use store::{Access, Error, Result};

/// Measures the cache and its rivals, prints tables, and writes docs/benchmarks.md and its charts.
#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    role: Option<Role>,
    #[command(flatten)]
    settings: run::Settings,
}

/// The roles of this program's own processes.
#[derive(Subcommand)]
enum Role {
    #[command(hide = true)]
    Measure(Plan),
    #[command(hide = true)]
    Peer {
        #[command(flatten)]
        plan: Plan,
        #[arg(long, value_enum)]
        access: Access,
    },
    #[command(hide = true)]
    FirstGet(Plan),
    #[command(hide = true)]
    Fill(Plan),
    #[command(hide = true)]
    ColdGets {
        #[command(flatten)]
        plan: Plan,
        #[arg(long)]
        turn: u64,
    },
    Caches(caches::Settings),
    #[command(hide = true)]
    MeasureCache(caches::One),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match &cli.role {
        None => everything(&cli.settings),
        Some(Role::Measure(plan)) => measure(plan),
        Some(Role::Peer { plan, access }) => stores::visit(&plan.store, peer::Obey(plan, *access)),
        Some(Role::FirstGet(plan)) => stores::visit(&plan.store, peer::FirstGet(plan)),
        Some(Role::Fill(plan)) => stores::visit(&plan.store, peer::Fill(plan)),
        Some(Role::ColdGets { plan, turn }) => {
            stores::visit(&plan.store, peer::ColdGets(plan, *turn))
        }
        Some(Role::Caches(settings)) => caches::everything(settings),
        Some(Role::MeasureCache(one)) => caches::measure(one),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Error::Refused(reason)) => {
            eprintln!("error: {reason}");
            ExitCode::FAILURE
        }
        Err(Error::Failed(reason)) => {
            eprintln!("error: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn measure(plan: &Plan) -> Result<()> {
    let figures = stores::visit(&plan.store, plan)?;
    println!("{}", serde_json::to_string(&figures)?);
    Ok(())
}

fn everything(settings: &run::Settings) -> Result<()> {
    let run = run::run(settings)?;
    match settings.chosen_goals() {
        Some(choice) => report::publish_goals(&run, choice, settings.write)?,
        None => report::publish(&run, settings.write)?,
    }
    if run.records.iter().any(|record| record.error.is_some()) {
        return Err(Error::Failed("a store failed; its rows say so".to_owned()));
    }
    Ok(())
}
