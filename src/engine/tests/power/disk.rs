//! A disk that loses power: what files and directories may contain if only synced data is certain.
//!
//! Watches the directories of a cache, step by step. Of each page it keeps the states since its
//! file's last sync, and of each directory the changes since its own sync, and composes images from
//! them that a power loss could leave. Knows files and names, not their meaning.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::engine::tests::power::random::Random;
use crate::sync::failpoint::Operation;

const PAGE: usize = 4096;
/// States kept of a page; beyond them a random one is dropped.
const STATES: usize = 96;

/// What a power loss leaves of the pages that were not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    /// Nothing after the last sync was written.
    Nothing,
    /// Everything was written; only the machine went down.
    Everything,
    AllButOnePage,
    OnlyOnePage,
    /// Each file completely as it is, or as it was synced.
    Files,
    /// Each page in any of its states.
    Pages,
    /// Each sector of 512 bytes in any of its states.
    Sectors,
    /// Pages whose words are each from one of two states.
    Words,
}

impl Loss {
    pub(super) const ALL: [Self; 8] = [
        Self::Nothing,
        Self::Everything,
        Self::AllButOnePage,
        Self::OnlyOnePage,
        Self::Files,
        Self::Pages,
        Self::Sectors,
        Self::Words,
    ];
}

/// A file and the states of its pages since its last sync; the last state is the present one.
#[derive(Debug)]
struct Tracked {
    file: File,
    inode: u64,
    /// Its lengths since its last sync.
    lengths: Vec<usize>,
    pages: Vec<Vec<Box<[u8]>>>,
}

impl Tracked {
    fn length(&self) -> usize {
        self.lengths[self.lengths.len() - 1]
    }
}

#[derive(Clone, Debug)]
enum Change {
    Create(OsString, usize),
    Rename(OsString, OsString),
    Remove(OsString),
}

impl Change {
    fn touches(&self, other: &Self) -> bool {
        self.names().iter().any(|name| other.names().contains(name))
    }

    fn names(&self) -> Vec<&OsString> {
        match self {
            Self::Create(name, _) | Self::Remove(name) => vec![name],
            Self::Rename(from, to) => vec![from, to],
        }
    }
}

type Entries = BTreeMap<OsString, usize>;

fn apply(entries: &mut Entries, change: &Change) {
    match change {
        Change::Create(name, file) => {
            entries.insert(name.clone(), *file);
        }
        Change::Rename(from, to) => {
            if let Some(file) = entries.remove(from) {
                entries.insert(to.clone(), file);
            }
        }
        Change::Remove(name) => {
            entries.remove(name);
        }
    }
}

/// A directory as it was synced, and its changes since.
#[derive(Debug, Default)]
struct Directory {
    synced: Entries,
    changes: Vec<Change>,
}

impl Directory {
    fn now(&self) -> Entries {
        let mut entries = self.synced.clone();
        for change in &self.changes {
            apply(&mut entries, change);
        }
        entries
    }

    /// Makes the creations of synced files certain, and what happened to their names before.
    fn sync_creations(&mut self, numbers: &[usize]) {
        let is_creation =
            |change: &Change| matches!(change, Change::Create(_, file) if numbers.contains(file));
        let Some(last) = self.changes.iter().rposition(is_creation) else {
            return;
        };
        let mut certain: Vec<Change> = Vec::new();
        let mut kept = Vec::new();
        for (at, change) in self.changes.drain(..).enumerate().rev() {
            let is_first = at <= last && is_creation(&change);
            let is_before = at < last && certain.iter().any(|later| later.touches(&change));
            match is_first || is_before {
                true => certain.push(change),
                false => kept.push(change),
            }
        }
        certain
            .iter()
            .rev()
            .for_each(|change| apply(&mut self.synced, change));
        kept.reverse();
        self.changes = kept;
    }

