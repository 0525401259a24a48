//! The output of `watch` to files, pipes and simple terminals: a line for each interval.

use crate::failure::Failure;
use crate::output::Output;
use crate::{timestamp, units};

use super::sample::{Delta, Switch};
use super::sparkline;

/// Lines between two headings.
const PAGE: u64 = 20;

/// The count of printed lines.
#[derive(Debug, Default)]
pub(super) struct Lines(u64);

impl Lines {
    pub(super) fn show(&mut self, out: &mut Output, delta: &Delta) -> Result<(), Failure> {
        if self.0.is_multiple_of(PAGE) {
            out.line(&line(&[
                "time", "entries", "load", "puts/s", "over/s", "del/s", "heap", "heap/s", "dead",
                "segments", "writer",
            ]))?;
        }
        self.0 += 1;
        let (now, header) = (&delta.now, &delta.now.header);
        let rate = |of: fn(&super::sample::Rates) -> f64| match &delta.rates {
            Some(rates) => units::count(of(rates).round() as u64),
            None => "-".to_owned(),
        };
        let growth = delta
            .rates
            .map_or("-".to_owned(), |rates| sparkline::signed(rates.heap));
        let writer = header
            .writer
            .map_or("-".to_owned(), |process| process.to_string());
        let mut text = line(&[
            &timestamp::format(now.wall_time)[11..19],
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
        if let Some(switch) = delta.switch {
            text.push_str(match switch {
                Switch::Generation => "  a new generation",
                Switch::Cache => "  another cache",
            });
        }
        if let Some(lookups) = delta.rates.and_then(|rates| rates.lookups) {
            text.push_str(&format!("  {}", lookups.text()));
        }
        if now.implausible > 0 {
            text.push_str("  IMPLAUSIBLE");
        }
        out.line(&text)
    }
}

/// Returns words in right-aligned columns.
fn line(words: &[&str]) -> String {
    const WIDTHS: [usize; 11] = [8, 13, 7, 10, 10, 10, 11, 12, 11, 9, 8];
    let columns = words.iter().zip(WIDTHS);
    let columns: Vec<String> = columns
        .map(|(word, width)| format!("{word:>width$}"))
        .collect();
    columns.join(" ")
}
