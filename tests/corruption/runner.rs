//! Runs one case: every operation on the files that a mutation leaves, under limits of time, memory
//! and disk.
//!
//! Measures the whole process, so that one case runs at a time. If a case hangs, its name is
//! printed and the process aborts.

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

/// All operations of a case together may take this long, in the best of some tries.
const TIME: Duration = Duration::from_secs(1);
const TRIES: u32 = 5;
/// A case that takes this long has hung.
const HANG: Duration = Duration::from_secs(60);
/// Bytes of memory, and of disk, that a case may use in addition to four times the files.
const ROOM: usize = 16 << 20;
/// Kinds of failures after which further cases are skipped.
const ENOUGH: usize = 12;

/// When the files are changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timing {
    /// Before they are opened.
    Closed,
    /// Under handles that are already open.
    Open,
    /// Before a repair.
    Repaired,
}

/// The results of all cases of a list.
#[derive(Debug, Default)]
pub(crate) struct Runner {
    pub(crate) cases: usize,
    pub(crate) repaired: usize,
    pub(crate) longest: Duration,
    pub(crate) most_memory: usize,
    /// What failed, by the beginning of its message.
    failed: BTreeMap<String, (usize, String)>,
}

impl Runner {
    /// Applies mutations together and runs every operation.
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

    /// Fails with all messages, if there are any.
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

/// Runs every operation on a copy of the files; returns the bytes that they take on the disk.
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
            // The files are mapped, and unchanged.
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

/// How long this thread was ready to run while others had the processor, which is not the case's
/// time. Zero if the system does not say.
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

/// Keeps an undamaged cache and its changed files for a developer to read.
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

/// The running case, and when it began.
type Running = Option<(String, Instant)>;

struct Alone(#[expect(dead_code, reason = "is held")] MutexGuard<'static, ()>);

/// Waits until no other case runs, and has this one watched for hanging.
fn one_at_a_time(name: &str) -> Alone {
    static GATE: Mutex<()> = Mutex::new(());
    let alone = GATE.lock().unwrap_or_else(PoisonError::into_inner);
    *running() = Some((name.to_owned(), Instant::now()));
    Alone(alone)
}

/// Runs `run` while no case is measured.
pub(crate) fn between_cases<T>(run: impl FnOnce() -> T) -> T {
    let _alone = one_at_a_time("preparing");
    run()
}

thread_local! {
    /// Whether a panic of this thread is a failure that the runner collects.
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Suppresses the output of panics that the runner collects.
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
