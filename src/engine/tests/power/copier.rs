//! Somebody who copies the files of a cache while others write to them.
//!
//! Knows names and bytes; what a copy may be is for the history to say.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::engine::tests::power::disk::{Contents, Image};
use crate::engine::tests::power::history::History;
use crate::engine::tests::power::look::{look_closely, read_only, work_on};
use crate::engine::tests::power::place::Place;
use crate::engine::tests::power::random::Random;
use crate::engine::tests::power::world::World;
use crate::engine::tests::power::*;

/// Copies the files of a cache one after the other, each in two pieces, while others write.
pub(super) struct Copier {
    world: Rc<RefCell<World>>,
    random: Random,
    /// Of how many steps one is used.
    every: usize,
    left: Vec<(PathBuf, u64)>,
    half: Option<(PathBuf, std::fs::File, Vec<u8>)>,
    image: Image,
    pub(super) done: bool,
}

impl Copier {
    pub(super) fn new(world: &Rc<RefCell<World>>, seed: u64) -> Self {
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

    pub(super) fn step(&mut self) {
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
    pub(super) fn check(&mut self) -> bool {
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
