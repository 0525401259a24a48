//! The limits and defaults of a cache, its statistics, and what it reports of removals: over several
//! handles and processes.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "child/mod.rs"]
mod child;

use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use child::{Child, Part, hear, say};
use mmapcache::{
    Cache, CacheCounts, Error, ErrorKind, Eviction, InsertOptions, MetricKind, Options,
    RemovalCause, Result,
};
use tempfile::TempDir;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);
/// Offsets of the two copies of the settings in the index.
const COPIES: [u64; 2] = [1_024, 1_152];

/// Not a test: the entry point of the child processes.
#[test]
fn child() {
    child::play(&[("uses a cache", uses_a_cache)]);
}

/// Runs one operation on a cache for each line of the parent.
fn uses_a_cache(part: &Part) {
    let cache = Cache::open(&part.path).unwrap();
    say("ready");
    while let Some(line) = hear() {
        match line.as_str() {
            "limit" => {
                let builder = Cache::builder(&part.path).max_bytes(None);
                drop(builder.max_entries(77).open().unwrap());
                say("done");
            }
            "limits" => {
                let settings = cache.settings().unwrap();
                say(format!(
                    "{:?} {:?}",
                    settings.max_bytes, settings.max_entries
                ));
            }
            key => say(cache.get(key).unwrap().is_some()),
        }
    }
}

fn start(path: &Path) -> Child {
    let mut child = Child::start("uses a cache", path, &[]);
    child.expect("ready");
    child
}

fn place() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache");
    (dir, path)
}

fn read_only() -> Options {
    Options::new().read_only(true).clone()
}

/// Options that do not wait for the writer lock.
fn impatient() -> Options {
    Options::new().lock_timeout(Some(Duration::ZERO)).clone()
}

fn remaining(cache: &Cache, key: &str) -> Option<Duration> {
    cache.entry(key).unwrap().unwrap().remaining()
}

#[track_caller]
fn assert_close(left: Option<Duration>, expected: Duration) {
    let left = left.expect("a deadline");
    assert!(
        left <= expected && expected - left < 60 * SECOND,
        "{left:?}"
    );
}

fn kind<T>(refused: Result<T>) -> ErrorKind {
    refused
        .map(drop)
        .map_err(Error::into_kind)
        .expect_err("an error")
}

#[test]
fn processes_share_limits_and_defaults() {
    let (_dir, path) = place();
    let cache = Cache::builder(&path)
        .max_bytes(1 << 30)
        .max_entries(1_000)
        .time_to_live(HOUR)
        .time_to_idle(2 * HOUR)
        .stale_while_revalidate(SECOND)
        .stale_if_error(2 * SECOND)
        .eviction(Eviction::Fifo)
        .jitter(0.25)
        .open()
        .unwrap();
    let mut other = start(&path);
    assert_eq!(other.ask("limits"), "Some(1073741824) Some(1000)");
    assert_eq!(other.ask("limit"), "done");
    let settings = cache.settings().unwrap();
    assert_eq!(
        (settings.max_bytes, settings.max_entries),
        (None, Some(77)),
        "the other process changed them"
    );
    assert_eq!(settings.time_to_live, Some(HOUR));
    assert_eq!(settings.time_to_idle, Some(2 * HOUR));
    assert_eq!(settings.stale_while_revalidate, Some(SECOND));
    assert_eq!(settings.stale_if_error, Some(2 * SECOND));
    assert_eq!((settings.eviction, settings.jitter), (Eviction::Fifo, 0.25));
    // They belong to the files, not to a handle.
    drop(cache);
    other.finish();
    let cache = Cache::open(&path).unwrap();
    assert_eq!(cache.settings().unwrap(), settings);
    cache.clear().unwrap();
    assert_eq!(cache.settings().unwrap(), settings);
    let life = Cache::builder(&path).time_to_live(Duration::MAX);
    drop(life.open().unwrap());
    assert_eq!(cache.settings().unwrap().time_to_live, None);
}

