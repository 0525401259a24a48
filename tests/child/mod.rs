//! Child processes for the tests: the test binary runs itself again in a role.
//!
//! A test file that uses this has one test named `child`, which passes its roles to [`play`].
#![allow(dead_code, reason = "each test binary uses another part of this")]

pub(crate) mod ack_log;
pub(crate) mod checking_reader;
pub(crate) mod contents;
pub(crate) mod expected_state;
pub(crate) mod kills;
pub(crate) mod lock_watch;
pub(crate) mod process_group;
pub(crate) mod reader;
pub(crate) mod rebuilds;
pub(crate) mod scratch;
pub(crate) mod user;
pub(crate) mod worker;

use std::fmt::Display;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{self, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mmapcache::Options;

const ROLE: &str = "MMAPCACHE_TEST_ROLE";
const PATH: &str = "MMAPCACHE_TEST_PATH";
const NUMBERS: &str = "MMAPCACHE_TEST_NUMBERS";
/// Begins each line of a child; no output of the test runner begins like this.
const MARK: &str = "> ";

/// The arguments of a child.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) path: PathBuf,
    pub(crate) numbers: Vec<u64>,
}

/// A role: its name and the function that the child runs.
pub(crate) type Role = (&'static str, fn(&Part));

/// Runs the role that the environment names; returns at once if it names none.
pub(crate) fn play(roles: &[Role]) {
    let Ok(name) = std::env::var(ROLE) else {
        return;
    };
    let numbers = std::env::var(NUMBERS).expect("the numbers of the part");
    let part = Part {
        path: std::env::var_os(PATH)
            .expect("the path of the cache")
            .into(),
        numbers: numbers
            .split_whitespace()
            .map(|number| number.parse().expect("a number"))
            .collect(),
    };
    let (_, role) = roles
        .iter()
        .find(|(known, _)| *known == name)
        .expect("a role of this test file");
    role(&part);
}

/// Sends a line to the parent in one write, so that a kill loses all of it or nothing.
pub(crate) fn say(text: impl Display) {
    let line = format!("{MARK}{text}\n");
    let mut output = std::io::stdout().lock();
    output.write_all(line.as_bytes()).expect("the parent reads");
    output.flush().expect("the parent reads");
}

/// Returns the parent's next line without its end, or `None` after the last.
pub(crate) fn hear() -> Option<String> {
    let mut line = String::new();
    let length = std::io::stdin().read_line(&mut line).expect("a line");
    (length > 0).then(|| line.trim_end().to_owned())
}

/// Returns a flag that is set once the parent has closed the child's input, or has ended.
pub(crate) fn dismissal() -> Arc<AtomicBool> {
    let dismissed = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&dismissed);
    std::thread::spawn(move || {
        let ended = std::io::stdin().read_to_end(&mut Vec::new());
        flag.store(true, Ordering::Relaxed);
        ended.expect("an input that ends");
    });
    dismissed
}

/// A child process in a role. Dropping it kills the process.
#[derive(Debug)]
pub(crate) struct Child {
    process: process::Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

/// Returns a command that runs a test binary, under the emulator that the environment names if it
/// is of another architecture.
fn run(program: &Path) -> Command {
    let emulator = std::env::var("MMAPCACHE_TEST_RUNNER").unwrap_or_default();
    let mut words = emulator.split_whitespace();
    let Some(first) = words.next() else {
        return Command::new(program);
    };
    let mut command = Command::new(first);
    command.args(words).arg(program);
    command
}

impl Child {
    pub(crate) fn start(role: &str, path: &Path, numbers: &[u64]) -> Self {
        let numbers: Vec<String> = numbers.iter().map(u64::to_string).collect();
        let program = std::env::current_exe().expect("the path of the test binary");
        let mut process = run(&program)
            .args(["child", "--exact", "--nocapture", "--test-threads=1", "-q"])
            .env(ROLE, role)
            .env(PATH, path)
            .env(NUMBERS, numbers.join(" "))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a child process");
        let output = process.stdout.take().expect("the child's output");
        Self {
            input: process.stdin.take(),
            output: BufReader::new(output),
            process,
        }
    }

    /// Returns the child's next line, or `None` once its output has ended.
    pub(crate) fn line(&mut self) -> Option<String> {
        read_line(&mut self.output)
    }

    #[track_caller]
    pub(crate) fn expect(&mut self, line: &str) {
        assert_eq!(self.line().as_deref(), Some(line));
    }

    pub(crate) fn tell(&mut self, line: &str) {
        let input = self.input.as_mut().expect("an input that is still open");
        writeln!(input, "{line}").expect("the child reads");
    }

