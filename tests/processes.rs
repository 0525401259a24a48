//! Several processes on one cache: what they see of each other, and what a kill leaves.

mod child;

use std::collections::BTreeSet;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use child::contents::{Random, number_of, passing, staying, value};
use child::reader::Mode;
use child::scratch::Scratch;
use child::{Child, Part, hear, kills, reader, rebuilds, say, tight};
use mmapcache::{Error, ErrorKind, MmapCache, Options, Update, Version};

/// Not a test: the entry point of the child processes.
#[test]
fn child() {
    child::play(&[
        ("obeys", obeys),
        ("counts", counts),
        ("reads", reader::reads),
        ("churns", churns),
        ("writes until killed", kills::writes),
        ("tells its versions", tells_its_versions),
    ]);
}

/// Opens a handle, and runs one operation for each line of the parent.
fn obeys(part: &Part) {
    let mut options = Options::new();
    options.lock_timeout(Some(Duration::from_millis(150)));
    let mut cache = options.open(&part.path).expect("the cache");
    say("ready");
    while let Some(line) = hear() {
        if line == "open again" {
            cache = options.open(&part.path).expect("the cache");
            say("done");
        } else {
            say(obey(&cache, &line));
        }
    }
}

fn obey(cache: &MmapCache, line: &str) -> String {
    let words: Vec<&str> = line.split(' ').collect();
    let done = match words[..] {
        ["get", key] => match cache.get(key.as_bytes()) {
            Ok(Some(value)) => Ok(String::from_utf8(value).expect("text")),
            Ok(None) => Ok("absent".to_owned()),
            Err(error) => Err(error),
        },
        ["put", key, value] => put(cache, key, value).map(|()| "done".to_owned()),
        ["delete", key] => cache.delete(key.as_bytes()).map(|found| found.to_string()),
        ["clear"] => cache.clear().map(|()| "done".to_owned()),
        ["list"] => Ok(listing(cache)),
        ["counts"] => Ok(format!("{} {}", cache.len(), cache.change_count())),
        _ => panic!("{line:?} is no order"),
    };
    done.unwrap_or_else(|error| match error.kind() {
        ErrorKind::Locked { waited, .. } if *waited >= Duration::from_millis(150) => {
            "locked".into()
        }
        _ => panic!("{line}: {error}"),
    })
}

fn put(cache: &MmapCache, key: &str, value: &str) -> mmapcache::Result<()> {
    cache.put(key.as_bytes(), value.as_bytes()).map(drop)
}

fn listing(cache: &MmapCache) -> String {
    let keys: Result<BTreeSet<_>, Error> = cache.keys().expect("a listing").collect();
    let keys = keys.expect("keys").into_iter();
    let keys: Vec<_> = keys
        .map(|key| String::from_utf8_lossy(&key).into_owned())
        .collect();
    keys.join(" ")
}

#[test]
fn processes_see_each_others_puts() {
    let scratch = Scratch::new();
    let cache = MmapCache::open(&scratch.path).expect("a new cache");
    put(&cache, "before", "1").expect("a put");
    let mut other = Child::start("obeys", &scratch.path, &[]);
    other.expect("ready");
    assert_eq!(other.ask("get before"), "1");

    put(&cache, "after", "2").expect("a put");
    assert_eq!(other.ask("get after"), "2");
    assert_eq!(other.ask("put theirs 3"), "done");
    assert_eq!(
        cache.get(b"theirs").expect("a lookup").as_deref(),
        Some(&b"3"[..])
    );
    let fresh = MmapCache::open(&scratch.path).expect("the cache");
    assert_eq!(
        fresh.get(b"theirs").expect("a lookup").as_deref(),
        Some(&b"3"[..])
    );

    assert_eq!(other.ask("open again"), "done");
    assert_eq!(other.ask("list"), "after before theirs");
    assert_eq!(other.ask("delete before"), "true");
    assert_eq!(cache.get(b"before").expect("a lookup"), None);
    assert!(cache.delete(b"theirs").expect("a deletion"));
    assert_eq!(other.ask("get theirs"), "absent");
    assert_eq!(other.ask("list"), "after");
    other.finish();
}

