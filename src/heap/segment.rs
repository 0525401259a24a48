//! Heap segments: append-only files of records.
//!
//! Writes, reads and verifies records by their address; a record counts as valid only as a private
//! copy whose checksum was computed from that copy. May call `error`, `format`, `os`, `sync` and
//! `heap::record_io`; independent of the entries that link to the records.

use std::sync::Arc;

use crate::error::{Corruption, Error, Result};
use crate::format::heap_addr::HeapAddr;
use crate::format::life::Life;
use crate::format::record::Traits;
use crate::format::record::{ChecksumSeed, HEADER_WORDS, Kind, RecordHeader, Variant};
use crate::format::segment::{self, SegmentHeader};
use crate::heap::record_io::{self, Copied, HeaderWords, TooShort, split};
use crate::heap::{Scanner, WholeRecord};
use crate::os::mapped_file::{MappedFile, StorePattern};
use crate::os::mmap::{MappedWords, WindowLayout, prefetch};
use crate::os::words;
use crate::sync::{Word, acquire, acquire_fence, load, publish, release_fence, store};

/// Marks a record as half done: the last word of its header is 0, before any other word changes.
#[inline(always)]
fn begin_overwrite(record: &[Word]) {
    store(&record[2], 0);
    release_fence();
}

/// Stores the last word of the header, after the version.
#[inline(always)]
fn end_overwrite(record: &[Word], last: u64) {
    publish(&record[2], last);
}

/// Judges the copy of a record.
#[inline(always)]
fn judge(copied: Copied, header: RecordHeader) -> RecordRead {
    match (copied.same_key, copied.is_valid) {
        (true, true) => RecordRead::Match(header),
        (false, true) => RecordRead::OtherKey,
        (_, false) => RecordRead::Corrupt,
    }
}

/// Returns whether a header says how long the record is.
fn is_whole(header: &RecordHeader, record: &[Word]) -> bool {
    header.stored_bytes() == record.len() as u64 * 8
}

/// Cache lines of a record that are prefetched.
const PREFETCH_LINES: usize = 3;
/// The longest filler record in bytes.
const FILLER_MAX: usize = 1 << 16;
static ZEROS: [u8; FILLER_MAX] = [0; FILLER_MAX];

/// One segment, mapped.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(super) memory: MappedWords,
    file: Arc<MappedFile>,
    heap_id: u64,
    number: u16,
    capacity: u64,
    created: u64,
    variant: Variant,
    /// Whether a writer may overwrite records where they are.
    in_place: bool,
    /// The variant, if none may.
    append_only: Option<Variant>,
}

/// The result of reading a record for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RecordRead {
    /// It is the key's record, and verified if the caller asked for that.
    Match(RecordHeader),
    /// It is a record of another key, as far as its bytes tell.
    OtherKey,
    /// It is no record, or its checksum does not match.
    Corrupt,
}

impl Segment {
    /// Maps a segment whose header was checked. The index determines the `variant` of its records.
    pub(crate) fn new(
        file: Arc<MappedFile>,
        header: &SegmentHeader,
        variant: Variant,
    ) -> Result<Self> {
        let window = header.capacity & !7;
        let layout = WindowLayout {
            base: 0,
            unit_bytes: window,
            units: 1,
            first_log2: 0,
            stores: StorePattern::Sequential,
        };
        let memory = MappedWords::new(Arc::clone(&file), layout)?;
        Ok(Self {
            memory,
            file,
            variant,
            heap_id: header.heap_id,
            number: header.number as u16,
            capacity: window,
            created: header.created,
            in_place: header.is_in_place(),
            append_only: (!header.is_in_place()).then_some(variant),
        })
    }

    pub(crate) fn number(&self) -> u16 {
        self.number
    }

    /// Returns the bytes that the segment may grow to.
    pub(crate) fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Returns when the segment was created: no record that was written before has a higher version
    /// (G3).
    pub(crate) fn created(&self) -> u64 {
        self.created
    }

