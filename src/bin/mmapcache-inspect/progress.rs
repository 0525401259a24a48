//! Progress of long work on standard error: only if that is a terminal, and only after a second.

use std::io::{self, IsTerminal};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often a bar is drawn per second.
const RATE: u8 = 5;

/// The delay before a bar is drawn, if it was set.
static AFTER: OnceLock<Duration> = OnceLock::new();
/// The bar that is drawn now. It is suspended while other lines are printed.
static SHOWN: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// Sets the delay before a bar is drawn. The default is a second.
pub(crate) fn after(delay: Duration) {
    let _ = AFTER.set(delay);
}

/// Runs a closure that writes to standard error, with the bar suspended.
pub(crate) fn around(write: impl FnOnce()) {
    let bar = SHOWN.lock().unwrap_or_else(PoisonError::into_inner).clone();
    match bar {
        Some(bar) => bar.suspend(write),
        None => write(),
    }
}

/// The progress of work. Dropping it removes the bar.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
    waiting: Option<(Sender<()>, JoinHandle<()>)>,
}

/// Starts a bar for work that counts bytes. `what` names the work.
pub(crate) fn of_bytes(what: &str) -> Progress {
    let place = "{bar:30} {binary_bytes}/{binary_total_bytes}, {eta} left";
    Progress::start(&format!("{what} {place}"))
}

/// Starts a bar for work that counts things: entries, regions, labels.
pub(crate) fn of_count(what: &str, count: u64) -> Progress {
    let progress = Progress::start(&format!(
        "{what} {{bar:30}} {{human_pos}}/{{human_len}}, {{eta}} left"
    ));
    progress.bar.set_length(count);
    progress
}

/// Starts a bar for work of unknown size, which shows how many things are done.
pub(crate) fn of_unknown(what: &str) -> Progress {
    Progress::start(&format!("{{spinner}} {what} {{human_pos}}, {{elapsed}}"))
}

/// Starts a bar for work that prints lines on standard output. Returns `None` if that is a terminal
/// too: the lines themselves show the progress.
pub(crate) fn of_printing(what: &str, count: u64) -> Option<Progress> {
    (!io::stdout().is_terminal()).then(|| of_count(what, count))
}

/// Starts a bar that shows the elapsed time only.
pub(crate) fn of_time(what: &str) -> Progress {
    Progress::start(&format!("{{spinner}} {what}, {{elapsed}}"))
}

impl Progress {
    /// Sets how much is done, and the total.
    pub(crate) fn set(&self, done: u64, all: u64) {
        self.bar.set_length(all);
        self.bar.set_position(done);
    }

    /// Counts one more thing.
    pub(crate) fn step(&self) {
        self.bar.inc(1);
    }

    fn start(template: &str) -> Self {
        let style = ProgressStyle::with_template(template);
        let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::hidden());
        let bar = bar.with_style(style);
        let waiting = match AFTER.get().copied().unwrap_or(Duration::from_secs(1)) {
            _ if !io::stderr().is_terminal() => None,
            Duration::ZERO => {
                show(&bar);
                None
            }
            delay => show_after(&bar, delay),
        };
        Self { bar, waiting }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some((stop, waiting)) = self.waiting.take() {
            drop(stop);
            // The thread ends by itself and returns nothing.
            let _ = waiting.join();
        }
        *SHOWN.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.bar.finish_and_clear();
    }
}

/// Draws a bar after a delay, unless the sender is dropped before. Returns `None` if no thread can be
/// started: the work continues without a bar.
fn show_after(bar: &ProgressBar, delay: Duration) -> Option<(Sender<()>, JoinHandle<()>)> {
    let (stop, stopped) = mpsc::channel::<()>();
    let bar = bar.clone();
    let wait = move || {
        if stopped.recv_timeout(delay) == Err(RecvTimeoutError::Timeout) {
            show(&bar);
        }
    };
    let thread = std::thread::Builder::new().name("progress".to_owned());
    Some((stop, thread.spawn(wait).ok()?))
}

fn show(bar: &ProgressBar) {
    bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(RATE));
    bar.tick();
    bar.enable_steady_tick(Duration::from_secs(1) / RATE.into());
    *SHOWN.lock().unwrap_or_else(PoisonError::into_inner) = Some(bar.clone());
}
