//! Refusals by the system: read-only media, descriptors, memory, file sizes, room, syncs.
//!
//! In each case an operation succeeds, or returns an error that says what and where; no refusal is
//! taken for corruption or absence, and afterwards everything works. Each refusal is arranged in a
//! child process with its own limits; a signal ends only that process, and the test says so.
#![cfg(target_os = "linux")]
#![expect(
    unsafe_code,
    reason = "becoming another user is a call of the C library"
)]

mod child;
mod volume;

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

use child::scratch::in_memory;
use child::{Child, Part, hear, say, tight};
use mmapcache::{Durability, Error, ErrorKind, Labels, MmapCache, Options, Repair, Result};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};
use volume::{Kind, Volume, listing};

/// Not a test: the entry point of the child processes.
#[test]
fn child() {
    child::play(&[
        ("reads as another user", reads_as_another_user),
        ("may not look", may_not_look),
        ("lacks descriptors", lacks_descriptors),
        ("opens with few descriptors", opens_with_few_descriptors),
        ("repairs with few descriptors", repairs_with_few_descriptors),
        ("lacks address space", lacks_address_space),
        ("lacks file size", lacks_file_size),
        ("lacks room", lacks_room),
        ("cannot sync", cannot_sync),
    ]);
}

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

/// Offset of the boot id in the index header: `docs/format.md`.
const BOOT_ID: u64 = 448;
/// Offset of the word that says that some files may still have staged names.
const RENAMES_PENDING: u64 = 496;

fn reboot(path: &Path) {
    let index = File::options().write(true).open(path).expect("the index");
    index.write_all_at(&[7; 8], BOOT_ID).expect("another boot");
}

fn key(i: u32) -> Vec<u8> {
    format!("key {i}, some of them longer than a slot").into_bytes()
}

/// Creates a cache of several segments and regions.
fn prepare(path: &Path) -> Model {
    let cache = tight().open(path).expect("a cache");
    let mut model = Model::new();
    for i in 0..200 {
        let value = vec![i as u8; 300];
        cache.put(&key(i), &value).expect("a put");
        model.insert(key(i), value);
    }
    model
}

fn holds(cache: &MmapCache, model: &Model) {
    assert_eq!(cache.len(), model.len() as u64);
    for (key, value) in model {
        assert_eq!(cache.get(key).expect("a lookup").as_ref(), Some(value));
        let entry = cache.entry(key).expect("no damage").expect("an entry");
        assert_eq!(entry.value(), value);
    }
    let listed: Result<Model> = cache.iter().expect("a listing").collect();
    assert_eq!(listed.expect("no damage"), *model);
    assert_eq!(cache.keys().expect("a listing").count(), model.len());
    let report = cache.verify().run().expect("a report");
    assert!(report.is_clean(), "{:?}", report.problems);
}

// ---- read-only places

/// Reads in every way, and asserts that writing fails with `why`.
fn read_only_place(path: &Path, model: &Model, why: std::io::ErrorKind) {
    let dir = path.parent().expect("a directory");
    let before = listing(dir);
    let reader = Options::new().read_only(true).open(path).expect("a reader");
    holds(&reader, model);
    assert_eq!(reader.get(b"absent").expect("a lookup"), None);
    assert!(reader.contains(&key(1)).expect("a lookup"));
    reader.stats().expect("numbers");
    reader.disk_usage().expect("numbers");
    assert!(matches!(
        reader.put(b"k", b"v").as_ref().map_err(Error::kind),
        Err(ErrorKind::ReadOnly)
    ));
    match MmapCache::open(path) {
        Err(error) if matches!(error.kind(), ErrorKind::Io { .. }) => {
            assert!(!error.is_corruption());
            let said = error.io_error().expect("matched above").kind();
            assert_eq!((error.path(), said), (Some(path), why));
        }
        other => panic!("{other:?}"),
    }
    let absent = dir.join("absent");
    for options in [Options::new().read_only(true), &mut Options::new()] {
        let error = options.open(&absent).expect_err("nothing there");
        assert!(
            matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Io { .. }),
            "{error:?}"
        );
    }
    assert_eq!(listing(dir), before);
}

