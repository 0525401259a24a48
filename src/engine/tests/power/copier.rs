//! Copies the files of a cache while others write to it.
//!
//! Knows names and bytes; the history says what a copy may contain.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::engine::tests::power::cache_dir::CacheDir;
use crate::engine::tests::power::disk::{Contents, Image};
use crate::engine::tests::power::history::History;
use crate::engine::tests::power::image_checker::ImageChecker;
use crate::engine::tests::power::random::Random;
use crate::engine::tests::power::reading::{assert_usable, check_read_only, read_and_compare};
use crate::engine::tests::power::*;

/// Copies the files of a cache one after the other, each in two parts.
pub(super) struct Copier {
    checker: Rc<RefCell<ImageChecker>>,
    random: Random,
    /// One in this many steps advances the copy.
    every: usize,
    left: Vec<(PathBuf, u64)>,
    half: Option<(PathBuf, std::fs::File, Vec<u8>)>,
    image: Image,
    pub(super) done: bool,
}

impl Copier {
    pub(super) fn new(checker: &Rc<RefCell<ImageChecker>>, seed: u64) -> Self {
        let mut random = Random(seed);
        let every = 1 + random.below(40);
        let mut copier = Self {
            checker: Rc::clone(checker),
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

    /// Lists the files in random order.
    fn begin(&mut self) {
        self.image.files.clear();
        self.half = None;
        let root = self.checker.borrow().root.clone();
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
                // A copy that lacks a file is useless: it begins again.
                Err(_) => self.begin(),
            }
        }
    }

    /// Checks the copy against the history; false if it was not completed.
    pub(super) fn check(&mut self) -> bool {
        if !self.done {
            return false;
        }
        let checker = self.checker.borrow();
        let dir = CacheDir::copy(checker.kind, &checker.root, &self.image);
        let (states, replaced) = checker.history.copied.as_ref().unwrap();
        check_read_only(&dir);
        let cache = match dir.options().open(dir.path()) {
            Ok(cache) => cache,
            Err(error) => {
                assert!(error.is_corruption(), "{error}");
                let repair = crate::Repair::new(dir.path()).options(&dir.options());
                match repair.run() {
                    Ok(_) => dir.open(),
                    Err(error) => {
                        assert!(*replaced, "{error}");
                        return true;
                    }
                }
            }
        };
        if *replaced {
            drop(cache);
            check_read_only(&dir);
            return true;
        }
        let seen = read_and_compare(&cache, &checker.history);
        History::admits(states, &seen).unwrap();
        assert_clean(&cache);
        assert_usable(&cache, &seen, 0);
        true
    }
}
