//! `watch`: shows the state of a cache at intervals.

mod interval;
mod plain;
mod sample;
mod screen;
mod sparkline;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use crate::location::Location;
use crate::output::{self, Output};
use sample::{Delta, Sample};
use screen::Screen;

/// The cache to watch, and how often.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The cache: the path of its index
    cache: PathBuf,
    /// Time between two samples, such as 500ms, 1s or 2m
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = interval::parse)]
    interval: Duration,
    /// Stop after this many intervals
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Print a line of JSON for each interval
    #[arg(long)]
    json: bool,
}

/// The reason if a file is too short for a header.
const CUT: &str = "the file ends within its header page";

/// The form of the output.
enum Display {
    Screen(Box<Screen>),
    Plain(plain::Lines),
    Json,
}

pub(crate) fn run(arguments: &Arguments, heap: Option<PathBuf>) -> Result<ExitStatus, Failure> {
    let location = Location {
        cache: arguments.cache.clone(),
        heap,
    };
    let stop = interruption()?;
    let mut out = Output::new();
    let Some(mut last) = Sample::take(&location)? else {
        return Ok(end(&location.cache, CUT));
    };
    let mut display = Display::choose(arguments);
    display.begin(&mut out, &last)?;
    let mut due = Instant::now();
    let mut shown = 0;
    while arguments.count.is_none_or(|count| shown < count) {
        // A process that was stopped for long skips the intervals that it missed.
        due = (due + arguments.interval).max(Instant::now());
        match stop.recv_timeout(due.saturating_duration_since(Instant::now())) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => {
                display.leave(&mut out)?;
                return Ok(ExitStatus::Success);
            }
        }
        let now = match Sample::take(&location) {
            Ok(Some(sample)) => sample,
            Ok(None) => return Ok(end(&location.cache, CUT)),
            Err(failure) if failure.is_absence() => {
                return Ok(end(&location.cache, "the cache was removed"));
            }
            Err(failure) => return Err(failure),
        };
        display.show(&mut out, &Delta::between(last, now.clone()))?;
        last = now;
        shown += 1;
    }
    Ok(ExitStatus::problems_if(last.implausible > 0))
}

/// Returns a channel that reports ctrl-c and the closing of the terminal.
fn interruption() -> Result<Receiver<()>, Failure> {
    let (sender, receiver) = mpsc::channel();
    let tell = move || {
        // The receiver is gone only if the program is ending.
        let _ = sender.send(());
    };
    let set = ctrlc::set_handler(tell);
    set.map_err(|error| Failure::Request(format!("could not listen for ctrl-c: {error}")))?;
    Ok(receiver)
}

/// Reports why the samples end.
fn end(cache: &Path, why: &str) -> ExitStatus {
    output::warn(&format!("{}: {why}", cache.display()));
    ExitStatus::Problems
}

impl Display {
    fn choose(arguments: &Arguments) -> Self {
        let stdout = std::io::stdout();
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        if arguments.json {
            Self::Json
        } else if stdout.is_terminal() && !dumb {
            Self::Screen(Box::new(Screen::new(&arguments.cache, arguments.interval)))
        } else {
            Self::Plain(plain::Lines::default())
        }
    }

    /// Shows the first sample, before an interval has passed.
    fn begin(&mut self, out: &mut Output, sample: &Sample) -> Result<(), Failure> {
        if let Self::Screen(screen) = self {
            screen.show(out, &Delta::first(sample.clone()))?;
        }
        out.flush()
    }

    /// Ends the output after an interruption. The terminal may have echoed keys on the cursor's line.
    fn leave(&self, out: &mut Output) -> Result<(), Failure> {
        if let Self::Screen(_) = self {
            out.line("")?;
        }
        out.flush()
    }

    fn show(&mut self, out: &mut Output, delta: &Delta) -> Result<(), Failure> {
        match self {
            Self::Screen(screen) => screen.show(out, delta)?,
            Self::Plain(lines) => lines.show(out, delta)?,
            Self::Json => out.json_line(delta.value())?,
        }
        out.flush()
    }
}
