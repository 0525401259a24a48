//! Words, fences and mappings under loom.
//!
//! Loom explores which values threads may load from its atomics, and each of its atomics takes time.
//! So a word becomes one of loom's only if one thread of a model stores it and another loads it. Any
//! other word has one value at a time in every order, and stays a plain number. The shared words are
//! found by running: an execution that shares a new one is discarded, and the exploration begins
//! again. The words of mapped files are such words too, the same ones for all mappings of a range of
//! a file.
//!
//! Loom runs all threads of a model on one thread of the system, so the state here is per system
//! thread. Calls no other module.
#![cfg_attr(
    not(test),
    expect(dead_code, reason = "only the models begin executions")
)]

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs::File;
use std::mem::take;
use std::panic::Location;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use loom::sync::atomic::AtomicU64 as Shared;

/// Words of a window at most: models are small, and a window takes memory here, not only address
/// space.
const LONGEST: usize = 2048;

/// A word of a mapped file: the file, numbered in the order of first mappings, and the word in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct WordId {
    file: u32,
    word: u32,
}

/// A word that threads may share.
#[derive(Debug)]
pub(crate) struct Word {
    /// `None` for a word of one handle, which no other process sees.
    id: Option<WordId>,
    plain: AtomicU64,
    /// Its number among loom's words, plus one; 0 if it is not one of them.
    shared: AtomicUsize,
}

/// The role of a thread in a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ThreadRole {
    /// It runs before or after all others.
    #[default]
    Alone,
    Writer,
    Reader,
}

/// A place in the source that orders memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct OrderingSite {
    pub file: &'static str,
    pub line: u32,
    pub column: u32,
}

/// A mapped range of a file.
#[derive(Debug)]
struct Mapping {
    inode: (u64, u64),
    at: u64,
    words: Arc<[Word]>,
    /// Keeps the inode's number from being given to another file.
    _file: File,
}

/// The contents of the mapped files at one moment.
#[derive(Debug)]
pub(crate) struct Image(Vec<Vec<u64>>);

/// One for all words: a waiter that it wakes loads its word again.
type WakeUp = (loom::sync::Mutex<()>, loom::sync::Condvar);

#[derive(Default)]
struct ModelState {
    role: ThreadRole,
    mappings: Vec<Mapping>,
    /// Files in the order in which they were first mapped.
    inodes: Vec<(u64, u64)>,
    shared: BTreeSet<WordId>,
    stored: BTreeSet<WordId>,
    loaded: BTreeSet<WordId>,
    /// Loom's words, in the order of `shared`, including words of files that do not exist yet.
    words: Vec<Rc<Shared>>,
    /// Orders system calls on names, as the system's own locks do.
    system: Option<Rc<Shared>>,
    /// Wakes the threads that sleep on a word.
    wake_up: Option<Rc<WakeUp>>,
    sites: BTreeSet<OrderingSite>,
    weakened: BTreeSet<OrderingSite>,
    numbers: u64,
    /// The owner ids of contenders that were killed.
    dead: BTreeSet<u32>,
}

thread_local! {
    static MODEL: RefCell<ModelState> = RefCell::default();
}

fn model<T>(look: impl FnOnce(&mut ModelState) -> T) -> T {
    MODEL.with_borrow_mut(look)
}

/// Runs an operation of loom. Loom may run other threads first, so the role of this one is restored.
fn in_loom<T>(action: impl FnOnce() -> T) -> T {
    let role = model(|model| model.role);
    let done = action();
    model(|model| model.role = role);
    done
}

impl Word {
    pub(crate) fn new(value: u64) -> Self {
        Self {
            id: None,
            plain: AtomicU64::new(value),
            shared: AtomicUsize::new(0),
        }
    }

    /// Returns loom's part of the word. `None` during a panic.
    fn shared(&self) -> Option<Rc<Shared>> {
        let at = self.shared.load(Ordering::Relaxed).checked_sub(1)?;
        model(|model| model.words.get(at).cloned()).filter(|_| !std::thread::panicking())
    }

    pub(crate) fn load(&self, order: Ordering) -> u64 {
        if let Some(shared) = self.shared() {
            return in_loom(|| shared.load(order));
        }
        if let Some(id) = self.id {
            model(|model| model.role == ThreadRole::Reader && model.loaded.insert(id));
        }
        self.plain.load(order)
    }

    #[track_caller]
    pub(crate) fn store(&self, value: u64, order: Ordering) {
        let order = if order == Ordering::Release && is_weakened() {
            Ordering::Relaxed
        } else {
            order
        };
        if let Some(shared) = self.shared() {
            return in_loom(|| shared.store(value, order));
        }
        if let Some(id) = self.id {
            model(|model| {
                assert!(
                    model.role != ThreadRole::Reader,
                    "a reader stores into a file"
                );
                model.role == ThreadRole::Writer && model.stored.insert(id)
            });
        }
        self.plain.store(value, order);
    }

