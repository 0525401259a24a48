//! The output of `watch` on a terminal, redrawn in place.
//!
//! Uses no alternate screen and hides no cursor: even a killed process leaves the terminal in order.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use mmapcache::inspect::LockState;

use crate::failure::Failure;
use crate::output::Output;
use crate::terminal::{DIM, ERROR, Terminal, WARNING};
use crate::{lock_status, timestamp, units};

use super::sample::{Delta, Lookups, Rates, Switch};
use super::sparkline::{KEPT, Sparkline, signed};

const PLAIN: Style = Style::new();
const LINE: Style = AnsiColor::Cyan.on_default();
/// Columns of the name and of the number in a row.
const NAME: usize = 12;
const NUMBER: usize = 14;

/// The state of the screen.
#[derive(Debug)]
pub(super) struct Screen {
    cache: PathBuf,
    interval: Duration,
    /// Puts, overwrites, deletes, growth of the heap, dead bytes.
    sparklines: [Sparkline; 5],
    /// Drawn lines, which are above the cursor.
    drawn: usize,
    /// A description of the last switch.
    switched: Option<String>,
}

/// A line as pieces of one style each.
type Line = Vec<(Style, String)>;

impl Screen {
    pub(super) fn new(cache: &Path, interval: Duration) -> Self {
        Self {
            cache: cache.to_owned(),
            interval,
            sparklines: Default::default(),
            drawn: 0,
            switched: None,
        }
    }

    pub(super) fn show(&mut self, out: &mut Output, delta: &Delta) -> Result<(), Failure> {
        self.record(delta);
        let (width, height) = size();
        // Some terminals delay the wrap in the last column, and would erase the character there.
        let width = width - 1;
        let mut lines = self.lines(delta, width);
        // The cursor is below the last line, and a line that scrolled away could not be redrawn.
        lines.truncate(height.saturating_sub(1).max(1));
        let terminal = Terminal::new();
        let mut text = String::new();
        if self.drawn > 0 {
            text.push_str(&format!("\x1b[{}A", self.drawn));
        }
        for line in &lines {
            text.push('\r');
            for (style, piece) in fit(line, width) {
                text.push_str(&terminal.styled(style, &piece));
            }
            text.push_str("\x1b[K\n");
        }
        text.push_str("\x1b[J");
        self.drawn = lines.len();
        out.with(|out| out.write_all(text.as_bytes()))
    }

    fn record(&mut self, delta: &Delta) {
        let header = &delta.now.header;
        let rate = |of: fn(&Rates) -> f64| delta.rates.as_ref().map(of);
        if delta.rates.is_some() || delta.switch.is_some() {
            let values = [
                rate(|rates| rates.puts),
                rate(|rates| rates.overwrites),
                rate(|rates| rates.deletes),
                rate(|rates| rates.heap),
                Some(header.dead_bytes() as f64),
            ];
            for (sparkline, value) in self.sparklines.iter_mut().zip(values) {
                sparkline.add(value);
            }
        }
        let at = &timestamp::format(delta.now.wall_time)[11..19];
        match delta.switch {
            Some(Switch::Generation) => self.switched = Some(format!("rebuilt at {at}")),
            Some(Switch::Cache) => self.switched = Some(format!("another cache since {at}")),
            None => {}
        }
    }

    fn lines(&self, delta: &Delta, width: usize) -> Vec<Line> {
        let mut lines = self.head(delta, width);
        lines.push(Line::new());
        lines.extend(self.rates(delta, width));
        lines.push(Line::new());
        lines.extend(totals(delta));
        lines
    }

    fn head(&self, delta: &Delta, width: usize) -> Vec<Line> {
        let generation = format!("generation {}", units::count(delta.now.generation));
        let moment = timestamp::format(delta.now.wall_time);
        let every = units::duration(self.interval);
        let every = every.replace(".00 s", " s").replace(".0 ms", " ms");
        let mut second = match width {
            64.. => vec![(
                DIM,
                format!("{moment} \u{b7} every {every} \u{b7} {generation}"),
            )],
            _ => vec![(DIM, format!("{} \u{b7} {generation}", &moment[11..19]))],
        };
        if let Some(switched) = &self.switched {
            second.push((WARNING, format!(" \u{b7} {switched}")));
        }
        vec![
            vec![(
                Style::new().bold(),
                tail(&self.cache.display().to_string(), width),
            )],
            second,
        ]
    }

    /// Returns the rates with their recent values.
    fn rates(&self, delta: &Delta, width: usize) -> Vec<Line> {
        let per_second = |of: fn(&Rates) -> f64| match &delta.rates {
            Some(rates) => format!("{} /s", units::count(of(rates).round() as u64)),
            None => "-".to_owned(),
        };
        let growth = match &delta.rates {
            Some(rates) => format!("{}/s", signed(rates.heap)),
            None => "-".to_owned(),
        };
        let counted = |sparkline: &Sparkline| {
            format!("{} /s", units::count(sparkline.highest().round() as u64))
        };
        let [puts, overwrites, deletes, heap, dead] = &self.sparklines;
        let rows = [
            ("puts", per_second(|rates| rates.puts), puts, counted(puts)),
            (
                "overwrites",
                per_second(|rates| rates.overwrites),
                overwrites,
                counted(overwrites),
            ),
            (
                "deletes",
                per_second(|rates| rates.deletes),
                deletes,
                counted(deletes),
            ),
            (
                "heap grows",
                growth,
                heap,
                format!("{}/s", signed(heap.highest())),
            ),
            (
                "dead bytes",
                units::bytes(delta.now.header.dead_bytes()),
                dead,
                units::bytes(dead.highest() as u64),
            ),
        ];
        // The number, the sparkline, and the maximum if there is room.
        let room = width.saturating_sub(NAME + NUMBER + 2);
        let cells = match room.saturating_sub(NUMBER + 6) {
            enough @ 10.. => enough.min(KEPT),
            _ => room.min(KEPT),
        };
        let with_highest = room >= cells + NUMBER + 6;
        let rows = rows.into_iter().map(|(name, number, sparkline, highest)| {
            let mut line = named(name, &number);
            line.push((LINE, format!("  {:<cells$}", sparkline.line(cells))));
            if with_highest {
                line.push((DIM, format!("  max {highest:>NUMBER$}")));
            }
            line
        });
        rows.collect()
    }
}

