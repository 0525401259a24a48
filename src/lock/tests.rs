//! Guarantees of both kinds of lock: exclusion, handoff, deadlines, and that dead processes hold no
//! lock.
#![expect(unsafe_code, reason = "forks, and children that are killed")]

use std::path::Path;

use crate::sync::{load, store};

use crate::lock::*;

#[cfg(not(loom))]
mod inherit;
#[cfg(loom)]
mod loom;

const KINDS: [LockKind; 2] = [LockKind::Flock, LockKind::Word];

/// A file to lock, and words that would be mapped from it.
struct Locked {
    _dir: tempfile::TempDir,
    path: std::path::PathBuf,
    words: [Word; 3],
}

impl Locked {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        File::create(&path).unwrap();
        Self {
            _dir: dir,
            path,
            words: [Word::new(0), Word::new(0), Word::new(0)],
        }
    }

    fn words(&self) -> Option<LockWords<'_>> {
        let [state, inside, waiting] = &self.words;
        Some(LockWords {
            state,
            inside,
            waiting,
        })
    }

    fn lock(&self, kind: LockKind) -> FileLock {
        FileLock::open(kind, || Ok(open(&self.path)))
            .unwrap()
            .unwrap()
    }

    /// Acquires the lock, with a deadline that is longer than any of these tests.
    fn acquire(&self, lock: &FileLock) {
        let long = LockDeadline::new(Some(Duration::from_secs(30)));
        lock.acquire(self.words(), &long).unwrap();
    }

    /// Returns whether the lock could be acquired within 20 milliseconds.
    fn try_acquire(&self, lock: &FileLock) -> bool {
        let soon = LockDeadline::new(Some(Duration::from_millis(20)));
        match lock.acquire(self.words(), &soon) {
            Ok(()) => true,
            Err(LockError::TimedOut) => false,
            Err(refusal) => panic!("{refusal:?}"),
        }
    }
}

fn open(path: &Path) -> File {
    File::options().read(true).write(true).open(path).unwrap()
}

// Two handles of one process exclude each other.
#[test]
fn handles_of_one_process_exclude() {
    for kind in KINDS {
        let file = Locked::new();
        let (a, b) = (file.lock(kind), file.lock(kind));
        file.acquire(&a);
        assert!(!file.try_acquire(&b), "{kind:?}");
        a.release(file.words());
        file.acquire(&b);
        assert!(!file.try_acquire(&a), "{kind:?}");
    }
}

#[test]
fn double_lock_excludes_both_kinds() {
    for kind in KINDS {
        let file = Locked::new();
        let open = || FileLock::of_file(|| Ok(open(&file.path))).unwrap();
        let (both, one) = (open().with_futex_lock().unwrap(), file.lock(kind));
        file.acquire(&both);
        assert!(!file.try_acquire(&one), "{kind:?}");
        both.release(file.words());
        file.acquire(&one);
        assert!(!file.try_acquire(&both), "{kind:?}");
        one.release(file.words());
        file.acquire(&both);
    }
}

#[test]
fn threads_take_turns_without_lost_updates() {
    for kind in KINDS {
        let file = Locked::new();
        let count = Word::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let lock = file.lock(kind);
                    for _ in 0..500 {
                        file.acquire(&lock);
                        // L3: two owners at once would lose an update.
                        let seen = load(&count);
                        std::hint::black_box(std::thread::current().id());
                        store(&count, seen + 1);
                        lock.release(file.words());
                    }
                });
            }
        });
        assert_eq!(load(&count), 2_000, "{kind:?}");
    }
}

// A handle that is closed while it holds the lock leaves it to the next.
#[test]
fn closed_holder_releases_the_lock() {
    for kind in KINDS {
        let file = Locked::new();
        let (a, b) = (file.lock(kind), file.lock(kind));
        file.acquire(&a);
        // L4: as the system does when the process is killed.
        drop(a);
        file.acquire(&b);
    }
}

// A handle that is closed releases the lock, though a forked child has its description too.
#[test]
fn inherited_description_keeps_no_lock() {
    for kind in KINDS {
        let file = Locked::new();
        let (a, b) = (file.lock(kind), file.lock(kind));
        file.acquire(&a);
        let inherited = a.file().try_clone().unwrap();
        drop(a);
        file.acquire(&b);
        drop(inherited);
    }
}

