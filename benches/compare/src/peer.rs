//! Other processes that use the same store: one that obeys orders line by line, and some that do
//! one thing and end.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use crate::clock::Clock;
use crate::keys::{Batch, Key, consume};
use crate::plan::Plan;
use crate::store::{Access, Error, Result, Store};
use crate::stores::Visit;
use crate::workload::writers::{self, Overwritten};
use crate::workload::{cold, get_each, keys_to_get, time, write_until};

/// The other process, from the side that started it.
pub(crate) struct Peer {
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

/// This same program, even if its file has been rebuilt since.
fn command(role: &str, plan: &Plan, dir: &Path) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command
        .args([role, "--store", &plan.store])
        .args(["--entries", &plan.size.entries.to_string()])
        .args(["--value", &plan.size.value.to_string()])
        .arg("--dir")
        .arg(dir);
    command
}

impl Peer {
    /// Returns once the process has the store open and has read some of it.
    pub(crate) fn start(plan: &Plan, dir: &Path, access: Access) -> Result<Self> {
        let access = match access {
            Access::Create => "create",
            Access::Write => "write",
            Access::Read => "read",
        };
        let mut child = command("peer", plan, dir)
            .args(["--access", access])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let orders = child.stdin.take();
        let answers = child.stdout.take().ok_or_else(gone)?;
        let mut peer = Self {
            child,
            orders,
            answers: BufReader::new(answers),
        };
        peer.answer()?;
        Ok(peer)
    }

    pub(crate) fn tell(&mut self, order: &str) -> Result<()> {
        let orders = self.orders.as_mut().ok_or_else(gone)?;
        Ok(writeln!(orders, "{order}")?)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        Ok(line)
    }

    pub(crate) fn answer(&mut self) -> Result<f64> {
        self.line()?.trim().parse().map_err(|_| gone())
    }

    /// The answer to `overwrite`.
    pub(crate) fn overwritten(&mut self) -> Result<Overwritten> {
        serde_json::from_str(&self.line()?).map_err(|_| gone())
    }

    pub(crate) fn ask(&mut self, order: &str) -> Result<f64> {
        self.tell(order)?;
        self.answer()
    }
}

fn gone() -> Error {
    Error::Failed("the other process ended early".to_owned())
}

impl Drop for Peer {
    fn drop(&mut self) {
        // The process ends when its orders do.
        self.orders = None;
        let _ended = self.child.wait();
    }
}

/// The other process, from its own side.
pub(crate) struct Obey<'a>(pub(crate) &'a Plan, pub(crate) Access);

impl Visit for Obey<'_> {
    type Output = ();

    fn visit<S: Store>(self) -> Result<()> {
        let Self(plan, access) = self;
        let (entries, value) = (plan.size.entries, plan.size.value);
        let mut store = S::open(&plan.dir, access, entries)?;
        let seed = u64::from(std::process::id());
        get_each(&mut store, &keys_to_get(entries, plan.reads(), seed))?;
        answer(0.0);
        let orders = orders();
        let mut seed = seed << 20;
        let mut batch = Batch::default();
        while let Ok(order) = orders.recv() {
            if let Some(count) = order.strip_prefix("read ") {
                let count: u64 = count.parse()?;
                seed += 1;
                let keys = keys_to_get(entries, count, seed);
                answer(time(count, || get_each(&mut store, &keys))?);
            } else if order == "write" {
                let stop = || orders.try_recv().is_ok();
                answer(write_until(&mut store, entries, value, stop)?);
            } else if let Some(writer) = order.strip_prefix("prepare ") {
                batch = writers::laid_out(plan, writer.parse()?);
                answer(0.0);
            } else if let Some(period) = order.strip_prefix("overwrite ") {
                let period = serde_json::from_str(period)?;
                let done = writers::overwrite(&mut store, &batch, period)?;
                println!("{}", serde_json::to_string(&done)?);
            }
        }
        store.close()
    }
}

fn answer(number: f64) {
    println!("{number}");
}

/// Receives orders on a thread, so that a loop can check for the next one without waiting.
fn orders() -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(std::result::Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

/// Opens a store that another process filled, gets one key, and answers with the microseconds.
pub(crate) struct FirstGet<'a>(pub(crate) &'a Plan);

impl Visit for FirstGet<'_> {
    type Output = ();

    fn visit<S: Store>(self) -> Result<()> {
        let key = Key::new(self.0.size.entries / 2);
        let mut sum = 0;
        let clock = Clock::start()?;
        let mut store = S::open(&self.0.dir, Access::Write, self.0.size.entries)?;
        let found = store.get(key.bytes(), |value| sum = consume(value))?;
        let took = clock.elapsed()?;
        std::hint::black_box(sum);
        if !found {
            return Err(Error::Failed("the first get found nothing".to_owned()));
        }
        answer(took as f64 / 1e3);
        store.close()
    }
}

pub(crate) fn opened_to_first_get(plan: &Plan, dir: &Path) -> Result<f64> {
    let answer = answered(&mut command("first-get", plan, dir))?;
    answer.trim().parse().map_err(|_| gone())
}

/// Waits for a process to end, and returns what it printed.
fn answered(command: &mut Command) -> Result<String> {
    let output = command.stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(gone());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Fills a store, and syncs it.
pub(crate) struct Fill<'a>(pub(crate) &'a Plan);

impl Visit for Fill<'_> {
    type Output = ();

    fn visit<S: Store>(self) -> Result<()> {
        cold::fill::<S>(self.0)
    }
}

pub(crate) fn filled(plan: &Plan, dir: &Path) -> Result<()> {
    answered(&mut command("fill", plan, dir)).map(drop)
}

/// Drops the page cache, opens a store, gets keys, and answers with times and bytes.
pub(crate) struct ColdGets<'a>(pub(crate) &'a Plan, pub(crate) u64);

impl Visit for ColdGets<'_> {
    type Output = ();

    fn visit<S: Store>(self) -> Result<()> {
        println!("{}", cold::gets::<S>(self.0, self.1)?.answer());
        Ok(())
    }
}

pub(crate) fn got_from_disk(plan: &Plan, dir: &Path, turn: u64) -> Result<cold::Cold> {
    let mut command = command("cold-gets", plan, dir);
    cold::Cold::parsed(&answered(command.args(["--turn", &turn.to_string()]))?)
}
