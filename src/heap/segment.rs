//! Heap segments: append-only files of records.
//!
//! Knows how a record is written, read and verified, and nothing of the entries that link to it. A
//! record is believed only as a private copy whose checksum was computed from that copy.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::record::{
    HEADER_BYTES, HEADER_WORDS, Header, Kind, NUMBERED_WORDS, SHORT_BYTES, SUM_BYTES, Seed, Variant,
};
use crate::format::segment::{self, SegmentHeader};
use crate::format::slot::Place;
use crate::heap::Walker;
use crate::os::mmap::{Extent, MappedFile, Memory, Stores, prefetch};
use crate::os::words;
use crate::sync::{Word, load, store};

/// Long records go through a buffer of this size, which stays in the nearest cache.
const CHUNK: usize = 4096;
/// Cache lines of a record that are asked for ahead of its reading.
const PREFETCH_LINES: usize = 3;
/// The most that one gap takes.
const GAP: usize = 1 << 16;
static ZEROS: [u8; GAP] = [0; GAP];

/// One segment, mapped.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(super) memory: Memory,
    file: Arc<MappedFile>,
    heap_id: u64,
    number: u16,
    capacity: u64,
    created: u64,
    variant: Variant,
}

/// What reading a record for a key gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is the key's record, and verified if that was asked for.
    Match(Header),
    /// It is a record of another key, as far as its bytes tell.
    OtherKey,
    /// It is no record, or its checksum is wrong.
    Damaged,
}

impl Segment {
    /// Maps a segment whose header was checked. How its records are laid out the index says.
    pub(crate) fn new(
        file: Arc<MappedFile>,
        header: &SegmentHeader,
        variant: Variant,
    ) -> Result<Self> {
        let window = header.capacity & !7;
        let extent = Extent {
            base: 0,
            unit_bytes: window,
            units: 1,
            first_log2: 0,
            stores: Stores::InOrder,
        };
        let memory = Memory::new(Arc::clone(&file), extent)?;
        Ok(Self {
            memory,
            file,
            variant,
            heap_id: header.heap_id,
            number: header.number as u16,
            capacity: window,
            created: header.created,
        })
    }

    pub(crate) fn number(&self) -> u16 {
        self.number
    }

    /// Bytes that the segment may grow to.
    pub(crate) fn capacity(&self) -> u64 {
        self.capacity
    }

    /// When the segment was made: no record that was written before has a higher version.
    pub(crate) fn created(&self) -> u64 {
        self.created
    }

    pub(crate) fn file(&self) -> &Arc<MappedFile> {
        &self.file
    }

    /// Bytes that are allocated now, as far as this process knows.
    pub(crate) fn allocated(&self) -> u64 {
        self.memory.known()
    }

    /// Bytes that are allocated now, asked of the system.
    pub(crate) fn refresh(&self) -> Result<u64> {
        self.memory.refresh()
    }

    /// Allocates blocks for the first `bytes` bytes.
    pub(crate) fn grow(&self, bytes: u64) -> Result<()> {
        self.memory.grow(bytes.min(self.capacity))
    }

    pub(crate) fn damaged(&self, what: &'static str, unit: u32) -> Error {
        Error::damaged(self.file.path(), what, u64::from(unit) * 8)
    }

    fn place(&self, unit: u32) -> Place {
        Place {
            segment: self.number,
            unit,
        }
    }

    /// The header of a record and its words; none where they cannot be a record's.
    #[inline(always)]
    pub(super) fn record(&self, unit: u32) -> Result<Option<(Header, &[Word])>> {
        match self.record_within(self.memory.first(), unit) {
            Ok(found) => Ok(found),
            Err(_beyond) => {
                // Written by another process since the size was last looked at, or damage.
                self.memory.refresh()?;
                Ok(self
                    .record_within(self.memory.first(), unit)
                    .unwrap_or(None))
            }
        }
    }