// Readers on a read-only medium need no lock file, and create nothing.
#[test]
fn readers_need_no_lock_file() {
    let Some(volume) = Volume::mount(Kind::Ext4(4096), 8 << 20) else {
        return;
    };
    let path = volume.cache();
    let model = prepare(&path);
    fs::remove_file(volume.path().join("cache.lock")).expect("the lock file");
    volume.make_read_only();
    read_only_place(&path, &model, std::io::ErrorKind::ReadOnlyFilesystem);
}

// Readers on a read-only medium serve the entries that an unclean shutdown left, and repair
// nothing.
#[test]
fn readers_serve_unclean_read_only_medium() {
    let Some(volume) = Volume::mount(Kind::Tmpfs, 8 << 20) else {
        return;
    };
    let path = volume.cache();
    let model = prepare(&path);
    reboot(&path);
    // A switch that was committed, and whose files still have staged names.
    for name in ["cache.roster", "cache.heap.3"] {
        let from = volume.path().join(name);
        #[expect(clippy::disallowed_methods, reason = "as a kill would leave them")]
        fs::rename(&from, from.with_file_name(format!("{name}.new"))).expect("a rename");
    }
    let bytes = |path: &Path| fs::read(path).expect("the index");
    let before = bytes(&path);
    volume.make_read_only();
    read_only_place(&path, &model, std::io::ErrorKind::ReadOnlyFilesystem);
    assert_eq!(bytes(&path), before);
}

fn reads_as_another_user(part: &Part) {
    let model = model_of(&part.path);
    // SAFETY: changes the credentials of this process only.
    let changed = unsafe { libc::setresuid(4321, 4321, 4321) };
    assert_eq!(changed, 0);
    read_only_place(&part.path, &model, std::io::ErrorKind::PermissionDenied);
}

fn model_of(path: &Path) -> Model {
    let cache = Options::new().read_only(true).open(path).expect("a reader");
    let listed: Result<Model> = cache.iter().expect("a listing").collect();
    listed.expect("no damage")
}

#[test]
fn read_permission_suffices_for_reading() {
    if !rustix::process::geteuid().is_root() {
        assert!(std::env::var_os("CI").is_none(), "CI must be root");
        eprintln!("NOT RUN: becoming another user needs root");
        return;
    }
    let dir = in_memory();
    let path = dir.path().join("cache");
    prepare(&path);
    fs::remove_file(dir.path().join("cache.lock")).expect("the lock file");
    for (name, _) in listing(dir.path()) {
        let file = dir.path().join(name);
        fs::set_permissions(file, Permissions::from_mode(0o444)).expect("a mode");
    }
    fs::set_permissions(dir.path(), Permissions::from_mode(0o555)).expect("a mode");
    Child::start("reads as another user", &path, &[]).finish();
}

/// Uses a cache, one file of which may not be opened until the parent says so.
fn may_not_look(part: &Part) {
    // SAFETY: changes the credentials of this process only.
    let changed = unsafe { libc::setresuid(4321, 4321, 4321) };
    assert_eq!(changed, 0);
    let cache = tight().open(&part.path);
    let error = match cache.map(|cache| (cache.put(b"k", b"v"), cache.clear())) {
        Err(error) | Ok((Err(error), Err(_))) => error,
        done => panic!("{done:?}"),
    };
    assert!(is_io_of(&error, &[Errno::ACCESS]), "{error:?}");
    say("refused");
    assert_eq!(hear().as_deref(), Some("look"));
    let cache = tight().open(&part.path).expect("the cache");
    cache.put(b"k", b"v").expect("a put");
    let items: Vec<_> = cache.iter().expect("a listing").collect();
    cache.atomic_rebuild(items).expect("a rebuild");
}