// Processes that write in turn see every change at once, through growth and rebuilds.
#[test]
fn alternating_processes_see_every_change() {
    let scratch = Scratch::new();
    let cache = tight().open(&scratch.path).expect("a new cache");
    let mut other = Child::start("obeys", &scratch.path, &[]);
    other.expect("ready");
    for turn in 0..1_500 {
        let (mine, theirs) = (format!("mine{turn}"), format!("theirs{turn}"));
        put(&cache, &mine, &"m".repeat(turn % 700)).expect("a put");
        assert_eq!(other.ask(&format!("get {mine}")), "m".repeat(turn % 700));
        let long = "t".repeat(turn % 900 + 1);
        assert_eq!(other.ask(&format!("put {theirs} {long}")), "done");
        assert_eq!(
            cache.get(theirs.as_bytes()).expect("a lookup"),
            Some(long.into())
        );
        let counts = format!("{} {}", cache.len(), cache.change_count());
        assert_eq!(other.ask("counts"), counts);
        match turn % 200 {
            50 => assert_eq!(other.ask("clear"), "done"),
            120 => cache.clear().expect("an empty cache"),
            _ => continue,
        }
        assert!(cache.is_empty());
        assert_eq!(other.ask("list"), "");
    }
    other.finish();
    let report = cache.verify().run().expect("a check");
    assert!(report.is_clean(), "{:?}", report.problems);
}

// Readers of another process see complete generations while the cache is rebuilt again and again.
#[test]
fn readers_see_whole_generations() {
    for options in [Options::new(), tight()] {
        let scratch = Scratch::new();
        let seen = rebuilds::under_readers(&scratch.path, &options, 40);
        for line in seen {
            assert!(line.contains("up to number"), "{line}");
            println!("{line}");
        }
    }
}

// As soon as a rebuild has returned, every process reads the new entries.
#[test]
fn returned_rebuild_is_visible_everywhere() {
    let scratch = Scratch::new();
    let cache = MmapCache::open(&scratch.path).expect("a new cache");
    let mut other = Child::start("obeys", &scratch.path, &[]);
    other.expect("ready");
    for generation in 0..60 {
        let items = [("generation", generation.to_string())];
        let items = items.map(Ok::<_, std::convert::Infallible>);
        cache.atomic_rebuild(items).expect("a rebuild");
        assert_eq!(other.ask("get generation"), generation.to_string());
        assert_eq!(other.ask("list"), "generation");
    }
    other.finish();
}

/// Adds one to the counter as often as it is told.
fn counts(part: &Part) {
    let cache = MmapCache::open(&part.path).expect("the cache");
    say("ready");
    hear();
    let mut longest = Duration::ZERO;
    for _ in 0..part.numbers[0] {
        let began = Instant::now();
        let changed = cache.update(b"counter", |entry| {
            let count = entry.map_or(0, |entry| count_in(entry.value()));
            Update::Put((count + 1).to_string().into_bytes())
        });
        assert!(changed.expect("an update"));
        longest = longest.max(began.elapsed());
    }
    say(format!("the longest update took {longest:?}"));
}

fn count_in(value: &[u8]) -> u64 {
    let digits = std::str::from_utf8(value).expect("digits");
    digits.parse().expect("a number")
}

// Versions only grow.
#[test]
fn concurrent_processes_lose_no_increment() {
    const EACH: u64 = 8_000;
    let scratch = Scratch::new();
    let cache = MmapCache::open(&scratch.path).expect("a new cache");
    let start = || Child::start("counts", &scratch.path, &[EACH]);
    let mut writers = [start(), start(), start(), start()];
    writers.iter_mut().for_each(|writer| writer.expect("ready"));
    writers.iter_mut().for_each(|writer| writer.tell("go"));
    let mut seen: Option<(Version, u64)> = None;
    let mut versions = 0;
    while writers.iter_mut().any(Child::is_alive) {
        let Some(entry) = cache.entry(b"counter").expect("a whole entry") else {
            assert_eq!(seen, None, "the counter was there");
            continue;
        };
        let now = (entry.version(), count_in(entry.value()));
        if let Some(before) = seen.filter(|&before| before != now) {
            assert!(
                now.0 > before.0 && now.1 > before.1,
                "{now:?} after {before:?}"
            );
            versions += 1;
        }
        seen = Some(now);
    }
    for said in writers.map(Child::finish) {
        println!("{said}");
    }
    let end = cache.get(b"counter").expect("a lookup").expect("a counter");
    assert_eq!(count_in(&end), 4 * EACH);
    assert!(versions > 10, "the reader saw {versions} versions only");
}

const STAYING: u64 = 120;
const PASSING: u64 = 900;
/// Writers that work at the same time; each has its own keys.
const CHURNERS: u64 = 2;

/// Overwrites, inserts and deletes. The numbers: which writer it is, and how many operations.
fn churns(part: &Part) {
    let &[which, operations] = part.numbers.as_slice() else {
        panic!("two numbers");
    };
    let cache = tight().open(&part.path).expect("the cache");
    say("ready");
    hear();
    let mut random = Random::new(which);
    for number in 1..=operations {
        let key = random.below(STAYING / CHURNERS) * CHURNERS + which;
        let pass = random.below(PASSING / CHURNERS) * CHURNERS + which;
        let done = churn(&cache, &mut random, number, &staying(key), &passing(pass));
        done.expect("an operation");
    }
}

