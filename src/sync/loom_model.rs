//! Words, fences and mappings under loom.
//!
//! Loom explores what threads may see of its atomics, and each of its atomics costs it time. So a
//! word becomes loom's only if one thread of a model stores it and another loads it; every other
//! word has one value at a time, whatever the order, and stays a plain number. Which words are
//! shared is learnt by running: an execution that shares a new one is thrown away, and the
//! exploration begins again. Mapped files are such words too, the same ones for everybody who maps
//! the same range of the same file.
//!
//! Loom runs all threads of a model on one thread of the system, so what is kept here is kept for
//! each of those. This file does not know what the words mean.
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

/// Words of a window at most: models are small, and the address space that a real window reserves
/// would be memory here.
const LONGEST: usize = 2048;

/// A word of a mapped file: the file, counted by when it was first mapped, and the word in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Id {
    file: u32,
    word: u32,
}

/// A shared word.
#[derive(Debug)]
pub(crate) struct Word {
    /// None for a word of one handle, which no other process can see.
    id: Option<Id>,
    plain: AtomicU64,
    /// Its number among loom's words, plus one; 0 for none.
    shared: AtomicUsize,
}

/// What a thread of a model does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Role {
    /// It comes before or after all others.
    #[default]
    Alone,
    Writer,
    Reader,
}

/// A place in the source that orders memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Site {
    pub file: &'static str,
    pub line: u32,
    pub column: u32,
}

/// A range of a file as somebody mapped it.
#[derive(Debug)]
struct Mapping {
    inode: (u64, u64),
    at: u64,
    words: Arc<[Word]>,
    /// Keeps the inode's number from being given to another file.
    _file: File,
}

/// What the mapped files hold at one moment.
#[derive(Debug)]
pub(crate) struct Image(Vec<Vec<u64>>);

/// One for all words: whoever it wakes looks again.
type Bell = (loom::sync::Mutex<()>, loom::sync::Condvar);

#[derive(Default)]
struct World {
    role: Role,
    mappings: Vec<Mapping>,
    /// Files in the order in which they were first mapped.
    inodes: Vec<(u64, u64)>,
    shared: BTreeSet<Id>,
    stored: BTreeSet<Id>,
    loaded: BTreeSet<Id>,
    /// Loom's words, in the order of `shared`; those of files that are yet to be made too.
    words: Vec<Rc<Shared>>,
    /// What system calls on names go through, as through the system's own locks.
    system: Option<Rc<Shared>>,
    /// What wakes those that sleep on a word.
    bell: Option<Rc<Bell>>,
    sites: BTreeSet<Site>,
    weakened: BTreeSet<Site>,
    numbers: u64,
    /// Contenders for a lock that were killed.
    dead: BTreeSet<u32>,
}

thread_local! {
    static WORLD: RefCell<World> = RefCell::default();
}

fn world<T>(look: impl FnOnce(&mut World) -> T) -> T {
    WORLD.with_borrow_mut(look)
}