/// After a switch with pending renames, a segment under its staged name cannot be opened, for lack
/// of a right or of descriptors: that must not have it removed as a leftover.
#[test]
fn unreadable_staged_file_is_kept() {
    if !rustix::process::geteuid().is_root() {
        assert!(std::env::var_os("CI").is_none(), "CI must be root");
        eprintln!("NOT RUN: becoming another user needs root");
        return;
    }
    for name in ["cache.heap.3", "cache.roster"] {
        let dir = in_memory();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o777)).expect("a mode");
        let path = dir.path().join("cache");
        let mut model = prepare(&path);
        let index = File::options().write(true).open(&path).expect("the index");
        let pending = 1_u64.to_le_bytes();
        index
            .write_all_at(&pending, RENAMES_PENDING)
            .expect("a mark");
        let (from, to) = (
            dir.path().join(name),
            dir.path().join(format!("{name}.new")),
        );
        #[expect(clippy::disallowed_methods, reason = "as a kill would leave them")]
        fs::rename(from, &to).expect("a rename");
        for (name, _) in listing(dir.path()) {
            std::os::unix::fs::chown(dir.path().join(name), Some(4321), Some(4321))
                .expect("an owner");
        }
        fs::set_permissions(&to, Permissions::from_mode(0o000)).expect("a mode");
        let mut child = Child::start("may not look", &path, &[]);
        child.expect("refused");
        fs::set_permissions(&to, Permissions::from_mode(0o600)).expect("a mode");
        child.tell("look");
        child.finish();
        model.insert(b"k".to_vec(), b"v".to_vec());
        holds(&tight().open(&path).expect("the cache"), &model);
    }
}

/// The same for one moment only, in which everything else works.
#[test]
fn briefly_unreadable_staged_file_is_kept() {
    for name in ["cache.heap.3", "cache.roster"] {
        let dir = in_memory();
        let path = dir.path().join("cache");
        let mut model = prepare(&path);
        let cache = tight().open(&path).expect("the cache");
        let index = File::options().write(true).open(&path).expect("the index");
        let pending = 1_u64.to_le_bytes();
        index
            .write_all_at(&pending, RENAMES_PENDING)
            .expect("a mark");
        let to = dir.path().join(format!("{name}.new"));
        #[expect(clippy::disallowed_methods, reason = "as a kill would leave them")]
        fs::rename(dir.path().join(name), to).expect("a rename");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let flags = libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOFOLLOW;
                refuse_if(&[libc::SYS_openat], 2, &[flags as u64], Errno::MFILE);
                let error = cache.put(b"k", b"v").expect_err("no descriptor");
                assert!(is_io_of(&error, &[Errno::MFILE]), "{error:?}");
            });
        });
        cache.put(b"k", b"v").expect("a put");
        model.insert(b"k".to_vec(), b"v".to_vec());
        // A switch removes leftovers, and comes to nothing here.
        let nothing = [Ok((b"k", b"v")), Err("gave out")];
        cache.atomic_rebuild(nothing).expect_err("the items' error");
        holds(&tight().open(&path).expect("the cache"), &model);
    }
}

// ---- limits of a process

/// A cache whose operations may be refused.
struct Checker {
    path: PathBuf,
    model: Model,
    allowed: fn(&Error) -> bool,
    refused: u64,
    done: u64,
}

impl Checker {
    fn new(part: &Part, allowed: fn(&Error) -> bool) -> Self {
        Self {
            path: part.path.clone(),
            model: model_of(&part.path),
            allowed,
            refused: 0,
            done: 0,
        }
    }

    #[track_caller]
    fn happened<T>(&mut self, outcome: Result<T>) -> Option<T> {
        match outcome {
            Ok(done) => {
                self.done += 1;
                Some(done)
            }
            Err(error) => {
                assert!((self.allowed)(&error), "{error:?}");
                assert!(!error.is_corruption(), "{error:?}");
                self.refused += 1;
                None
            }
        }
    }