fn churn(
    cache: &MmapCache,
    random: &mut Random,
    number: u64,
    stay: &str,
    pass: &str,
) -> mmapcache::Result<()> {
    let (stay, pass) = (stay.as_bytes(), pass.as_bytes());
    match random.below(1_000) {
        0 => cache.compact(),
        1 => cache.atomic_rebuild(
            // Listed only once the lock is held, so that no write is lost.
            std::iter::once(()).flat_map(|()| cache.iter().expect("a listing")),
        ),
        2..300 => cache.delete(pass).map(drop),
        300..500 => cache.put(stay, &value(stay, number)).map(drop),
        500..520 => {
            let mut writer = cache.writer()?;
            for _ in 0..30 {
                let pass = passing(random.below(PASSING / CHURNERS) * CHURNERS + number % CHURNERS);
                writer.delete(pass.as_bytes())?;
            }
            writer.commit()
        }
        _ => cache.put(pass, &value(pass, number)).map(drop),
    }
}

// Readers see no wrong value while writers insert, overwrite, delete, grow and clean.
#[test]
fn readers_beside_writers_see_no_garbage() {
    let scratch = Scratch::new();
    let cache = tight().open(&scratch.path).expect("a new cache");
    for key in (0..STAYING).map(staying) {
        let key = key.as_bytes();
        cache.put(key, &value(key, 0)).expect("a put");
    }
    let read = [STAYING, PASSING, Mode::Each as u64, 1];
    let start = || Child::start("reads", &scratch.path, &read);
    let mut readers = [start(), start()];
    readers.iter_mut().for_each(|reader| reader.expect("ready"));
    churn_all(&scratch, 6_000);
    for line in readers.map(Child::finish) {
        println!("{line}");
        assert!(!line.contains(" 0 listings to the end"), "{line}");
    }
    let report = cache.verify().run().expect("a check");
    assert!(report.is_clean(), "{:?}", report.problems);
    for item in cache.iter().expect("a listing") {
        let (key, value) = item.expect("an item");
        number_of(&key, &value);
    }
}

fn churn_all(scratch: &Scratch, operations: u64) {
    let start = |which| Child::start("churns", &scratch.path, &[which, operations]);
    let mut writers: Vec<_> = (0..CHURNERS).map(start).collect();
    writers.iter_mut().for_each(|writer| writer.expect("ready"));
    writers.iter_mut().for_each(|writer| writer.tell("go"));
    for writer in writers {
        writer.finish();
    }
}

/// Writes as often as it is told, now and then in a batch, and prints the versions that it got.
fn tells_its_versions(part: &Part) {
    let &[which, writes] = part.numbers.as_slice() else {
        panic!("two numbers");
    };
    let cache = tight().open(&part.path).expect("the cache");
    say("ready");
    hear();
    let key = format!("of {which}");
    let mut versions: Vec<u64> = Vec::new();
    for number in 0..writes {
        if which == 0 && number % 100 == 99 {
            let mut writer = cache.writer().expect("the writer");
            let items = cache.iter().expect("a listing");
            writer.atomic_rebuild(items).expect("a rebuild");
        }
        let before = cache.version(key.as_bytes()).expect("a lookup");
        let version = cache.put(key.as_bytes(), &[7; 50]).expect("a put");
        assert!(before.is_none_or(|before| before < version));
        versions.push(version.as_nanos());
    }
    let versions: Vec<String> = versions.iter().map(u64::to_string).collect();
    say(versions.join(" "));
}

/// Offset of the last version in the header: `last_mtime` in `docs/format.md`.
const LAST_MTIME: u64 = 280;