    /// An error stands for a record that would end behind the known end.
    #[inline(always)]
    fn record_within<'a>(
        &self,
        words: &'a [Word],
        unit: u32,
    ) -> std::result::Result<Option<(Header, &'a [Word])>, ()> {
        let rest = words.get(unit as usize..).ok_or(())?;
        // A short record may end at the segment's end: only the words of its own header are read.
        let words = match self.variant {
            Variant::Versioned => first_words::<HEADER_WORDS>(rest)?,
            Variant::Numbered => {
                let [first, second] = first_words::<NUMBERED_WORDS>(rest)?;
                [first, second, 0]
            }
        };
        let Some(header) = Header::from_words(self.variant, words) else {
            return Ok(None);
        };
        let count = (header.stored_bytes() / 8) as usize;
        if u64::from(unit) * 8 + header.stored_bytes() > self.capacity {
            return Ok(None);
        }
        rest.get(..count)
            .map(|record| Some((header, record)))
            .ok_or(())
    }

    /// Reads the record of `key` and appends its value to `out`. Whatever the outcome, nothing but
    /// a value that matched (and, with `verify`, passed its checksum) is left there.
    #[inline(always)]
    pub(crate) fn read(
        &self,
        unit: u32,
        key: &[u8],
        verify: bool,
        out: &mut Vec<u8>,
    ) -> Result<Outcome> {
        let Some((header, record)) = self.record(unit)? else {
            return Ok(Outcome::Damaged);
        };
        if usize::from(header.key_len) != key.len() {
            return self.other(unit, header, record, verify);
        }
        let start = out.len();
        let (same, sound) = self.copy_value(unit, header, record, (key, verify), out);
        if same && sound {
            return Ok(Outcome::Match(header));
        }
        out.truncate(start);
        Ok(if same || !sound {
            Outcome::Damaged
        } else {
            Outcome::OtherKey
        })
    }

    /// Reads the record of `key` as [`Self::read`] does, and returns its version; none where it is
    /// another's, damaged, or behind what is known of the file.
    #[inline(always)]
    pub(crate) fn value_at_hand(
        &self,
        unit: u32,
        key: &[u8],
        verify: bool,
        out: &mut Vec<u8>,
    ) -> Option<u64> {
        let (header, record) = self.record_within(self.memory.first(), unit).ok()??;
        if usize::from(header.key_len) != key.len() {
            return None;
        }
        let start = out.len();
        let (same, sound) = self.copy_value(unit, header, record, (key, verify), out);
        if same && sound {
            return Some(header.mtime);
        }
        out.truncate(start);
        None
    }

    /// Whether a record has this key, which has its length, and is sound. Appends its value.
    #[inline(always)]
    fn copy_value(
        &self,
        unit: u32,
        header: Header,
        record: &[Word],
        (key, verify): (&[u8], bool),
        out: &mut Vec<u8>,
    ) -> (bool, bool) {
        let mut same = true;
        let key_at = header.variant.header_bytes();
        let take = |at: usize, bytes: &[u8]| {
            let (key_part, value_part) = split(at, bytes, key_at, key_at + key.len());
            same &= key_part.is_empty()
                || key
                    .get(at.max(key_at) - key_at..)
                    .is_some_and(|rest| rest.starts_with(key_part));
            out.extend_from_slice(value_part);
        };
        let sound = self.copy(unit, header, record, verify, take);
        (same, sound)
    }

    /// A record whose key has another length: another key's, or one whose length was damaged.
    #[cold]
    fn other(&self, unit: u32, header: Header, record: &[Word], verify: bool) -> Result<Outcome> {
        let sound = self.copy(unit, header, record, verify, |_, _| {});
        Ok(if sound {
            Outcome::OtherKey
        } else {
            Outcome::Damaged
        })
    }

    /// Whether the record is that of `key`, by comparing keys only: no checksum is computed.
    #[inline]
    pub(crate) fn compare(&self, unit: u32, key: &[u8]) -> Result<Outcome> {
        let Some((header, record)) = self.record(unit)? else {
            return Ok(Outcome::Damaged);
        };
        let same = usize::from(header.key_len) == key.len() && holds_key(header, record, key);
        Ok(if same {
            Outcome::Match(header)
        } else {
            Outcome::OtherKey
        })
    }

    /// Reads any record, appending its key and its value; none where it does not verify.
    pub(crate) fn read_any(
        &self,
        unit: u32,
        key: &mut Vec<u8>,
        mut value: Option<&mut Vec<u8>>,
    ) -> Result<Option<Header>> {
        let Some((header, record)) = self.record(unit)? else {
            return Ok(None);
        };
        let (key_start, value_start) = (key.len(), value.as_ref().map_or(0, |value| value.len()));
        let key_at = header.variant.header_bytes();
        let value_at = key_at + usize::from(header.key_len);
        let take = |at: usize, bytes: &[u8]| {
            let (key_part, value_part) = split(at, bytes, key_at, value_at);
            key.extend_from_slice(key_part);
            if let Some(value) = value.as_deref_mut() {
                value.extend_from_slice(value_part);
            }
        };
        if self.copy(unit, header, record, true, take) {
            return Ok(Some(header));
        }
        key.truncate(key_start);
        if let Some(value) = value {
            value.truncate(value_start);
        }
        Ok(None)
    }

    /// Reads the record of an entry, appending its key and its value, and returns its version, where
    /// that takes no look at the file's size; none where there is no such record, or none that
    /// verifies.
    #[inline(always)]
    pub(crate) fn entry_at_hand(
        &self,
        unit: u32,
        key: &mut Vec<u8>,
        value: &mut Vec<u8>,
    ) -> Option<u64> {
        let (header, record) = self.record_within(self.memory.first(), unit).ok()??;
        let key_at = header.variant.header_bytes();
        let value_at = key_at + usize::from(header.key_len);
        let take = |at: usize, bytes: &[u8]| {
            let (key_part, value_part) = split(at, bytes, key_at, value_at);
            key.extend_from_slice(key_part);
            value.extend_from_slice(value_part);
        };
        let is_sound = self.copy(unit, header, record, true, take);
        (is_sound && header.kind == Kind::Entry).then_some(header.mtime)
    }

    /// Reads the key of any record into `key`, in place of what was there, and touches no more of
    /// the record than that: no checksum is computed, so it is for the caller to find out whether
    /// the key can be believed. None where there cannot be a record, or where it is numbered.
    pub(crate) fn read_key(&self, unit: u32, key: &mut Vec<u8>) -> Result<Option<Header>> {
        key.clear();
        let found = self.record(unit)?;
        let Some((header, record)) = found.filter(|_| self.variant == Variant::Versioned) else {
            return Ok(None);
        };
        let wanted = usize::from(header.key_len);
        key.resize(wanted.next_multiple_of(8), 0);
        words::copy_out(&record[HEADER_WORDS..], key);
        key.truncate(wanted);
        Ok(Some(header))
    }

    /// Reads any record, appending its key and, if it takes no more than `most` bytes, its value;
    /// none where it does not verify.
    pub(crate) fn read_small(
        &self,
        unit: u32,
        most: u64,
        out: &mut Vec<u8>,
    ) -> Result<Option<Header>> {
        let Some((header, record)) = self.record(unit)? else {
            return Ok(None);
        };
        let start = out.len();
        let whole = header.stored_bytes() <= most;
        let key_at = header.variant.header_bytes();
        let value_at = key_at + usize::from(header.key_len);
        let take = |at: usize, bytes: &[u8]| {
            let (key, value) = split(at, bytes, key_at, value_at);
            out.extend_from_slice(key);
            if whole {
                out.extend_from_slice(value);
            }
        };
        if self.copy(unit, header, record, true, take) {
            return Ok(Some(header));
        }
        out.truncate(start);
        Ok(None)
    }

    /// Bytes of a record by its header alone, whether it verifies or not; none where there cannot
    /// be one.
    pub(crate) fn stored_bytes(&self, unit: u32) -> Result<Option<u64>> {
        Ok(self.record(unit)?.map(|(header, _)| header.stored_bytes()))
    }

    /// Asks for the first lines of a record; what lies behind them the processor finds by itself.
    #[inline]
    pub(crate) fn prefetch(&self, unit: u32) {
        let words = self.memory.first();
        for line in 0..PREFETCH_LINES {
            if let Some(word) = words.get(unit as usize + line * 8) {
                prefetch(word);
            }
        }
    }

    /// Whether there is a record that verifies, and its header.
    pub(crate) fn verify(&self, unit: u32) -> Result<Option<Header>> {
        let Some((header, record)) = self.record(unit)? else {
            return Ok(None);
        };
        Ok(self
            .copy(unit, header, record, true, |_, _| {})
            .then_some(header))
    }

    /// Copies a record piece by piece into private memory, hands each piece to `take` with its
    /// offset, and says whether what was copied is sound.
    #[inline(always)]
    fn copy(
        &self,
        unit: u32,
        header: Header,
        record: &[Word],
        verify: bool,
        take: impl FnMut(usize, &[u8]),
    ) -> bool {
        let seed = Seed::new(self.heap_id, self.place(unit));
        if record.len() * 8 <= SHORT_BYTES {
            copy_short(seed, header, record, verify, take)
        } else {
            copy_long(seed, header, record, verify, take)
        }
    }

    /// Writes a record. The range must be allocated, reserved and zero, and nobody can read it yet.
    pub(crate) fn write(&self, unit: u32, header: Header, key: &[u8], value: &[u8]) -> Result<()> {
        debug_assert_eq!(
            (usize::from(header.key_len), header.value_len as usize),
            (key.len(), value.len())
        );
        let count = (header.stored_bytes() / 8) as usize;
        let words = self.memory.first();
        let range = unit as usize..unit as usize + count;
        let words = words
            .get(range)
            .ok_or_else(|| self.damaged("a segment cut short", unit))?;
        let mut fixed = [0; HEADER_BYTES];
        for (bytes, word) in fixed.chunks_exact_mut(8).zip(header.to_words()) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        let fixed = &mut fixed[..header.variant.header_bytes()];
        let seed = Seed::new(self.heap_id, self.place(unit));
        if count * 8 <= SHORT_BYTES {
            let mut record = [0_u8; SHORT_BYTES];
            let end = fixed.len() + key.len();
            record[..fixed.len()].copy_from_slice(fixed);
            record[fixed.len()..end].copy_from_slice(key);
            record[end..end + value.len()].copy_from_slice(value);
            let sum = seed.sum_short(&record[SUM_BYTES..end + value.len()]);
            record[..SUM_BYTES].copy_from_slice(&sum.to_le_bytes());
            words::copy_in(words, &[&record[..count * 8]]);
        } else {
            let mut sum = seed.long();
            sum.update(&fixed[SUM_BYTES..]);
            sum.update(key);
            sum.update(value);
            fixed[..SUM_BYTES].copy_from_slice(&sum.value().to_le_bytes());
            words::copy_in(words, &[fixed, key, value]);
        }
        Ok(())
    }

    /// Whether nothing was ever written at a place; what lies behind the allocated end counts as
    /// blank.
    pub(crate) fn is_blank(&self, unit: u32) -> Result<bool> {
        let words = self.memory.first();
        Ok(words
            .get(unit as usize..)
            .unwrap_or(&[])
            .iter()
            .take(HEADER_WORDS)
            .all(|word| load(word) == 0))
    }

    /// Whether a range holds only zeros, as far as it is allocated.
    pub(crate) fn is_zero(&self, from: u32, to: u32) -> Result<bool> {
        let words = self.memory.first();
        let to = words.len().min(to as usize);
        let range = words.get(from as usize..to).unwrap_or(&[]);
        Ok(range.iter().all(|word| load(word) == 0))
    }

    /// Sets a range to zero: a record that never came to be.
    pub(crate) fn erase(&self, from: u32, to: u32) -> Result<()> {
        let words = self.memory.first();
        let to = words.len().min(to as usize);
        for word in words.get(from as usize..to).unwrap_or(&[]) {
            if load(word) != 0 {
                store(word, 0);
            }
        }
        Ok(())
    }

    /// Fills a range in which no record verifies, and into which nobody links, with gaps up to the
    /// record behind it: walks pass over them.
    pub(crate) fn fill_gap(&self, from: u32, to: u32) -> Result<()> {
        self.erase(from, to)?;
        let least = (self.variant.header_bytes() + 1).next_multiple_of(8);
        let mut unit = from;
        loop {
            let left = (to.saturating_sub(unit)) as usize * 8;
            if left < least {
                // Nothing is left: no two records begin so near to each other.
                return Ok(());
            }
            let bytes = if left <= GAP { left } else { GAP - least };
            let content = &ZEROS[..bytes - self.variant.header_bytes()];
            let (key, value) = match self.variant {
                Variant::Versioned => content.split_at(1),
                Variant::Numbered => (content, &[][..]),
            };
            let header = Header {
                variant: self.variant,
                value_len: value.len() as u32,
                mtime: 0,
                key_len: key.len() as u16,
                kind: Kind::Gap,
            };
            self.write(unit, header, key, value)?;
            unit += (bytes / 8) as u32;
        }
    }

    /// The words of a value, for reading in place.
    pub(crate) fn value_words(
        &self,
        unit: u32,
        header: Header,
    ) -> Result<Option<(&[Word], usize)>> {
        let at = header.variant.header_bytes() + usize::from(header.key_len);
        Ok(self
            .record(unit)?
            .map(|(_, record)| (&record[at / 8..], at % 8)))
    }

    /// A walk over the records from `unit` up to `end`.
    pub(crate) fn walk(&self, unit: u32, end: u32) -> Walker<'_> {
        Walker::new(self, unit.max(segment::first_place(0).unit), end)
    }

    /// The end of the segment as it could be at most, in units.
    pub(crate) fn capacity_units(&self) -> u32 {
        u32::try_from(self.capacity / 8).unwrap_or(u32::MAX)
    }
}