    #[track_caller]
    pub(crate) fn compare_exchange(
        &self,
        expected: u64,
        value: u64,
        order: Ordering,
        otherwise: Ordering,
    ) -> Result<u64, u64> {
        let is_ordered = order != Ordering::Relaxed;
        let order = if is_ordered && is_weakened() {
            Ordering::Relaxed
        } else {
            order
        };
        if let Some(shared) = self.shared() {
            return in_loom(|| shared.compare_exchange(expected, value, order, otherwise));
        }
        if let Some(id) = self.id {
            model(|model| {
                assert!(
                    model.role != ThreadRole::Reader,
                    "a reader stores into a file"
                );
                model.role == ThreadRole::Writer && model.stored.insert(id)
            });
        }
        self.plain
            .compare_exchange(expected, value, order, otherwise)
    }

    /// For words of one handle only.
    pub(crate) fn fetch_max(&self, value: u64, order: Ordering) -> u64 {
        assert!(self.id.is_none());
        self.plain.fetch_max(value, order)
    }

    /// For words that no model shares.
    pub(crate) fn fetch_add(&self, more: u64, order: Ordering) -> u64 {
        assert!(self.shared().is_none());
        self.plain.fetch_add(more, order)
    }

    /// For words of one handle only.
    pub(crate) fn swap(&self, value: u64, order: Ordering) -> u64 {
        assert!(self.id.is_none());
        self.plain.swap(value, order)
    }
}

#[track_caller]
pub(crate) fn fence(order: Ordering) {
    let is_modelled = model(|model| model.role != ThreadRole::Alone) && !std::thread::panicking();
    if !is_weakened() && is_modelled {
        in_loom(|| loom::sync::atomic::fence(order));
    }
}

/// Records a place that orders memory. Returns whether the model leaves it out.
#[track_caller]
fn is_weakened() -> bool {
    let place = Location::caller();
    let site = OrderingSite {
        file: place.file(),
        line: place.line(),
        column: place.column(),
    };
    model(|model| {
        if model.role != ThreadRole::Alone {
            model.sites.insert(site);
        }
        model.weakened.contains(&site)
    })
}

/// Returns the words of a range of a file, the same ones for all callers.
pub(crate) fn mapping(file: &File, inode: (u64, u64), at: u64, count: usize) -> Arc<[Word]> {
    model(|model| {
        let known = |mapping: &&Mapping| mapping.inode == inode && mapping.at == at;
        if let Some(known) = model.mappings.iter().find(known) {
            return Arc::clone(&known.words);
        }
        let file = file.try_clone().expect("a descriptor to spare");
        model.map(file, inode, at, count.min(LONGEST))
    })
}

impl ModelState {
    fn map(&mut self, file: File, inode: (u64, u64), at: u64, count: usize) -> Arc<[Word]> {
        let known = self.inodes.iter().position(|&known| known == inode);
        let number = known.unwrap_or_else(|| {
            self.inodes.push(inode);
            self.inodes.len() - 1
        });
        let (file_number, first) = (number as u32, (at / 8) as u32);
        let words = (first..first + count as u32).map(|word| Word {
            id: Some(WordId {
                file: file_number,
                word,
            }),
            plain: AtomicU64::new(0),
            shared: AtomicUsize::new(0),
        });
        let words: Arc<[Word]> = words.collect();
        self.mappings.push(Mapping {
            inode,
            at,
            words: Arc::clone(&words),
            _file: file,
        });
        self.share_words(self.mappings.len() - 1);
        words
    }

    /// Makes the shared words of a mapping words of loom.
    fn share_words(&self, mapping: usize) {
        for (number, id) in (1..).zip(&self.shared) {
            if let Some(word) = self.mappings[mapping].word(*id) {
                word.shared.store(number, Ordering::Relaxed);
            }
        }
    }
}

impl Mapping {
    fn word(&self, id: WordId) -> Option<&Word> {
        let first = self.words.first()?.id?;
        let word = self.words.get(id.word.checked_sub(first.word)? as usize)?;
        (first.file == id.file).then_some(word)
    }
}

/// Starts again without files and without shared words.
pub(crate) fn reset() {
    model(|model| take(model));
}

/// Returns the contents of the files. Outside of loom.
pub(crate) fn image() -> Image {
    let values = |mapping: &Mapping| {
        let words = mapping.words.iter();
        words
            .map(|word| word.plain.load(Ordering::Relaxed))
            .collect()
    };
    model(|model| Image(model.mappings.iter().map(values).collect()))
}