    pub(crate) fn file(&self) -> &Arc<MappedFile> {
        &self.file
    }

    /// Returns the bytes that this process knows to be allocated.
    pub(crate) fn allocated(&self) -> u64 {
        self.memory.allocated()
    }

    /// Returns the bytes that are allocated now, asked of the system.
    pub(crate) fn refresh(&self) -> Result<u64> {
        self.memory.refresh()
    }

    /// Allocates blocks for the first `bytes` bytes.
    pub(crate) fn grow(&self, bytes: u64) -> Result<()> {
        self.memory.grow(bytes.min(self.capacity))
    }

    /// Writes all data of a segment to the disk to which nothing is appended any more.
    pub(crate) fn sync_complete(&self) -> Result<()> {
        self.memory.release_pages();
        self.file.sync()
    }

    pub(crate) fn corrupted(&self, what: Corruption, unit: u32) -> Error {
        Error::corrupted(self.file.path(), what, u64::from(unit) * 8)
    }

    /// Returns the start of the checksum of the record at `unit`.
    fn seed(&self, unit: u32) -> ChecksumSeed {
        let addr = HeapAddr {
            segment: self.number,
            unit,
        };
        ChecksumSeed::new(self.heap_id, addr)
    }

    /// Returns the header of a record and its words. `None` if the words cannot be a record's.
    #[inline(always)]
    pub(super) fn record(&self, unit: u32) -> Result<Option<(RecordHeader, &[Word])>> {
        match self.record_within(self.memory.first(), unit) {
            Ok(found) => Ok(found),
            Err(TooShort) => {
                // Another process wrote it after the size was last read, or it is corrupt.
                self.memory.refresh()?;
                Ok(self
                    .record_within(self.memory.first(), unit)
                    .unwrap_or(None))
            }
        }
    }