#[test]
fn values_outside_ranges_are_refused() {
    let (_dir, path) = place();
    let builder = || Cache::builder(&path);
    let mut bounded = Options::new();
    bounded.max_entries(5);
    let mut growing = Options::new();
    growing.append_only(true);
    let cases = [
        (builder().max_bytes((1 << 20) - 1), "max_bytes"),
        (builder().max_entries(0), "max_entries"),
        (builder().time_to_live(Duration::ZERO), "time_to_live"),
        (
            builder().time_to_idle(Duration::from_micros(999)),
            "time_to_idle",
        ),
        (builder().jitter(0.51), "jitter"),
        (builder().jitter(-0.01), "jitter"),
        (builder().jitter(f64::NAN), "jitter"),
        (builder().options(&bounded), "Options::max_entries"),
        (builder().options(&growing), "Options::append_only"),
    ];
    for (builder, expected) in cases {
        match kind(builder.open()) {
            ErrorKind::InvalidOption { option, .. } => assert_eq!(option, expected),
            other => panic!("{expected}: {other:?}"),
        }
    }
    assert!(!path.exists(), "refused before anything is made");
    let edge = builder().max_bytes(1 << 20).max_entries(1).jitter(0.5);
    assert_eq!(edge.open().unwrap().settings().unwrap().jitter, 0.5);
}

#[test]
fn opening_locks_only_for_changes() {
    let (_dir, path) = place();
    drop(Cache::builder(&path).max_entries(10).open().unwrap());
    let owner = Options::new().exclusive(true).clone();
    let owner = Cache::open_with(&path, &owner).unwrap();
    let open = |entries: u64, options: &Options| {
        let builder = Cache::builder(&path).max_entries(entries);
        builder.options(options).open()
    };
    for options in [impatient(), read_only()] {
        let cache = open(10, &options).unwrap();
        assert_eq!(cache.settings().unwrap().max_entries, Some(10));
    }
    assert!(matches!(
        kind(open(11, &impatient())),
        ErrorKind::Locked { .. }
    ));
    drop(owner);
    assert!(matches!(kind(open(11, &read_only())), ErrorKind::ReadOnly));
    let settings = Cache::open(&path).unwrap().settings().unwrap();
    assert_eq!(settings.max_entries, Some(10));
}

#[test]
fn bounded_caches_have_small_segments() {
    let (_dir, path) = place();
    let value = vec![7; 100 << 10];
    let cache = Cache::builder(&path).max_bytes(1 << 20).open().unwrap();
    let refused = kind(cache.insert("key", &value));
    assert!(matches!(refused, ErrorKind::ValueTooLarge { .. }));
    // The size is fixed, and no other bound contradicts it.
    let wider = Cache::builder(&path).max_bytes(1 << 30).open().unwrap();
    assert!(wider.insert("key", &value).is_err());
    let larger = path.with_extension("larger");
    let cache = Cache::builder(&larger).max_bytes(16 << 20).open().unwrap();
    cache.insert("key", &value).unwrap();
    let chosen = path.with_extension("chosen");
    let options = Options::new().max_segment_bytes(64 << 10).clone();
    let builder = Cache::builder(&chosen).max_bytes(16 << 20);
    let cache = builder.options(&options).open().unwrap();
    assert!(cache.insert("key", &value).is_err());
}

fn flip(path: &Path, offset: u64) {
    let file = std::fs::File::options()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 1], offset).unwrap();
}

#[test]
fn one_copy_of_settings_suffices() {
    for copy in COPIES {
        let (_dir, path) = place();
        let cache = Cache::builder(&path).max_entries(10).open().unwrap();
        flip(&path, copy + 9);
        assert_eq!(cache.settings().unwrap().max_entries, Some(10));
        cache.insert("key", "value").unwrap();
        drop(Cache::builder(&path).max_entries(11).open().unwrap());
        assert_eq!(cache.settings().unwrap().max_entries, Some(11));
    }
}

