//! What changed, drawn on a terminal in the place where it was drawn before.
//!
//! Neither another screen nor a hidden cursor: however this ends, the terminal is as it was.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use mmapcache::inspect::{Holder, LockState};

use crate::failure::Failure;
use crate::output::Output;
use crate::paint::{FAINT, Paint, WARNING, WRONG};
use crate::{holder, moment, units};

use super::sample::{Rates, Step, Switch};
use super::trace::{KEPT, Trace, signed};

const PLAIN: Style = Style::new();
const LINE: Style = AnsiColor::Cyan.on_default();
/// Columns of a row's name, and of its number.
const NAME: usize = 12;
const NUMBER: usize = 14;

/// What is on the screen.
#[derive(Debug)]
pub(super) struct Screen {
    cache: PathBuf,
    interval: Duration,
    /// Puts, overwrites, deletes, growth of the heap, dead bytes.
    traces: [Trace; 5],
    /// Lines that were drawn, above the cursor.
    drawn: usize,
    /// What is remembered of the last switch.
    switched: Option<String>,
}

/// A line, in pieces of one style each.
type Line = Vec<(Style, String)>;

impl Screen {
    pub(super) fn new(cache: &Path, interval: Duration) -> Self {
        Self {
            cache: cache.to_owned(),
            interval,
            traces: Default::default(),
            drawn: 0,
            switched: None,
        }
    }

    pub(super) fn show(&mut self, out: &mut Output, step: &Step) -> Result<(), Failure> {
        self.remember(step);
        let (width, height) = size();
        // In the last column some terminals hold the next character back, and would erase this one.
        let width = width - 1;
        let mut lines = self.lines(step, width);
        // The cursor stands below the last line, and what scrolled away could not be redrawn.
        lines.truncate(height.saturating_sub(1).max(1));
        let paint = Paint::new();
        let mut text = String::new();
        if self.drawn > 0 {
            text.push_str(&format!("\x1b[{}A", self.drawn));
        }
        for line in &lines {
            text.push('\r');
            for (style, piece) in fit(line, width) {
                text.push_str(&paint.text(style, &piece));
            }
            text.push_str("\x1b[K\n");
        }
        text.push_str("\x1b[J");
        self.drawn = lines.len();
        out.with(|out| out.write_all(text.as_bytes()))
    }

    fn remember(&mut self, step: &Step) {
        let header = &step.now.header;
        let rate = |of: fn(&Rates) -> f64| step.rates.as_ref().map(of);
        if step.rates.is_some() || step.switch.is_some() {
            let values = [
                rate(|rates| rates.puts),
                rate(|rates| rates.overwrites),
                rate(|rates| rates.deletes),
                rate(|rates| rates.heap),
                Some(header.dead_bytes() as f64),
            ];
            for (trace, value) in self.traces.iter_mut().zip(values) {
                trace.add(value);
            }
        }
        let at = &moment::show(step.now.moment)[11..19];
        match step.switch {
            Some(Switch::Generation) => self.switched = Some(format!("rebuilt at {at}")),
            Some(Switch::Cache) => self.switched = Some(format!("another cache since {at}")),
            None => {}
        }
    }

    fn lines(&self, step: &Step, width: usize) -> Vec<Line> {
        let mut lines = self.head(step, width);
        lines.push(Line::new());
        lines.extend(self.moving(step, width));
        lines.push(Line::new());
        lines.extend(standing(step));
        lines
    }

    fn head(&self, step: &Step, width: usize) -> Vec<Line> {
        let generation = format!("generation {}", units::count(step.now.generation));
        let moment = moment::show(step.now.moment);
        let every = units::duration(self.interval);
        let every = every.replace(".00 s", " s").replace(".0 ms", " ms");
        let mut second = match width {
            64.. => vec![(
                FAINT,
                format!("{moment} \u{b7} every {every} \u{b7} {generation}"),
            )],
            _ => vec![(FAINT, format!("{} \u{b7} {generation}", &moment[11..19]))],
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

    /// What changes, with what it was lately.
    fn moving(&self, step: &Step, width: usize) -> Vec<Line> {
        let per_second = |of: fn(&Rates) -> f64| match &step.rates {
            Some(rates) => format!("{} /s", units::count(of(rates).round() as u64)),
            None => "-".to_owned(),
        };
        let growth = match &step.rates {
            Some(rates) => format!("{}/s", signed(rates.heap)),
            None => "-".to_owned(),
        };
        let counted =
            |trace: &Trace| format!("{} /s", units::count(trace.highest().round() as u64));
        let [puts, overwrites, deletes, heap, dead] = &self.traces;
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
                units::bytes(step.now.header.dead_bytes()),
                dead,
                units::bytes(dead.highest() as u64),
            ),
        ];
        // The number, the line, and the highest number, as far as there is room.
        let room = width.saturating_sub(NAME + NUMBER + 2);
        let cells = match room.saturating_sub(NUMBER + 6) {
            enough @ 10.. => enough.min(KEPT),
            _ => room.min(KEPT),
        };
        let with_highest = room >= cells + NUMBER + 6;
        let rows = rows.into_iter().map(|(name, number, trace, highest)| {
            let mut line = named(name, &number);
            line.push((LINE, format!("  {:<cells$}", trace.line(cells))));
            if with_highest {
                line.push((FAINT, format!("  max {highest:>NUMBER$}")));
            }
            line
        });
        rows.collect()
    }
}

fn named(name: &str, value: &str) -> Line {
    vec![
        (FAINT, format!("{name:<NAME$}")),
        (PLAIN, format!("{value:>NUMBER$}")),
    ]
}

/// What stands still for a while.
fn standing(step: &Step) -> Vec<Line> {
    let (now, header) = (&step.now, &step.now.header);
    let with = |name: &str, value: String, note: String| {
        let mut line = named(name, &value);
        line.push((FAINT, format!("  {note}")));
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
    if let Some(lock) = &now.lock {
        lines.push(locked(lock));
    }
    let warnings = [
        (header.sync_failed, "a sync FAILED: changes may be lost"),
        (
            header.cleaning_met_damage,
            "cleaning has met damage: see `verify`",
        ),
        (
            now.implausible > 0,
            "the header cannot be right: see `stats`",
        ),
    ];
    let told = warnings.into_iter().filter(|(holds, _)| *holds);
    lines.extend(told.map(|(_, warning)| vec![(WRONG, warning.to_owned())]));
    lines
}

fn locked(lock: &LockState) -> Line {
    let (value, note) = holder::words(lock);
    let mut line = named("writer", &value);
    let style = if lock.holder == Holder::Dead {
        WARNING
    } else {
        FAINT
    };
    line.push((style, format!("  {note}")));
    line
}

/// Columns and rows of the terminal.
fn size() -> (usize, usize) {
    match terminal_size::terminal_size_of(std::io::stdout()) {
        Some((width, height)) if width.0 > 0 && height.0 > 0 => (width.0.into(), height.0.into()),
        _ => (80, 24),
    }
}

/// As much of a line as there is room for: a line that wrapped would not be redrawn in its place.
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

/// The end of a text, in so many columns. Whatever is not ASCII may take two.
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

/// A character of a name as a terminal may have it.
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
            (FAINT, "\u{2588}".repeat(9)),
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

    // A long path is shown from its end, and without control characters.
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
