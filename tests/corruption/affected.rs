//! Which keys a change of files affects: those that may now give another answer, and those that
//! must still give the correct one.
//!
//! Compares the files before and after, so that any number of changes may lie between. Knows what
//! each byte means by `docs/format.md`, not how the engine reads it.

use std::collections::BTreeSet;
use std::ops::Range;

use super::checksums;
use super::image::{Image, differences, segment_number};
use super::layout::{self, FIRST_RECORD, Geometry, PAGE, Record, header, u32_at, u64_at};
use super::sample_cache::SampleCache;

/// Which answers a change of files may change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Affected {
    /// All entries may be gone, or older than they were.
    pub(crate) all_keys: bool,
    /// A key without an entry may give an error, or return if it was deleted.
    pub(crate) absent_keys: bool,
    /// These entries may be gone, or older than they were.
    pub(crate) keys: BTreeSet<Vec<u8>>,
    /// These keys may have any value: the files hold records for them that the engine did not write
    /// but whose checksums are valid.
    pub(crate) forged: BTreeSet<Vec<u8>>,
    /// A listing may leave entries out.
    pub(crate) listing: bool,
    /// Exactly one byte of one file differs: a listing that leaves entries out must return an
    /// error.
    pub(crate) one_byte: bool,
    /// A header has another version, or a flag that no release knows.
    pub(crate) version: bool,
    /// The mark of a failed sync is set, and was not before.
    pub(crate) sync_failed: bool,
    /// The index says, under a valid checksum, that other files belong to it, or that its files
    /// have another layout.
    pub(crate) foreign_header: bool,
    /// It also says that keys are hashed differently: an old entry, whose key can no longer be
    /// found, may match all that the index keeps of another key's hash.
    pub(crate) rehashed: bool,
    /// A redo record is committed: recovery applies it, and may leave a key with two entries.
    pub(crate) redo_committed: bool,
    /// A changed link leads to a record of these keys: they may have two entries.
    pub(crate) duplicated: BTreeSet<Vec<u8>>,
    /// The index is gone.
    pub(crate) no_index: bool,
    /// A limit on the number of entries may refuse insertions.
    pub(crate) entries_limited: bool,
    /// The index says that the cache is append-only.
    pub(crate) append_only: bool,
    /// Something that is no file of this cache has one of its names: the engine may need the name,
    /// and must not replace what has it.
    pub(crate) foreign_file: bool,
    /// A segment is gone, or something else has its name: every writer is refused.
    pub(crate) segment_missing: bool,
}

/// How good an answer about a key must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    /// The change does not concern the key: the answer must be correct.
    Exact,
    /// The correct value, an earlier value, no entry, or an error of corruption.
    Degraded,
    /// Any answer.
    Any,
}

impl Affected {
    pub(crate) fn expected(&self, sample: &SampleCache, key: &[u8]) -> Expected {
        let absent = self.absent_keys && sample.value(key).is_none();
        if self.forged.contains(key) {
            Expected::Any
        } else if self.all_keys
            || absent
            || self.keys.contains(key)
            || self.duplicated.contains(key)
        {
            Expected::Degraded
        } else {
            Expected::Exact
        }
    }

    /// Compares the sample's files with the changed ones.
    pub(crate) fn between(sample: &SampleCache, after: &Image) -> Self {
        let mut affected = Self::default();
        affected.compare_headers(sample, after);
        affected.one_byte = is_one_byte_apart(&sample.image, after);
        for (suffix, old) in sample.image.files() {
            for range in changed(old, after.bytes(suffix)) {
                match suffix {
                    "" => {
                        affected.index(sample, old, &range);
                        affected.links(sample, after.bytes(""), &range);
                    }
                    ".roster" => affected.listing = true,
                    _ => {
                        let cut = range.end > after.bytes(suffix).len();
                        affected.segment(sample, suffix, &range, cut);
                    }
                }
            }
        }
        affected.forgeries(sample, after);
        affected
    }

