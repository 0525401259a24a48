//! Power losses at any moment of any kind of work.
//!
//! A [`Disk`] watches what the cache does. Whenever it likes it composes an image that a power loss
//! at that moment could leave; the image is opened under another boot, and compared with what was
//! put, deleted and flushed until then.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;

use super::disk::{Contents, Disk, Image, Loss, Random};
use super::*;
use crate::sync::fuse;

type Key = Vec<u8>;
type Seen = BTreeMap<Key, (Vec<u8>, u64)>;

/// What a key may be: its value and, where that is known, its version; or absent.
#[derive(Clone, Debug, PartialEq, Eq)]
struct State {
    value: Option<Vec<u8>>,
    version: Option<u64>,
}

const ABSENT: State = State {
    value: None,
    version: None,
};

impl State {
    fn is(&self, seen: Option<&(Vec<u8>, u64)>) -> bool {
        let same = self.value.as_ref() == seen.map(|(value, _)| value);
        let version = self.version.zip(seen.map(|&(_, version)| version));
        same && version.is_none_or(|(known, seen)| known == seen)
    }
}

/// What the keys may be after a power loss, if this is the generation that it leaves: of each key
/// what was flushed, and all that was done to it since.
type Era = BTreeMap<Key, Vec<State>>;

/// What a power loss may leave.
#[derive(Clone, Debug)]
struct History {
    /// The last one is the present; before it, what it replaces if that is not certain yet.
    eras: Vec<Era>,
    /// The last version that was flushed.
    version: u64,
    /// What the keys may be in a copy of the files that is being made, and whether all was
    /// replaced since it began.
    copied: Option<(Era, bool)>,
    /// How many values were made.
    values: u64,
    log: Vec<String>,
}

impl History {
    fn new() -> Self {
        Self {
            eras: vec![Era::new()],
            version: 0,
            copied: None,
            values: 0,
            log: Vec::new(),
        }
    }

    fn value(&mut self, key: &[u8], len: usize) -> Vec<u8> {
        self.values += 1;
        value(key, self.values, len)
    }

    fn states(&mut self, key: &[u8]) -> &mut Vec<State> {
        let last = self.eras.len() - 1;
        self.eras[last]
            .entry(key.to_vec())
            .or_insert_with(|| vec![ABSENT])
    }

    /// A change begins: from now on it may be seen.
    fn begin(&mut self, key: &[u8], value: Option<Vec<u8>>) {
        let state = State {
            value,
            version: None,
        };
        if let Some((era, _)) = &mut self.copied {
            let states = era.entry(key.to_vec()).or_insert_with(|| vec![ABSENT]);
            states.push(state.clone());
        }
        self.states(key).push(state);
    }

    /// Somebody begins to copy the files, between two changes.
    fn begin_copy(&mut self) {
        let mut era = self.eras[self.eras.len() - 1].clone();
        for states in era.values_mut() {
            states.drain(..states.len() - 1);
        }
        self.copied = Some((era, false));
    }

    fn done(&mut self, key: &[u8], version: Option<Version>) {
        let states = self.states(key);
        let last = states.len() - 1;
        states[last].version = version.map(Version::as_nanos);
    }

    /// All that was done is on the disk.
    fn flushed(&mut self, version: u64) {
        let mut present = self.eras.split_off(self.eras.len() - 1);
        for states in present[0].values_mut() {
            states.drain(..states.len() - 1);
        }
        self.eras = present;
        self.version = version;
    }

    /// Somebody looked: this is what the keys are now.
    fn observe(&mut self, seen: &Seen) {
        let last = self.eras.len() - 1;
        let known: Vec<Key> = self.eras[last].keys().chain(seen.keys()).cloned().collect();
        for key in known {
            let found = seen.get(&key);
            let states = self.states(&key);
            let last = states.len() - 1;
            if !states[last].is(found) {
                states.push(ABSENT);
            }
            let last = states.len() - 1;
            states[last] = State {
                value: found.map(|(value, _)| value.clone()),
                version: found.map(|&(_, version)| version),
            };
        }
    }

    fn admits(era: &Era, seen: &Seen) -> std::result::Result<(), String> {
        if let Some(key) = seen.keys().find(|key| !era.contains_key(*key)) {
            return Err(format!("{} was not there", name(key)));
        }
        for (key, states) in era {
            let found = seen.get(key);
            if !states.iter().any(|state| state.is(found)) {
                let short = |value: &[u8]| (number(value), value.len());
                let found = found.map(|(value, version)| (short(value), *version));
                let may: Vec<_> = states
                    .iter()
                    .map(|state| (state.value.as_deref().map(short), state.version))
                    .collect();
                return Err(format!("{}: {found:?} is none of {may:?}", name(key)));
            }
        }
        Ok(())
    }

