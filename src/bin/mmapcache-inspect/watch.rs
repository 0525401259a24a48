//! `watch`: a cache at work, again and again.
//!
//! Knows when to look and when to stop; what is seen and how it is drawn, the files beside this one
//! know.

mod interval;
mod plain;
mod sample;
mod screen;
mod trace;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use crate::failure::Failure;
use crate::output::{self, Output};
use crate::site::Site;
use crate::verdict::Verdict;
use sample::{Sample, Step};
use screen::Screen;

/// Which cache, and how often.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The cache: the path of its index
    cache: PathBuf,
    /// Time from one look to the next, such as 500ms, 1s or 2m
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = interval::parse)]
    interval: Duration,
    /// Stop after so many intervals
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Print a line of JSON for each interval
    #[arg(long)]
    json: bool,
}

/// Why nothing can be seen of a file.
const CUT: &str = "the file ends within its header page";

/// How what is seen is shown.
enum View {
    Screen(Box<Screen>),
    Plain(plain::Lines),
    Json,
}

pub(crate) fn run(arguments: &Arguments, heap: Option<PathBuf>) -> Result<Verdict, Failure> {
    let site = Site {
        cache: arguments.cache.clone(),
        heap,
    };
    let stop = interruption()?;
    let mut out = Output::new();
    let Some(mut last) = Sample::take(&site)? else {
        return Ok(end(&site.cache, CUT));
    };
    let mut view = View::choose(arguments);
    view.begin(&mut out, &last)?;
    let mut due = Instant::now();
    let mut shown = 0;
    while arguments.count.is_none_or(|count| shown < count) {
        // Who was stopped for long does not catch up on what was missed.
        due = (due + arguments.interval).max(Instant::now());
        match stop.recv_timeout(due.saturating_duration_since(Instant::now())) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => {
                view.leave(&mut out)?;
                return Ok(Verdict::Fine);
            }
        }
        let now = match Sample::take(&site) {
            Ok(Some(sample)) => sample,
            Ok(None) => return Ok(end(&site.cache, CUT)),
            Err(failure) if failure.is_absence() => {
                return Ok(end(&site.cache, "the cache is gone"));
            }
            Err(failure) => return Err(failure),
        };
        view.show(&mut out, &Step::between(last, now.clone()))?;
        last = now;
        shown += 1;
    }
    Ok(Verdict::wrong_if(last.implausible > 0))
}

/// Says something when somebody wants this to end: by ctrl-c, or by closing the terminal.
fn interruption() -> Result<Receiver<()>, Failure> {
    let (sender, receiver) = mpsc::channel();
    let tell = move || {
        // Nobody listens any more only where this is ending already.
        let _ = sender.send(());
    };
    let set = ctrlc::set_handler(tell);
    set.map_err(|error| Failure::Request(format!("could not listen for ctrl-c: {error}")))?;
    Ok(receiver)
}

/// Says why there is nothing more to see.
fn end(cache: &Path, why: &str) -> Verdict {
    output::remark(&format!("{}: {why}", cache.display()));
    Verdict::Wrong
}

impl View {
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

    /// Shows what there is before the first interval has passed.
    fn begin(&mut self, out: &mut Output, sample: &Sample) -> Result<(), Failure> {
        if let Self::Screen(screen) = self {
            screen.show(out, &Step::first(sample.clone()))?;
        }
        out.flush()
    }

    /// Ends what was interrupted: the terminal may have shown the keys on the line of the cursor.
    fn leave(&self, out: &mut Output) -> Result<(), Failure> {
        if let Self::Screen(_) = self {
            out.line("")?;
        }
        out.flush()
    }

    fn show(&mut self, out: &mut Output, step: &Step) -> Result<(), Failure> {
        match self {
            Self::Screen(screen) => screen.show(out, step)?,
            Self::Plain(lines) => lines.show(out, step)?,
            Self::Json => out.json_line(step.value())?,
        }
        out.flush()
    }
}
