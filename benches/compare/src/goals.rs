//! The goals for the cache beside its rivals, what has to be measured for them, and whether it
//! reached them in this run.
//!
//! May call `plan`, `report` for results, `series`, `store` for errors, and `stores` for names.

mod list;

use std::fmt::Write;

use clap::ValueEnum;

use crate::figures::median;
use crate::plan::{Size, Workload};
use crate::report::{Results, shown};
use crate::series::{self, Series};
use crate::store::{Error, Result};
use crate::stores::LIMIT;

use list::ALL;

/// A store's figure.
#[derive(Clone, Copy)]
struct Of {
    store: &'static str,
    figure: &'static str,
}

#[derive(Clone, Copy)]
enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

#[derive(Clone, Copy)]
enum Measure {
    /// One figure over another, both of the same round.
    Ratio(Of, Of),
    /// A figure, divided by a number, with the unit that this gives.
    Figure(Of, f64, &'static str),
}

/// Goals that one run measures together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Group {
    /// Reading, and small caches.
    Reading,
    /// Writing: one writer, several, and the disk.
    Writing,
}

/// What the command line asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Choice<'a> {
    Group(Group),
    /// The goals with these names.
    Named(&'a [String]),
}

/// One row of the table.
struct Goal {
    /// For the command line; rows that are measured together have the same.
    name: &'static str,
    what: &'static str,
    size: Size,
    measure: Measure,
    bound: Bound,
    /// The goal as the table says it.
    says: &'static str,
    group: Group,
}

impl Goal {
    /// Returns what has to be measured: all figures that the goal compares.
    fn figures(&self) -> Vec<Of> {
        match self.measure {
            Measure::Ratio(own, rival) => vec![own, rival],
            Measure::Figure(own, ..) => vec![own],
        }
    }

    /// Returns the number of each round.
    fn rounds(&self, results: &Results<'_>) -> Vec<f64> {
        match self.measure {
            Measure::Ratio(own, rival) if rival.store == LIMIT => {
                results.limit_ratios(self.size, own.store, own.figure, rival.figure)
            }
            Measure::Ratio(own, rival) => results.ratios(
                self.size,
                (own.store, own.figure),
                (rival.store, rival.figure),
            ),
            Measure::Figure(own, divisor, _) => {
                let numbers = results.numbers(self.size, own.store, own.figure);
                numbers.map(|number| number / divisor).collect()
            }
        }
    }

    fn missing(&self, results: &Results<'_>) -> String {
        let reason = |of: Of| results.refusal(self.size, of.store, of.figure);
        match self.figures().into_iter().find_map(reason) {
            Some(reason) => format!("not measured: {reason}"),
            None => "not measured".to_owned(),
        }
    }

    fn is_met(&self, number: f64) -> bool {
        match self.bound {
            Bound::AtMost(most) => number <= most,
            Bound::AtLeast(least) => number >= least,
        }
    }

    fn unit(&self) -> &'static str {
        match self.measure {
            Measure::Ratio(..) => "",
            Measure::Figure(_, _, unit) => unit,
        }
    }
}

/// Returns the workload that gives a figure.
fn workload_of(figure: &str) -> Workload {
    let by_prefix = [
        ("put", Workload::Load),
        ("overwrite", Workload::Change),
        ("delete", Workload::Change),
        ("disk", Workload::Space),
        ("reopen", Workload::Reopen),
        ("threads", Workload::Threads),
        ("beside", Workload::Processes),
        ("latency", Workload::Latency),
        ("small", Workload::Small),
        ("cold", Workload::Cold),
        ("writers", Workload::Writers),
    ];
    let found = by_prefix
        .iter()
        .find(|(prefix, _)| figure.starts_with(prefix));
    found.map_or(Workload::Read, |(_, workload)| *workload)
}

/// Returns the goals that were chosen.
fn chosen(choice: Choice<'_>) -> Result<Vec<&'static Goal>> {
    let names = match choice {
        Choice::Named(names) => names,
        Choice::Group(group) => {
            let all = ALL.iter().filter(|goal| goal.group == group);
            return Ok(all.collect());
        }
    };
    let has = |name: &&String| ALL.iter().any(|goal| goal.name == **name);
    if let Some(name) = names.iter().find(|name| !has(name)) {
        let mut all: Vec<_> = ALL.iter().map(|goal| goal.name).collect();
        all.dedup();
        return Err(Error::Failed(format!(
            "there is no goal `{name}`, but {}",
            all.join(", ")
        )));
    }
    let is_chosen = |goal: &&Goal| names.iter().any(|name| name == goal.name);
    Ok(ALL.iter().filter(is_chosen).collect())
}

/// Returns what has to be measured for the goals that were chosen: stores that are compared follow
/// each other.
pub(crate) fn series(choice: Choice<'_>) -> Result<Vec<Series>> {
    let mut all: Vec<Series> = Vec::new();
    for goal in chosen(choice)? {
        let figures = goal.figures();
        let workload = figures.first().map(|own| workload_of(own.figure));
        let workload: Vec<_> = workload.into_iter().collect();
        let limit = figures.iter().any(|of| of.store == LIMIT);
        let fits = |series: &&mut Series| {
            series.size == goal.size && series.workload == workload && series.limit == limit
        };
        let series = match all.iter_mut().find(fits) {
            Some(series) => series,
            None => {
                all.push(Series {
                    size: goal.size,
                    stores: Vec::new(),
                    workload,
                    figures: Vec::new(),
                    limit,
                });
                all.last_mut().ok_or(Error::Refused("was just added"))?
            }
        };
        for of in figures {
            let (store, figure) = (of.store.to_owned(), of.figure.to_owned());
            if of.store != LIMIT && !series.stores.contains(&store) {
                series.stores.push(store);
            }
            if !series.figures.contains(&figure) {
                series.figures.push(figure);
            }
        }
    }
    all.iter()
        .try_for_each(|series| series::known(&series.stores))?;
    Ok(all)
}

/// Renders all goals.
pub(crate) fn table(results: &Results<'_>) -> String {
    render(results, &ALL.iter().collect::<Vec<_>>())
}

/// Renders the goals that were measured.
pub(crate) fn measured(results: &Results<'_>) -> String {
    let is_measured = |goal: &&Goal| !goal.rounds(results).is_empty();
    render(results, &ALL.iter().filter(is_measured).collect::<Vec<_>>())
}

/// Renders the goals that were chosen.
pub(crate) fn table_of(results: &Results<'_>, choice: Choice<'_>) -> Result<String> {
    Ok(render(results, &chosen(choice)?))
}

fn render(results: &Results<'_>, goals: &[&Goal]) -> String {
    let mut text = "\
| what | goal | measured | least and most of the rounds | met |
|---|---|--:|--:|---|
"
    .to_owned();
    for goal in goals {
        let mut rounds = goal.rounds(results);
        rounds.sort_by(f64::total_cmp);
        let with_unit = |number: f64| format!("{}{}", shown(number), goal.unit());
        let range = match rounds.as_slice() {
            [least, .., most] => format!("{} to {}", with_unit(*least), with_unit(*most)),
            _ => String::new(),
        };
        let (measured, met) = match median(rounds) {
            Some(number) if goal.is_met(number) => (with_unit(number), "yes"),
            Some(number) => (with_unit(number), "**no**"),
            None => (goal.missing(results), ""),
        };
        let _ = writeln!(
            text,
            "| {} | {} | {measured} | {range} | {met} |",
            goal.what, goal.says
        );
    }
    text
}

#[cfg(test)]
mod tests;