/// The first words of a record; an error where the segment ends before them.
#[inline(always)]
fn first_words<const COUNT: usize>(rest: &[Word]) -> std::result::Result<[u64; COUNT], ()> {
    let first: &[Word; COUNT] = rest.first_chunk().ok_or(())?;
    Ok(std::array::from_fn(|at| load(&first[at])))
}

/// The parts of a piece of a record that belong to its key and to its value.
#[inline(always)]
fn split(at: usize, bytes: &[u8], key_at: usize, value_at: usize) -> (&[u8], &[u8]) {
    let key_from = key_at.saturating_sub(at).min(bytes.len());
    let value_from = value_at.saturating_sub(at).min(bytes.len());
    (&bytes[key_from..value_from], &bytes[value_from..])
}

/// [`Segment::copy`] of a record that is short by its header.
#[inline(always)]
fn copy_short(
    seed: Seed,
    header: Header,
    record: &[Word],
    verify: bool,
    mut take: impl FnMut(usize, &[u8]),
) -> bool {
    let mut buffer = [0_u8; SHORT_BYTES];
    words::copy_out(record, &mut buffer);
    let bytes = &buffer[..header.content_bytes() as usize];
    if !header.is_of(bytes) {
        return false;
    }
    take(0, bytes);
    !verify || seed.sum_short(&bytes[SUM_BYTES..]) == stored_sum(bytes)
}