fn named(name: &str, value: &str) -> Line {
    vec![
        (DIM, format!("{name:<NAME$}")),
        (PLAIN, format!("{value:>NUMBER$}")),
    ]
}

/// Returns totals, the lock and warnings.
fn totals(delta: &Delta) -> Vec<Line> {
    let (now, header) = (&delta.now, &delta.now.header);
    let with = |name: &str, value: String, note: String| {
        let mut line = named(name, &value);
        line.push((DIM, format!("  {note}")));
        line
    };
    let load = format!(
        "{} of {} slots",
        units::percent(now.load()),
        units::count(now.slots)
    );
    let heap = header.heap_bytes();
    let live = header.live_bytes as f64 / heap.max(1) as f64;
    let live = format!(
        "{} live, {}",
        units::percent(live),
        units::bytes(header.live_bytes)
    );
    let numbers = format!("from {} to {}", header.oldest_segment, header.tail.segment);
    let mut lines = vec![
        with("entries", units::count(header.occupied), load),
        with("heap", units::bytes(heap), live),
        with("segments", units::count(now.segments()), numbers),
    ];
    if now.figures.is_some() {
        let lookups = delta.rates.and_then(|rates| rates.lookups);
        let ratio = lookups.and_then(|lookups| lookups.hit_ratio);
        let ratio = ratio.map_or("-".to_owned(), units::percent);
        let note = lookups.map_or(String::new(), Lookups::text);
        lines.push(with("hits", ratio, note));
    }
    if let Some(lock) = &now.lock {
        lines.push(locked(lock));
    }
    let warnings = [
        (header.sync_failed, "a sync FAILED: changes may be lost"),
        (
            header.cleaning_found_damage,
            "cleaning found damage: see `verify`",
        ),
        (
            now.implausible > 0,
            "the header has invalid values: see `stats`",
        ),
    ];
    let told = warnings.into_iter().filter(|(holds, _)| *holds);
    lines.extend(told.map(|(_, warning)| vec![(ERROR, warning.to_owned())]));
    lines
}

fn locked(lock: &LockState) -> Line {
    let (value, note) = lock_status::describe(lock);
    let mut line = named("writer", &value);
    let style = if lock.owner_died() { WARNING } else { DIM };
    line.push((style, format!("  {note}")));
    line
}

/// Returns columns and rows of the terminal.
fn size() -> (usize, usize) {
    match terminal_size::terminal_size_of(std::io::stdout()) {
        Some((width, height)) if width.0 > 0 && height.0 > 0 => (width.0.into(), height.0.into()),
        _ => (80, 24),
    }
}

/// Cuts a line to a width. A line that wrapped could not be redrawn in place.
fn fit(line: &Line, width: usize) -> Line {
    let mut left = width;
    let mut fitting = Line::new();
    for (style, piece) in line {
        let piece: String = piece.chars().take(left).collect();
        left -= piece.chars().count();
        fitting.push((*style, piece));
    }
    fitting
}

/// Returns the end of a text that fits a width. A character outside ASCII may take two columns.
fn tail(text: &str, width: usize) -> String {
    let columns = |c: char| if c.is_ascii() { 1 } else { 2 };
    let mut left = width.saturating_sub(1);
    let mut kept = Vec::new();
    let plain: Vec<char> = text.chars().flat_map(shown).collect();
    for &c in plain.iter().rev() {
        if columns(c) > left {
            break;
        }
        left -= columns(c);
        kept.push(c);
    }
    let cut = kept.len() < plain.len();
    cut.then_some('\u{2026}')
        .into_iter()
        .chain(kept.into_iter().rev())
        .collect()
}

/// Escapes a control character.
fn shown(c: char) -> Vec<char> {
    match c.is_control() {
        true => c.escape_default().collect(),
        false => vec![c],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_fit_the_terminal_width() {
        let line = vec![
            (PLAIN, "twelve chars".to_owned()),
            (DIM, "\u{2588}".repeat(9)),
        ];
        let width = |line: &Line| {
            line.iter()
                .map(|(_, text)| text.chars().count())
                .sum::<usize>()
        };
        assert_eq!(
            [0, 5, 15, 40].map(|room| width(&fit(&line, room))),
            [0, 5, 15, 21]
        );
    }

    #[test]
    fn long_paths_keep_their_end() {
        assert_eq!(tail("/a/b", 20), "/a/b");
        assert_eq!(tail("/long/way/to/cache", 8), "\u{2026}o/cache");
        assert_eq!(tail("a\x1b[2Jb\n", 40), "a\\u{1b}[2Jb\\n");
        assert_eq!(
            tail("\u{6f22}\u{6f22}\u{6f22}", 5),
            "\u{2026}\u{6f22}\u{6f22}"
        );
    }
}
