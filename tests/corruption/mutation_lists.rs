//! Lists of mutations of a sample: every one of a kind.
//!
//! If a checksum covers a change, the list has it twice: as it is, and with the checksum repaired.

use super::checksums;
use super::image::{Image, segment_number};
use super::layout::{self, Geometry, PAGE, header};
use super::mutation::{Change, Choices, Mutation, NonFile, OtherImage};
use super::sample_cache::SampleCache;

/// Boundary values of any field.
const EDGES: [u64; 13] = [
    0,
    1,
    2,
    3,
    8,
    0xffff,
    0x7fff_ffff,
    0xffff_ffff,
    0x1_0000_0000,
    1 << 40,
    1 << 48,
    1 << 63,
    u64::MAX,
];

/// Adds the change and, if a checksum covers it, the same change with the checksum repaired.
fn with_repair(sample: &SampleCache, change: Change, all: &mut Vec<Mutation>) {
    let covered = change
        .ranges(&sample.image)
        .iter()
        .any(|(suffix, range)| !checksums::covering(&sample.records, suffix, range).is_empty());
    all.push(Mutation {
        change: change.clone(),
        repaired: false,
    });
    if covered {
        all.push(Mutation {
            change,
            repaired: true,
        });
    }
}

fn flips(sample: &SampleCache, suffix: &str, at: usize, masks: &[u8], all: &mut Vec<Mutation>) {
    for &mask in masks {
        let file = suffix.to_owned();
        with_repair(sample, Change::Flip { file, at, mask }, all);
    }
}

/// Each byte of each file, all of its bits at once.
pub(crate) fn bytes(sample: &SampleCache) -> Vec<Mutation> {
    let mut all = Vec::new();
    for (suffix, bytes) in sample.image.files() {
        for at in 0..bytes.len() {
            flips(sample, suffix, at, &[0xff], &mut all);
        }
    }
    all
}

/// Each bit of each header: of files, regions and records.
pub(crate) fn bits(sample: &SampleCache) -> Vec<Mutation> {
    const BITS: [u8; 8] = [1, 2, 4, 8, 16, 32, 64, 128];
    let mut all = Vec::new();
    for (suffix, _) in sample.image.files() {
        let end = if suffix.is_empty() {
            header::END
        } else {
            checksums::header_bytes(suffix)
        };
        (0..end).for_each(|at| flips(sample, suffix, at, &BITS, &mut all));
    }
    let index = sample.image.bytes("");
    let geometry = Geometry::of(index);
    for region in 0..layout::u64_at(index, header::REGIONS) as usize {
        let at = geometry.region(region).start;
        (at..at + 32).for_each(|at| flips(sample, "", at, &BITS, &mut all));
    }
    for record in &sample.records {
        let suffix = super::image::segment_suffix(record.segment);
        let header = record.at..record.at + layout::RECORD_HEADER;
        header.for_each(|at| flips(sample, &suffix, at, &BITS, &mut all));
    }
    all
}

/// Each file, truncated at every length.
pub(crate) fn cuts(sample: &SampleCache) -> Vec<Mutation> {
    let mut all = Vec::new();
    for (suffix, bytes) in sample.image.files() {
        let cut = |len| Change::Cut {
            file: suffix.to_owned(),
            len,
        };
        all.extend((0..bytes.len()).map(|len| Mutation {
            change: cut(len),
            repaired: false,
        }));
    }
    all
}

/// Pages of zeros, and smaller blocks of them.
pub(crate) fn zeros(sample: &SampleCache) -> Vec<Mutation> {
    let mut all = Vec::new();
    for (suffix, bytes) in sample.image.files() {
        for len in [PAGE, 512, 64] {
            for at in (0..bytes.len()).step_by(len) {
                with_repair(
                    sample,
                    Change::Zero {
                        file: suffix.to_owned(),
                        at,
                        len,
                    },
                    &mut all,
                );
            }
        }
    }
    all
}