/// [`Segment::copy`] of a record that is long by its header.
fn copy_long(
    seed: Seed,
    header: Header,
    record: &[Word],
    verify: bool,
    mut take: impl FnMut(usize, &[u8]),
) -> bool {
    let mut buffer = [0_u8; CHUNK];
    let mut sum = seed.long();
    let mut stored = 0;
    let mut left = header.content_bytes() as usize;
    for (piece, words) in record.chunks(CHUNK / 8).enumerate() {
        words::copy_out(words, &mut buffer);
        let bytes = &buffer[..left.min(words.len() * 8)];
        left -= bytes.len();
        let mut skip = 0;
        if piece == 0 {
            if !header.is_of(bytes) {
                return false;
            }
            stored = stored_sum(bytes);
            skip = SUM_BYTES;
        }
        take(piece * CHUNK, bytes);
        if verify {
            sum.update(&bytes[skip..]);
        }
    }
    !verify || sum.value() == stored
}

/// Whether the key of a record is this one, which has its length.
#[inline(always)]
fn holds_key(header: Header, record: &[Word], key: &[u8]) -> bool {
    match header.variant {
        Variant::Versioned => words::equal(&record[HEADER_WORDS..], key),
        Variant::Numbered => {
            // The key begins in the midst of the second word.
            let (first, rest) = key.split_at(key.len().min(4));
            load(&record[1]).to_le_bytes()[4..4 + first.len()] == *first
                && words::equal(&record[2..], rest)
        }
    }
}