#[test]
fn corrupt_settings_refuse_insertions_only() {
    let (_dir, path) = place();
    let cache = Cache::builder(&path)
        .time_to_live(HOUR)
        .max_entries(10)
        .open()
        .unwrap();
    cache.insert("key", "value").unwrap();
    for copy in COPIES {
        flip(&path, copy + 9);
    }
    for cache in [&cache, &Cache::open(&path).unwrap()] {
        assert_eq!(cache.get("key").unwrap().unwrap(), b"value");
        assert_close(remaining(cache, "key"), HOUR);
        for refused in [
            kind(cache.settings()),
            kind(cache.insert("other", "value")),
            kind(cache.add("other", "value", &InsertOptions::new())),
            kind(cache.insert_absent("other", HOUR)),
        ] {
            assert!(
                matches!(refused, ErrorKind::SettingsCorrupted),
                "{refused:?}"
            );
        }
        assert_eq!(cache.len_with_expired(), 1);
    }
    let repaired = Cache::builder(&path).max_entries(20).open().unwrap();
    let settings = cache.settings().unwrap();
    assert_eq!(settings.max_entries, Some(20));
    assert_eq!(settings.time_to_live, None, "what was not set again");
    repaired.insert("other", "value").unwrap();
    assert!(cache.remove("key").unwrap());
}

#[test]
fn insertions_get_the_default_life() {
    let (_dir, path) = place();
    let cache = Cache::open(&path).unwrap();
    cache.insert("before", "value").unwrap();
    drop(Cache::builder(&path).time_to_live(HOUR).open().unwrap());
    let options = InsertOptions::new();
    cache.insert("default", "value").unwrap();
    cache.add("added", "value", &options).unwrap().unwrap();
    let own = options.ttl(2 * HOUR);
    cache.insert_with("own", "value", &own).unwrap();
    let none = options.no_expiry();
    cache.insert_with("none", "value", &none).unwrap();
    cache.insert("persisted", "value").unwrap();
    assert!(cache.persist("persisted").unwrap());
    assert_close(remaining(&cache, "default"), HOUR);
    assert_close(remaining(&cache, "added"), HOUR);
    assert_close(remaining(&cache, "own"), 2 * HOUR);
    for key in ["before", "none", "persisted"] {
        assert_eq!(remaining(&cache, key), None, "{key}");
    }
}

#[test]
fn jitter_shortens_lives_within_bounds() {
    let (_dir, path) = place();
    let cache = Cache::builder(&path)
        .time_to_live(10 * HOUR)
        .jitter(0.2)
        .open()
        .unwrap();
    let own = InsertOptions::new().ttl(10 * HOUR);
    for options in [InsertOptions::new(), own] {
        let lives = (0..200).map(|_| {
            cache.insert_with("key", "value", &options).unwrap();
            remaining(&cache, "key").unwrap()
        });
        let lives: Vec<_> = lives.collect();
        let (least, most) = (lives.iter().min().unwrap(), lives.iter().max().unwrap());
        assert!(*least > 8 * HOUR - 60 * SECOND && *most <= 10 * HOUR);
        // Of 200, all but one in 10^9 runs.
        assert!(*least < 9 * HOUR && *most > 9 * HOUR);
    }
    let at = SystemTime::now() + 10 * HOUR;
    let fixed = InsertOptions::new().expires_at(at);
    cache.insert_with("key", "value", &fixed).unwrap();
    assert_close(remaining(&cache, "key"), 10 * HOUR);
    cache.touch("key", 10 * HOUR).unwrap();
    assert_close(remaining(&cache, "key"), 10 * HOUR);
}

// Lookups keep entries in the cache that others, which no one uses, have left by then.
#[test]
fn uses_renew_idle_entries() {
    let (_dir, path) = place();
    let cache = Cache::builder(&path)
        .time_to_idle(2 * SECOND)
        .open()
        .unwrap();
    let reader = Cache::open_with(&path, &read_only()).unwrap();
    let version = cache.insert("used", "value").unwrap();
    cache.insert("unused", "value").unwrap();
    cache.insert("only read", "value").unwrap();
    cache.insert("touched", "value").unwrap();
    let own = InsertOptions::new().ttl(HOUR);
    cache.insert_with("own", "value", &own).unwrap();
    cache.touch("touched", HOUR).unwrap();
    cache.insert("touched shortly", "value").unwrap();
    cache.touch("touched shortly", SECOND).unwrap();
    let began = Instant::now();
    while began.elapsed() < 3 * SECOND {
        for key in ["used", "own", "touched"] {
            assert!(cache.get(key).unwrap().is_some(), "{key}");
        }
        reader.get("only read").unwrap();
        cache.get("touched shortly").unwrap();
        std::thread::sleep(Duration::from_millis(200));
    }
    let entry = cache.entry("used").unwrap().unwrap();
    assert_eq!(entry.version(), version);
    for key in ["unused", "only read", "touched shortly"] {
        assert_eq!(cache.get(key).unwrap(), None, "{key}");
    }
    for key in ["own", "touched"] {
        assert_close(remaining(&cache, key), HOUR);
    }
}