/// Each file replaced by another image's, removed, or replaced by something that is no file.
pub(crate) fn files(sample: &SampleCache) -> Vec<Mutation> {
    let mut all = Vec::new();
    for suffix in sample.image.suffixes() {
        let file = || suffix.to_owned();
        for by in [
            OtherImage::Earlier,
            OtherImage::Rebuilt,
            OtherImage::Foreign,
        ] {
            with_repair(sample, Change::Replace { file: file(), by }, &mut all);
        }
        let non_files = [
            NonFile::Directory,
            NonFile::Dangling,
            NonFile::Loop,
            NonFile::Index,
            NonFile::Fifo,
        ];
        let non_files = non_files.map(|kind| Change::Become { file: file(), kind });
        let gone = [Change::Remove { file: file() }];
        let plain = non_files.into_iter().chain(gone);
        all.extend(plain.map(|change| Mutation {
            change,
            repaired: false,
        }));
    }
    all
}

/// Each word that determines an answer, with each boundary value, and its own value changed by
/// little.
pub(crate) fn words(sample: &SampleCache) -> Vec<Mutation> {
    with_edges(sample, deciding_words(&sample.image))
}

/// The same for the changing words of the index header.
pub(crate) fn header_words(sample: &SampleCache) -> Vec<Mutation> {
    let words = (header::POLL..header::END).step_by(8);
    with_edges(sample, words.map(|at| (String::new(), at)).collect())
}

fn with_edges(sample: &SampleCache, words: Vec<(String, usize)>) -> Vec<Mutation> {
    let mut all = Vec::new();
    for (file, at) in words {
        let now = layout::u64_at(sample.image.bytes(&file), at);
        let near = [now.wrapping_add(1), now.wrapping_sub(1), now << 1, now >> 1];
        // The same for the upper half, which is often a field of its own.
        let upper = [0, 1 << 32, u64::MAX << 32].map(|high| high | now & 0xffff_ffff);
        for value in EDGES.into_iter().chain(near).chain(upper) {
            let file = file.clone();
            with_repair(sample, Change::Set { file, at, value }, &mut all);
        }
    }
    all
}

/// Words of headers, the directory, links and bodies of slots, roster positions, record headers.
fn deciding_words(image: &Image) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    for (suffix, bytes) in image.files() {
        let end = match segment_number(suffix) {
            _ if suffix.is_empty() => header::END,
            Some(_) => 128,
            None => 64 + 4 * 48,
        };
        found.extend(
            (0..end.min(bytes.len()))
                .step_by(8)
                .map(|at| (suffix.to_owned(), at)),
        );
    }
    let index = image.bytes("");
    found.extend((0..1 << layout::depth(index)).map(|entry| (String::new(), PAGE + 8 * entry)));
    let geometry = Geometry::of(index);
    for region in 0..layout::u64_at(index, header::REGIONS) as usize {
        let at = geometry.region(region).start;
        found.extend([0, 8, 16, 24, 64, 72].map(|offset| (String::new(), at + offset)));
    }
    for slot in layout::slots(index)
        .into_iter()
        .filter(layout::Slot::is_entry)
    {
        found.push((String::new(), slot.link_at));
        found.push((String::new(), slot.body_at));
    }
    for record in layout::records(image) {
        let suffix = super::image::segment_suffix(record.segment);
        found.extend([0, 8, 16, 24].map(|offset| (suffix.clone(), record.at + offset)));
    }
    found
}

/// Parts of one kind that change places, or are copied over another: links, bodies, records.
pub(crate) fn exchanges(sample: &SampleCache) -> Vec<Mutation> {
    let mut all = Vec::new();
    let index = sample.image.bytes("");
    let entries: Vec<_> = layout::slots(index)
        .into_iter()
        .filter(|slot| slot.is_entry())
        .collect();
    for pair in entries.windows(2) {
        let file = String::new;
        let (a, b) = (pair[0], pair[1]);
        let links = Change::Swap {
            file: file(),
            at: a.link_at,
            with: b.link_at,
        };
        let bodies = Change::Swap {
            file: file(),
            at: a.body_at,
            with: b.body_at,
        };
        let copy = Change::Copy {
            from: (file(), a.body_at),
            to: (file(), b.body_at),
            len: layout::BODY,
        };
        let (from, to) = (4 * a.position as usize, 4 * b.position as usize);
        let file = || ".roster".to_owned();
        let twice = Change::Copy {
            from: (file(), 64 + from),
            to: (file(), 64 + to),
            len: 4,
        };
        let plain = [links, bodies, copy, twice];
        all.extend(plain.map(|change| Mutation {
            change,
            repaired: false,
        }));
    }
    for pair in sample.records.windows(2) {
        let (a, b) = (&pair[0], &pair[1]);
        let file = super::image::segment_suffix;
        let from = (file(a.segment), a.at);
        let to = (file(b.segment), b.at);
        let len = a.range().len();
        with_repair(sample, Change::Copy { from, to, len }, &mut all);
    }
    all
}

