//! How far a long piece of work is, on standard error: only where that is a terminal, and only after
//! the work has taken a second.
//!
//! Knows how it is drawn, not what the work is.

use std::io::{self, IsTerminal};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Times that a bar is drawn in a second.
const DRAWN: u8 = 5;

/// After how long a bar is drawn, once it was set.
static AFTER: OnceLock<Duration> = OnceLock::new();
/// The bar that is drawn now: other lines on standard error go around it.
static SHOWN: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// Sets after how long a bar is drawn; a second, if nobody does.
pub(crate) fn after(delay: Duration) {
    let _ = AFTER.set(delay);
}

/// Runs a closure that writes to standard error, around the bar that is drawn there, if any is.
pub(crate) fn around(write: impl FnOnce()) {
    let bar = SHOWN.lock().unwrap_or_else(PoisonError::into_inner).clone();
    match bar {
        Some(bar) => bar.suspend(write),
        None => write(),
    }
}

/// A piece of work under way. Its bar goes when this is dropped.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
    waiting: Option<(Sender<()>, JoinHandle<()>)>,
}

/// Work on so many bytes, named by what is done to them.
pub(crate) fn of_bytes(what: &str) -> Progress {
    let place = "{bar:30} {binary_bytes}/{binary_total_bytes}, {eta} left";
    Progress::start(&format!("{what} {place}"))
}

/// Work on so many things: entries, regions, labels.
pub(crate) fn of_count(what: &str, count: u64) -> Progress {
    let progress = Progress::start(&format!(
        "{what} {{bar:30}} {{human_pos}}/{{human_len}}, {{eta}} left"
    ));
    progress.bar.set_length(count);
    progress
}

/// Work of which it is not known how much there is: how many things are done so far.
pub(crate) fn of_unknown(what: &str) -> Progress {
    Progress::start(&format!("{{spinner}} {what} {{human_pos}}, {{elapsed}}"))
}

/// Work that prints lines on standard output, of so many things: none where that is a terminal too,
/// on which the lines themselves show how far it is.
pub(crate) fn of_printing(what: &str, count: u64) -> Option<Progress> {
    (!io::stdout().is_terminal()).then(|| of_count(what, count))
}

/// Work of which nothing is known but how long it has taken.
pub(crate) fn of_time(what: &str) -> Progress {
    Progress::start(&format!("{{spinner}} {what}, {{elapsed}}"))
}

impl Progress {
    /// So much of so much is done.
    pub(crate) fn set(&self, done: u64, all: u64) {
        self.bar.set_length(all);
        self.bar.set_position(done);
    }

    /// One more thing is done.
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
            // It ends by itself, and has nothing to say.
            let _ = waiting.join();
        }
        *SHOWN.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.bar.finish_and_clear();
    }
}

/// Draws a bar after a while, unless the sender is dropped before. None where there is no thread to
/// be had: the work goes on without.
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
    bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(DRAWN));
    bar.tick();
    bar.enable_steady_tick(Duration::from_secs(1) / DRAWN.into());
    *SHOWN.lock().unwrap_or_else(PoisonError::into_inner) = Some(bar.clone());
}