/// Lets loom act. It may run other threads meanwhile, which leave their own role behind.
fn act<T>(action: impl FnOnce() -> T) -> T {
    let role = world(|world| world.role);
    let done = action();
    world(|world| world.role = role);
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

    /// Loom's part of the word; none while a panic takes everything down.
    fn shared(&self) -> Option<Rc<Shared>> {
        let at = self.shared.load(Ordering::Relaxed).checked_sub(1)?;
        world(|world| world.words.get(at).cloned()).filter(|_| !std::thread::panicking())
    }

    pub(crate) fn load(&self, order: Ordering) -> u64 {
        if let Some(shared) = self.shared() {
            return act(|| shared.load(order));
        }
        if let Some(id) = self.id {
            world(|world| world.role == Role::Reader && world.loaded.insert(id));
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
            return act(|| shared.store(value, order));
        }
        if let Some(id) = self.id {
            world(|world| {
                assert!(world.role != Role::Reader, "a reader stores into a file");
                world.role == Role::Writer && world.stored.insert(id)
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
            return act(|| shared.compare_exchange(expected, value, order, otherwise));
        }
        if let Some(id) = self.id {
            world(|world| {
                assert!(world.role != Role::Reader, "a reader stores into a file");
                world.role == Role::Writer && world.stored.insert(id)
            });
        }
        self.plain
            .compare_exchange(expected, value, order, otherwise)
    }

    /// Only for words of one handle.
    pub(crate) fn fetch_max(&self, value: u64, order: Ordering) -> u64 {
        assert!(self.id.is_none());
        self.plain.fetch_max(value, order)
    }

    /// Only for words of one handle.
    pub(crate) fn swap(&self, value: u64, order: Ordering) -> u64 {
        assert!(self.id.is_none());
        self.plain.swap(value, order)
    }
}

#[track_caller]
pub(crate) fn fence(order: Ordering) {
    let is_modelled = world(|world| world.role != Role::Alone) && !std::thread::panicking();
    if !is_weakened() && is_modelled {
        act(|| loom::sync::atomic::fence(order));
    }
}

/// Notes a place that orders memory, and says whether it is to be left out.
#[track_caller]
fn is_weakened() -> bool {
    let place = Location::caller();
    let site = Site {
        file: place.file(),
        line: place.line(),
        column: place.column(),
    };
    world(|world| {
        if world.role != Role::Alone {
            world.sites.insert(site);
        }
        world.weakened.contains(&site)
    })
}

/// The words of a range of a file, the same ones for all who ask.
pub(crate) fn mapping(file: &File, inode: (u64, u64), at: u64, count: usize) -> Arc<[Word]> {
    world(|world| {
        let known = |mapping: &&Mapping| mapping.inode == inode && mapping.at == at;
        if let Some(known) = world.mappings.iter().find(known) {
            return Arc::clone(&known.words);
        }
        let file = file.try_clone().expect("a descriptor to spare");
        world.map(file, inode, at, count.min(LONGEST))
    })
}

impl World {
    fn map(&mut self, file: File, inode: (u64, u64), at: u64, count: usize) -> Arc<[Word]> {
        let known = self.inodes.iter().position(|&known| known == inode);
        let number = known.unwrap_or_else(|| {
            self.inodes.push(inode);
            self.inodes.len() - 1
        });
        let (file_number, first) = (number as u32, (at / 8) as u32);
        let words = (first..first + count as u32).map(|word| Word {
            id: Some(Id {
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
        self.hand_over(self.mappings.len() - 1);
        words
    }

    /// Gives loom those words of a mapping that are shared.
    fn hand_over(&self, mapping: usize) {
        for (number, id) in (1..).zip(&self.shared) {
            if let Some(word) = self.mappings[mapping].word(*id) {
                word.shared.store(number, Ordering::Relaxed);
            }
        }
    }
}

impl Mapping {
    fn word(&self, id: Id) -> Option<&Word> {
        let first = self.words.first()?.id?;
        let word = self.words.get(id.word.checked_sub(first.word)? as usize)?;
        (first.file == id.file).then_some(word)
    }
}

/// Forgets everything.
pub(crate) fn forget() {
    world(|world| take(world));
}

/// What the files hold now. Outside of loom.
pub(crate) fn image() -> Image {
    let values = |mapping: &Mapping| {
        let words = mapping.words.iter();
        words
            .map(|word| word.plain.load(Ordering::Relaxed))
            .collect()
    };
    world(|world| Image(world.mappings.iter().map(values).collect()))
}

/// Begins an execution with the files as they are in an image. Inside loom, before any thread.
pub(crate) fn begin(image: &Image) {
    let values: Vec<u64> = world(|world| {
        world.mappings.truncate(image.0.len());
        let last = world.mappings.last().map(|mapping| mapping.inode);
        let files = world.inodes.iter().position(|inode| Some(*inode) == last);
        world.inodes.truncate(files.map_or(0, |last| last + 1));
        (world.numbers, world.role) = (0, Role::Alone);
        world.dead.clear();
        for (mapping, values) in world.mappings.iter().zip(&image.0) {
            for (word, value) in mapping.words.iter().zip(values) {
                word.plain.store(*value, Ordering::Relaxed);
            }
        }
        (0..world.mappings.len()).for_each(|mapping| world.hand_over(mapping));
        let value = |id: &Id| {
            let word = world.mappings.iter().find_map(|mapping| mapping.word(*id));
            word.map_or(0, |word| word.plain.load(Ordering::Relaxed))
        };
        world.shared.iter().map(value).collect()
    });
    let words = values.into_iter().map(|value| Rc::new(Shared::new(value)));
    let words = words.collect();
    let system = Some(Rc::new(Shared::new(0)));
    world(|world| (world.words, world.system) = (words, system));
}

/// A system call that makes or finds a name: who finds it sees what its maker did before.
pub(crate) fn system_call() {
    let system = world(|world| world.system.clone().filter(|_| world.role != Role::Alone));
    if let Some(system) = system.filter(|_| !std::thread::panicking()) {
        act(|| system.fetch_add(1, Ordering::AcqRel));
    }
}

/// In place of sleeping: lets the others go on.
pub(crate) fn pause() {
    if world(|world| world.role != Role::Alone) {
        act(loom::thread::yield_now);
    }
}

/// What the thread that runs now does from here on.
pub(crate) fn play(role: Role) {
    world(|world| world.role = role);
}

/// Whether words were shared in what ran so far that were not loom's; they are from now on.
pub(crate) fn learnt() -> bool {
    world(|world| {
        let both: Vec<_> = world.stored.intersection(&world.loaded).copied().collect();
        let before = world.shared.len();
        world.shared.extend(both);
        world.shared.len() > before
    })
}

/// How many words are loom's.
pub(crate) fn shared_words() -> usize {
    world(|world| world.shared.len())
}

/// Leaves out the ordering at these places.
pub(crate) fn weaken(sites: impl IntoIterator<Item = Site>) {
    world(|world| world.weakened = sites.into_iter().collect());
}

/// The places that ordered memory in what ran so far.
pub(crate) fn sites() -> BTreeSet<Site> {
    world(|world| world.sites.clone())
}

/// A word of loom's outside of any file, for a model of its own. Inside loom.
pub(crate) fn shared(value: u64) -> Word {
    let number = world(|world| {
        world.words.push(Rc::new(Shared::new(value)));
        world.words.len()
    });
    Word {
        shared: AtomicUsize::new(number),
        ..Word::new(0)
    }
}

/// The contender that drew a number is dead, and the system knows it.
pub(crate) fn kill(number: u32) {
    system_call();
    world(|world| world.dead.insert(number));
    system_call();
    // Sleep ends sooner or later: this is later.
    wake(true);
}

/// Sleeps until somebody wakes, if the low half of a word is still this. Where somebody is dead,
/// who wakes nobody, sleep ends by itself.
pub(crate) fn sleep(word: &Word, low: u32) {
    let bell = world(|world| world.bell.clone());
    let has_slept = bell.is_some_and(|bell| {
        act(|| {
            let guard = bell.0.lock().unwrap();
            // Looked at under the bell: whoever dies later finds this one asleep, and wakes it.
            if world(|world| !world.dead.is_empty()) {
                return false;
            }
            if word.load(Ordering::SeqCst) as u32 == low {
                drop(bell.1.wait(guard).unwrap());
            }
            true
        })
    });
    if !has_slept {
        pause();
    }
}

/// Wakes one of those who sleep, or all.
pub(crate) fn wake(all: bool) {
    let Some(bell) = world(|world| world.bell.clone()) else {
        return;
    };
    act(|| {
        let _guard = bell.0.lock().unwrap();
        if all {
            bell.1.notify_all();
        } else {
            bell.1.notify_one();
        }
    });
}

/// Begins an execution without files. Inside loom, before any thread.
pub(crate) fn begin_without_files() {
    let system = Some(Rc::new(Shared::new(0)));
    let bell = Some(Rc::new(Bell::default()));
    world(|world| {
        let (sites, weakened) = (take(&mut world.sites), take(&mut world.weakened));
        *world = World {
            system,
            bell,
            sites,
            weakened,
            ..World::default()
        };
    });
}

/// Whether the contender for a lock that drew a number was killed.
pub(crate) fn is_dead(number: u32) -> bool {
    system_call();
    world(|world| world.dead.contains(&number))
}

/// In place of random numbers: every execution must be the same.
pub(crate) fn number() -> u64 {
    world(|world| {
        world.numbers += 1;
        world.numbers.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    })
}
