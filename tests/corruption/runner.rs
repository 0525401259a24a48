//! One mutation, tried out: every operation on the files that it leaves, under limits of time,
//! memory and disk.
//!
//! Measures the whole process, so one case runs at a time. A case that hangs ends the process
//! and is named.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use peak_alloc::PeakAlloc;

use super::corruption::affected::Affected;
use super::corruption::checker::{Checker, read_only, writable};
use super::corruption::image::Image;
use super::corruption::mutation::Mutation;
use super::corruption::repair_check;
use super::corruption::sample_cache::{SampleCache, scratch};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// All operations of a case together may take this long, at least once in some tries.
const TIME: Duration = Duration::from_secs(1);
const TRIES: u32 = 5;
/// A case that takes this long has hung.
const HANG: Duration = Duration::from_secs(60);
/// Bytes of memory, and of disk, that a case may use on top of four times the files.
const ROOM: usize = 16 << 20;
/// Trials that fail before the others are left out.
const ENOUGH: usize = 12;

/// When the operations begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timing {
    /// On files that were changed before they were opened.
    Closed,
    /// Under handles that were open when the files were changed.
    Open,
    /// After a repair of the changed files.
    Repaired,
}

/// What cases came to.
#[derive(Debug, Default)]
pub(crate) struct Runner {
    pub(crate) cases: usize,
    pub(crate) repaired: usize,
    pub(crate) longest: Duration,
    pub(crate) most_memory: usize,
    /// What failed, by the beginning of the complaint.
    failed: BTreeMap<String, (usize, String)>,
}

impl Runner {
    /// Tries mutations that are applied together.
    pub(crate) fn run_case(
        &mut self,
        sample: &SampleCache,
        mutations: &[Mutation],
        timing: Timing,
    ) {
        if self.failed.len() >= ENOUGH {
            return;
        }
        let name = format!("{timing:?} {mutations:?}");
        self.cases += 1;
        self.repaired += usize::from(mutations.iter().any(|mutation| mutation.repaired));
        let mut image = sample.image.clone();
        for mutation in mutations {
            mutation.apply(&mut image, sample);
        }
        let alone = one_at_a_time(&name);
        QUIET.set(true);
        let tried = catch_unwind(AssertUnwindSafe(|| {
            self.within_limits(sample, &image, timing)
        }));
        QUIET.set(false);
        drop(alone);
        if let Err(panic) = tried {
            let text = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("a panic");
            let kind: String = text.chars().take(50).collect();
            if let Some((times, _)) = self.failed.get_mut(&kind) {
                *times += 1;
                return;
            }
            let kept = keep(sample, &image);
            let whole: String = text.chars().take(700).collect();
            let complaint = format!("{name}\n    {whole}\n    kept at {}", kept.display());
            println!("{complaint}");
            self.failed.insert(kind, (1, complaint));
        }
    }

    fn within_limits(&mut self, sample: &SampleCache, image: &Image, timing: Timing) {
        let affected = Affected::between(sample, image);
        let allowed = 4 * sample.image.total().max(image.total()) + ROOM;
        let mut tries = 0;
        loop {
            MEMORY.reset_peak_usage();
            let before = MEMORY.current_usage();
            let (began, queued) = (Instant::now(), time_in_queue());
            let disk = operate(sample, image, &affected, timing);
            let took = began.elapsed().saturating_sub(time_in_queue() - queued);
            let memory = MEMORY.peak_usage().saturating_sub(before);
            self.most_memory = self.most_memory.max(memory);
            assert!(memory <= allowed, "{memory} bytes of memory");
            assert!(disk <= allowed as u64, "{disk} bytes of disk");
            tries += 1;
            if took <= TIME {
                self.longest = self.longest.max(took);
                return;
            }
            assert!(
                tries < TRIES,
                "each time longer than {TIME:?}, at last {took:?}"
            );
        }
    }

    /// Fails with all complaints, if there are any.
    #[track_caller]
    pub(crate) fn finish(self, what: &str) {
        println!(
            "{what}: {} cases, {} of them with repaired checksums; at most {:?} and {} KiB each",
            self.cases,
            self.repaired,
            self.longest,
            self.most_memory >> 10
        );
        assert!(self.cases > 0, "{what}: nothing was tried");
        let complaints: Vec<_> = self
            .failed
            .values()
            .map(|(times, complaint)| format!("{times} times, first {complaint}"))
            .collect();
        assert!(complaints.is_empty(), "{what}:\n{}", complaints.join("\n"));
    }
}