    /// Returns what the directory may contain after a power loss: some of the changes, each
    /// complete or not at all; those of one name in their order.
    fn after(&self, share: Share, random: &mut Random) -> Entries {
        let mut entries = self.synced.clone();
        let mut lost: Vec<&Change> = Vec::new();
        for (at, change) in self.changes.iter().enumerate() {
            let kept = match share {
                Share::None => false,
                Share::All => true,
                Share::Some => random.below(2) == 0,
                Share::These(set) => set >> at & 1 == 1,
            };
            if kept && !lost.iter().any(|earlier| earlier.touches(change)) {
                apply(&mut entries, change);
            } else {
                lost.push(change);
            }
        }
        entries
    }
}

#[derive(Clone, Copy, Debug)]
enum Share {
    None,
    All,
    Some,
    /// The changes whose numbers are set as bits.
    These(u64),
}

/// A step that is about to happen, until its effect is recorded.
#[derive(Debug)]
enum Pending {
    Sync(u64),
    SyncDir(PathBuf),
    Change(PathBuf, Change),
    Create(PathBuf, OsString),
}

/// The watched directories of a cache.
#[derive(Debug)]
pub(super) struct Disk {
    dirs: BTreeMap<PathBuf, Directory>,
    files: Vec<Tracked>,
    pending: Option<Pending>,
    pub(super) random: Random,
    /// One in this many stores is recorded.
    stride: usize,
}

/// Files as a power loss or a copy left them, by their paths in the cache's directories.
#[derive(Clone, Debug)]
pub(super) struct Image {
    pub(super) files: BTreeMap<PathBuf, Contents>,
}

#[derive(Clone, Debug)]
pub(super) struct Contents {
    pub(super) inode: u64,
    pub(super) bytes: Vec<u8>,
}

impl Disk {
    /// Watches these directories; their present contents count as synced.
    pub(super) fn new(dirs: &[PathBuf], stride: usize, random: Random) -> Self {
        let mut disk = Self {
            dirs: BTreeMap::new(),
            files: Vec::new(),
            pending: None,
            random,
            stride,
        };
        for dir in dirs {
            let mut directory = Directory::default();
            for entry in std::fs::read_dir(dir).unwrap() {
                let entry = entry.unwrap();
                if entry.file_type().unwrap().is_file() {
                    let file = disk.track(&entry.path());
                    directory.synced.insert(entry.file_name(), file);
                }
            }
            disk.dirs.insert(dir.clone(), directory);
        }
        disk.record();
        for file in &mut disk.files {
            synced(file);
        }
        disk
    }

    fn track(&mut self, path: &Path) -> usize {
        let file = File::open(path).unwrap();
        let inode = file.metadata().unwrap().ino();
        self.files.push(Tracked {
            file,
            inode,
            lengths: vec![0],
            pages: Vec::new(),
        });
        self.files.len() - 1
    }

    /// Records the effect of the last step before the next one. Returns whether it did.
    pub(super) fn before(&mut self, step: Operation<'_>) -> bool {
        let store = matches!(step, Operation::Store);
        if store && self.pending.is_none() && !self.random.once_in(self.stride) {
            return false;
        }
        self.settle();
        self.pending = match step {
            Operation::Store | Operation::Write => None,
            Operation::Sync(file) => Some(Pending::Sync(file.metadata().unwrap().ino())),
            Operation::SyncDir(dir) => Some(Pending::SyncDir(dir.to_owned())),
            Operation::Create(path) => {
                let (dir, name) = split(path);
                Some(Pending::Create(dir, name))
            }
            Operation::Rename(from, to) => {
                let (dir, name) = split(from);
                Some(Pending::Change(dir, Change::Rename(name, split(to).1)))
            }
            Operation::Remove(path) => {
                let (dir, name) = split(path);
                Some(Pending::Change(dir, Change::Remove(name)))
            }
        };
        true
    }

