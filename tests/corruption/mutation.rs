//! A change of a cache's files, which may also repair the checksums over what it changes.
//!
//! Changes bytes; what a change means is decided in `affected.rs`. A mutation can be read from
//! arbitrary bytes, for a fuzzer.

use std::ops::Range;
use std::path::PathBuf;

use super::checksums::{self, Checksum};
use super::image::{Image, Node};
use super::layout::{self, PAGE, header};
use super::sample_cache::{OtherImages, SampleCache};

/// A change of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Bits of a byte are flipped.
    Flip {
        file: String,
        at: usize,
        mask: u8,
    },
    /// A word gets another value.
    Set {
        file: String,
        at: usize,
        value: u64,
    },
    /// Two words change places.
    Swap {
        file: String,
        at: usize,
        with: usize,
    },
    /// Bytes of one place are copied to another.
    Copy {
        from: (String, usize),
        to: (String, usize),
        len: usize,
    },
    /// Bytes become zero, usually a page.
    Zero {
        file: String,
        at: usize,
        len: usize,
    },
    /// The file is truncated.
    Cut {
        file: String,
        len: usize,
    },
    /// The file is replaced by another cache's, or by one from another time.
    Replace {
        file: String,
        by: OtherImage,
    },
    Remove {
        file: String,
    },
    /// The file is replaced by something that is no regular file.
    Become {
        file: String,
        kind: NonFile,
    },
}

/// The origin of a replacing file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OtherImage {
    Earlier,
    Rebuilt,
    Foreign,
}

/// What can have a file's name without being a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NonFile {
    Directory,
    /// A symbolic link to nothing.
    Dangling,
    /// A symbolic link to itself.
    Loop,
    /// A symbolic link to the index.
    Index,
    Fifo,
}

/// A change, and whether it repairs the checksums over what it changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mutation {
    pub(crate) change: Change,
    pub(crate) repaired: bool,
}

/// Arbitrary bytes, taken from the front; zeros after their end.
#[derive(Debug)]
pub(crate) struct Choices<'a>(pub(crate) &'a [u8]);

impl Choices<'_> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    pub(crate) fn word(&mut self) -> u64 {
        u64::from_le_bytes(std::array::from_fn(|_| self.byte()))
    }

    /// Returns a number below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        let number = u32::from_le_bytes(std::array::from_fn(|_| self.byte()));
        number as usize % end.max(1)
    }
}

impl Mutation {
    /// Reads a mutation of an image from arbitrary bytes.
    pub(crate) fn choose(choices: &mut Choices<'_>, image: &Image) -> Self {
        let repaired = choices.byte() & 1 == 1;
        let change = Change::choose(choices, image);
        Self { change, repaired }
    }

    /// Changes an image. `sample` says what the checksums covered, and has the replacing files.
    pub(crate) fn apply(&self, image: &mut Image, sample: &SampleCache) {
        let before = image.clone();
        self.change.apply(image, sample);
        if !self.repaired {
            return;
        }
        for (suffix, range) in self.change.ranges(&before) {
            for checksum in checksums::covering(&sample.records, &suffix, &range) {
                if matches!(checksum, Checksum::Header { .. }) {
                    self.adopt(image, &before, &suffix);
                }
                checksums::repair(image, &checksum);
            }
        }
        if let Change::Copy { to: (file, at), .. } = &self.change
            && let Some(segment) = super::image::segment_number(file)
        {
            // The copy may have made a record where there was none.
            let suffix = file.clone();
            checksums::repair(
                image,
                &Checksum::Record {
                    suffix,
                    segment,
                    at: *at,
                },
            );
        }
    }

    /// Gives a replacing file the ids of the file that it replaces.
    fn adopt(&self, image: &mut Image, before: &Image, suffix: &str) {
        if !matches!(self.change, Change::Replace { .. }) {
            return;
        }
        let old = before.bytes(suffix).to_vec();
        let ids = header::CACHE_ID..if suffix.is_empty() { 56 } else { 40 };
        if let Some(bytes) = image.bytes_mut(suffix)
            && bytes.len() >= ids.end
            && old.len() >= ids.end
        {
            bytes[ids.clone()].copy_from_slice(&old[ids]);
        }
    }
}