/// The words that name a place of the heap, with each place where a record begins, and some where
/// none does.
pub(crate) fn places(sample: &SampleCache) -> Vec<Mutation> {
    let mut all = Vec::new();
    for record in &sample.records {
        for off in [0, 8] {
            let value = layout::place(record.segment, record.at + off);
            for at in [
                header::RESERVED,
                header::TAIL,
                header::CURSOR,
                header::SYNCED,
            ] {
                with_repair(
                    sample,
                    Change::Set {
                        file: String::new(),
                        at,
                        value,
                    },
                    &mut all,
                );
            }
        }
    }
    all
}

/// Redo records that no writer committed: of each kind, for used and free slots and positions, with
/// the counters as they are or all zero.
pub(crate) fn redo_records(sample: &SampleCache) -> Vec<Vec<Mutation>> {
    let index = sample.image.bytes("");
    let geometry = Geometry::of(index);
    let slots = layout::slots(index);
    let regions = layout::u64_at(index, header::REGIONS);
    let mut all = Vec::new();
    for (number, slot) in slots.iter().enumerate() {
        let other = slots[(number * 7 + 3) % slots.len()];
        let home = (slot.region * geometry.slots + slot.index) as u64;
        let insert = |link| [home | (u64::from(slot.position) << 32), link, 0];
        let low = number as u64 % regions;
        let bodies = [
            (1, insert(slot.link)),
            (1, insert(other.link)),
            (2, [home | (u64::from(slot.position) << 32), 0, 0]),
            (2, [home | (u64::from(other.position) << 32), 1, 9]),
            (3, [slot.region as u64 | (low << 32), 0, 0]),
            (3, [slot.region as u64 | (low << 32), regions - low, 0]),
        ];
        for (kind, body) in bodies {
            for right in [false, true] {
                all.push(redo_record(index, kind, body, right));
            }
        }
    }
    all
}

/// Sets the words of a redo record, one by one.
fn redo_record(index: &[u8], kind: u64, body: [u64; 3], right_counters: bool) -> Vec<Mutation> {
    let counter = |at: usize| {
        if right_counters {
            layout::u64_at(index, at)
        } else {
            0
        }
    };
    let counters = (0..8).map(|i| {
        (
            header::INTENT_COUNTERS + 8 * i,
            counter(header::COUNTERS + 8 * i),
        )
    });
    let body = (0..3).map(|i| (header::INTENT_BODY + 8 * i, body[i]));
    let words = counters.chain(body).chain([(header::INTENT, kind)]);
    let set = |(at, value)| Change::Set {
        file: String::new(),
        at,
        value,
    };
    words
        .map(|word| Mutation {
            change: set(word),
            repaired: true,
        })
        .collect()
}

/// Up to four mutations on top of each other, chosen by a number.
pub(crate) fn stack(sample: &SampleCache, number: u64) -> Vec<Mutation> {
    let word = |at: u64| xxhash_rust::xxh3::xxh3_64_with_seed(&at.to_le_bytes(), number);
    let bytes: Vec<u8> = (0..16).flat_map(|at| word(at).to_le_bytes()).collect();
    let mut choices = Choices(&bytes);
    let count = 1 + choices.below(4);
    (0..count)
        .map(|_| Mutation::choose(&mut choices, &sample.image))
        .collect()
}
