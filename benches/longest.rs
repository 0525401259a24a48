//! Measures the longest operations: how long they took, and what happened in them.
//!
//! `cargo bench --bench longest -- --entries 10000000 --dir target/longest` measures on the disk
//! with `target`, in some minutes. Each phase prints percentiles and its ten longest operations,
//! with what changed in the files and in the process; beside them the machine's own pauses, and
//! those of plain stores to a preallocated mapping.

#[path = "longest/observe.rs"]
mod observe;
#[path = "longest/plain.rs"]
mod plain;
#[path = "longest/record.rs"]
mod record;
#[allow(dead_code, reason = "what the other benchmarks use of it")]
mod workload;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mmapcache::{MmapCache, Writer};
use observe::Observer;
use record::Recorder;
use workload::{Key, mix, value};

struct Arguments {
    entries: u64,
    dir: Option<PathBuf>,
    /// Prints only phases with this in their name; what they need runs nevertheless.
    phases: Option<String>,
    modes: Vec<Mode>,
}

fn arguments() -> Arguments {
    let mut parsed = Arguments {
        entries: 1_000_000,
        dir: None,
        phases: None,
        modes: vec![Mode::Batch, Mode::Single],
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut next = || words.next().expect("a value after the option");
        match word.as_str() {
            "--entries" => parsed.entries = next().parse().expect("a number of entries"),
            "--dir" => parsed.dir = Some(next().into()),
            "--phases" => parsed.phases = Some(next()),
            "--batch" => parsed.modes = vec![Mode::Batch],
            "--single" => parsed.modes = vec![Mode::Single],
            _ => {}
        }
    }
    parsed
}

/// How a phase takes the lock.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// One writer for the whole phase.
    Batch,
    /// A lock for each operation.
    Single,
}

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Self::Batch => "in a writer",
            Self::Single => "one lock each",
        }
    }
}

/// The change of a key.
#[derive(Clone, Copy)]
enum Change {
    Put,
    Delete,
}

struct Run<'a> {
    cache: MmapCache,
    path: PathBuf,
    entries: u64,
    arguments: &'a Arguments,
}

impl Run<'_> {
    /// Changes one key after another, and prints how long that took.
    fn phase(&self, name: &str, mode: Mode, change: Change, key: impl Fn(u64) -> u64) {
        let name = format!("{name}, {}", mode.name());
        let mut recorder = Recorder::new(self.entries);
        let mut undisturbed = Recorder::new(self.entries);
        let mut observer = Observer::new(&self.path);
        let mut writer = (mode == Mode::Batch).then(|| self.cache.writer().expect("the lock"));
        let began = Instant::now();
        observer.look(&self.cache);
        for turn in 0..self.entries {
            let number = key(turn);
            let (key, value) = (Key::new(number), value(number ^ turn));
            let start = Instant::now();
            self.change(writer.as_mut(), change, key.bytes(), &value);
            let took = start.elapsed();
            let before = observer.look(&self.cache);
            if !observer.was_preempted(&before) {
                undisturbed.add(took, || observer.difference(&before));
            }
            recorder.add(took, || observer.difference(&before));
        }
        let took = began.elapsed();
        drop(writer);
        self.print(&name, &mut recorder, &mut undisturbed, took);
    }

    fn change(&self, writer: Option<&mut Writer<'_>>, change: Change, key: &[u8], value: &[u8]) {
        match (change, writer) {
            (Change::Put, Some(writer)) => drop(writer.put(key, value).expect("room")),
            (Change::Put, None) => drop(self.cache.put(key, value).expect("room")),
            (Change::Delete, Some(writer)) => drop(writer.delete(key).expect("room")),
            (Change::Delete, None) => drop(self.cache.delete(key).expect("room")),
        }
    }

    fn print(
        &self,
        name: &str,
        recorder: &mut Recorder,
        undisturbed: &mut Recorder,
        took: Duration,
    ) {
        let wanted = self.arguments.phases.as_deref();
        if wanted.is_none_or(|wanted| name.contains(wanted)) {
            recorder.print_line(name);
            recorder.print_longest();
            undisturbed.print_line("the same, but what was preempted");
            undisturbed.print_longest();
            plain::pauses(took.min(Duration::from_secs(10))).print_line("the clock alone");
        }
    }
}

fn run(dir: &Path, arguments: &Arguments, mode: Mode) {
    let entries = arguments.entries;
    let path = dir.join(format!("cache-{}", mode as u8));
    let cache = MmapCache::open(&path).expect("a cache");
    let run = Run {
        cache,
        path,
        entries,
        arguments,
    };
    let any = |turn: u64| mix(turn) % entries;
    // Odd, and without a common divisor with any round number: each key once, in scattered order.
    let each = |turn: u64| (turn * 0x9e37_79b1) % entries;
    run.phase("load", mode, Change::Put, |turn| turn);
    run.phase("overwrite", mode, Change::Put, any);
    run.phase("overwrite again", mode, Change::Put, |turn| {
        any(turn + entries)
    });
    run.cache.flush().expect("a flush");
    run.phase("overwrite what was flushed", mode, Change::Put, |turn| {
        any(turn + 2 * entries)
    });
    run.phase("delete all", mode, Change::Delete, each);
    run.phase("put back", mode, Change::Put, each);
    println!("\n{:?}\n{:?}", run.cache.stats(), run.cache.disk_usage());
}

fn main() {
    let arguments = arguments();
    let scratch = match &arguments.dir {
        Some(dir) => {
            std::fs::create_dir_all(dir).expect("the directory");
            tempfile::tempdir_in(dir)
        }
        None => tempfile::tempdir(),
    }
    .expect("a directory for the benchmark");
    println!(
        "{} entries in {}",
        arguments.entries,
        scratch.path().display()
    );
    Recorder::print_head();
    let path = scratch.path().join("plain");
    let [mut all, mut undisturbed] = plain::stores(&path, arguments.entries);
    all.print_line("plain stores");
    undisturbed.print_line("the same, but what was preempted");
    for &mode in &arguments.modes {
        run(scratch.path(), &arguments, mode);
    }
}