#[test]
fn longest_waiter_is_next() {
    let file = Locked::new();
    let (busy, other) = (file.lock(LockKind::Word), file.lock(LockKind::Word));
    let state = &file.words[0];
    file.acquire(&busy);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| file.acquire(&other));
        let announced = || load(state) >> 32 != 0;
        while !announced() {
            assert!(!waiting.is_finished());
            std::thread::yield_now();
        }
        busy.release(file.words());
        // L4: handed to the waiter. Otherwise `busy` could acquire it again at once.
        assert!(load(state) != 0, "the lock is free for all");
        waiting.join().unwrap();
    });
    assert!(!file.try_acquire(&busy));
    other.release(file.words());
    file.acquire(&busy);
}

#[test]
fn lock_tells_whether_another_holds_it() {
    let file = Locked::new();
    let (holder, other) = (file.lock(LockKind::Word), file.lock(LockKind::Word));
    let words = file.words().unwrap();
    assert!(!other.is_held_by_another(words));
    file.acquire(&holder);
    assert!(other.is_held_by_another(words));
    assert!(!holder.is_held_by_another(words));
    holder.release(file.words());
    assert!(!other.is_held_by_another(words));
}

#[test]
fn dead_waiter_is_not_waited_for() {
    let file = Locked::new();
    let (a, dead) = (file.lock(LockKind::Word), file.lock(LockKind::Word));
    let number = u64::from(dead.owner_id.unwrap());
    drop(dead);
    file.acquire(&a);
    store(&file.words[0], load(&file.words[0]) | (number << 32));
    a.release(file.words());
    assert_eq!(load(&file.words[0]) >> 32, number);
    file.acquire(&a);
    a.release(file.words());
    assert_eq!(load(&file.words[0]), 0);
}

#[test]
fn dead_holder_blocks_no_try() {
    let file = Locked::new();
    let (lock, dead) = (file.lock(LockKind::Word), file.lock(LockKind::Word));
    let number = u64::from(dead.owner_id.unwrap());
    drop(dead);
    for state in [number, number << 32, (number << 32) | (1 << 31)] {
        store(&file.words[0], state);
        let at_once = LockDeadline::new(Some(Duration::ZERO));
        let taken = lock.acquire(file.words(), &at_once);
        assert!(taken.is_ok(), "{state:x}: {taken:?}");
        lock.release(file.words());
    }
}

#[test]
fn leaving_waiter_is_not_waited_for() {
    let file = Locked::new();
    let (a, b) = (file.lock(LockKind::Word), file.lock(LockKind::Word));
    file.acquire(&a);
    assert!(!file.try_acquire(&b));
    assert_eq!(load(&file.words[0]) >> 32, 0);
    a.release(file.words());
    file.acquire(&a);
}

// No corruption of the words lets two owners in, or excludes all.
#[test]
fn corrupt_words_never_break_exclusion() {
    for bit in 0..192_usize {
        let file = Locked::new();
        let (holder, other) = (file.lock(LockKind::Word), file.lock(LockKind::Word));
        let damage = || {
            let word = &file.words[bit / 64];
            store(word, load(word) ^ (1 << (bit % 64)));
        };
        // While it is free.
        damage();
        file.acquire(&other);
        other.release(file.words());
        damage();
        // L4: while it is held, with one of the words corrupt.
        file.acquire(&holder);
        damage();
        assert!(!file.try_acquire(&other), "bit {bit} lets another in");
        holder.release(file.words());
        file.acquire(&other);
        other.release(file.words());
        file.acquire(&holder);
    }
}

#[test]
fn timed_out_waiter_releases_nothing() {
    for kind in KINDS {
        let file = Locked::new();
        let (holder, other) = (file.lock(kind), file.lock(kind));
        file.acquire(&holder);
        let before = file.words.each_ref().map(load);
        other.release(file.words());
        assert_eq!(file.words.each_ref().map(load), before, "{kind:?}");
        assert!(!file.try_acquire(&other), "{kind:?}");
    }
}