    /// Records the effect of the last step.
    pub(super) fn settle(&mut self) {
        match self.pending.take() {
            None => {}
            Some(Pending::Sync(inode)) => {
                let mut numbers = Vec::new();
                for (number, file) in self.files.iter_mut().enumerate() {
                    if file.inode == inode {
                        synced(file);
                        numbers.push(number);
                    }
                }
                for directory in self.dirs.values_mut() {
                    directory.sync_creations(&numbers);
                }
            }
            Some(Pending::SyncDir(dir)) => self.sync_dir(&dir),
            Some(Pending::Change(dir, change)) => {
                if let Some(directory) = self.dirs.get_mut(&dir) {
                    directory.changes.push(change);
                }
            }
            Some(Pending::Create(dir, name)) => {
                // The file may have existed before, or its creation failed.
                let there = dir.join(&name).is_file();
                let known = self.dirs[&dir].now().contains_key(&name);
                if there && !known {
                    let file = self.track(&dir.join(&name));
                    if let Some(directory) = self.dirs.get_mut(&dir) {
                        directory.changes.push(Change::Create(name, file));
                    }
                }
            }
        }
        self.record();
    }

    fn sync_dir(&mut self, dir: &Path) {
        let Some(directory) = self.dirs.get_mut(dir) else {
            return;
        };
        directory.synced = directory.now();
        directory.changes.clear();
        let named: Vec<usize> = self
            .dirs
            .values()
            .flat_map(|dir| {
                let made = dir.changes.iter().filter_map(|change| match change {
                    Change::Create(_, file) => Some(*file),
                    _ => None,
                });
                dir.synced.values().copied().chain(made).collect::<Vec<_>>()
            })
            .collect();
        for (number, file) in self.files.iter_mut().enumerate() {
            if !named.contains(&number) {
                file.pages.clear();
                file.lengths = vec![0];
            }
        }
    }

    /// Reads all files that have a name, and keeps their new states.
    fn record(&mut self) {
        let named: Vec<usize> = self
            .dirs
            .values()
            .flat_map(|dir| dir.now().into_values())
            .collect();
        let mut bytes = Vec::new();
        for number in named {
            let file = &mut self.files[number];
            let length = file.file.metadata().unwrap().len() as usize;
            bytes.resize(length, 0);
            file.file.read_exact_at(&mut bytes, 0).unwrap();
            if length != file.length() {
                file.lengths.push(length);
            }
            for (at, page) in bytes.chunks(PAGE).enumerate() {
                take_page(file, at, page, &mut self.random);
            }
        }
    }

    /// Returns an image that this loss could leave.
    pub(super) fn image(&mut self, loss: Loss) -> Image {
        let share = match (loss, self.random.below(4)) {
            (Loss::Nothing, _) => Share::None,
            (Loss::Everything, _) | (_, 1) => Share::All,
            (_, 0) => Share::None,
            _ => Share::Some,
        };
        self.image_with(loss, share)
    }

    /// Returns one image for each set of directory changes that a power loss could leave; if there
    /// are many changes, for the last few.
    pub(super) fn images_of_directories(&mut self, loss: Loss) -> Vec<Image> {
        let most = self.dirs.values().map(|dir| dir.changes.len()).max();
        let most = most.unwrap_or(0);
        let free = most.min(5);
        let settled = (1 << (most - free)) - 1;
        (0..1_u64 << free)
            .map(|set| self.image_with(loss, Share::These(settled | set << (most - free))))
            .collect()
    }

    fn image_with(&mut self, loss: Loss, share: Share) -> Image {
        let mut random = Random(self.random.next());
        let unsynced: Vec<(usize, usize)> = (0..self.files.len())
            .flat_map(|file| (0..self.files[file].pages.len()).map(move |page| (file, page)))
            .filter(|&(file, page)| self.files[file].pages[page].len() > 1)
            .collect();
        let one = unsynced.get(random.below(unsynced.len())).copied();
        let mut files = BTreeMap::new();
        let mut whole: BTreeMap<usize, bool> = BTreeMap::new();
        for (dir, directory) in &self.dirs {
            for (name, number) in directory.after(share, &mut random) {
                let new = *whole.entry(number).or_insert_with(|| random.below(2) == 0);
                let choice = Choice { loss, new, one };
                let bytes = self.files[number].after(number, choice, &mut random);
                let inode = self.files[number].inode;
                files.insert(dir.join(name), Contents { inode, bytes });
            }
        }
        Image { files }
    }
}