    /// Panics where what was found cannot be what a power loss left.
    fn check(&self, seen: &Seen) {
        let complaints: Vec<_> = self
            .eras
            .iter()
            .filter_map(|era| Self::admits(era, seen).err())
            .collect();
        assert!(complaints.len() < self.eras.len(), "{complaints:?}");
    }
}

fn name(key: &[u8]) -> String {
    String::from_utf8_lossy(&key[..key.len().min(8)]).into_owned()
}

fn key(i: usize) -> Key {
    let length = [0, 5, 40, 300][i % 4];
    format!("key {i:04}{}", "+".repeat(length)).into_bytes()
}

/// A value that says which it is, and of which key.
fn value(key: &[u8], number: u64, len: usize) -> Vec<u8> {
    let seed = key.iter().fold(number, |seed, &byte| {
        seed.wrapping_mul(31).wrapping_add(u64::from(byte))
    });
    let mut random = Random(seed);
    let mut value = number.to_le_bytes().to_vec();
    while value.len() < len {
        value.extend_from_slice(&random.next().to_le_bytes());
    }
    value.truncate(len.max(8));
    value
}

fn number(value: &[u8]) -> u64 {
    value
        .first_chunk()
        .map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// The directories of one cache: the index in one, the heap in the same or in another.
struct Place {
    dir: tempfile::TempDir,
    kind: Kind,
}

/// How a cache is used, the same for all of its images.
#[derive(Clone, Copy, Debug)]
struct Kind {
    durable: bool,
    heap_elsewhere: bool,
    exclusive: bool,
}

const NEVER: [usize; 2] = [usize::MAX; 2];
const PLAIN: Kind = Kind {
    durable: false,
    heap_elsewhere: false,
    exclusive: false,
};

impl Place {
    fn new(kind: Kind) -> Self {
        let memory = Path::new("/dev/shm");
        let dir = if memory.is_dir() {
            tempfile::tempdir_in(memory)
        } else {
            tempfile::tempdir()
        };
        let place = Self {
            dir: dir.unwrap(),
            kind,
        };
        for dir in place.dirs() {
            std::fs::create_dir(dir).unwrap();
        }
        place
    }

    fn dirs(&self) -> [PathBuf; 2] {
        ["a", "b"].map(|name| self.dir.path().join(name))
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("a/cache")
    }

    fn options(&self) -> Options {
        let mut options = tiny();
        options.directory_bits = 3;
        options.exclusive(self.kind.exclusive);
        if self.kind.durable {
            options.durability(Durability::Sync);
        }
        if self.kind.heap_elsewhere {
            options.heap_path(self.dir.path().join("b/heap"));
        }
        options
    }

    fn open(&self) -> MmapCache {
        self.options().open(self.path()).unwrap()
    }

    /// The files of an image in a place of their own, as another boot finds them: in the same
    /// inodes.
    fn restore(kind: Kind, root: &Path, image: &Image) -> Self {
        Self::copy_with(kind, root, image, boot_again)
    }

    /// The files of an image in a place of their own, and nothing else changed.
    fn copy(kind: Kind, root: &Path, image: &Image) -> Self {
        Self::copy_with(kind, root, image, |_, _, _| {})
    }

    fn copy_with(
        kind: Kind,
        root: &Path,
        image: &Image,
        change_index: impl Fn(&mut [u8], u64, u64),
    ) -> Self {
        let place = Self::new(kind);
        for (path, contents) in &image.files {
            let path = place.dir.path().join(path.strip_prefix(root).unwrap());
            let mut bytes = contents.bytes.clone();
            let file = std::fs::File::create_new(&path).unwrap();
            let inode = std::os::unix::fs::MetadataExt::ino(&file.metadata().unwrap());
            if path == place.path() {
                change_index(&mut bytes, contents.inode, inode);
            }
            std::fs::write(&path, &bytes).unwrap();
        }
        place
    }
}

fn boot_again(bytes: &mut [u8], old: u64, new: u64) {
    if let Some(boot) = bytes.get_mut(8 * word::BOOT_ID..8 * word::BOOT_ID + 16) {
        boot.fill(0x5a);
    }
    if let Some(inode) = bytes.get_mut(8 * word::INODE..8 * word::INODE + 8)
        && inode == old.to_le_bytes()
    {
        inode.copy_from_slice(&new.to_le_bytes());
    }
}

fn look(cache: &MmapCache) -> Seen {
    let mut seen = Seen::new();
    for entry in cache.entries().unwrap() {
        let (key, entry) = entry.unwrap();
        let version = entry.version().as_nanos();
        let twice = seen.insert(key, (entry.into_value(), version));
        assert!(twice.is_none(), "listed twice");
    }
    seen
}

/// Reads a cache in every way, which must agree.
fn look_closely(cache: &MmapCache, history: &History) -> Seen {
    let seen = look(cache);
    assert_eq!(cache.len() as usize, seen.len(), "the number of entries");
    let keys = history.eras.iter().flat_map(|era| era.keys());
    for key in keys {
        let found = seen.get(key);
        let got = cache.get(key).unwrap();
        assert_eq!(
            got.as_ref(),
            found.map(|(value, _)| value),
            "get and list disagree about {}",
            name(key)
        );
        let mtime = cache.mtime(key).unwrap();
        assert_eq!(
            mtime.map(Version::as_nanos),
            found.map(|&(_, version)| version)
        );
    }
    seen
}

/// A cache's directories while it is worked on, and what is known of it.
struct World {
    disk: Disk,
    history: History,
    kind: Kind,
    root: PathBuf,
    /// Of how many stores one is a moment at which the power goes, and of how many calls of the
    /// system: these decide the order in which things come to the disk.
    every: [usize; 2],
    /// How often the power may go again while that is recovered from.
    depth: u32,
    images: u64,
    seed: u64,
}

impl World {
    fn new(place: &Place, every: [usize; 2], stride: usize, seed: u64) -> Self {
        Self {
            disk: Disk::new(&place.dirs(), stride, Random(seed ^ 0x5eed)),
            history: History::new(),
            kind: place.kind,
            root: place.dir.path().to_owned(),
            every,
            depth: 1,
            images: 0,
            seed,
        }
    }

    fn before(&mut self, step: fuse::Step<'_>) {
        let store = matches!(step, fuse::Step::Store);
        let every = self.every[usize::from(!store)];
        if !self.disk.before(step) || !self.disk.random.once_in(every) {
            return;
        }
        let loss = Loss::ALL[self.disk.random.below(Loss::ALL.len())];
        self.lose_power(loss, &format!("{step:?}"));
        if let fuse::Step::SyncDir(_) = step {
            for image in self.disk.images_of_directories(loss) {
                self.examine(&image, loss, &format!("{step:?}"));
            }
        }
    }

    /// Checks one image of what a power loss at this moment could leave.
    fn lose_power(&mut self, loss: Loss, before: &str) {
        let image = self.disk.image(loss);
        self.examine(&image, loss, before);
    }

    fn examine(&mut self, image: &Image, loss: Loss, before: &str) {
        self.images += 1;
        let checked = catch_unwind(AssertUnwindSafe(|| self.check(image)));
        if let Err(payload) = checked {
            eprintln!(
                "seed {}, {:?}, image {} ({loss:?}) before {before}, depth {}",
                self.seed, self.kind, self.images, self.depth
            );
            for (path, contents) in &image.files {
                eprintln!("{} {}", path.display(), contents.bytes.len());
            }
            resume_unwind(payload);
        }
    }

    fn check(&mut self, image: &Image) {
        let place = Place::restore(self.kind, &self.root, image);
        let mut random = Random(self.disk.random.next());
        if random.once_in(8) {
            read_only(&place);
        }
        let cache = if self.depth > 0 && random.once_in(6) {
            self.open_and_lose_again(&place)
        } else {
            place.open()
        };
        let seen = look_closely(&cache, &self.history);
        self.history.check(&seen);
        assert_clean(&cache);
        let generation = cache.stats().unwrap().generation;
        drop(cache);
        let cache = place.open();
        assert_eq!(
            cache.stats().unwrap().generation,
            generation,
            "recovered once more"
        );
        assert_eq!(look(&cache), seen);
        if random.once_in(4) {
            work_on(&cache, &seen, self.history.version);
        }
    }

    /// Recovers while the power goes again.
    fn open_and_lose_again(&mut self, place: &Place) -> MmapCache {
        let mut again = Self::new(place, [150, 8], 4, self.disk.random.next());
        again.seed = self.seed;
        again.history = self.history.clone();
        again.depth = self.depth - 1;
        let world = Rc::new(RefCell::new(again));
        let observer = Rc::clone(&world);
        fuse::observe(move |step| observer.borrow_mut().before(step));
        let cache = place.open();
        fuse::look_away();
        self.images += world.borrow().images;
        cache
    }
}

/// Work goes on, under higher versions than before, without another recovery, and takes nothing
/// from what there was.
fn work_on(cache: &MmapCache, before: &Seen, version: u64) {
    let slots = |cache: &MmapCache| cache.handle.view.load().table.geometry().region_slots;
    let (generation, region) = (cache.stats().unwrap().generation, slots(cache));
    for i in 0..12_u32 {
        let key = format!("afterwards {}", i % 8).into_bytes();
        let put = cache.put(&key, &[7; 300]).unwrap();
        assert!(put.as_nanos() > version, "versions went back");
    }
    assert!(cache.delete(b"afterwards 3").unwrap());
    assert_clean(cache);
    cache.compact().unwrap();
    assert_clean(cache);
    let recovered = cache.stats().unwrap().generation > generation && slots(cache) == region;
    assert!(!recovered, "recovered again");
    let mut after = look(cache);
    after.retain(|key, _| !key.starts_with(b"afterwards"));
    assert_eq!(after, *before);
}

/// A handle that may not recover sees old entries or none, but no wrong ones.
fn read_only(place: &Place) {
    let mut options = place.options();
    options.exclusive(false).read_only(true);
    let Ok(cache) = options.open(place.path()) else {
        return;
    };
    for (key, found) in cache.items().unwrap().filter_map(std::result::Result::ok) {
        assert_eq!(
            found,
            value(&key, number(&found), found.len()),
            "a wrong value"
        );
    }
}

/// One cache, worked on until the power is lost for good.
struct Scenario {
    world: Rc<RefCell<World>>,
    place: Place,
    cache: Option<MmapCache>,
    random: Random,
    keys: usize,
}

impl Scenario {
    fn new(seed: u64, every: [usize; 2]) -> Self {
        let mut random = Random(seed);
        let kind = Kind {
            durable: random.once_in(3),
            heap_elsewhere: random.once_in(6),
            exclusive: random.once_in(6),
        };
        let stride = [1, 4, 16][random.below(3)];
        let keys = [3, 12, 40, 150][random.below(4)];
        Self::of(kind, every, stride, keys, seed)
    }

    fn of(kind: Kind, every: [usize; 2], stride: usize, keys: usize, seed: u64) -> Self {
        let place = Place::new(kind);
        let world = Rc::new(RefCell::new(World::new(&place, every, stride, seed)));
        let mut scenario = Self {
            world,
            place,
            cache: None,
            random: Random(seed),
            keys,
        };
        scenario.open();
        if scenario.random.once_in(3) {
            // The clock was once set wrong, and back since: versions count up from where it was.
            let ahead = super::version::now() + 1_000_000_000_000;
            let view = scenario.cache().handle.view.load_full();
            view.header().set(word::LAST_MTIME, ahead);
            scenario.flush();
        }
        scenario
    }

    fn watch(&self) {
        let world = Rc::clone(&self.world);
        fuse::observe(move |step| {
            // It is borrowed while an image is examined: those steps are not the disk's.
            if let Ok(mut world) = world.try_borrow_mut() {
                world.before(step);
            }
        });
    }

    fn open(&mut self) {
        self.watch();
        self.cache = Some(self.place.open());
    }

    fn cache(&self) -> &MmapCache {
        self.cache.as_ref().unwrap()
    }

    fn history<T>(&self, change: impl FnOnce(&mut History) -> T) -> T {
        change(&mut self.world.borrow_mut().history)
    }

    fn log(&self, text: String) {
        self.history(|history| history.log.push(text));
    }

    fn last_version(&self) -> u64 {
        self.cache()
            .handle
            .view
            .load()
            .header()
            .get(word::LAST_MTIME)
    }

    fn is_flushed(&self) {
        let version = self.last_version();
        self.history(|history| history.flushed(version));
    }

    fn acknowledged(&self) {
        if self.place.kind.durable {
            self.is_flushed();
        }
    }

    fn some_key(&mut self) -> Key {
        key(self.random.below(self.keys))
    }

    fn some_len(&mut self) -> usize {
        match self.random.below(12) {
            0..=6 => self.random.below(60),
            7..=10 => 200 + self.random.below(200),
            _ => 3_000 + self.random.below(6_000),
        }
    }

    fn put(&mut self) {
        let (key, len) = (self.some_key(), self.some_len());
        self.put_this(&key, len);
    }

    fn put_this(&mut self, key: &[u8], len: usize) {
        let value = self.history(|history| history.value(key, len));
        self.log(format!("put {} {} {len}", name(key), number(&value)));
        self.history(|history| history.begin(key, Some(value.clone())));
        let version = self.cache().put(key, &value).unwrap();
        self.history(|history| history.done(key, Some(version)));
        self.acknowledged();
    }

    fn delete(&mut self) {
        let key = self.some_key();
        self.delete_this(&key);
    }

    fn delete_this(&mut self, key: &[u8]) {
        self.log(format!("delete {}", name(key)));
        self.history(|history| history.begin(key, None));
        self.cache().delete(key).unwrap();
        self.history(|history| history.done(key, None));
        self.acknowledged();
    }

    fn batch(&mut self) {
        let count = self.random.below(25);
        let changes: Vec<_> = (0..count)
            .map(|_| {
                let (key, len) = (self.some_key(), self.random.below(80));
                (key, len, self.random.once_in(4))
            })
            .collect();
        self.log(format!("batch of {count}"));
        let mut writer = self.cache().writer().unwrap();
        for (key, len, delete) in changes {
            if delete {
                self.log(format!("  delete {}", name(&key)));
                self.history(|history| history.begin(&key, None));
                writer.delete(&key).unwrap();
            } else {
                let value = self.history(|history| history.value(&key, len));
                self.log(format!("  put {} {} {len}", name(&key), number(&value)));
                self.history(|history| history.begin(&key, Some(value.clone())));
                let version = writer.put(&key, &value).unwrap();
                self.history(|history| history.done(&key, Some(version)));
            }
        }
        writer.commit().unwrap();
        self.acknowledged();
    }

    fn flush(&mut self) {
        self.log("flush".to_owned());
        self.cache().flush().unwrap();
        self.is_flushed();
    }

    fn compact(&mut self) {
        self.log("compact".to_owned());
        self.cache().compact().unwrap();
    }

    fn rebuild(&mut self, count: usize) {
        let items: Vec<_> = (0..count)
            .map(|_| {
                let (key, len) = (self.some_key(), self.random.below(100));
                let value = self.history(|history| history.value(&key, len));
                (key, value)
            })
            .collect();
        self.log(format!("rebuild with {count}"));
        let mut era = Era::new();
        for (key, value) in &items {
            let state = State {
                value: Some(value.clone()),
                version: None,
            };
            era.insert(key.clone(), vec![state]);
        }
        self.history(|history| {
            history.eras.push(era);
            if let Some((_, replaced)) = &mut history.copied {
                *replaced = true;
            }
        });
        let items = items.into_iter().map(Ok::<_, crate::Error>);
        self.cache().atomic_rebuild(items).unwrap();
        let seen = look(self.cache());
        self.history(|history| history.observe(&seen));
        self.is_flushed();
    }

    fn reopen(&mut self) {
        self.log("reopen".to_owned());
        self.cache = None;
        self.open();
    }

    fn step(&mut self) {
        match self.random.below(100) {
            0..=84 => self.work(),
            85..=87 => self.reopen(),
            88..=95 => self.be_killed(),
            _ => self.lose_power(),
        }
    }

    fn work(&mut self) {
        match self.random.below(85) {
            0..=39 => self.put(),
            40..=57 => self.delete(),
            58..=69 => self.batch(),
            70..=77 => self.flush(),
            78..=81 => self.compact(),
            82 => self.rebuild(0),
            _ => {
                let count = self.random.below(40);
                self.rebuild(count);
            }
        }
    }

    /// The process is killed in the middle of something, and another goes on.
    fn be_killed(&mut self) {
        if self.place.kind.durable {
            // A stopped writer of such a handle syncs as it goes, which a killed one does not.
            return;
        }
        let steps = self.random.below(160) as u64;
        self.killed_after(steps, |scenario| match scenario.random.below(12) {
            0..=4 => scenario.put(),
            5..=7 => scenario.delete(),
            8 => scenario.flush(),
            9 => scenario.compact(),
            10 => scenario.rebuild(3),
            _ => scenario.batch(),
        });
    }

    /// Stops a change after so many steps, if it has as many, and lets another process mend it.
    fn killed_after(&mut self, steps: u64, change: impl FnOnce(&mut Self)) -> bool {
        self.log(format!("to be killed after {steps}"));
        let eras = self.history(|history| history.eras.len());
        fuse::set(steps);
        let killed = catch_unwind(AssertUnwindSafe(|| change(self)));
        fuse::clear();
        let Err(payload) = killed else { return false };
        if !payload.is::<fuse::Blown>() {
            resume_unwind(payload);
        }
        self.log("killed".to_owned());
        self.cache = None;
        self.open();
        // Only the next writer decides what becomes of it.
        drop(self.cache().writer().unwrap());
        let seen = look(self.cache());
        self.history(|history| {
            let last = history.eras.len() - 1;
            if history.eras.len() > eras && History::admits(&history.eras[last], &seen).is_err() {
                history.eras.pop();
            }
            history.observe(&seen);
        });
        true
    }

    /// The power goes for good: what comes back is what there is from now on.
    fn lose_power(&mut self) {
        let loss = Loss::ALL[self.random.below(Loss::ALL.len())];
        self.log(format!("power lost, {loss:?}"));
        fuse::look_away();
        let image = {
            let mut world = self.world.borrow_mut();
            world.disk.settle();
            world.disk.image(loss)
        };
        self.cache = None;
        let place = Place::restore(self.place.kind, self.place.dir.path(), &image);
        {
            let mut world = self.world.borrow_mut();
            let random = Random(self.random.next());
            world.disk = Disk::new(&place.dirs(), 4, random);
            world.root = place.dir.path().to_owned();
        }
        self.place = place;
        self.open();
        let seen = self.history(|history| {
            let seen = look_closely(self.cache(), history);
            history.check(&seen);
            seen
        });
        self.history(|history| history.observe(&seen));
        self.is_flushed();
        assert_clean(self.cache());
    }

    fn end(&mut self) -> u64 {
        fuse::look_away();
        let mut world = self.world.borrow_mut();
        world.disk.settle();
        for loss in Loss::ALL {
            world.lose_power(loss, "the end");
        }
        world.images
    }
}

impl Drop for Scenario {
    fn drop(&mut self) {
        fuse::look_away();
        if std::thread::panicking() {
            let world = self.world.borrow();
            let log = &world.history.log;
            let last = log.len().saturating_sub(60);
            eprintln!("seed {}, {:?}", world.seed, world.kind);
            eprintln!("{}", log[last..].join("\n"));
        }
    }
}

fn run(seed: u64, steps: usize, every: [usize; 2]) -> u64 {
    let mut scenario = Scenario::new(seed, every);
    for _ in 0..steps {
        scenario.step();
    }
    scenario.end()
}

/// The first seed: the same each time, or another one.
fn first_seed() -> u64 {
    let seed = std::env::var("POWER_SEED").ok();
    seed.and_then(|seed| seed.parse().ok()).unwrap_or(1)
}

/// Works on a cache that was prepared, and loses the power at one of `every` steps.
fn lose_power_during(
    kind: Kind,
    every: [usize; 2],
    prepare: impl Fn(&mut Scenario),
    change: impl Fn(&mut Scenario),
) -> u64 {
    let mut scenario = Scenario::of(kind, NEVER, 1, 20, first_seed());
    prepare(&mut scenario);
    scenario.world.borrow_mut().every = every;
    change(&mut scenario);
    scenario.end()
}

/// Every kind of change, one after the other.
fn lose_power_during_everything(kind: Kind, every: [usize; 2]) -> u64 {
    let grow = |scenario: &mut Scenario| {
        for i in 20..150 {
            scenario.put_this(&key(i), 10);
        }
    };
    let recover = |scenario: &mut Scenario| {
        scenario.put_this(&key(15), 10);
        scenario.lose_power();
    };
    let create = Scenario::of(kind, every, 1, 20, first_seed()).end();
    let during = |prepare: fn(&mut Scenario), change: &dyn Fn(&mut Scenario)| {
        lose_power_during(kind, every, prepare, change)
    };
    create
        + during(filled, &|scenario| scenario.put_this(&key(1), 20))
        + during(filled, &|scenario| scenario.put_this(&key(5), 20))
        + during(filled, &|scenario| scenario.put_this(&key(5), 9_000))
        + during(filled, &|scenario| scenario.delete_this(&key(6)))
        + during(filled, &Scenario::batch)
        + during(filled, &Scenario::flush)
        + during(churned, &Scenario::flush)
        + during(churned, &clean)
        + during(churned, &Scenario::compact)
        + during(filled, &grow)
        + during(churned, &|scenario| scenario.rebuild(0))
        + during(churned, &|scenario| scenario.rebuild(15))
        + during(churned, &recover)
}

/// Kills a process at each of these steps of a change. Another mends what it left and does
/// `afterwards`; the power goes while it does, and when it has flushed.
fn kill_then_lose_power(
    steps: impl IntoIterator<Item = u64>,
    prepare: impl Fn(&mut Scenario),
    change: impl Fn(&mut Scenario),
    afterwards: impl Fn(&mut Scenario),
) -> u64 {
    let mut images = 0;
    for steps in steps {
        let mut scenario = Scenario::of(PLAIN, NEVER, 1, 20, first_seed());
        prepare(&mut scenario);
        scenario.world.borrow_mut().every = [200, 1];
        let killed = scenario.killed_after(steps, &change);
        afterwards(&mut scenario);
        scenario.flush();
        images += scenario.end();
        if !killed {
            break;
        }
    }
    images
}

/// The steps of a change that are syncs of a directory: renames and removals precede them.
fn before_syncs(prepare: impl Fn(&mut Scenario), change: impl Fn(&mut Scenario)) -> Vec<u64> {
    let mut scenario = Scenario::of(PLAIN, NEVER, 1, 20, first_seed());
    prepare(&mut scenario);
    let found = Rc::new(RefCell::new(Vec::new()));
    let (calls, mut count) = (Rc::clone(&found), 0);
    fuse::observe(move |step| {
        if matches!(step, fuse::Step::SyncDir(_)) {
            calls.borrow_mut().push(count);
        }
        count += 1;
    });
    change(&mut scenario);
    fuse::look_away();
    found.take()
}

#[test]
fn a_power_loss_at_any_moment_takes_nothing_that_was_flushed() {
    let mut images = 0;
    for seed in first_seed()..first_seed() + 12 {
        images += run(seed, 30, [400, 20]);
    }
    println!("{images} images");
}

#[test]
#[ignore = "a soak: ten minutes; see docs/testing.md"]
fn power_is_lost_for_ten_minutes() {
    let minutes = std::env::var("POWER_MINUTES").ok();
    let minutes: u64 = minutes.and_then(|text| text.parse().ok()).unwrap_or(10);
    let end = std::time::Instant::now() + std::time::Duration::from_secs(60 * minutes);
    let (mut images, mut seed) = (0, first_seed());
    while std::time::Instant::now() < end {
        images += run(seed, 60, [300, 15]);
        seed += 1;
    }
    println!(
        "{images} images of {} scenarios from seed {}",
        seed - first_seed(),
        first_seed()
    );
}

fn filled(scenario: &mut Scenario) {
    for i in 0..12 {
        scenario.put_this(&key(i), 30);
    }
    for i in 0..3 {
        scenario.delete_this(&key(i));
    }
    scenario.flush();
}

/// Two segments full of dead records, and a third. In the second a deletion, of an entry in the first.
fn churned(scenario: &mut Scenario) {
    let pause = |scenario: &Scenario, writes| {
        let handle = &scenario.cache().handle;
        handle.clean_pause.store(writes, crate::sync::Relaxed);
    };
    pause(scenario, 1_000);
    filled(scenario);
    for round in 0..7 {
        scenario.put_this(&key(13), 4_000);
        if round == 3 {
            scenario.delete_this(&key(5));
        }
    }
    scenario.flush();
    pause(scenario, 0);
}

/// Comes through both of them, completes the segments that have the copies, and removes them.
fn clean(scenario: &mut Scenario) {
    for _ in 0..2 {
        for _ in 0..20 {
            scenario.put_this(&key(14), 10);
        }
        for _ in 0..4 {
            scenario.put_this(&key(13), 4_000);
        }
    }
    for _ in 0..20 {
        scenario.put_this(&key(14), 10);
    }
}

#[test]
fn what_is_cleaned_under_power_losses_is_removed_by_errands_in_the_end() {
    let mut scenario = Scenario::of(PLAIN, [usize::MAX, usize::MAX], 1, 20, first_seed());
    churned(&mut scenario);
    let oldest = |scenario: &Scenario| scenario.cache().handle.view.load().header().oldest();
    let before = oldest(&scenario);
    clean(&mut scenario);
    assert!(oldest(&scenario) >= before + 2, "{}", oldest(&scenario));
}

#[test]
fn power_is_lost_before_each_step_of_a_put_and_of_a_deletion() {
    lose_power_during(PLAIN, [1, 1], filled, |scenario| {
        scenario.put_this(&key(1), 20);
        scenario.put_this(&key(5), 20);
        scenario.delete_this(&key(6));
    });
}

#[test]
fn power_is_lost_during_each_kind_of_change() {
    let images = lose_power_during_everything(PLAIN, [400, 8]);
    assert!(images > 150, "{images}");
}

#[test]
#[ignore = "a soak: minutes; see docs/testing.md"]
fn power_is_lost_before_each_step_of_everything() {
    let durable = Kind {
        durable: true,
        ..PLAIN
    };
    let elsewhere = Kind {
        heap_elsewhere: true,
        ..PLAIN
    };
    for kind in [PLAIN, durable, elsewhere] {
        let images = lose_power_during_everything(kind, [3, 1]);
        println!("{kind:?}: {images} images");
    }
}

#[test]
fn what_a_killed_process_left_and_the_next_took_back_stays_away_when_the_power_goes() {
    for change in [
        |scenario: &mut Scenario| scenario.put_this(&key(1), 20),
        |scenario: &mut Scenario| scenario.put_this(&key(5), 20),
        |scenario: &mut Scenario| scenario.delete_this(&key(6)),
    ] {
        kill_then_lose_power(0.., filled, change, |_| {});
    }
}

#[test]
fn what_a_killed_cleaner_removed_does_not_come_back_when_the_power_goes() {
    kill_then_lose_power(before_syncs(churned, clean), churned, clean, clean);
}

#[test]
fn a_switch_that_a_killed_process_had_committed_is_on_the_disk_before_the_old_files_go() {
    let rebuild = |scenario: &mut Scenario| scenario.rebuild(3);
    kill_then_lose_power(before_syncs(filled, rebuild), filled, rebuild, |_| {});
}

/// Copies the files of a cache one after the other, each in two pieces, while others write.
struct Copier {
    world: Rc<RefCell<World>>,
    random: Random,
    /// Of how many steps one is used.
    every: usize,
    left: Vec<(PathBuf, u64)>,
    half: Option<(PathBuf, std::fs::File, Vec<u8>)>,
    image: Image,
    done: bool,
}

impl Copier {
    fn new(world: &Rc<RefCell<World>>, seed: u64) -> Self {
        let mut random = Random(seed);
        let every = 1 + random.below(40);
        let mut copier = Self {
            world: Rc::clone(world),
            random,
            every,
            left: Vec::new(),
            half: None,
            image: Image {
                files: BTreeMap::new(),
            },
            done: false,
        };
        copier.begin();
        copier
    }

    /// Lists the files, in any order.
    fn begin(&mut self) {
        self.image.files.clear();
        self.half = None;
        let root = self.world.borrow().root.clone();
        self.left = ["a", "b"]
            .iter()
            .flat_map(|dir| std::fs::read_dir(root.join(dir)).unwrap())
            .map(|entry| (entry.unwrap().path(), self.random.next()))
            .collect();
        self.left.sort_by_key(|&(_, order)| order);
    }

    fn step(&mut self) {
        if self.done || !self.random.once_in(self.every) {
            return;
        }
        if let Some((path, file, mut bytes)) = self.half.take() {
            let mut rest = Vec::new();
            std::io::Read::read_to_end(&mut { file }, &mut rest).unwrap();
            bytes.extend_from_slice(&rest);
            let contents = Contents { inode: 0, bytes };
            self.image.files.insert(path, contents);
            self.done = self.left.is_empty();
        } else if let Some((path, _)) = self.left.pop() {
            match std::fs::File::open(&path) {
                Ok(file) => {
                    let mut bytes = vec![0; 4096 * self.random.below(4)];
                    let count = std::os::unix::fs::FileExt::read_at(&file, &mut bytes, 0).unwrap();
                    bytes.truncate(count);
                    std::io::Seek::seek(&mut &file, std::io::SeekFrom::Start(count as u64))
                        .unwrap();
                    self.half = Some((path, file, bytes));
                }
                // A copy that lacks a file is none.
                Err(_) => self.begin(),
            }
        }
    }

    /// Whether the copy was finished, and is what a copy may be.
    fn check(&mut self) -> bool {
        if !self.done {
            return false;
        }
        let world = self.world.borrow();
        let place = Place::copy(world.kind, &world.root, &self.image);
        let (era, replaced) = world.history.copied.as_ref().unwrap();
        read_only(&place);
        let cache = match place.options().open(place.path()) {
            Ok(cache) => cache,
            Err(error) => {
                assert!(error.is_corruption(), "{error}");
                let repair = crate::Repair::new(place.path()).options(&place.options());
                match repair.run() {
                    Ok(_) => place.open(),
                    Err(error) => {
                        assert!(*replaced, "{error}");
                        return true;
                    }
                }
            }
        };
        if *replaced {
            drop(cache);
            read_only(&place);
            return true;
        }
        let seen = look_closely(&cache, &world.history);
        History::admits(era, &seen).unwrap();
        assert_clean(&cache);
        work_on(&cache, &seen, 0);
        true
    }
}

/// Copies a cache's files while it is worked on. Whether it came to the end.
fn copy_alive(seed: u64) -> bool {
    let mut scenario = Scenario::new(seed, NEVER);
    for _ in 0..scenario.random.below(30) {
        scenario.work();
    }
    if scenario.random.once_in(2) {
        scenario.flush();
    }
    scenario.history(History::begin_copy);
    let copier = Copier::new(&scenario.world, seed);
    let copier = Rc::new(RefCell::new(copier));
    let observer = Rc::clone(&copier);
    fuse::observe(move |_| observer.borrow_mut().step());
    for _ in 0..40 {
        if copier.borrow().done {
            break;
        }
        scenario.work();
    }
    fuse::look_away();
    let checked = catch_unwind(AssertUnwindSafe(|| copier.borrow_mut().check()));
    checked.unwrap_or_else(|payload| {
        eprintln!("seed {seed}, a copy");
        resume_unwind(payload)
    })
}

#[test]
fn a_copy_of_files_that_are_written_has_all_that_was_there_when_it_began() {
    let copies = (0..40).filter(|seed| copy_alive(first_seed() + seed));
    let count = copies.count();
    println!("{count} copies");
    assert!(count > 20, "{count}");
}