    /// Runs every operation, some of them often enough to need another file.
    fn work(&mut self, cache: &MmapCache) {
        for i in (0..200).step_by(7).chain([900]) {
            let outcome = cache.get(&key(i));
            if let Some(found) = self.happened(outcome) {
                assert_eq!(found.as_ref(), self.model.get(&key(i)), "a false miss");
            }
            let outcome = cache.entry(&key(i));
            self.happened(outcome);
            let outcome = cache.contains(&key(i));
            self.happened(outcome);
        }
        for i in 100..250 {
            let value = vec![i as u8; 150];
            let outcome = cache.put(&key(i), &value);
            if self.happened(outcome).is_some() {
                self.model.insert(key(i), value);
            }
        }
        for i in (0..200).step_by(9) {
            let outcome = cache.delete(&key(i));
            if self.happened(outcome).is_some() {
                self.model.remove(&key(i));
            }
        }
        let outcome = cache.compact();
        self.happened(outcome);
        let items = self.model.clone().into_iter().map(Ok::<_, Error>);
        let outcome = cache.atomic_rebuild(items.collect::<Vec<_>>());
        self.happened(outcome);
        let outcome = cache.flush();
        self.happened(outcome);
        let outcome: Result<Model> = cache.iter().and_then(Iterator::collect);
        if let Some(listed) = self.happened(outcome) {
            assert_eq!(listed, self.model);
        }
        let outcome = cache.verify().run();
        if let Some(report) = self.happened(outcome) {
            assert!(report.is_clean(), "{:?}", report.problems);
        }
        let outcome = cache.disk_usage();
        self.happened(outcome);
    }

    /// Uses a new handle, if it gets one.
    fn open_and_work(&mut self) {
        let outcome = tight().open(&self.path);
        if let Some(cache) = self.happened(outcome) {
            self.work(&cache);
        }
    }

    /// Without any limit: asserts that nothing is missing, and that the cache can be used.
    fn check(&mut self) {
        let cache = tight().open(&self.path).expect("the cache");
        holds(&cache, &self.model);
        self.allowed = |_| false;
        self.work(&cache);
        holds(&cache, &self.model);
    }
}

fn set_soft_limit(resource: Resource, current: Option<u64>) {
    let maximum = getrlimit(resource).maximum;
    setrlimit(resource, Rlimit { current, maximum }).expect("a limit of one's own");
}

fn is_io_of(error: &Error, errnos: &[Errno]) -> bool {
    let ErrorKind::Io { source, .. } = error.kind() else {
        return false;
    };
    let code = source.raw_os_error();
    errnos
        .iter()
        .any(|errno| code == Some(errno.raw_os_error()))
}

/// Takes all descriptors but `count`.
fn leave_descriptors(count: u64) -> Vec<File> {
    set_soft_limit(Resource::Nofile, Some(64));
    let mut taken = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        taken.push(file);
    }
    taken.truncate(taken.len() - count as usize);
    taken
}

/// Opens a cache with the number of descriptors that is given, and writes with all of them.
fn opens_with_few_descriptors(part: &Part) {
    let first = tight().open(&part.path).expect("a handle from before");
    first.flush().expect("a flush");
    let generation = first.stats().expect("numbers").generation;
    drop(first);
    let taken = leave_descriptors(part.numbers[0]);
    let opened = tight().open(&part.path);
    drop(taken);
    let opened = match opened {
        Ok(cache) => {
            cache.put(b"k", b"v").expect("a put");
            1
        }
        Err(error) => {
            assert!(is_io_of(&error, &[Errno::MFILE]), "{error:?}");
            0
        }
    };
    let next = tight().open(&part.path).expect("the next handle");
    next.put(b"k", b"w").expect("a put");
    let now = next.stats().expect("numbers").generation;
    assert_eq!(now, generation, "nothing was to be recovered");
    say(format!("{opened} {}", 1 - opened));
}

#[test]
fn handle_works_with_last_descriptors() {
    each("opens with few descriptors", 0..8);
}

/// Repairs a cache without a roster with the number of descriptors that is given.
fn repairs_with_few_descriptors(part: &Part) {
    let model = model_of(&part.path);
    fs::remove_file(part.path.with_file_name("cache.roster")).expect("the roster");
    let taken = leave_descriptors(part.numbers[0]);
    let repaired = Repair::new(&part.path).run();
    drop(taken);
    let done = u64::from(repaired.is_ok());
    if let Err(error) = repaired {
        assert!(is_io_of(&error, &[Errno::MFILE]), "{error:?}");
        Repair::new(&part.path).run().expect("a repair");
    }
    holds(&tight().open(&part.path).expect("the cache"), &model);
    say(format!("{done} {}", 1 - done));
}