/// How the states of a file's pages are chosen.
#[derive(Clone, Copy)]
struct Choice {
    loss: Loss,
    /// Whether the file is a new one, if files are chosen as a whole.
    new: bool,
    /// The page that is the exception.
    one: Option<(usize, usize)>,
}

impl Tracked {
    fn after(&self, number: usize, choice: Choice, random: &mut Random) -> Vec<u8> {
        let last = self.lengths.len() - 1;
        let length = match choice.loss {
            Loss::Nothing | Loss::OnlyOnePage => 0,
            Loss::Everything | Loss::AllButOnePage => last,
            Loss::Files if choice.new => last,
            Loss::Files => 0,
            _ => random.below(last + 1),
        };
        let mut bytes = vec![0; self.lengths[length]];
        let lone = |page| choice.one == Some((number, page));
        for (at, states) in self.pages.iter().enumerate() {
            let page = match choice.loss {
                Loss::Nothing => states[0].clone(),
                Loss::Everything => states[states.len() - 1].clone(),
                Loss::AllButOnePage if !lone(at) => states[states.len() - 1].clone(),
                Loss::OnlyOnePage if !lone(at) => states[0].clone(),
                Loss::Files if choice.new => states[states.len() - 1].clone(),
                Loss::Files => states[0].clone(),
                Loss::AllButOnePage | Loss::OnlyOnePage | Loss::Pages => {
                    states[random.below(states.len())].clone()
                }
                Loss::Sectors => {
                    let parts = (0..PAGE / 512).map(|sector| {
                        let state = &states[random.below(states.len())];
                        &state[sector * 512..][..512]
                    });
                    parts.collect::<Vec<_>>().concat().into()
                }
                Loss::Words => {
                    let pair = [random.below(states.len()), random.below(states.len())];
                    let parts =
                        (0..PAGE / 8).map(|word| &states[pair[random.below(2)]][word * 8..][..8]);
                    parts.collect::<Vec<_>>().concat().into()
                }
            };
            if at * PAGE >= bytes.len() && lone(at) {
                // Writing a page after the end also moved the end.
                bytes.resize(self.length().min((at + 1) * PAGE), 0);
            }
            let end = bytes.len().min((at + 1) * PAGE);
            if let Some(target) = bytes.get_mut(at * PAGE..end) {
                target.copy_from_slice(&page[..target.len()]);
            }
        }
        bytes
    }
}

/// Makes the present state of a file certain.
fn synced(file: &mut Tracked) {
    let last = file.lengths.len() - 1;
    file.lengths.drain(..last);
    for states in &mut file.pages {
        let last = states.len() - 1;
        states.drain(..last);
    }
}

fn take_page(file: &mut Tracked, at: usize, bytes: &[u8], random: &mut Random) {
    if at == file.pages.len() {
        // Blocks that were never written are zeros.
        file.pages.push(vec![vec![0; PAGE].into()]);
    }
    let states = &mut file.pages[at];
    let last = &states[states.len() - 1];
    if last[..bytes.len()] == *bytes {
        return;
    }
    let mut page = bytes.to_vec();
    page.resize(PAGE, 0);
    states.push(page.into());
    if states.len() > STATES {
        states.remove(1 + random.below(STATES - 2));
    }
}

fn split(path: &Path) -> (PathBuf, OsString) {
    (
        path.parent().unwrap().to_owned(),
        path.file_name().unwrap().to_owned(),
    )
}