    /// Sends a line to the child and returns its answer.
    #[track_caller]
    pub(crate) fn ask(&mut self, line: &str) -> String {
        self.tell(line);
        self.line().expect("an answer")
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Stops the child until it is woken.
    #[expect(unsafe_code, reason = "kill is a call of the C library")]
    pub(crate) fn stop(&self) {
        // SAFETY: the process is a child that was not waited for, so its id is its own.
        let failed = unsafe { libc::kill(self.process.id() as libc::pid_t, libc::SIGSTOP) };
        assert_eq!(failed, 0, "a child to stop");
        // The signal takes effect a moment later, thread by thread.
        while cfg!(target_os = "linux") && !self.is_stopped() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Returns whether all threads of the child are stopped, or it is gone.
    fn is_stopped(&self) -> bool {
        let tasks = format!("/proc/{}/task", self.process.id());
        let tasks = std::fs::read_dir(tasks).into_iter().flatten().flatten();
        tasks
            .filter_map(|task| std::fs::read_to_string(task.path().join("stat")).ok())
            .all(|stat| {
                stat.rsplit(')')
                    .next()
                    .is_some_and(|rest| rest.trim_start().starts_with(['T', 't']))
            })
    }

    #[expect(unsafe_code, reason = "kill is a call of the C library")]
    pub(crate) fn wake(&self) {
        // SAFETY: the process is a child that was not waited for, so its id is its own.
        let failed = unsafe { libc::kill(self.process.id() as libc::pid_t, libc::SIGCONT) };
        assert_eq!(failed, 0, "a child to wake");
    }

    pub(crate) fn is_alive(&mut self) -> bool {
        self.process.try_wait().expect("a lookup").is_none()
    }

    /// Closes the child's input, which asks it to end.
    pub(crate) fn dismiss(&mut self) {
        self.input = None;
    }

    /// Closes the child's input, waits for its end, and returns its last line.
    #[track_caller]
    pub(crate) fn finish(mut self) -> String {
        self.dismiss();
        let mut last = String::new();
        while let Some(line) = self.line() {
            last = line;
        }
        let status = self.process.wait().expect("the end of the child");
        assert!(status.success(), "the child ended with {status}");
        last
    }

    /// Waits for the child's end, successful or not.
    pub(crate) fn wait(&mut self) -> process::ExitStatus {
        self.process.wait().expect("the end of the child")
    }

    /// Kills the child, as the system does when memory runs out. Its output can still be read.
    pub(crate) fn kill(&mut self) {
        self.process.kill().expect("a child to kill");
        self.process.wait().expect("the end of the child");
    }

    /// Kills the child without waiting for its end.
    pub(crate) fn send_kill(&mut self) {
        self.process.kill().expect("a child to kill");
    }

    /// Waits for the end of the child, and asserts that a kill has ended it.
    #[track_caller]
    pub(crate) fn expect_killed(&mut self) {
        let status = self.wait();
        assert_eq!(status.signal(), Some(libc::SIGKILL), "it gave up: {status}");
    }

    /// Returns the CPU time that the child has used so far, in seconds.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id()));
        let stat = stat.unwrap_or_default();
        let fields = stat.rsplit(')').next().unwrap_or_default();
        let ticks = fields.split_whitespace().skip(11).take(2);
        let ticks: u64 = ticks.filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
        ticks as f64 / rustix::param::clock_ticks_per_second() as f64
    }

    /// Lets the child work for a while, kills it, and returns its last line.
    pub(crate) fn kill_after(mut self, pause: Duration) -> Option<String> {
        let Self {
            process, output, ..
        } = &mut self;
        std::thread::scope(|scope| {
            // Output is read all the time: otherwise the child would block in a write, and every
            // kill would hit it there.
            let last = scope.spawn(|| std::iter::from_fn(|| read_line(output)).last());
            std::thread::sleep(pause);
            let alive = process.try_wait().expect("a lookup").is_none();
            process.kill().expect("a child to kill");
            process.wait().expect("the end of the child");
            assert!(alive, "the child ended before it was killed");
            last.join().expect("the last line")
        })
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Usually it has ended already; then both calls do nothing.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn read_line(output: &mut impl BufRead) -> Option<String> {
    let mut line = String::new();
    loop {
        line.clear();
        if output.read_line(&mut line).expect("a line") == 0 {
            return None;
        }
        if let Some((_, text)) = line.trim_end_matches('\n').split_once(MARK) {
            return Some(text.to_owned());
        }
    }
}

/// Regions, segments and thresholds so small that growing and cleaning never pause.
pub(crate) fn tight() -> Options {
    let mut options = Options::new();
    options
        .region_slots(16)
        .max_segment_bytes(16 * 1024)
        .compaction_threshold(50, 1024);
    options
}