    fn compare_headers(&mut self, sample: &SampleCache, after: &Image) {
        let index = after.bytes("");
        let sealed = index.get(..128).unwrap_or(&[]);
        self.foreign_header = sealed != &sample.image.bytes("")[..128]
            && sealed.len() == 128
            && u32_at(sealed, header::CRC) == checksums::header_sum(sealed);
        self.rehashed = self.foreign_header
            && u64_at(sealed, header::HASH_SEED)
                != u64_at(sample.image.bytes(""), header::HASH_SEED);
        self.no_index = !after.nodes.contains_key("")
            || matches!(after.nodes.get(""), Some(super::image::Node::Symlink(_)));
        self.version = after
            .files()
            .any(|(suffix, bytes)| is_of_another_release(suffix, bytes));
        self.foreign_file = after.nodes.iter().any(|(suffix, node)| match node {
            super::image::Node::File(bytes) => {
                segment_number(suffix).is_some() && !bytes.starts_with(b"MMCHEAP\0")
            }
            _ => true,
        });
        let segments = sample.image.files();
        let mut segments = segments.filter(|(suffix, _)| segment_number(suffix).is_some());
        // Magic, version, checksum and both ids.
        self.segment_missing = self.foreign_header
            || segments.any(|(suffix, sound)| after.bytes(suffix).get(..40) != sound.get(..40));
        if index.len() >= header::END {
            let cursor = u64_at(index, header::CURSOR);
            let lies = cursor != u64_at(sample.image.bytes(""), header::CURSOR)
                && cursor == checksums::checked_cursor(cursor);
            // Cleaning removes the segments that the cursor has passed.
            self.all_keys |= lies;
            self.redo_committed = u64_at(index, header::INTENT) != 0;
            self.sync_failed = u64_at(index, header::SYNC_ERROR) == 1;
            self.entries_limited = u64_at(index, header::MAX_ENTRIES) != 0;
            self.append_only = u32_at(index, header::FLAGS) & header::APPEND_ONLY != 0;
        }
        if index.len() < sample.image.bytes("").len() {
            self.all_keys = true;
            self.listing = true;
        }
    }

    /// A range of the index: sealed header, changing words, directory or a region.
    fn index(&mut self, sample: &SampleCache, old: &[u8], range: &Range<usize>) {
        self.listing = true;
        let touches = |at: usize, len: usize| range.start < at + len && range.end > at;
        // Readers find regions and segments by these words, and recovery repeats a committed redo
        // record.
        let by_words = touches(0, header::POLL + 8)
            || touches(header::RESERVED, 8)
            || touches(header::OLDEST, 8)
            || touches(
                header::INTENT,
                header::INTENT_COUNTERS + 64 - header::INTENT,
            );
        self.all_keys |= by_words;
        let slots = layout::slots(old);
        let geometry = Geometry::of(old);
        let mut regions = BTreeSet::new();
        for entry in 0..1 << layout::depth(old) {
            let number = layout::directory(old, entry);
            let place = geometry.region(number);
            if touches(PAGE + 8 * entry, 8) || touches(place.start, place.len()) {
                regions.insert(number);
            }
        }
        let there = slots
            .iter()
            .filter(|slot| slot.is_entry() && regions.contains(&slot.region));
        for slot in there {
            let record = sample
                .records
                .iter()
                .find(|r| (r.segment, r.at) == slot.record());
            self.keys
                .insert(record.expect("each entry has a record").key.clone());
        }
        // Any absent key may have its hash in that region.
        self.absent_keys |= !regions.is_empty();
    }

    /// Words of the index that may be links after the change.
    fn links(&mut self, sample: &SampleCache, new: &[u8], range: &Range<usize>) {
        for at in (range.start / 8 * 8..range.end).step_by(8) {
            if at < PAGE || at + 8 > new.len() {
                continue;
            }
            let word = u64_at(new, at);
            let place = (
                (word >> 32) as u16,
                (word as u32 as usize).saturating_mul(8),
            );
            let records = sample.records.iter();
            let led_to = records.filter(|record| (record.segment, record.at) == place);
            self.duplicated
                .extend(led_to.map(|record| record.key.clone()));
        }
    }