// Versions of many processes grow, though the clock was set back by an hour.
#[test]
fn versions_grow_despite_clock_setback() {
    const EACH: u64 = 400;
    let scratch = Scratch::new();
    let cache = tight().open(&scratch.path).expect("a new cache");
    let first = cache.put(b"first", b"1").expect("a put").as_nanos();
    drop(cache);
    // For a cache that was last written an hour ahead of the clock, the clock was set back.
    let ahead = first + 3_600_000_000_000;
    let index = std::fs::File::options().write(true).open(&scratch.path);
    let index = index.expect("the index");
    let done = index.write_all_at(&ahead.to_le_bytes(), LAST_MTIME);
    done.expect("another last version");

    let start = |which| Child::start("tells its versions", &scratch.path, &[which, EACH]);
    let mut writers: Vec<_> = (0..4).map(start).collect();
    writers.iter_mut().for_each(|writer| writer.expect("ready"));
    writers.iter_mut().for_each(|writer| writer.tell("go"));
    let told = writers.into_iter().map(Child::finish);
    let mut all: Vec<u64> = Vec::new();
    for line in told {
        let versions: Vec<u64> = line
            .split(' ')
            .map(|one| one.parse().expect("it"))
            .collect();
        assert!(versions.is_sorted(), "versions that go back");
        all.extend(versions);
    }
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len() as u64, 4 * EACH, "two writes of one version");
    assert!(all[0] > ahead, "{} is not after {ahead}", all[0]);
    let cache = tight().open(&scratch.path).expect("the cache");
    let newest = cache.put(b"last", b"1").expect("a put").as_nanos();
    assert!(newest > *all.last().expect("a version"));
    assert!(
        newest < ahead + 1_000_000_000,
        "they count up from the last one"
    );
    assert!(cache.verify().run().expect("a check").is_clean());
}

// A listing whose files a rebuild has removed ends with an error; the next one finds all entries.
#[test]
fn superseded_listing_says_so() {
    let scratch = Scratch::new();
    let cache = tight().open(&scratch.path).expect("a new cache");
    let mut other = Child::start("obeys", &scratch.path, &[]);
    other.expect("ready");
    for number in 0..100 {
        put(&cache, &format!("key{number}"), "old").expect("a put");
    }
    let mut items = cache.iter().expect("a listing");
    items.next().expect("a first item").expect("an item");
    // Into segments that the listing has not opened, and that the rebuild then removes.
    let long = "n".repeat(900);
    for number in 0..100 {
        assert_eq!(other.ask(&format!("put key{number} {long}")), "done");
    }
    assert_eq!(other.ask("clear"), "done");
    let listed: Vec<_> = items.collect();
    let (end, before) = listed.split_last().expect("an end");
    assert!(before.iter().all(Result::is_ok));
    assert!(
        matches!(
            end.as_ref().map_err(Error::kind),
            Err(ErrorKind::Superseded)
        ),
        "{end:?}"
    );
    assert!(end.as_ref().is_err_and(|error| !error.is_corruption()));
    assert_eq!(cache.stats().expect("the counters").damaged_seen, 0);
    assert_eq!(other.ask("put after 1"), "done");
    assert_eq!(listing(&cache), "after");
    other.finish();
}

// A writer is killed at any moment.
#[test]
fn killed_writer_loses_nothing_acknowledged() {
    for (is_tight, rounds) in [(false, 15), (true, 45)] {
        let scratch = Scratch::new();
        let (operations, _) = kills::survive(&scratch.path, is_tight, rounds, 1);
        assert!(operations > 2 * rounds, "{operations} operations in all");
    }
}

// A segment file that a killed writer left without a header does not stop a writer.
#[test]
fn headerless_segment_blocks_nothing() {
    // The moment between creating the file and writing its header is too short for the kills above
    // to hit it often.
    for length in [0, 4096] {
        let scratch = Scratch::new();
        let cache = tight().open(&scratch.path).expect("a new cache");
        for number in 1..10 {
            let name = format!("cache.heap.{number}.new");
            let left = std::fs::File::create(scratch.path.with_file_name(name)).expect("a file");
            left.set_len(length).expect("a file of that length");
        }
        for number in 0..400 {
            let key = format!("key {number}");
            put(&cache, &key, &"v".repeat(200)).expect("a put into a new segment");
        }
        assert!(cache.stats().expect("the counters").segments > 3);
        assert!(cache.verify().run().expect("a check").is_clean());
    }
}

// A thread that holds the writer gets an error instead of waiting for itself.
#[test]
fn second_writer_in_thread_is_refused() {
    let scratch = Scratch::new();
    let cache = MmapCache::open(&scratch.path).expect("a new cache");
    let second = MmapCache::open(&scratch.path).expect("another handle");
    let mut writer = cache.writer().expect("the writer");
    writer.put(b"key", b"1").expect("a put");
    for handle in [&cache, &second] {
        assert!(matches!(
            handle.writer().as_ref().map_err(Error::kind),
            Err(ErrorKind::AlreadyWriting)
        ));
        assert!(matches!(
            handle.put(b"key", b"2").as_ref().map_err(Error::kind),
            Err(ErrorKind::AlreadyWriting)
        ));
        assert!(matches!(
            handle.clear().as_ref().map_err(Error::kind),
            Err(ErrorKind::AlreadyWriting)
        ));
        assert_eq!(
            handle.get(b"key").expect("a lookup").as_deref(),
            Some(&b"1"[..])
        );
    }
    drop(writer);
    second.put(b"key", b"3").expect("a put");
    assert_eq!(
        cache.get(b"key").expect("a lookup").as_deref(),
        Some(&b"3"[..])
    );
}

