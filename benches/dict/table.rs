//! Shows figures of many rounds, as tables of medians and ratios, with the goals beside them.

use std::collections::HashMap;

use crate::clock::Figures;

/// The operations, in the order of the tables, and whether they write.
const OPERATIONS: [(&str, bool); 14] = [
    ("get", false),
    ("get, again", false),
    ("get_with_etag", false),
    ("get, absent", false),
    ("contains", false),
    ("etag", false),
    ("keys, per entry", false),
    ("items, per entry", false),
    ("len, one call", false),
    ("insert", true),
    ("overwrite", true),
    ("set_item_if", true),
    ("transform_item", true),
    ("delete", true),
];

/// How many times as fast as another a dictionary should be.
pub(crate) struct Goal {
    pub(crate) than: &'static str,
    pub(crate) reads: f64,
    pub(crate) writes: f64,
}

/// The figures of each dictionary, round by round.
#[derive(Default)]
pub(crate) struct Rounds(HashMap<&'static str, Vec<Figures>>);

impl Rounds {
    pub(crate) fn add(&mut self, dictionary: &'static str, figures: Figures) {
        self.0.entry(dictionary).or_default().push(figures);
    }

    pub(crate) fn has(&self, dictionary: &str) -> bool {
        self.0.contains_key(dictionary)
    }

    /// Returns the figures of an operation, or `None` if it was not measured.
    fn of(&self, dictionary: &str, operation: &str) -> Option<Vec<f64>> {
        let rounds = self.0.get(dictionary)?;
        rounds
            .iter()
            .map(|round| round.get(operation).copied())
            .collect()
    }

    /// Returns how many times as fast as another: the median and the minimum of the rounds.
    fn ratio(&self, dictionary: &str, other: &str, operation: &str) -> Option<(f64, f64)> {
        let (own, others) = (self.of(dictionary, operation)?, self.of(other, operation)?);
        Some(middle_and_least(
            others
                .iter()
                .zip(&own)
                .map(|(other, own)| other / own)
                .collect(),
        ))
    }

    /// Prints the nanoseconds of the first dictionary, and of each other one with the ratio.
    pub(crate) fn print(&self, first: &str, others: &[&str]) {
        if !self.has(first) {
            return;
        }
        print!("\n| nanoseconds | {first} |");
        for other in others {
            print!(" {other} | times as fast (least) |");
        }
        println!("\n|---|--:|{}", "--:|--:|".repeat(others.len()));
        for (operation, _) in OPERATIONS {
            print!("| {operation} | {} |", self.median(first, operation));
            for other in others {
                let ratio = match self.ratio(other, first, operation) {
                    Some((middle, least)) => format!("{} ({})", short(middle), short(least)),
                    None => "-".to_owned(),
                };
                print!(" {} | {ratio} |", self.median(other, operation));
            }
            println!();
        }
    }

    fn median(&self, dictionary: &str, operation: &str) -> String {
        match self.of(dictionary, operation) {
            Some(figures) => format!("{:.0}", middle_and_least(figures).0),
            None => "-".to_owned(),
        }
    }

    /// Prints how many operations reach the goal, and which do not.
    pub(crate) fn print_goal(&self, dictionary: &str, goal: &Goal) {
        for (what, writes, factor) in [("reads", false, goal.reads), ("writes", true, goal.writes)]
        {
            let ratios: Vec<_> = OPERATIONS
                .iter()
                .filter(|(_, is_write)| *is_write == writes)
                .filter_map(|(name, _)| Some((name, self.ratio(dictionary, goal.than, name)?.0)))
                .collect();
            let missed: Vec<_> = ratios
                .iter()
                .filter(|(_, ratio)| *ratio < factor)
                .map(|(name, ratio)| format!("{name} ({})", short(*ratio)))
                .collect();
            println!(
                "{dictionary}, {what} at least {factor} times as fast as {}: {} of {} are{}{}",
                goal.than,
                ratios.len() - missed.len(),
                ratios.len(),
                if missed.is_empty() { "" } else { ", not " },
                missed.join(", ")
            );
        }
    }
}

fn short(ratio: f64) -> String {
    let decimals = if ratio < 10.0 { 2 } else { 0 };
    format!("{ratio:.decimals$}")
}

fn middle_and_least(mut figures: Vec<f64>) -> (f64, f64) {
    figures.sort_by(f64::total_cmp);
    (figures[figures.len() / 2], figures[0])
}