/// Every operation on a copy of the files; returns the blocks that they take at the most.
fn operate(sample: &SampleCache, image: &Image, affected: &Affected, timing: Timing) -> u64 {
    let dir = scratch();
    let path = dir.path().join("cache");
    let checker = Checker::new(sample, affected, "");
    match timing {
        Timing::Closed => {
            image.write_to(&path).expect("files to write");
            checker.check_all(&path);
        }
        Timing::Repaired => {
            image.write_to(&path).expect("files to write");
            repair_check::run(sample, image, affected, &path);
        }
        Timing::Open => {
            sample.image.write_to(&path).expect("files to write");
            let reader = read_only().open(&path).expect("a sound cache");
            let writer = writable().open(&path).expect("a sound cache");
            // Mapped, and seen as it was.
            assert_eq!(
                reader.iter().expect("a listing").count(),
                sample.versions.len()
            );
            assert_eq!(
                writer.keys().expect("a listing").count(),
                sample.versions.len()
            );
            image
                .store_over(&sample.image, &path)
                .expect("files to change");
            checker.read_all(&reader);
            checker.write_all(&writer);
            checker.read_all(&reader);
            drop(writer);
            checker.reopened();
            checker.check_writers(&path);
        }
    }
    blocks(dir.path())
}

/// How long this thread was ready to run while others had the processor: no fault of the case's.
/// Where the system does not tell, nothing is taken off.
fn time_in_queue() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let waited = text
        .split_whitespace()
        .nth(1)
        .and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(waited.unwrap_or(0))
}

fn blocks(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = std::fs::read_dir(dir).expect("a directory");
    let blocks = entries
        .filter_map(|entry| entry.ok()?.metadata().ok())
        .map(|meta| meta.blocks());
    blocks.sum::<u64>() * 512
}

/// Puts a sound cache and its changed files where they stay.
fn keep(sample: &SampleCache, image: &Image) -> PathBuf {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let dir = tempfile::Builder::new().prefix("damage-").tempdir_in(root);
    let dir = dir.expect("a place to keep files").keep();
    for (name, image) in [("sound", &sample.image), ("damaged", image)] {
        let place = dir.join(name);
        std::fs::create_dir(&place).expect("a directory");
        image.write_to(&place.join("cache")).expect("files to keep");
    }
    dir
}

/// The case that runs, and since when.
type Running = Option<(String, Instant)>;

struct Alone(#[expect(dead_code, reason = "is held")] MutexGuard<'static, ()>);

/// Waits until no other case runs, and has this one watched.
fn one_at_a_time(name: &str) -> Alone {
    static GATE: Mutex<()> = Mutex::new(());
    let alone = GATE.lock().unwrap_or_else(PoisonError::into_inner);
    *running() = Some((name.to_owned(), Instant::now()));
    Alone(alone)
}

/// Runs something while no case is measured.
pub(crate) fn without_a_case<T>(run: impl FnOnce() -> T) -> T {
    let _alone = one_at_a_time("preparing");
    run()
}

thread_local! {
    /// Whether a panic of this thread is a complaint that is collected.
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Keeps the traces of collected complaints from being printed.
fn quieten() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !QUIET.get() {
            usual(panic);
        }
    }));
}

impl Drop for Alone {
    fn drop(&mut self) {
        *running() = None;
    }
}

fn running() -> MutexGuard<'static, Running> {
    static RUNNING: OnceLock<Mutex<Running>> = OnceLock::new();
    let running = RUNNING.get_or_init(|| {
        quieten();
        std::thread::spawn(|| {
            loop {
                std::thread::sleep(HANG / 10);
                if let Some((name, since)) = &*running()
                    && since.elapsed() > HANG
                {
                    eprintln!("hangs: {name}");
                    std::process::abort();
                }
            }
        });
        Mutex::new(None)
    });
    running.lock().unwrap_or_else(PoisonError::into_inner)
}