/// Begins an execution with the files of an image. Inside loom, before any thread.
pub(crate) fn begin(image: &Image) {
    let values: Vec<u64> = model(|model| {
        model.mappings.truncate(image.0.len());
        let last = model.mappings.last().map(|mapping| mapping.inode);
        let files = model.inodes.iter().position(|inode| Some(*inode) == last);
        model.inodes.truncate(files.map_or(0, |last| last + 1));
        (model.numbers, model.role) = (0, ThreadRole::Alone);
        model.dead.clear();
        for (mapping, values) in model.mappings.iter().zip(&image.0) {
            for (word, value) in mapping.words.iter().zip(values) {
                word.plain.store(*value, Ordering::Relaxed);
            }
        }
        (0..model.mappings.len()).for_each(|mapping| model.share_words(mapping));
        let value = |id: &WordId| {
            let word = model.mappings.iter().find_map(|mapping| mapping.word(*id));
            word.map_or(0, |word| word.plain.load(Ordering::Relaxed))
        };
        model.shared.iter().map(value).collect()
    });
    let words = values.into_iter().map(|value| Rc::new(Shared::new(value)));
    let words = words.collect();
    let system = Some(Rc::new(Shared::new(0)));
    model(|model| (model.words, model.system) = (words, system));
}

/// Models a system call that creates or finds a name: a thread that finds it sees all that its
/// creator did before.
pub(crate) fn system_call() {
    let system = model(|model| {
        model
            .system
            .clone()
            .filter(|_| model.role != ThreadRole::Alone)
    });
    if let Some(system) = system.filter(|_| !std::thread::panicking()) {
        in_loom(|| system.fetch_add(1, Ordering::AcqRel));
    }
}

/// Yields to the other threads instead of sleeping.
pub(crate) fn pause() {
    if model(|model| model.role != ThreadRole::Alone) {
        in_loom(loom::thread::yield_now);
    }
}

/// Sets the role of the current thread.
pub(crate) fn set_role(role: ThreadRole) {
    model(|model| model.role = role);
}

/// Returns whether the executions so far shared words that were not loom's. They are from now on.
pub(crate) fn found_shared_words() -> bool {
    model(|model| {
        let both: Vec<_> = model.stored.intersection(&model.loaded).copied().collect();
        let before = model.shared.len();
        model.shared.extend(both);
        model.shared.len() > before
    })
}

/// Returns the number of words that are loom's.
pub(crate) fn shared_words() -> usize {
    model(|model| model.shared.len())
}

/// Leaves out the orderings at these places.
pub(crate) fn weaken(sites: impl IntoIterator<Item = OrderingSite>) {
    model(|model| model.weakened = sites.into_iter().collect());
}

/// Returns the places that ordered memory in the executions so far.
pub(crate) fn sites() -> BTreeSet<OrderingSite> {
    model(|model| model.sites.clone())
}

/// Creates a word of loom's that belongs to no file. Inside loom.
pub(crate) fn shared(value: u64) -> Word {
    let number = model(|model| {
        model.words.push(Rc::new(Shared::new(value)));
        model.words.len()
    });
    Word {
        shared: AtomicUsize::new(number),
        ..Word::new(0)
    }
}

/// Kills the contender with an owner id, and lets the system see that.
pub(crate) fn kill(number: u32) {
    system_call();
    model(|model| model.dead.insert(number));
    system_call();
    // A sleep ends at its timeout: this is the timeout.
    wake(true);
}

/// Sleeps until a wake, if the low half of a word is still `low`. After a kill every sleep ends by
/// itself, because a dead contender wakes no waiter.
pub(crate) fn sleep(word: &Word, low: u32) {
    let wake_up = model(|model| model.wake_up.clone());
    let has_slept = wake_up.is_some_and(|wake_up| {
        in_loom(|| {
            let guard = wake_up.0.lock().unwrap();
            // Checked under the mutex: a contender that is killed later finds this thread asleep, and
            // wakes it.
            if model(|model| !model.dead.is_empty()) {
                return false;
            }
            if word.load(Ordering::SeqCst) as u32 == low {
                drop(wake_up.1.wait(guard).unwrap());
            }
            true
        })
    });
    if !has_slept {
        pause();
    }
}

/// Wakes one sleeping thread, or all of them.
pub(crate) fn wake(all: bool) {
    let Some(wake_up) = model(|model| model.wake_up.clone()) else {
        return;
    };
    in_loom(|| {
        let _guard = wake_up.0.lock().unwrap();
        if all {
            wake_up.1.notify_all();
        } else {
            wake_up.1.notify_one();
        }
    });
}

/// Begins an execution without files. Inside loom, before any thread.
pub(crate) fn begin_without_files() {
    let system = Some(Rc::new(Shared::new(0)));
    let wake_up = Some(Rc::new(WakeUp::default()));
    model(|model| {
        let (sites, weakened) = (take(&mut model.sites), take(&mut model.weakened));
        *model = ModelState {
            system,
            wake_up,
            sites,
            weakened,
            ..ModelState::default()
        };
    });
}

/// Returns whether the contender with an owner id was killed.
pub(crate) fn is_dead(number: u32) -> bool {
    system_call();
    model(|model| model.dead.contains(&number))
}

/// Returns a number instead of a random one, because every execution must be the same.
pub(crate) fn number() -> u64 {
    model(|model| {
        model.numbers += 1;
        model.numbers.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    })
}