#[test]
fn symlinked_handles_share_one_cache() {
    let scratch = Scratch::new();
    let directory = scratch.path.parent().expect("a directory");
    let cache = MmapCache::open(&scratch.path).expect("a new cache");
    let (alias, linked) = (directory.join("alias"), directory.join("linked"));
    std::os::unix::fs::symlink(&scratch.path, &alias).expect("a link to the index");
    std::os::unix::fs::symlink(directory, &linked).expect("a link to the directory");
    let mut others = Vec::new();
    for path in [alias.clone(), linked.join("cache")] {
        let handle = MmapCache::open(&path).expect("the cache");
        assert_eq!(handle.path(), cache.path());
        let mut other = Child::start("obeys", &path, &[]);
        other.expect("ready");
        others.push((handle, other));
    }
    let writer = cache.writer().expect("the writer");
    for (handle, other) in &mut others {
        assert!(matches!(
            handle.writer().as_ref().map_err(Error::kind),
            Err(ErrorKind::AlreadyWriting)
        ));
        assert_eq!(other.ask("put theirs 1"), "locked");
    }
    drop(writer);
    for (handle, other) in &mut others {
        // A new generation replaces the file, not the link.
        assert_eq!(other.ask("clear"), "done");
        assert!(alias.is_symlink() && linked.is_symlink());
        put(handle, "mine", "2").expect("a put");
        assert_eq!(other.ask("get mine"), "2");
        assert_eq!(listing(&cache), "mine");
    }
    others
        .into_iter()
        .for_each(|(_, other)| drop(other.finish()));
}

// Threads exclude each other with handles of their own, and with a common one.
#[test]
fn threads_exclude_each_other() {
    const EACH: u64 = 1_000;
    let scratch = Scratch::new();
    let first = MmapCache::open(&scratch.path).expect("a new cache");
    let second = MmapCache::open(&scratch.path).expect("another handle");
    let add = |cache: &MmapCache| {
        for _ in 0..EACH {
            let changed = cache.update(b"counter", |entry| {
                let count = entry.map_or(0, |entry| count_in(entry.value()));
                Update::Put((count + 1).to_string().into_bytes())
            });
            assert!(changed.expect("an update"));
        }
    };
    std::thread::scope(|scope| {
        for cache in [&first, &first, &second, &second] {
            scope.spawn(move || add(cache));
        }
    });
    let end = first.get(b"counter").expect("a lookup").expect("a counter");
    assert_eq!(count_in(&end), 4 * EACH);
}

// While a writer is held, another process's write fails after its timeout, and its reads succeed.
#[test]
fn held_writer_times_out_others() {
    let scratch = Scratch::new();
    let cache = MmapCache::open(&scratch.path).expect("a new cache");
    let mut other = Child::start("obeys", &scratch.path, &[]);
    other.expect("ready");
    let mut writer = cache.writer().expect("the writer");
    let began = Instant::now();
    assert_eq!(other.ask("put theirs 1"), "locked");
    assert!(began.elapsed() >= Duration::from_millis(150));
    assert_eq!(other.ask("open again"), "done");
    writer.put(b"mine", b"2").expect("a put");
    assert_eq!(other.ask("get mine"), "2");
    assert_eq!(other.ask("delete mine"), "locked");
    writer.commit().expect("the end of a batch");
    assert_eq!(other.ask("put theirs 3"), "done");
    assert_eq!(other.ask("delete mine"), "true");
    assert_eq!(
        cache.get(b"theirs").expect("a lookup").as_deref(),
        Some(&b"3"[..])
    );
    other.finish();
}

#[test]
fn exclusive_handle_excludes_other_processes() {
    let scratch = Scratch::new();
    let mut options = Options::new();
    let cache = options
        .exclusive(true)
        .open(&scratch.path)
        .expect("a new cache");
    let mut other = Child::start("obeys", &scratch.path, &[]);
    other.expect("ready");
    put(&cache, "mine", "1").expect("a put");
    assert_eq!(other.ask("put theirs 2"), "locked");
    cache.clear().expect("an empty cache");
    assert_eq!(other.ask("put theirs 2"), "locked");
    put(&cache, "mine", "3").expect("a put");
    assert_eq!(other.ask("get mine"), "3");
    drop(cache);
    assert_eq!(other.ask("put theirs 4"), "done");
    other.finish();
}