impl Change {
    fn choose(choices: &mut Choices<'_>, image: &Image) -> Self {
        let files: Vec<(&str, usize)> = image
            .files()
            .map(|(suffix, bytes)| (suffix, bytes.len()))
            .collect();
        let kind = choices.byte() % 16;
        let (file, len) = files
            .get(choices.below(files.len()))
            .copied()
            .unwrap_or(("", 0));
        let file = file.to_owned();
        let at = choices.below(len);
        let word = at & !7;
        match kind {
            0..=3 => Self::Flip {
                file,
                at,
                mask: choices.byte().max(1),
            },
            4..=6 => Self::Set {
                file,
                at: word,
                value: choices.word(),
            },
            7 => Self::Set {
                file,
                at: word,
                value: choices.below(1 << 16) as u64,
            },
            8..=9 => Self::Swap {
                file,
                at: word,
                with: choices.below(len) & !7,
            },
            10 => {
                let (to, to_len) = files
                    .get(choices.below(files.len()))
                    .copied()
                    .unwrap_or(("", 0));
                let to = (to.to_owned(), choices.below(to_len) & !7);
                Self::Copy {
                    from: (file, word),
                    to,
                    len: choices.below(4096),
                }
            }
            11 => Self::Zero {
                file,
                at: at & !(PAGE - 1),
                len: PAGE,
            },
            12 => Self::Cut { file, len: at },
            13 => {
                let all = [
                    OtherImage::Earlier,
                    OtherImage::Rebuilt,
                    OtherImage::Foreign,
                ];
                Self::Replace {
                    file,
                    by: all[choices.below(all.len())],
                }
            }
            14 => Self::Remove { file },
            _ => {
                let all = [
                    NonFile::Directory,
                    NonFile::Dangling,
                    NonFile::Loop,
                    NonFile::Index,
                    NonFile::Fifo,
                ];
                Self::Become {
                    file,
                    kind: all[choices.below(all.len())],
                }
            }
        }
    }

    /// Returns the ranges that the change touches.
    pub(crate) fn ranges(&self, before: &Image) -> Vec<(String, Range<usize>)> {
        let whole = |file: &String| vec![(file.clone(), 0..before.bytes(file).len().max(1))];
        match self {
            Self::Flip { file, at, .. } => vec![(file.clone(), *at..at + 1)],
            Self::Set { file, at, .. } => vec![(file.clone(), *at..at + 8)],
            Self::Swap { file, at, with } => {
                vec![(file.clone(), *at..at + 8), (file.clone(), *with..with + 8)]
            }
            Self::Copy {
                to: (file, at),
                len,
                ..
            }
            | Self::Zero { file, at, len } => {
                vec![(file.clone(), *at..at + len)]
            }
            Self::Cut { file, len } => {
                vec![(file.clone(), *len..before.bytes(file).len().max(*len))]
            }
            Self::Replace { file, .. } | Self::Remove { file } | Self::Become { file, .. } => {
                whole(file)
            }
        }
    }

    /// Whether the file keeps its length, so that a process that has it mapped may continue.
    pub(crate) fn is_in_place(&self) -> bool {
        matches!(
            self,
            Self::Flip { .. }
                | Self::Set { .. }
                | Self::Swap { .. }
                | Self::Copy { .. }
                | Self::Zero { .. }
        )
    }

    fn apply(&self, image: &mut Image, sample: &SampleCache) {
        match self {
            Self::Flip { file, at, mask } => {
                if let Some(byte) = image.bytes_mut(file).and_then(|bytes| bytes.get_mut(*at)) {
                    *byte ^= mask;
                }
            }
            Self::Set { file, at, value } => overwrite(image, file, *at, &value.to_le_bytes()),
            Self::Swap { file, at, with } => {
                let bytes = image.bytes(file);
                if bytes.len() >= at.max(with) + 8 {
                    let (a, b) = (layout::u64_at(bytes, *at), layout::u64_at(bytes, *with));
                    overwrite(image, file, *at, &b.to_le_bytes());
                    overwrite(image, file, *with, &a.to_le_bytes());
                }
            }
            Self::Copy {
                from: (source, from),
                to: (file, at),
                len,
            } => {
                let bytes = image.bytes(source);
                let end = bytes.len().min(from + len);
                let bytes = bytes.get(*from..end).unwrap_or(&[]).to_vec();
                overwrite(image, file, *at, &bytes);
            }
            Self::Zero { file, at, len } => overwrite(image, file, *at, &vec![0; *len]),
            Self::Cut { file, len } => {
                if let Some(bytes) = image.bytes_mut(file) {
                    bytes.truncate(*len);
                }
            }
            Self::Replace { file, by } => {
                let others = &sample.others;
                let relative = match by {
                    OtherImage::Earlier => &others.earlier,
                    OtherImage::Rebuilt => &others.rebuilt,
                    OtherImage::Foreign => &others.foreign,
                };
                if let Some(bytes) = OtherImages::file(relative, file) {
                    image.nodes.insert(file.clone(), Node::File(bytes));
                }
            }
            Self::Remove { file } => {
                image.nodes.remove(file);
            }
            Self::Become { file, kind } => {
                image.nodes.insert(file.clone(), kind.node(file));
            }
        }
    }
}

impl NonFile {
    fn node(self, suffix: &str) -> Node {
        match self {
            Self::Directory => Node::Directory,
            Self::Dangling => Node::Symlink(PathBuf::from("nothing at all")),
            Self::Loop => Node::Symlink(PathBuf::from(format!("cache{suffix}"))),
            Self::Index => Node::Symlink(PathBuf::from("cache")),
            Self::Fifo => Node::Fifo,
        }
    }
}

/// Overwrites bytes of a file, up to its end.
fn overwrite(image: &mut Image, file: &str, at: usize, with: &[u8]) {
    if let Some(bytes) = image.bytes_mut(file) {
        let end = bytes.len().min(at + with.len());
        if at < end {
            bytes[at..end].copy_from_slice(&with[..end - at]);
        }
    }
}