#[test]
fn hits_wait_for_no_writer() {
    let (_dir, path) = place();
    let cache = Cache::builder(&path)
        .time_to_idle(2 * SECOND)
        .open()
        .unwrap();
    cache.insert("key", "value").unwrap();
    let expires_at = || cache.entry("key").unwrap().unwrap().expires_at();
    let deadline = Cache::open(&path).unwrap().entry("key").unwrap();
    let deadline = deadline.unwrap().expires_at();
    let exclusive = Options::new().exclusive(true).clone();
    let owner = Cache::open_with(&path, &exclusive).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let began = Instant::now();
    assert!(cache.get("key").unwrap().is_some());
    assert!(began.elapsed() < SECOND, "the lock timeout is 60 s");
    assert_eq!(expires_at(), deadline);
    drop(owner);
    assert!(cache.get("key").unwrap().is_some());
    assert!(expires_at() > deadline);
}

/// Makes lookups and insertions of every kind.
fn use_all(cache: &Cache) {
    let past = InsertOptions::new().expires_at(SystemTime::now() - SECOND);
    cache.insert("key", "value").unwrap();
    cache.insert("key", "other").unwrap();
    cache.insert_absent("absent", HOUR).unwrap();
    cache.insert_with("past", "value", &past).unwrap();
    for key in ["key", "key", "absent", "past", "unknown"] {
        cache.get(key).unwrap();
    }
    cache.entry("key").unwrap();
    cache.entry("unknown").unwrap();
    assert!(cache.contains("key").unwrap());
    assert!(cache.remove("key").unwrap());
    assert!(!cache.remove("key").unwrap());
    assert_eq!(cache.sweep().unwrap(), 1);
    cache.insert_with("past", "value", &past).unwrap();
    assert!(!cache.remove("past").unwrap());
    assert!(cache.remove("absent").unwrap());
}

#[track_caller]
fn assert_counted(counts: &CacheCounts, times: u64) {
    let all = [
        counts.hits,
        counts.stale_hits,
        counts.negative_hits,
        counts.misses,
        counts.insertions,
        counts.replaced,
        counts.removed,
        counts.evicted_size,
        counts.evicted_number,
        counts.expired,
        counts.invalidated,
    ];
    assert_eq!(all, [4, 0, 1, 3, 5, 1, 2, 0, 0, 2, 0].map(|n| n * times));
}

#[test]
fn handles_count_and_add_up() {
    let (_dir, path) = place();
    let cache = Cache::open(&path).unwrap();
    use_all(&cache);
    let stats = cache.stats().unwrap();
    assert_counted(&stats.handle, 1);
    assert_counted(&stats.total, 1);
    assert_eq!(stats.handle.hit_ratio(), Some(5.0 / 8.0));
    assert_eq!(stats.files.puts, 5);
    let other = Cache::open(&path).unwrap();
    use_all(&other);
    assert_counted(&cache.stats().unwrap().total, 1);
    drop(other);
    let stats = cache.stats().unwrap();
    assert_counted(&stats.handle, 1);
    assert_counted(&stats.total, 2);
    // Nothing is added twice, and a switch keeps what there is.
    cache.clear().unwrap();
    drop(cache);
    let cache = Cache::open(&path).unwrap();
    let stats = cache.stats().unwrap();
    assert_eq!(stats.handle, CacheCounts::default());
    assert_eq!(stats.handle.hit_ratio(), None);
    assert_counted(&stats.total, 2);
}