#[test]
fn repair_without_descriptors_loses_nothing() {
    each("repairs with few descriptors", 0..14);
}

/// Leaves the number of descriptors that is given.
fn lacks_descriptors(part: &Part) {
    let mut checker = Checker::new(part, |error| is_io_of(error, &[Errno::MFILE]));
    let old = tight().open(&part.path).expect("a handle from before");
    let generation = old.stats().expect("numbers").generation;
    let taken = leave_descriptors(part.numbers[0]);
    // First what a new handle would do by itself: there is nothing to recover.
    let opened = tight().open(&part.path);
    if let Some(new) = checker.happened(opened) {
        let outcome = new.put(b"k", b"v");
        if checker.happened(outcome).is_some() {
            checker.model.insert(b"k".to_vec(), b"v".to_vec());
        }
        assert_eq!(new.stats().expect("numbers").generation, generation);
    }
    checker.work(&old);
    checker.open_and_work();
    drop(taken);
    set_soft_limit(Resource::Nofile, Some(1024));
    checker.check();
    say(format!("{} {}", checker.done, checker.refused));
}

/// Starts a child for each number, and adds up what succeeded and what was refused.
fn each(role: &str, numbers: impl IntoIterator<Item = u64>) {
    let (mut done, mut refused) = (0, 0);
    for number in numbers {
        let dir = in_memory();
        let path = dir.path().join("cache");
        prepare(&path);
        let said = Child::start(role, &path, &[number]).finish();
        let (happened, not) = said.split_once(' ').expect("two numbers");
        done += happened.parse::<u64>().expect("a number");
        refused += not.parse::<u64>().expect("a number");
    }
    eprintln!("{role}: {done} done, {refused} refused");
    assert!(done > 0 && refused > 0);
}

#[test]
fn exhausted_descriptors_lose_nothing() {
    each("lacks descriptors", 0..=12);
}

/// Leaves the number of MiB of address space that is given.
fn lacks_address_space(part: &Part) {
    let mut checker = Checker::new(part, |error| is_io_of(error, &[Errno::NOMEM]));
    let statm = fs::read_to_string("/proc/self/statm").expect("the process's size");
    let pages = statm.split(' ').next().expect("a number");
    let used = pages.parse::<u64>().expect("a number") * rustix::param::page_size() as u64;
    set_soft_limit(Resource::As, Some(used + (part.numbers[0] << 20)));
    checker.open_and_work();
    set_soft_limit(Resource::As, None);
    checker.check();
    say(format!("{} {}", checker.done, checker.refused));
}

#[test]
fn exhausted_address_space_loses_nothing() {
    each("lacks address space", [16, 40, 60, 80, 100, 120, 200, 400]);
}

/// Limits files to the number of KiB that is given. A store beyond that raises SIGXFSZ, which would
/// end this process.
fn lacks_file_size(part: &Part) {
    let mut checker = Checker::new(part, |error| {
        error
            .io_error()
            .is_some_and(|error| error.kind() == std::io::ErrorKind::FileTooLarge)
    });
    let old = tight().open(&part.path).expect("a handle from before");
    set_soft_limit(Resource::Fsize, Some(part.numbers[0] << 10));
    checker.work(&old);
    checker.open_and_work();
    let outcome = MmapCache::open(part.path.with_file_name("another"));
    checker.happened(outcome);
    set_soft_limit(Resource::Fsize, None);
    checker.check();
    say(format!("{} {}", checker.done, checker.refused));
}

#[test]
fn file_size_limit_raises_no_signal() {
    each(
        "lacks file size",
        [0, 1, 4, 8, 12, 16, 64, 8_200, 8_260, 8_400],
    );
}

// ---- calls that fail

/// Lets these calls of this thread fail from now on.
fn refuse(calls: &[i64], errno: Errno) {
    refuse_if(calls, 0, &[], errno);
}

