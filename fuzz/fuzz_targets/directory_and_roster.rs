//! Sets words of the index that no checksum covers (header words, directory, region headers,
//! control bytes, links, bodies) and entries of the roster to plausible values or to any; then runs
//! every public operation.
#![no_main]

#[path = "../../tests/corruption/mod.rs"]
mod corruption;

use std::fmt::Write;
use std::ops::Range;
use std::sync::LazyLock;

use corruption::affected::Affected;
use corruption::checker::Checker;
use corruption::checksums::{self, Checksum};
use corruption::image::Image;
use corruption::layout::{
    self, FIRST_POSITION, Geometry, PAGE, header, set_u32, set_u64, u32_at, u64_at,
};
use corruption::mutation::Choices;
use corruption::sample_cache::{SampleCache, scratch};
use libfuzzer_sys::fuzz_target;

/// Values of one input.
const MOST: usize = 12;

/// The same in every run.
static SAMPLES: LazyLock<[SampleCache; 2]> = LazyLock::new(|| {
    mmapcache::fuzzing::reseed(0);
    SampleCache::closed_and_live()
});

fuzz_target!(|data: &[u8]| {
    let mut choices = Choices(data);
    let sample = &SAMPLES[usize::from(choices.byte() & 1)];
    mmapcache::fuzzing::reseed(1);
    let (mut image, mut done) = (sample.image.clone(), String::new());
    for _ in 0..MOST {
        if choices.is_empty() {
            break;
        }
        set_a_field(&mut image, &mut choices, &mut done);
    }
    checksums::repair(&mut image, &Checksum::Cursor);
    checksums::repair(&mut image, &Checksum::Redo);
    let affected = Affected::between(sample, &image);
    let dir = scratch();
    let path = dir.path().join("cache");
    image.write_to(&path).expect("files");
    Checker::new(sample, &affected, &done).check_all(&path);
});

/// A purpose of words, and where all words with this purpose are.
struct Kind {
    suffix: &'static str,
    /// Offset of the first one.
    at: usize,
    /// Distance from one to the next.
    stride: usize,
    count: usize,
    /// Width of each in bytes: 1, 4 or 8.
    width: usize,
}

impl Kind {
    fn choose(image: &Image, choices: &mut Choices<'_>) -> Self {
        let index = image.bytes("");
        let geometry = Geometry::of(index);
        let region = geometry.region(choices.below(regions(index, geometry)));
        let (slots, body) = (geometry.slots, layout::BODY);
        let bodies = region.start + 64 + 9 * slots;
        let of_index = |at: usize, stride: usize, count: usize, width: usize| Self {
            suffix: "",
            at,
            stride,
            count,
            width,
        };
        match choices.byte() % 12 {
            0 => of_index(PAGE, 8, 1 << geometry.directory_bits, 8),
            1 => of_index(
                region.start + 8 * choices.below(4),
                geometry.region_bytes(),
                1,
                8,
            ),
            2 => of_index(region.start + 64, 1, slots, 1),
            3 | 4 => of_index(region.start + 64 + slots, 8, slots, 8),
            5 => of_index(bodies, body, slots, 4),
            6 => of_index(bodies + 4, body, slots, 4),
            7 => of_index(bodies + 8 * choices.below(body / 8), body, slots, 8),
            8 => of_index(header::POLL, 8, (header::END - header::POLL) / 8, 8),
            9 => of_index(header::COUNTERS, 8, 15, 8),
            10 => of_index(header::INTENT, 8, 4, 8),
            _ => Self {
                suffix: ".roster",
                at: FIRST_POSITION,
                stride: 4,
                count: u64_at(index, header::ROSTER_LEN).min(1024) as usize,
                width: 4,
            },
        }
    }

    fn place(&self, choices: &mut Choices<'_>) -> Range<usize> {
        let at = self.at + self.stride * choices.below(self.count);
        at..at + self.width
    }
}

fn regions(index: &[u8], geometry: Geometry) -> usize {
    (index.len() - geometry.regions_at()) / geometry.region_bytes()
}

/// Sets one field, and describes the change in `done` for the message of a finding.
fn set_a_field(image: &mut Image, choices: &mut Choices<'_>, done: &mut String) {
    let kind = Kind::choose(image, choices);
    let (to, like) = (kind.place(choices), kind.place(choices));
    let bytes = image.bytes(kind.suffix);
    if to.end > bytes.len() || like.end > bytes.len() {
        return;
    }
    let read = |range: &Range<usize>| match kind.width {
        1 => u64::from(bytes[range.start]),
        4 => u64::from(u32_at(bytes, range.start)),
        _ => u64_at(bytes, range.start),
    };
    let (old, other) = (read(&to), read(&like));
    let value = match choices.byte() % 8 {
        0 => 0,
        1 | 2 => other,
        3 => old.wrapping_add(u64::from(choices.byte())).wrapping_sub(8),
        4 => old ^ (1 << (choices.byte() % 64)),
        5 => u64::from(choices.byte()),
        6 => u64::MAX >> (choices.byte() % 64),
        _ => choices.word(),
    };
    // Another inode or boot id would only lead to a recovery, each time.
    if kind.suffix.is_empty() && (448..472).contains(&to.start) {
        return;
    }
    let _ = write!(done, "{}[{to:?}] {old:#x} -> {value:#x}; ", kind.suffix);
    let Some(bytes) = image.bytes_mut(kind.suffix) else {
        return;
    };
    match kind.width {
        1 => bytes[to.start] = value as u8,
        4 => set_u32(bytes, to.start, value as u32),
        _ => set_u64(bytes, to.start, value),
    }
}