    /// A range of a segment: its header, and with it all of its records, or some records.
    fn segment(&mut self, sample: &SampleCache, suffix: &str, range: &Range<usize>, cut: bool) {
        let number = segment_number(suffix);
        let in_header = range.start < 120;
        let touched = sample.records.iter().filter(|record| {
            let mut own = record.range();
            // Padding has no meaning, but a record whose padding is cut off is incomplete.
            own.end = if cut {
                own.end.next_multiple_of(8)
            } else {
                own.end
            };
            Some(record.segment) == number
                && (in_header || range.start < own.end && range.end > own.start)
        });
        for record in touched {
            let of_key = sample
                .records
                .iter()
                .filter(|other| other.key == record.key);
            let newest = of_key.max_by_key(|other| (other.mtime, other.segment, other.at));
            if newest == Some(record) {
                self.keys.insert(record.key.clone());
            }
        }
    }

    /// Finds the records that verify and that the engine did not write.
    fn forgeries(&mut self, sample: &SampleCache, after: &Image) {
        let own = checksums::heap_id(&sample.image).expect("a sound index");
        // By the heap's own id, which the segments have too, and by the id that the index has now.
        let said = checksums::heap_id(after).filter(|&id| id != own);
        for heap_id in std::iter::once(own).chain(said) {
            for (suffix, bytes) in after.files() {
                let Some(segment) = segment_number(suffix) else {
                    continue;
                };
                if heap_id == own && bytes == sample.image.bytes(suffix) {
                    continue;
                }
                for at in (FIRST_RECORD..bytes.len()).step_by(8) {
                    let Some(record) = Record::parse(bytes, segment, at) else {
                        continue;
                    };
                    let known = || heap_id == own && sample.records.contains(&record);
                    if checksums::has_valid_checksum(bytes, heap_id, &record) && !known() {
                        // Any record inside it is now a part of its value.
                        self.segment(sample, suffix, &record.range(), false);
                        self.forged.insert(record.key);
                    }
                }
            }
        }
    }

    /// Whether a listing of keys alone may name this key, which was never put. The index holds
    /// short keys in full, with some bits of their hash: under another seed those bits may match
    /// another key.
    pub(crate) fn may_list(&self, key: &[u8]) -> bool {
        self.forged.contains(key) || self.foreign_header
    }
}

/// Whether a header has another version or, under a valid checksum, a flag that the format does not
/// define.
fn is_of_another_release(suffix: &str, bytes: &[u8]) -> bool {
    let (at, known) = match suffix {
        "" => (header::FLAGS, 15),
        ".roster" => (header::VERSION, u32::MAX),
        _ => (header::SEGMENT_FLAGS, 14),
    };
    let flagged = bytes
        .get(..checksums::header_bytes(suffix))
        .is_some_and(|head| {
            u32_at(head, header::CRC) == checksums::header_sum(head)
                && u32_at(head, at) & !known != 0
        });
    let version = if suffix.is_empty() { 2 } else { 1 };
    flagged || bytes.len() >= 12 && u32_at(bytes, header::VERSION) != version
}

/// Whether the images differ in one byte of one file, and in nothing else.
fn is_one_byte_apart(before: &Image, after: &Image) -> bool {
    let pairs = || {
        before
            .files()
            .map(|(suffix, old)| (old, after.bytes(suffix)))
    };
    let is_same_shape =
        before.suffixes() == after.suffixes() && pairs().all(|(old, new)| old.len() == new.len());
    let ranges = pairs().flat_map(|(old, new)| differences(old, new));
    is_same_shape && ranges.map(|range| range.len()).sum::<usize>() == 1
}

/// The ranges that differ between two files of any length.
fn changed(old: &[u8], new: &[u8]) -> Vec<Range<usize>> {
    let common = old.len().min(new.len());
    let mut found = differences(&old[..common], &new[..common]);
    if old.len() != new.len() {
        found.push(common..old.len().max(new.len()));
    }
    found
}