/// The same only for these values of an argument, if there are any.
fn refuse_if(calls: &[i64], argument: u8, values: &[u64], errno: Errno) {
    let rule = |&value: &u64| {
        let len = SeccompCmpArgLen::Dword;
        let is_it = SeccompCondition::new(argument, len, SeccompCmpOp::Eq, value);
        SeccompRule::new(vec![is_it.expect("a condition")]).expect("a rule")
    };
    let rules: Vec<_> = values.iter().map(rule).collect();
    let rules = calls.iter().map(|&call| (call, rules.clone())).collect();
    let arch = std::env::consts::ARCH.try_into().expect("a known machine");
    let refusing = SeccompAction::Errno(errno.raw_os_error() as u32);
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refusing, arch);
    let program: BpfProgram = filter.expect("a filter").try_into().expect("a program");
    seccompiler::apply_filter(&program).expect("a filter of one's own");
}

/// Lets every allocation of room fail, for the reason that the number says.
fn lacks_room(part: &Part) {
    let errno = Errno::from_raw_os_error(part.numbers[0] as i32);
    let mut checker = Checker::new(part, |error| match error.kind() {
        ErrorKind::DiskFull { .. } => true,
        _ => is_io_of(error, &[Errno::IO]),
    });
    let old = tight().open(&part.path).expect("a handle from before");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            refuse(&[libc::SYS_fallocate], errno);
            let full = old.put(b"k", &[0; 9_000]).expect_err("no room for this");
            let typed = matches!(full.kind(), ErrorKind::DiskFull { .. });
            assert_eq!(typed, errno != Errno::IO, "{full:?}");
            checker.work(&old);
            checker.open_and_work();
        });
    });
    checker.check();
    say(format!("{} {}", checker.done, checker.refused));
}

#[test]
fn quota_counts_as_disk_full() {
    let errnos = [Errno::DQUOT, Errno::NOSPC, Errno::IO];
    each(
        "lacks room",
        errnos.map(|errno| errno.raw_os_error() as u64),
    );
}

const SYNCS: [i64; 2] = [libc::SYS_fsync, libc::SYS_fdatasync];

#[track_caller]
fn assert_sync_failed<T: std::fmt::Debug>(outcome: Result<T>) {
    let error = outcome.expect_err("a failed sync");
    assert!(matches!(error.kind(), ErrorKind::SyncFailed), "{error:?}");
    assert!(!error.is_corruption());
}

/// Returns this process's descriptors of a file.
fn descriptors_of(path: &Path) -> Vec<u64> {
    let all = fs::read_dir("/proc/self/fd").expect("the descriptors");
    let all = all.map(|entry| entry.expect("a descriptor").path());
    all.filter(|entry| fs::read_link(entry).is_ok_and(|target| target == path))
        .map(|entry| {
            entry
                .file_name()
                .expect("a number")
                .to_string_lossy()
                .parse()
        })
        .map(|number| number.expect("a number"))
        .collect()
}

/// Ids that may be lost are reported, of one label and of many, in a process whose syncs fail.
fn cannot_sync_labels(path: &Path) {
    let labels = Labels::open_with(path, Options::new().durability(Durability::Sync));
    let labels = labels.expect("the labels");
    assert_eq!(labels.get_or_intern("known").expect("an id").number(), 0);
    let failed = [
        labels.get_or_intern("one").map(drop),
        labels.get_or_intern_many(["two", "three"]).map(drop),
    ];
    for failed in failed {
        failed.expect_err("a failed sync");
    }
}

/// Lets syncs fail in this process, from the moment on that the number says.
fn cannot_sync(part: &Part) {
    let cache = tight().open(&part.path).expect("the cache");
    let durable = tight()
        .durability(Durability::Sync)
        .open(&part.path)
        .expect("the cache");
    cache.put(b"before", b"it").expect("a put");
    match part.numbers[0] {
        4 => refuse_if(&SYNCS, 0, &descriptors_of(&part.path), Errno::IO),
        5 => {
            let roster = part.path.with_file_name("cache.roster");
            refuse_if(&SYNCS, 0, &descriptors_of(&roster), Errno::IO);
        }
        _ => refuse(&SYNCS, Errno::IO),
    }
    let failed = match part.numbers[0] {
        0 | 4 | 5 => Some(cache.flush()),
        1 => Some(durable.put(b"durable", b"or not").map(drop)),
        2 => {
            let mut writer = durable.writer().expect("the lock");
            writer.put(b"durable", b"or not").expect("a put");
            Some(writer.commit())
        }
        _ => {
            drop(durable.writer().expect("the lock"));
            let mut writer = durable.writer().expect("the lock");
            writer.put(b"durable", b"or not").expect("a put");
            // The caller does not ask for it, but the failure is not forgotten.
            drop(writer);
            None
        }
    };
    if let Some(failed) = failed {
        let failed = failed.expect_err("a failed sync");
        assert!(is_io_of(&failed, &[Errno::IO]), "{failed:?}");
    }
    assert_sync_failed(cache.flush());
    assert_sync_failed(durable.put(b"again", b"v"));
    assert_sync_failed(tight().open(&part.path).expect("the cache").flush());
    // From 4 on only files of the cache are refused.
    if part.numbers[0] < 4 {
        cannot_sync_labels(&part.path.with_file_name("labels"));
    }
    say("failed");
    assert_eq!(hear().as_deref(), Some("go on"));
}

