//! Reads what can be seen of a cache and of this thread from outside, between two operations.
#![expect(
    unsafe_code,
    reason = "the system's account of a thread has no safe wrapper among our dependencies"
)]

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mmapcache::{MmapCache, Stats};
use rustix::time::{ClockId, clock_gettime};

/// Everything that is compared.
#[derive(Clone)]
pub(crate) struct Sight {
    stats: Stats,
    /// Length and blocks of the index, of the roster and of the newest segment.
    files: [(u64, u64); 3],
    processor: Duration,
    thread: Thread,
}

/// The kernel's counters of a thread.
#[derive(Clone, Copy, Default)]
pub(crate) struct Thread {
    small_faults: i64,
    disk_faults: i64,
    waits: i64,
    pub(crate) preemptions: i64,
}

impl Thread {
    pub(crate) fn now() -> Self {
        // SAFETY: all zeros are a valid `rusage`.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: the pointer is that of a live `rusage`, which the call fills.
        unsafe { libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage) };
        Self {
            small_faults: usage.ru_minflt,
            disk_faults: usage.ru_majflt,
            waits: usage.ru_nvcsw,
            preemptions: usage.ru_nivcsw,
        }
    }
}

pub(crate) struct Observer {
    index: PathBuf,
    open: [Option<File>; 3],
    last: Option<Sight>,
}

impl Observer {
    pub(crate) fn new(index: &Path) -> Self {
        Self {
            index: index.to_owned(),
            open: [None, None, None],
            last: None,
        }
    }

    /// Reads everything now, and returns what was read before.
    pub(crate) fn look(&mut self, cache: &MmapCache) -> Option<Sight> {
        let stats = cache.stats().expect("the header");
        let same = self.last.as_ref().is_some_and(|last| {
            last.stats.segments == stats.segments && last.stats.generation == stats.generation
        });
        if !same {
            self.reopen();
        }
        let files = [0, 1, 2].map(|at| {
            let meta = self.open[at].as_ref().and_then(|file| file.metadata().ok());
            meta.map_or((0, 0), |meta| (meta.len(), meta.blocks() * 512))
        });
        let time = clock_gettime(ClockId::ThreadCPUTime);
        self.last.replace(Sight {
            stats,
            files,
            processor: Duration::new(time.tv_sec as u64, time.tv_nsec as u32),
            thread: Thread::now(),
        })
    }

    fn reopen(&mut self) {
        let with = |suffix: &str| {
            let mut name = self.index.clone().into_os_string();
            name.push(suffix);
            PathBuf::from(name)
        };
        let heap = with(".heap");
        let prefix = heap.to_string_lossy().into_owned();
        let number = |path: &Path| {
            let name = path.to_string_lossy().into_owned();
            let rest = name.strip_prefix(&prefix)?;
            rest.strip_prefix('.').unwrap_or("0").parse::<u32>().ok()
        };
        let newest = fs::read_dir(self.index.parent().expect("a directory"))
            .expect("a directory")
            .filter_map(|entry| Some(entry.ok()?.path()))
            .max_by_key(|path| number(path));
        self.open = [
            File::open(&self.index).ok(),
            File::open(with(".roster")).ok(),
            newest.and_then(|path| File::open(path).ok()),
        ];
    }

    /// Returns whether this thread was preempted since `before`.
    pub(crate) fn was_preempted(&self, before: &Option<Sight>) -> bool {
        let of = |sight: &Sight| sight.thread.preemptions;
        before.as_ref().map(of) != self.last.as_ref().map(of)
    }

    /// Describes what changed since `before`.
    pub(crate) fn difference(&self, before: &Option<Sight>) -> String {
        let (Some(before), Some(after)) = (before, &self.last) else {
            return String::new();
        };
        let mut words = Vec::new();
        let (old, new) = (&before.stats, &after.stats);
        if old.generation != new.generation {
            words.push("a switch of generations".to_owned());
        }
        if new.slots > old.slots {
            words.push("a region split".to_owned());
        }
        if new.deleted + 1 < old.deleted {
            words.push("a region purged".to_owned());
        }
        let segments = new.segments as i64 - old.segments as i64;
        if segments != 0 {
            words.push(format!("segments {segments:+}"));
        }
        if new.dead_bytes < old.dead_bytes {
            words.push(format!(
                "reclaimed {}",
                kib(old.dead_bytes - new.dead_bytes)
            ));
        }
        for (at, name) in ["index", "roster", "segment"].iter().enumerate() {
            let (len, blocks) = (before.files[at], after.files[at]);
            if segments == 0 && old.generation == new.generation && blocks.1 != len.1 {
                words.push(format!("{name} +{}", kib(blocks.1.saturating_sub(len.1))));
            }
        }
        let processor = after.processor.saturating_sub(before.processor);
        words.push(format!(
            "on the processor {:.0} us",
            processor.as_secs_f64() * 1e6
        ));
        let (old, new) = (before.thread, after.thread);
        for (name, count) in [
            ("faults", new.small_faults - old.small_faults),
            ("disk faults", new.disk_faults - old.disk_faults),
            ("waits", new.waits - old.waits),
            ("preempted", new.preemptions - old.preemptions),
        ] {
            if count > 0 {
                words.push(format!("{name} {count}"));
            }
        }
        words.join(", ")
    }
}

fn kib(bytes: u64) -> String {
    format!("{} KiB", bytes / 1024)
}