fn stored_sum(bytes: &[u8]) -> u32 {
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Segment {
        /// A segment in plain memory, without a file to grow into.
        pub(crate) fn plain(bytes: usize) -> Self {
            let file = MappedFile::new(
                tempfile::tempfile().unwrap(),
                std::path::Path::new("plain"),
                true,
            );
            Self {
                memory: Memory::plain(bytes),
                file,
                heap_id: 7,
                number: 2,
                capacity: bytes as u64,
                created: 0,
                variant: Variant::Versioned,
            }
        }

        pub(crate) fn word(&self, at: usize) -> &Word {
            &self.memory.first()[at]
        }

        pub(crate) fn put(&self, unit: u32, key: &[u8], value: &[u8]) -> u32 {
            let header = Header {
                variant: Variant::Versioned,
                value_len: value.len() as u32,
                mtime: 5,
                key_len: key.len() as u16,
                kind: Kind::Entry,
            };
            self.write(unit, header, key, value).unwrap();
            unit + (header.stored_bytes() / 8) as u32
        }
    }

    #[test]
    fn records_of_any_size_verify() {
        let segment = Segment::plain(1 << 20);
        for value_len in (0..40)
            .chain(200..280)
            .chain([4000, 4072, 4096, 4100, 9000, 100_000])
        {
            for key_len in [1, 7, 8, 28, 300] {
                let key: Vec<u8> = (0..key_len).map(|i| (i + 1) as u8).collect();
                let value: Vec<u8> = (0..value_len).map(|i| (i * 7 + 3) as u8).collect();
                let end = segment.put(16, &key, &value);
                let mut out = b"before".to_vec();
                let outcome = segment.read(16, &key, true, &mut out).unwrap();
                assert!(
                    matches!(outcome, Outcome::Match(header) if header.value_len as usize == value_len)
                );
                assert_eq!(&out[6..], value);
                let (mut k, mut v) = (Vec::new(), Vec::new());
                segment.read_any(16, &mut k, Some(&mut v)).unwrap().unwrap();
                assert_eq!((k, v), (key.clone(), value));
                assert!(matches!(
                    segment.compare(16, &key).unwrap(),
                    Outcome::Match(_)
                ));
                segment.erase(16, end).unwrap();
                assert!(segment.is_blank(16).unwrap());
            }
        }
    }

    /// A numbered record with a key of up to four bytes has two words, and a segment may end behind
    /// it.
    #[test]
    fn short_records_may_end_their_segment() {
        for key_len in 1..=24_usize {
            let header = Header {
                variant: Variant::Numbered,
                value_len: 0,
                mtime: 9,
                key_len: key_len as u16,
                kind: Kind::Entry,
            };
            let mut segment = Segment::plain(128 + header.stored_bytes() as usize);
            segment.variant = Variant::Numbered;
            let key = vec![b'k'; key_len];
            segment.write(16, header, &key, &[]).unwrap();
            let mut out = Vec::new();
            assert_eq!(segment.read_any(16, &mut out, None).unwrap(), Some(header));
            assert_eq!(out, key);
            assert_eq!(segment.verify(16).unwrap(), Some(header));
            assert_eq!(
                segment.stored_bytes(16).unwrap(),
                Some(header.stored_bytes())
            );
            let matched = Outcome::Match(header);
            assert_eq!(segment.compare(16, &key).unwrap(), matched);
            assert_eq!(segment.read(16, &key, true, &mut out).unwrap(), matched);
            assert_eq!(segment.value_at_hand(16, &key, true, &mut out), Some(9));
            let mut walker = segment.walk(0, segment.capacity_units());
            let found = walker.step().unwrap();
            assert!(
                matches!(found, Some(crate::heap::Found::Record(place, _)) if place.unit == 16)
            );
            assert_eq!(walker.step().unwrap(), None);
        }
    }

    #[test]
    fn other_key_differs_from_corruption() {
        let segment = Segment::plain(4096);
        segment.put(16, b"some key", b"value");
        let mut out = Vec::new();
        assert_eq!(
            segment.read(16, b"other k.", true, &mut out).unwrap(),
            Outcome::OtherKey
        );
        assert_eq!(
            segment.read(16, b"longer key", true, &mut out).unwrap(),
            Outcome::OtherKey
        );
        store(segment.word(19), 0x1122_3344_5566_7788);
        assert_eq!(
            segment.read(16, b"other k.", true, &mut out).unwrap(),
            Outcome::Damaged
        );
        assert!(out.is_empty());
    }

    #[test]
    fn any_changed_bit_is_noticed() {
        let segment = Segment::plain(4096);
        let key = b"the key";
        segment.put(16, key, b"the value");
        for byte in 0..24 + 7 + 9 {
            for bit in 0..8 {
                let (word, mask) = (segment.word(16 + byte / 8), 1_u64 << (8 * (byte % 8) + bit));
                store(word, load(word) ^ mask);
                let mut out = Vec::new();
                let outcome = segment.read(16, key, true, &mut out).unwrap();
                assert!(
                    !matches!(outcome, Outcome::Match(_)),
                    "byte {byte} bit {bit}"
                );
                assert!(out.is_empty());
                store(word, load(word) ^ mask);
            }
        }
    }

    #[test]
    fn corrupt_length_stays_within_segment() {
        let segment = Segment::plain(4096);
        let header = Header {
            variant: Variant::Versioned,
            value_len: u32::MAX,
            mtime: 1,
            key_len: u16::MAX,
            kind: Kind::Entry,
        };
        for (at, word) in header.to_words().into_iter().enumerate() {
            store(segment.word(16 + at), word);
        }
        let mut out = Vec::new();
        assert_eq!(
            segment.read(16, b"key", true, &mut out).unwrap(),
            Outcome::Damaged
        );
        assert_eq!(
            segment.read(u32::MAX, b"key", true, &mut out).unwrap(),
            Outcome::Damaged
        );
        assert_eq!(out.capacity(), 0);
    }
}