// A failed sync is reported, and stays reported to every handle and process.
#[test]
fn failed_sync_stays_reported() {
    for moment in 0..6 {
        let dir = in_memory();
        let path = dir.path().join("cache");
        let mut model = prepare(&path);
        let before = tight().open(&path).expect("a handle from before");
        // What is synced from here on must not be removed before its copies are.
        before.flush().expect("a healthy disk");
        let labels = Labels::open(dir.path().join("labels")).expect("new labels");
        labels.get_or_intern("known").expect("an id");
        let mut other = Child::start("cannot sync", &path, &[moment]);
        other.expect("failed");
        // This process's disk is healthy; what the other one lost stays lost.
        assert_sync_failed(before.flush());
        let after = tight().open(&path).expect("a new handle");
        assert_sync_failed(after.flush());
        assert!(after.stats().expect("numbers").sync_failed);
        let durable = tight()
            .durability(Durability::Sync)
            .open(&path)
            .expect("a durable handle");
        assert_sync_failed(durable.put(b"mine", b"v"));
        other.tell("go on");
        other.finish();
        // Reading and writing continue, and segments stay.
        let segments = |dir: &Path| -> Vec<String> {
            let names = listing(dir).into_iter().map(|(name, _)| name);
            names.filter(|name| name.contains("heap")).collect()
        };
        let there = segments(dir.path());
        for i in 0..300 {
            let value = vec![i as u8; 250];
            after.put(&key(i % 60), &value).expect("a put");
            model.insert(key(i % 60), value);
        }
        assert!(after.compact().is_err(), "segments would have to go");
        let still = segments(dir.path());
        assert!(there.iter().all(|name| still.contains(name)));
        for (key, value) in &model {
            assert_eq!(after.get(key).expect("a lookup").as_ref(), Some(value));
        }
        // A new heap ends the error.
        after.clear().expect("a new heap");
        before.flush().expect("a new heap");
        assert!(!before.stats().expect("numbers").sync_failed);
    }
}

/// The first change after a flush writes a mark to the disk; and a rebuild syncs before it commits.
#[test]
fn failed_sync_fails_its_change() {
    let dir = in_memory();
    let path = dir.path().join("cache");
    let model = prepare(&path);
    let cache = tight().open(&path).expect("the cache");
    cache.flush().expect("a flush");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            refuse(&SYNCS, Errno::IO);
            let items = [Ok::<_, Error>((b"new", b"v"))];
            let error = cache.atomic_rebuild(items).expect_err("no sync");
            assert!(is_io_of(&error, &[Errno::IO]), "{error:?}");
            let error = cache.put(b"k", b"v").expect_err("no mark on the disk");
            assert!(is_io_of(&error, &[Errno::IO]), "{error:?}");
        });
    });
    holds(&cache, &model);
    assert!(
        listing(dir.path())
            .iter()
            .all(|(name, _)| !name.ends_with(".new"))
    );
    // The other parts of the index that the failed sync covered may be lost.
    assert_sync_failed(cache.flush());
    cache.put(b"k", b"v").expect("the mark is stored again");
    assert_sync_failed(cache.flush());
    cache.clear().expect("a new heap");
    cache.flush().expect("a new heap");
}