#[test]
fn processes_count_and_add_up() {
    let (_dir, path) = place();
    let cache = Cache::open(&path).unwrap();
    cache.insert("key", "value").unwrap();
    let mut other = start(&path);
    for _ in 0..1_023 {
        assert_eq!(other.ask("key"), "true");
    }
    assert_eq!(cache.stats().unwrap().total.hits, 0, "kept in memory");
    other.ask("key");
    let hits = cache.stats().unwrap().total.hits;
    assert!((1_023..=1_024).contains(&hits), "{hits}");
    assert_eq!(other.ask("unknown"), "false");
    other.finish();
    let total = cache.stats().unwrap().total;
    assert_eq!((total.hits, total.misses), (1_024, 1));
}

#[test]
fn threads_count_every_hit() {
    let (_dir, path) = place();
    let cache = Cache::open(&path).unwrap();
    cache.insert("key", "value").unwrap();
    // More threads than have a counter of their own, and others after them.
    for _ in 0..2 {
        std::thread::scope(|scope| {
            for _ in 0..20 {
                scope.spawn(|| (0..40_000).for_each(|_| assert!(cache.contains("key").unwrap())));
            }
            for _ in 0..50 {
                cache.stats().unwrap();
            }
        });
    }
    let stats = cache.stats().unwrap();
    assert_eq!(stats.handle.hits, 1_600_000);
    assert_eq!(stats.total.hits, 1_600_000);
}

#[test]
fn readers_count_in_memory_only() {
    let (_dir, path) = place();
    let cache = Cache::open(&path).unwrap();
    cache.insert("key", "value").unwrap();
    let reader = Cache::open_with(&path, &read_only()).unwrap();
    for _ in 0..3_000 {
        reader.get("key").unwrap();
    }
    let stats = reader.stats().unwrap();
    assert_eq!((stats.handle.hits, stats.total.hits), (3_000, 3_000));
    drop(reader);
    assert_eq!(cache.stats().unwrap().total.hits, 0);
}

// Each store to the index changes its time. A later process must not take that for a change by
// another program, which it would answer by reading the whole cache.
#[test]
fn counting_is_no_foreign_change() {
    let (_dir, path) = place();
    let cache = Cache::open(&path).unwrap();
    cache.insert("key", "value").unwrap();
    cache.flush().unwrap();
    // The system notes the time of the first store after it has written a page back.
    std::fs::File::open(&path).unwrap().sync_all().unwrap();
    std::thread::sleep(Duration::from_millis(200));
    cache.get("key").unwrap();
    drop(cache);
    let changed = changed_at(&path);
    let visited = visited(&path);
    assert!(
        changed <= visited + 50_000_000,
        "changed {changed}, visited {visited}"
    );
}

fn changed_at(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let meta = path.metadata().unwrap();
    meta.ctime() as u64 * 1_000_000_000 + meta.ctime_nsec() as u64
}

/// The time of the last visit, which the header has at byte 608.
fn visited(path: &Path) -> u64 {
    let file = std::fs::File::open(path).unwrap();
    let mut bytes = [0; 8];
    file.read_exact_at(&mut bytes, 608).unwrap();
    u64::from_le_bytes(bytes)
}

type Heard = Arc<Mutex<Vec<(String, RemovalCause, u64)>>>;

/// Opens a cache whose removals are noted in a list.
fn listening(path: &Path) -> (Cache, Heard) {
    let heard = Heard::default();
    let list = Arc::clone(&heard);
    let builder = Cache::builder(path).on_removal(move |key, cause, size| {
        let key = String::from_utf8(key.to_vec()).unwrap();
        list.lock().unwrap().push((key, cause, size));
    });
    (builder.open().unwrap(), heard)
}

#[test]
fn callback_hears_each_cause() {
    let (_dir, path) = place();
    let (cache, heard) = listening(&path);
    let past = InsertOptions::new().expires_at(SystemTime::now() - SECOND);
    cache.insert("key", "123").unwrap();
    cache.insert("key", "12345").unwrap();
    cache.remove("key").unwrap();
    cache.insert_with("past", "1", &past).unwrap();
    cache.insert_with("past", "12", &past).unwrap();
    cache.sweep().unwrap();
    cache.insert_with("past", "1234", &past).unwrap();
    cache.remove("past").unwrap();
    // What another handle removes is not heard.
    cache.insert("key", "1").unwrap();
    Cache::open(&path).unwrap().remove("key").unwrap();
    let expected = [
        ("key", RemovalCause::Replaced, 3),
        ("key", RemovalCause::Removed, 5),
        ("past", RemovalCause::Expired, 1),
        ("past", RemovalCause::Expired, 2),
        ("past", RemovalCause::Expired, 4),
    ];
    let expected = expected.map(|(key, cause, size)| (key.to_owned(), cause, size));
    assert_eq!(*heard.lock().unwrap(), expected);
}