    /// The same in `words`; [`TooShort`] if the record would end after them.
    #[inline(always)]
    fn record_within<'a>(
        &self,
        words: &'a [Word],
        unit: u32,
    ) -> std::result::Result<Option<(RecordHeader, &'a [Word])>, TooShort> {
        let rest = words.get(unit as usize..).ok_or(TooShort)?;
        let Some(header) = record_io::header_of(self.variant, rest)? else {
            return Ok(None);
        };
        let count = (header.stored_bytes() / 8) as usize;
        if u64::from(unit) * 8 + header.stored_bytes() > self.capacity {
            return Ok(None);
        }
        rest.get(..count)
            .map(|record| Some((header, record)))
            .ok_or(TooShort)
    }

    /// Reads the record of `key` and appends its value to `out`. Appends nothing unless the record
    /// matches and, with `verify`, its checksum is right.
    #[inline(always)]
    pub(crate) fn read(
        &self,
        unit: u32,
        key: &[u8],
        verify: bool,
        out: &mut Vec<u8>,
    ) -> Result<RecordRead> {
        let Some((_, record)) = self.record(unit)? else {
            return Ok(RecordRead::Corrupt);
        };
        let copied = record_io::header_copy(self.variant, record).unwrap_or(None);
        let Some((header, first)) = copied.filter(|(header, _)| is_whole(header, record)) else {
            return Ok(RecordRead::Corrupt);
        };
        if usize::from(header.key_len) != key.len() {
            return self.other(unit, header, record, verify);
        }
        if self.in_place {
            return Ok(self.read_in_place(unit, (header, first), record, key, out));
        }
        let head = (header, first);
        let copied = record_io::copy_value(self.seed(unit), head, record, (key, verify), out);
        Ok(judge(copied, header))
    }

    /// The same, of a record that a writer may overwrite. Verifies in any case.
    fn read_in_place(
        &self,
        unit: u32,
        (header, mut first): (RecordHeader, HeaderWords),
        rest: &[Word],
        key: &[u8],
        out: &mut Vec<u8>,
    ) -> RecordRead {
        if !self.after_header(rest, &mut first) {
            return RecordRead::Corrupt;
        }
        let (start, head) = (out.len(), (header, first));
        let copied = record_io::copy_value(self.seed(unit), head, rest, (key, true), out);
        if self.has_changed(rest, first) {
            out.truncate(start);
            return RecordRead::Corrupt;
        }
        judge(copied, header)
    }

    /// Reads the record of `key` as [`Self::read`] does, and returns what `keep` takes of its header.
    /// `None` if it is another key's, corrupt, or after the end of what is already mapped; or if the cache
    /// is a `Cache` and the caller's is not, or the reverse; or if a writer overwrites it now.
    #[inline(always)]
    pub(crate) fn entry_value<T, const EXPIRING: bool>(
        &self,
        unit: u32,
        key: &[u8],
        verify: bool,
        out: &mut Vec<u8>,
        keep: impl FnOnce(RecordHeader) -> T,
    ) -> Option<T> {
        // The compiler leaves out what other records need: 40 of 490 instructions.
        let variant = match EXPIRING {
            true => Variant::Expiring,
            false => Variant::Versioned,
        };
        self.value_mapped((variant, unit), key, verify, out, keep)
    }

    /// The same, of a record of one layout. `None` too if the segment has another one.
    #[inline(always)]
    fn value_mapped<T>(
        &self,
        (variant, unit): (Variant, u32),
        key: &[u8],
        verify: bool,
        out: &mut Vec<u8>,
        keep: impl FnOnce(RecordHeader) -> T,
    ) -> Option<T> {
        let rest = self.memory.first().get(unit as usize..)?;
        // One comparison for both: a hit in the nearest cache notices each instruction.
        if self.append_only != Some(variant) {
            return self.value_in_place((variant, unit), key, rest, out, keep);
        }
        let head = record_io::header_copy(variant, rest).ok()??;
        let header = head.0;
        if usize::from(header.key_len) != key.len() {
            return None;
        }
        // What is mapped ends where the segment may end.
        if header.stored_bytes() > rest.len() as u64 * 8 {
            return None;
        }
        let copied = record_io::copy_value(self.seed(unit), head, rest, (key, verify), out);
        (copied.same_key && copied.is_valid).then(|| keep(header))
    }

    /// The same, of a record that a writer may overwrite: W3.
    #[inline(never)]
    fn value_in_place<T>(
        &self,
        (variant, unit): (Variant, u32),
        key: &[u8],
        rest: &[Word],
        out: &mut Vec<u8>,
        keep: impl FnOnce(RecordHeader) -> T,
    ) -> Option<T> {
        if self.variant != variant {
            return None;
        }
        let head = record_io::header_copy(variant, rest).ok()??;
        let header = head.0;
        let is_there = header.stored_bytes() <= rest.len() as u64 * 8;
        if usize::from(header.key_len) != key.len() || !is_there {
            return None;
        }
        match self.read_in_place(unit, head, rest, key, out) {
            RecordRead::Match(header) => Some(keep(header)),
            RecordRead::OtherKey | RecordRead::Corrupt => None,
        }
    }

    /// Keeps the loads of a record's other words after those of its header, where a writer may overwrite
    /// it; the first word, with the checksum, is one of the others. Returns false if that has another
    /// length now.
    #[inline(always)]
    fn after_header(&self, record: &[Word], words: &mut HeaderWords) -> bool {
        !self.in_place || {
            // W3: what is loaded from here on is of the version that was loaded, or a later one.
            acquire_fence();
            let length = words[0] >> 32;
            words[0] = load(&record[0]);
            words[0] >> 32 == length
        }
    }

    /// Returns whether a writer may have overwritten a record, or begun to, since its header was loaded.
    ///
    /// W3: the last word of the header is 0 while the others change, and the version is stored after
    /// them. So if both are the same before and after the copy, all of the copy is of that version.
    #[inline(always)]
    fn has_changed(&self, record: &[Word], words: HeaderWords) -> bool {
        self.in_place && {
            acquire_fence();
            let last = acquire(&record[2]);
            (load(&record[1]), last) != (words[1], words[2])
        }
    }

    /// Runs `copy`, which copies the record with this header. Returns whether the copy is valid, and of
    /// one version.
    #[inline(always)]
    fn is_whole_copy(
        &self,
        record: &[Word],
        header: RecordHeader,
        copy: impl FnOnce() -> bool,
    ) -> bool {
        if !self.in_place {
            return copy();
        }
        let mut words = header.to_words();
        self.after_header(record, &mut words) && copy() && !self.has_changed(record, words)
    }

    /// Judges a record whose key has another length: another key's, or one with a corrupt length.
    #[cold]
    fn other(
        &self,
        unit: u32,
        header: RecordHeader,
        record: &[Word],
        verify: bool,
    ) -> Result<RecordRead> {
        let verify = verify || self.in_place;
        let is_valid = self.is_whole_copy(record, header, || {
            record_io::copy(self.seed(unit), header, record, verify, |_, _| {})
        });
        Ok(if is_valid {
            RecordRead::OtherKey
        } else {
            RecordRead::Corrupt
        })
    }

    /// Judges a record of which only the key was compared, and differs.
    #[cold]
    pub(crate) fn judge_other(&self, unit: u32, verify: bool) -> Result<RecordRead> {
        match self.record(unit)? {
            Some((header, record)) => self.other(unit, header, record, verify),
            None => Ok(RecordRead::Corrupt),
        }
    }

    /// Compares the record's key with `key`, without computing the checksum.
    #[inline]
    pub(crate) fn compare(&self, unit: u32, key: &[u8]) -> Result<RecordRead> {
        let Some((header, record)) = self.record(unit)? else {
            return Ok(RecordRead::Corrupt);
        };
        let mut same = usize::from(header.key_len) == key.len();
        let is_whole = self.is_whole_copy(record, header, || {
            same = same && record_io::holds_key(header, record, key);
            true
        });
        if !is_whole {
            return Ok(RecordRead::Corrupt);
        }
        Ok(if same {
            RecordRead::Match(header)
        } else {
            RecordRead::OtherKey
        })
    }

    /// Reads a record of any key, and appends its key and its value. `None` if it is not valid.
    pub(crate) fn read_any(
        &self,
        unit: u32,
        key: &mut Vec<u8>,
        mut value: Option<&mut Vec<u8>>,
    ) -> Result<Option<RecordHeader>> {
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
        let copy = || record_io::copy(self.seed(unit), header, record, true, take);
        if self.is_whole_copy(record, header, copy) {
            return Ok(Some(header));
        }
        key.truncate(key_start);
        if let Some(value) = value {
            value.truncate(value_start);
        }
        Ok(None)
    }

    /// Reads a record of any kind, of at most so many bytes, into `out`. `None` if there is no such
    /// record within what is already mapped, or no valid one; `out` is then of no use.
    #[inline(always)]
    pub(crate) fn whole_mapped(
        &self,
        unit: u32,
        most: u64,
        out: &mut WholeRecord,
    ) -> Option<RecordHeader> {
        let (header, record) = self.record_within(self.memory.first(), unit).ok()??;
        let copy = || out.fill(self.seed(unit), header, record);
        let is_valid = header.stored_bytes() <= most && self.is_whole_copy(record, header, copy);
        is_valid.then_some(header)
    }

    /// Reads the key of a record into `key`, in place of its contents, and touches no more of the
    /// record: computes no checksum, so the caller validates the key. `None` if there cannot be a
    /// record, or if the cache is numbered.
    pub(crate) fn read_key(&self, unit: u32, key: &mut Vec<u8>) -> Result<Option<RecordHeader>> {
        key.clear();
        let found = self.record(unit)?;
        let Some((header, record)) = found.filter(|_| self.variant != Variant::Numbered) else {
            return Ok(None);
        };
        let wanted = usize::from(header.key_len);
        key.resize(wanted.next_multiple_of(8), 0);
        let is_whole = self.is_whole_copy(record, header, || {
            words::copy_out(&record[HEADER_WORDS..], key);
            true
        });
        key.truncate(wanted);
        Ok(is_whole.then_some(header))
    }

    /// Reads a record of any key, and appends its key and, if the record takes no more than `most`
    /// bytes, its value. `None` if it is not valid.
    pub(crate) fn read_small(
        &self,
        unit: u32,
        most: u64,
        out: &mut Vec<u8>,
    ) -> Result<Option<RecordHeader>> {
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
        if record_io::copy(self.seed(unit), header, record, true, take) {
            return Ok(Some(header));
        }
        out.truncate(start);
        Ok(None)
    }

    /// Returns the bytes of a record by its header alone, valid or not. `None` if there cannot be a
    /// record.
    pub(crate) fn stored_bytes(&self, unit: u32) -> Result<Option<u64>> {
        Ok(self.record(unit)?.map(|(header, _)| header.stored_bytes()))
    }

    /// Prefetches the first cache lines of a record; the processor prefetches the lines after them.
    #[inline]
    pub(crate) fn prefetch(&self, unit: u32) {
        let words = self.memory.first();
        for line in 0..PREFETCH_LINES {
            if let Some(word) = words.get(unit as usize + line * 8) {
                prefetch(word);
            }
        }
    }

    /// Returns the header of a record if the record is valid.
    pub(crate) fn verify(&self, unit: u32) -> Result<Option<RecordHeader>> {
        let Some((header, record)) = self.record(unit)? else {
            return Ok(None);
        };
        let is_valid = self.is_whole_copy(record, header, || {
            record_io::copy(self.seed(unit), header, record, true, |_, _| {})
        });
        Ok(is_valid.then_some(header))
    }

    /// Returns whether a writer may overwrite records of this segment where they are. On a file system
    /// that shares blocks between files, first makes the blocks of all of it its own (H2); false if the
    /// disk has no room for that.
    pub(crate) fn may_be_overwritten(&self) -> bool {
        let owns_blocks = || {
            let all = 0..self.memory.allocated();
            self.file.own_blocks(std::slice::from_ref(&all)).is_ok()
        };
        self.in_place && (!self.file.shares_blocks() || owns_blocks())
    }

    /// Writes a record that is to be stored at `unit` into other words, as many as it takes.
    pub(crate) fn write_copy(
        &self,
        unit: u32,
        copy: &[Word],
        header: RecordHeader,
        key: &[u8],
        value: &[u8],
    ) {
        record_io::write(self.seed(unit), copy, header, (key, value));
    }

    /// Reads a record that is to be stored at `unit` from other words. `None` if it is not valid.
    pub(crate) fn read_copy(
        &self,
        unit: u32,
        copy: &[Word],
        out: &mut WholeRecord,
    ) -> Option<RecordHeader> {
        let header = record_io::header_of(self.variant, copy).ok()??;
        let is_valid = is_whole(&header, copy) && out.fill(self.seed(unit), header, copy);
        is_valid.then_some(header)
    }

    /// Overwrites a record by the one in `copy`, which has the same key and size.
    ///
    /// W3: while other words change, the last word of the header is 0, which no record has; the version
    /// is stored after them. Repeating it after a kill has the same effect.
    pub(crate) fn overwrite(&self, unit: u32, copy: &[Word]) -> Result<()> {
        debug_assert!(self.in_place && copy.len() > HEADER_WORDS, "W1");
        let range = unit as usize..unit as usize + copy.len();
        let record = self.memory.first().get(range);
        let record = record.ok_or_else(|| self.corrupted(Corruption::SegmentTruncated, unit))?;
        begin_overwrite(record);
        store(&record[0], load(&copy[0]));
        for (word, new) in record.iter().zip(copy).skip(HEADER_WORDS) {
            store(word, load(new));
        }
        publish(&record[1], load(&copy[1]));
        end_overwrite(record, load(&copy[2]));
        Ok(())
    }

    /// Writes a record. The range must be allocated, reserved and zero, and not yet visible to any
    /// reader (H1, H2).
    pub(crate) fn write(
        &self,
        unit: u32,
        header: RecordHeader,
        key: &[u8],
        value: &[u8],
    ) -> Result<()> {
        debug_assert_eq!(
            (usize::from(header.key_len), header.value_len as usize),
            (key.len(), value.len())
        );
        debug_assert!(unit >= segment::first_place(0).unit, "after the header");
        debug_assert!(header.key_len > 0, "zeros are no record");
        let count = (header.stored_bytes() / 8) as usize;
        let words = self.memory.first();
        let range = unit as usize..unit as usize + count;
        // H2: the slice ends where the allocated part does.
        let words = words
            .get(range)
            .ok_or_else(|| self.corrupted(Corruption::SegmentTruncated, unit))?;
        // H1, M3: no reader has these bytes, because nothing was ever stored here. (Not asserted: in a
        // damaged file there may be bytes after the committed end.)
        record_io::write(self.seed(unit), words, header, (key, value));
        Ok(())
    }

    /// Returns whether nothing was ever written at `unit`. Bytes after the allocated end count as
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

    /// Returns whether the allocated part of a range holds only zeros.
    pub(crate) fn is_zero(&self, from: u32, to: u32) -> Result<bool> {
        let words = self.memory.first();
        let to = words.len().min(to as usize);
        let range = words.get(from as usize..to).unwrap_or(&[]);
        Ok(range.iter().all(|word| load(word) == 0))
    }

    /// Sets a range to zero: an uncommitted record, which no link ever led to (H1, M3).
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

    /// Fills a range with filler records up to the record after it, so that scans pass over the
    /// range. No record in the range may be valid, and no link may lead into it.
    pub(crate) fn write_filler(&self, from: u32, to: u32) -> Result<()> {
        self.erase(from, to)?;
        let least = (self.variant.header_bytes() + 1).next_multiple_of(8);
        let mut unit = from;
        loop {
            let left = (to.saturating_sub(unit)) as usize * 8;
            if left < least {
                // Nothing is left, because no two records begin so close to each other.
                return Ok(());
            }
            let bytes = if left <= FILLER_MAX {
                left
            } else {
                FILLER_MAX - least
            };
            let content = &ZEROS[..bytes - self.variant.header_bytes()];
            let (key, value) = match self.variant {
                Variant::Versioned | Variant::Expiring => content.split_at(1),
                Variant::Numbered => (content, &[][..]),
            };
            let header = RecordHeader {
                variant: self.variant,
                value_len: value.len() as u32,
                mtime: 0,
                key_len: key.len() as u16,
                kind: Kind::Filler,
                life: Life::NONE,
                traits: Traits::NONE,
            };
            self.write(unit, header, key, value)?;
            unit += (bytes / 8) as u32;
            debug_assert!(unit <= to, "the record after the range stays");
        }
    }

    /// Returns the words of a record. `None` if there cannot be a record.
    pub(crate) fn record_words(&self, unit: u32) -> Result<Option<&[Word]>> {
        Ok(self.record(unit)?.map(|(_, record)| record))
    }

    /// Returns whether the bytes of the record at `unit`, of which no other thread and no process stores
    /// any, have this header and the checksum that they name.
    pub(crate) fn is_valid_in_place(&self, unit: u32, header: RecordHeader, record: &[u8]) -> bool {
        record_io::is_valid_in_place(self.seed(unit), header, record)
    }

    /// Scans the records from `unit` up to `end`.
    pub(crate) fn scan(&self, unit: u32, end: u32) -> Scanner<'_> {
        Scanner::new(self, unit.max(segment::first_place(0).unit), end)
    }

    /// Returns the largest possible end of the segment, in units.
    pub(crate) fn capacity_units(&self) -> u32 {
        u32::try_from(self.capacity / 8).unwrap_or(u32::MAX)
    }
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
                memory: MappedWords::plain(bytes),
                file,
                heap_id: 7,
                number: 2,
                capacity: bytes as u64,
                created: 0,
                variant: Variant::Versioned,
                in_place: false,
                append_only: Some(Variant::Versioned),
            }
        }

        pub(crate) fn word(&self, at: usize) -> &Word {
            &self.memory.first()[at]
        }

        /// The word at a unit.
        #[cfg(not(loom))]
        pub(crate) fn record_word(&self, unit: u32) -> &Word {
            self.word(unit as usize)
        }

        pub(crate) fn put(&self, unit: u32, key: &[u8], value: &[u8]) -> u32 {
            let header = RecordHeader {
                variant: Variant::Versioned,
                value_len: value.len() as u32,
                mtime: 5,
                key_len: key.len() as u16,
                kind: Kind::Entry,
                life: Life::NONE,
                traits: Traits::NONE,
            };
            self.write(unit, header, key, value).unwrap();
            unit + (header.stored_bytes() / 8) as u32
        }
    }

    // W3: a copy during which a writer has overwritten the record, or begun to, does not count, whatever
    // its checksum.
    #[test]
    fn copy_notices_each_overwrite() {
        let mut segment = Segment::plain(4096);
        (segment.in_place, segment.append_only) = (true, None);
        let end = segment.put(16, b"the key", b"an old value");
        let copy: Vec<_> = (0..end - 16).map(|_| Word::new(0)).collect();
        let mut header = segment.verify(16).unwrap().unwrap();
        let during = |change: &dyn Fn(&[Word])| {
            let (header, record) = segment.record(16).unwrap().unwrap();
            segment.is_whole_copy(record, header, || {
                change(record);
                true
            })
        };
        assert!(during(&|_| {}));
        header.mtime += 1;
        segment.write_copy(16, &copy, header, b"the key", b"a newer one.");
        assert!(!during(&|_| segment.overwrite(16, &copy).unwrap()));
        let mut key = Vec::new();
        assert_eq!(segment.read_any(16, &mut key, None).unwrap(), Some(header));
        // Half done, and with another length.
        assert!(!during(&|record| begin_overwrite(record)));
        assert!(segment.record(16).unwrap().is_none(), "no header is zero");
        segment.overwrite(16, &copy).unwrap();
        assert!(during(&|_| {}));
        let (header, record) = segment.record(16).unwrap().unwrap();
        store(&record[0], load(&record[0]) ^ 1 << 32);
        assert!(!segment.is_whole_copy(record, header, || true));
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
                    matches!(outcome, RecordRead::Match(header) if header.value_len as usize == value_len)
                );
                assert_eq!(&out[6..], value);
                let (mut k, mut v) = (Vec::new(), Vec::new());
                segment.read_any(16, &mut k, Some(&mut v)).unwrap().unwrap();
                assert_eq!((k, v), (key.clone(), value));
                assert!(matches!(
                    segment.compare(16, &key).unwrap(),
                    RecordRead::Match(_)
                ));
                segment.erase(16, end).unwrap();
                assert!(segment.is_blank(16).unwrap());
            }
        }
    }

    /// A numbered record with a key of up to four bytes has two words, and a segment may end after
    /// them.
    #[test]
    fn short_records_may_end_their_segment() {
        for key_len in 1..=24_usize {
            let header = RecordHeader {
                variant: Variant::Numbered,
                value_len: 0,
                mtime: 9,
                key_len: key_len as u16,
                kind: Kind::Entry,
                life: Life::NONE,
                traits: Traits::NONE,
            };
            let mut segment = Segment::plain(128 + header.stored_bytes() as usize);
            segment.variant = Variant::Numbered;
            segment.append_only = Some(Variant::Numbered);
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
            let matched = RecordRead::Match(header);
            assert_eq!(segment.compare(16, &key).unwrap(), matched);
            assert_eq!(segment.read(16, &key, true, &mut out).unwrap(), matched);
            assert_eq!(
                segment.value_mapped((Variant::Numbered, 16), &key, true, &mut out, |header| {
                    header.mtime
                }),
                Some(9)
            );
            let mut scanner = segment.scan(0, segment.capacity_units());
            let found = scanner.next_item().unwrap();
            assert!(
                matches!(found, Some(crate::heap::ScanItem::Record(place, _)) if place.unit == 16)
            );
            assert_eq!(scanner.next_item().unwrap(), None);
        }
    }

    #[test]
    fn other_key_differs_from_corruption() {
        let segment = Segment::plain(4096);
        segment.put(16, b"some key", b"value");
        let mut out = Vec::new();
        assert_eq!(
            segment.read(16, b"other k.", true, &mut out).unwrap(),
            RecordRead::OtherKey
        );
        assert_eq!(
            segment.read(16, b"longer key", true, &mut out).unwrap(),
            RecordRead::OtherKey
        );
        store(segment.word(19), 0x1122_3344_5566_7788);
        assert_eq!(
            segment.read(16, b"other k.", true, &mut out).unwrap(),
            RecordRead::Corrupt
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
                    !matches!(outcome, RecordRead::Match(_)),
                    "byte {byte} bit {bit}"
                );
                assert!(out.is_empty());
                store(word, load(word) ^ mask);
            }
        }
    }

    // In each piece of a long record, and in place as well as in the copy.
    #[test]
    fn changed_bit_in_long_records_is_noticed() {
        let segment = Segment::plain(1 << 16);
        let value: Vec<u8> = (0..20_000_u32).map(|at| at as u8).collect();
        segment.put(16, b"the key", &value);
        let record = || {
            let mut bytes = Vec::new();
            crate::os::mmap::append(
                segment.record_words(16).unwrap().unwrap(),
                0,
                1 << 16,
                &mut bytes,
            );
            bytes
        };
        let header = segment.verify(16).unwrap().unwrap();
        assert!(segment.is_valid_in_place(16, header, &record()));
        for byte in [0, 9, 20, 25, 31, 4_095, 4_096, 9_000, 24 + 7 + 19_999] {
            let (word, mask) = (segment.word(16 + byte / 8), 4_u64 << (8 * (byte % 8)));
            store(word, load(word) ^ mask);
            let mut out = b"before".to_vec();
            let outcome = segment.read(16, b"the key", true, &mut out).unwrap();
            assert!(!matches!(outcome, RecordRead::Match(_)), "byte {byte}");
            assert_eq!(out, b"before");
            assert!(
                !segment.is_valid_in_place(16, header, &record()),
                "byte {byte}"
            );
            store(word, load(word) ^ mask);
        }
    }

    #[test]
    fn corrupt_length_stays_within_segment() {
        let segment = Segment::plain(4096);
        let header = RecordHeader {
            variant: Variant::Versioned,
            value_len: u32::MAX,
            mtime: 1,
            key_len: u16::MAX,
            kind: Kind::Entry,
            life: Life::NONE,
            traits: Traits::NONE,
        };
        for (at, word) in header.to_words().into_iter().enumerate() {
            store(segment.word(16 + at), word);
        }
        let mut out = Vec::new();
        assert_eq!(
            segment.read(16, b"key", true, &mut out).unwrap(),
            RecordRead::Corrupt
        );
        assert_eq!(
            segment.read(u32::MAX, b"key", true, &mut out).unwrap(),
            RecordRead::Corrupt
        );
        assert_eq!(out.capacity(), 0);
    }
}
