//! What changed, a line for each interval: for files, pipes and terminals that cannot do more.

use crate::failure::Failure;
use crate::output::Output;
use crate::{moment, units};

use super::sample::{Step, Switch};
use super::trace;

/// Lines between two heads.
const PAGE: u64 = 20;

/// Lines so far.
#[derive(Debug, Default)]
pub(super) struct Lines(u64);

impl Lines {
    pub(super) fn show(&mut self, out: &mut Output, step: &Step) -> Result<(), Failure> {
        if self.0.is_multiple_of(PAGE) {
            out.line(&line(&[
                "time", "entries", "load", "puts/s", "over/s", "del/s", "heap", "heap/s", "dead",
                "segments", "writer",
            ]))?;
        }
        self.0 += 1;
        let (now, header) = (&step.now, &step.now.header);
        let rate = |of: fn(&super::sample::Rates) -> f64| match &step.rates {
            Some(rates) => units::count(of(rates).round() as u64),
            None => "-".to_owned(),
        };
        let growth = step
            .rates
            .map_or("-".to_owned(), |rates| trace::signed(rates.heap));
        let writer = header
            .writer
            .map_or("-".to_owned(), |process| process.to_string());
        let mut text = line(&[
            &moment::show(now.moment)[11..19],
            &units::count(header.occupied),
            &units::percent(now.load()),
            &rate(|rates| rates.puts),
            &rate(|rates| rates.overwrites),
            &rate(|rates| rates.deletes),
            &units::bytes(header.heap_bytes()),
            &growth,
            &units::bytes(header.dead_bytes()),
            &units::count(now.segments()),
            &writer,
        ]);
        if let Some(switch) = step.switch {
            text.push_str(match switch {
                Switch::Generation => "  a new generation",
                Switch::Cache => "  another cache",
            });
        }
        if now.implausible > 0 {
            text.push_str("  IMPLAUSIBLE");
        }
        out.line(&text)
    }
}

/// Words in columns, flush right.
fn line(words: &[&str]) -> String {
    const WIDTHS: [usize; 11] = [8, 13, 7, 10, 10, 10, 11, 12, 11, 9, 8];
    let columns = words.iter().zip(WIDTHS);
    let columns: Vec<String> = columns
        .map(|(word, width)| format!("{word:>width$}"))
        .collect();
    columns.join(" ")
}