#[test]
fn zeroed_word_keeps_exclusion() {
    let file = Locked::new();
    let (holder, other) = (file.lock(LockKind::Word), file.lock(LockKind::Word));
    file.acquire(&holder);
    store(&file.words[0], 0);
    assert!(!file.try_acquire(&other));
    holder.release(file.words());
    file.acquire(&other);
}

// The words of another boot, or of a copied file, belong to no process.
#[test]
fn foreign_lock_words_have_no_owner() {
    let file = Locked::new();
    let lock = file.lock(LockKind::Word);
    for state in [0x0000_0000_1234_5678, 0x7654_3210_9234_5678, u64::MAX] {
        store(&file.words[0], state);
        store(&file.words[1], 0x1234_5678);
        file.acquire(&lock);
        lock.release(file.words());
    }
}

/// A forked child that lives until it is killed. Returns its process id.
fn forked() -> libc::pid_t {
    // SAFETY: L2: the child does nothing but wait and end.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0);
    if pid == 0 {
        // SAFETY: L2: longer than any of these tests, but not forever.
        unsafe { libc::sleep(60) };
        // SAFETY: L2: ends the child with nothing that belongs to the parent.
        unsafe { libc::_exit(0) };
    }
    pid
}

/// Runs a check in a forked child, which must not take more than a few seconds, and returns its
/// result. The check must not panic: a panic prints, and another thread may have held the lock of the
/// output at the fork.
///
/// One test at a time: some hold a lock over a fork, and the forks of other tests would wait for it.
#[cfg(not(loom))]
pub(crate) fn child_finds(check: impl FnOnce() -> bool) -> bool {
    static TURN: std::sync::Mutex<()> = std::sync::Mutex::new(());
    thread_local! {
        static IS_CHILD: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
    }
    let turn =
        (!IS_CHILD.get()).then(|| TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner()));
    let found = child_finds_at_once(|| {
        IS_CHILD.set(true);
        check()
    });
    drop(turn);
    found
}

/// The same, while other threads may fork too.
#[cfg(not(loom))]
fn child_finds_at_once(check: impl FnOnce() -> bool) -> bool {
    // SAFETY: L2: the child runs the check, which uses locks of this crate only, and ends.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0);
    if pid == 0 {
        let found = check();
        // SAFETY: L2: ends the child with nothing that belongs to the parent.
        unsafe { libc::_exit(if found { 0 } else { 1 }) };
    }
    let begun = Instant::now();
    loop {
        let mut status = -1;
        // SAFETY: L2: `status` is a live integer, and no other thread waits for the child.
        let waited = unsafe { libc::waitpid(pid, &raw mut status, libc::WNOHANG) };
        if waited != 0 {
            return status == 0;
        }
        if begun.elapsed() > Duration::from_secs(10) {
            kill(pid);
            panic!("the forked child hangs");
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn kill(pid: libc::pid_t) {
    // SAFETY: L2: the child was not waited for, so the id is its own.
    unsafe { libc::kill(pid, libc::SIGKILL) };
    // SAFETY: L2: no other thread waits for the child, and its status is not read.
    unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
}

// Children that are forked while a lock is being opened do not keep it.
#[test]
fn child_forked_while_opening_keeps_nothing() {
    for kind in KINDS {
        let file = Locked::new();
        drop(file.lock(kind));
        let over = Word::new(0);
        let taken = std::thread::scope(|scope| {
            let taking = scope.spawn(|| {
                while load(&over) == 0 {
                    let lock = file.lock(kind);
                    let soon = LockDeadline::new(Some(Duration::from_secs(5)));
                    lock.acquire(file.words(), &soon)?;
                    // Closed, not unlocked, as when the process is killed.
                }
                Ok::<_, LockError>(())
            });
            let mut children = Vec::new();
            while children.len() < 100 && !taking.is_finished() {
                children.push(forked());
            }
            store(&over, 1);
            let taken = taking.join();
            children.into_iter().for_each(kill);
            taken.unwrap()
        });
        // L1: the child closed the descriptor.
        assert!(taken.is_ok(), "{kind:?}: a child has kept it: {taken:?}");
    }
}