// It writes to the cache, which fails with `AlreadyWriting` or hangs if the lock is held.
#[test]
fn callback_may_use_the_cache() {
    let (_dir, path) = place();
    let shared = Arc::new(OnceLock::<Cache>::new());
    let own = Arc::clone(&shared);
    let heard = Arc::new(Mutex::new(0));
    let count = Arc::clone(&heard);
    let builder = Cache::builder(&path).on_removal(move |key, _, _| {
        *count.lock().unwrap() += 1;
        if key == b"key" {
            let cache = own.get().unwrap();
            cache.insert("log", "1").unwrap();
            cache.insert("log", "2").unwrap();
            assert_eq!(*count.lock().unwrap(), 1, "heard of `log` too early");
        }
    });
    let cache = shared.get_or_init(|| builder.open().unwrap());
    cache.insert("key", "value").unwrap();
    cache.remove("key").unwrap();
    assert_eq!(*heard.lock().unwrap(), 2);
    assert_eq!(cache.get("log").unwrap().unwrap(), b"2");
}

#[test]
fn panicking_callback_breaks_nothing() {
    let (_dir, path) = place();
    let builder = Cache::builder(&path).on_removal(|_, _, size| assert_ne!(size, 5));
    let cache = builder.open().unwrap();
    cache.insert("key", "12345").unwrap();
    let removed = catch_unwind(AssertUnwindSafe(|| cache.remove("key")));
    assert!(removed.is_err());
    assert_eq!(cache.get("key").unwrap(), None);
    cache.insert("key", "1").unwrap();
    assert!(cache.remove("key").unwrap());
    let other = Cache::open_with(&path, &impatient()).unwrap();
    other.insert("key", "no lock is left").unwrap();
}

#[test]
fn metrics_have_names_and_values() {
    let (_dir, path) = place();
    let cache = Cache::open(&path).unwrap();
    use_all(&cache);
    let metrics: Vec<_> = cache.stats().unwrap().metrics().collect();
    let value = |name: &str, label: &str| {
        let found = metrics.iter().find(|metric| {
            let labels = metric.labels.iter();
            metric.name == format!("mmapcache_{name}")
                && labels
                    .map(|(_, value)| *value)
                    .eq((!label.is_empty()).then_some(label))
        });
        found.map(|metric| metric.value)
    };
    assert_eq!(value("cache_hits_total", "fresh"), Some(4));
    assert_eq!(value("cache_hits_total", "negative"), Some(1));
    assert_eq!(value("cache_misses_total", ""), Some(3));
    assert_eq!(value("cache_removals_total", "expired"), Some(2));
    assert_eq!(value("cache_removals_total", "removed"), Some(2));
    assert_eq!(value("entries", ""), Some(0));
    for metric in &metrics {
        let is_counter = metric.kind == MetricKind::Counter;
        assert_eq!(metric.name.ends_with("_total"), is_counter, "{metric:?}");
    }
    assert!(metrics.chunk_by(|a, b| a.name == b.name).count() == 8);
}

#[test]
fn cloned_builder_opens_more_handles() {
    let (_dir, path) = place();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let list = Arc::clone(&heard);
    let builder = Cache::builder(&path)
        .max_entries(50)
        .on_removal(move |key, _, _| list.lock().unwrap().push(key.to_vec()));
    let first = builder.clone().open().unwrap();
    drop(Cache::builder(&path).max_entries(None).open().unwrap());
    assert_eq!(first.settings().unwrap().max_entries, None);
    let second = builder.open().unwrap();
    assert_eq!(first.settings().unwrap().max_entries, Some(50));
    for (cache, key) in [(&first, "1"), (&second, "2")] {
        cache.insert(key, "value").unwrap();
        cache.remove(key).unwrap();
    }
    assert_eq!(*heard.lock().unwrap(), [b"1", b"2"]);
}
