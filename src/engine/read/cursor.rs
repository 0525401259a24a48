//! The cursor of a listing: reads one entry after another, without a lock.
//!
//! Walks the roster's positions, each of which belongs to one entry for its whole life (R1). So each
//! entry that exists during the whole walk is listed exactly once, wherever it is moved. A listing of
//! many values walks the records in the order of the heap instead, and reads by positions only what
//! damage hid from that. May call `validate`, `heap_walk`, `handle` and everything below them.

use std::fmt;
use std::sync::Arc;

use crate::error::{Corruption, Error, ErrorKind, Result};
use crate::format::heap_addr::HeapAddr;
use crate::format::record;
use crate::format::roster::Position;
use crate::format::slot::{Link, SlotIdentity};
use crate::hash::Hash;
use crate::heap::{RecordRead, WholeRecord};
use crate::index::attempt::Attempt;

use crate::engine::generation::Generation;
use crate::engine::handle::Handle;
use crate::engine::heap_presence::missing_segment;
use crate::engine::open;
use crate::engine::read::expected_count::ExpectedCount;
use crate::engine::read::heap_walk::{Found, HeapWalk};
use crate::engine::read::redo_copy;
use crate::engine::read::validate::{SlotRead, until_valid};
use crate::engine::segment_numbers::present_numbers;
use crate::engine::version::Version;

/// Positions whose slots are prefetched together.
const AHEAD: u32 = 16;
/// Entries from which on values are listed in the order of the heap. Below it, the caches hold the index:
/// as loaded, 100,000 entries take 90 ns each in that order and 77 by positions, 300,000 take 127 and 190
/// (on a busy machine).
const MANY: u64 = 1 << 17;
/// The most moved entries that such a listing remembers of a part of the keys, in some 20 MB.
const MOST_MOVED: usize = 1 << 20;
/// Attempts to begin it beside writers who begin segments.
const BEGINNINGS: u32 = 8;

/// Where a cursor has the entry that it read last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// Key and value each in a buffer.
    Parts,
    /// In its buffer for whole records.
    Record,
    /// In that of the walk over the heap.
    Walk,
}

/// A walk over the positions of one generation.
pub(crate) struct Cursor<'a> {
    handle: &'a Handle,
    generation: Arc<Generation>,
    position: u32,
    /// One past the last position.
    pub end: u32,
    /// Where the entry is that was read last.
    source: Source,
    pub key: Vec<u8>,
    value: Vec<u8>,
    record: WholeRecord,
    /// The length of its value.
    pub value_len: u32,
    /// The place of its record, if that was read.
    place: HeapAddr,
    /// The walk in the order of the heap, if there is one. It goes before the positions.
    pub walk: Option<Box<HeapWalk>>,
    /// The header's count at the beginning.
    expected: ExpectedCount,
    /// Entries that were found.
    found: u64,
    /// Whether an error was returned: the caller knows that something is missing.
    failed: bool,
    /// The error of starting the listing, if it is to be the first item.
    start_error: Option<Error>,
    over: bool,
}

impl fmt::Debug for Cursor<'_> {
    /// Formats the cursor without the entry that was read last.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cursor")
            .field("path", &self.handle.path)
            .field("position", &self.position)
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(handle: &'a Handle) -> Result<Self> {
        // The number of positions first, then all segments, then whether they still belonged to the
        // current generation.
        let (generation, end, expected) = loop {
            let (guard, poll) = handle.current()?;
            let generation = Arc::clone(&guard);
            let expected = ExpectedCount::of(&generation);
            let end = generation.roster_len();
            let generation = with_all_segments(handle, generation)?;
            if generation.header().poll().superseded() == poll.superseded() {
                break (generation, end, expected);
            }
            // G2: it was marked since. It is current until another index has its path.
            if handle.inode_at_path()? == Some(generation.inode) {
                break (generation, end, expected);
            }
        };
        Ok(Self {
            end,
            expected,
            ..Self::of(handle, generation)
        })
    }

    /// Returns a cursor for keys and values, in the order of the heap if that is faster.
    pub(crate) fn with_values(handle: &'a Handle) -> Result<Self> {
        let mut cursor = Self::new(handle)?;
        if is_heap_order_faster(&cursor.generation) {
            cursor.begin_heap_walk(MOST_MOVED)?;
        }
        Ok(cursor)
    }

    /// Begins a walk in the order of the heap, if all its segments can be mapped.
    pub(crate) fn begin_heap_walk(&mut self, most_moved: usize) -> Result<()> {
        for _ in 0..BEGINNINGS {
            if let Some(walk) = HeapWalk::new(&self.generation, most_moved) {
                self.walk = Some(Box::new(walk));
                return Ok(());
            }
            self.generation = with_all_segments(self.handle, Arc::clone(&self.generation))?;
        }
        Ok(())
    }

    /// Returns a cursor over a generation as it is: segments are mapped when a link leads to them.
    pub(crate) fn of(handle: &'a Handle, generation: Arc<Generation>) -> Self {
        Self {
            handle,
            position: 0,
            expected: ExpectedCount::of(&generation),
            found: 0,
            failed: false,
            start_error: None,
            end: generation.roster_len(),
            generation,
            key: Vec::new(),
            value: Vec::new(),
            record: WholeRecord::default(),
            source: Source::Parts,
            value_len: 0,
            place: HeapAddr::LAST,
            walk: None,
            over: false,
        }
    }

    /// Returns a cursor whose first and only item is an error.
    #[cold]
    pub(crate) fn failed(handle: &'a Handle, error: Error) -> Self {
        Self {
            failed: true,
            start_error: Some(error),
            over: true,
            ..Self::of(handle, handle.generation.load_full())
        }
    }

    /// Reads the next entry, its key (and value) into the cursor's buffers.
    #[inline(always)]
    pub(crate) fn step(&mut self, with_value: bool) -> Option<Result<Version>> {
        if !self.over
            && let Some(walk) = &self.walk
            && !walk.is_over
            && let Some(item) = self.step_in_heap()
        {
            return Some(item);
        }
        while !self.over && self.position < self.end {
            let position = self.position;
            // Only a hint: loom must not take its loads for an ordering.
            if !cfg!(loom) {
                self.prefetch_after(position);
            }
            self.position += 1;
            match self.fast_path(position, with_value) {
                Attempt::Done(_) if self.was_listed() => continue,
                Attempt::Done(version) => {
                    self.found += 1;
                    return Some(Ok(Version(version)));
                }
                Attempt::Absent => continue,
                Attempt::Retry => {}
            }
            match self.read_position(position, with_value) {
                Ok(None) => {}
                Ok(Some(_)) if self.was_listed() => {}
                Ok(Some(version)) => {
                    self.found += 1;
                    return Some(Ok(version));
                }
                Err(error) => return Some(Err(self.note_error(error))),
            }
        }
        self.conclude()
    }

    #[cold]
    fn note_error(&mut self, error: Error) -> Error {
        self.failed = true;
        if error.is_of_one_entry() {
            self.handle.saw_damage();
        } else {
            self.over = true;
        }
        error
    }

    /// Reads the next entry in the order of the heap. At the end returns `None`: then the positions
    /// follow, if the walk lacks entries.
    #[inline(always)]
    fn step_in_heap(&mut self) -> Option<Result<Version>> {
        loop {
            let walk = self.walk.as_mut()?;
            match walk.next(&self.generation) {
                Ok(Found::Live { version, value_len }) => {
                    self.found += 1;
                    self.source = Source::Walk;
                    self.value_len = value_len;
                    return Some(Ok(Version(version)));
                }
                Ok(Found::Moved(hash)) => {
                    if let Some(item) = self.follow(hash) {
                        return Some(item);
                    }
                }
                Ok(Found::Over) => {
                    self.end_heap_walk();
                    return None;
                }
                Err(error) => return Some(Err(self.note_error(error))),
            }
        }
    }

    /// Reads the entry of the current key where it was moved, unless that was listed before. Leaves
    /// damage to the positions, where it is reported.
    #[cold]
    fn follow(&mut self, hash: Hash) -> Option<Result<Version>> {
        self.source = Source::Walk;
        let key = self.key().to_vec();
        (self.source, self.key) = (Source::Parts, key);
        let read = until_valid(
            self.handle,
            "an entry of a listing",
            self,
            |cursor| cursor.follow_once(hash),
            |cursor| cursor.generation.header().changes(),
        );
        let walk = self.walk.as_mut()?;
        match read {
            Ok(None) => None,
            Ok(Some((position, version))) => walk.note_moved(position, hash).then(|| {
                self.found += 1;
                Ok(version)
            }),
            Err(error) if error.is_of_one_entry() => {
                walk.is_incomplete = true;
                None
            }
            Err(error) => Some(Err(self.note_error(error))),
        }
    }

    /// Makes one attempt to read the entry of the current key at a place after the end of the walk.
    /// Returns its position and its version; absent if it is not there.
    fn follow_once(&mut self, hash: Hash) -> Result<Attempt<(u32, Version), Error>> {
        let generation = Arc::clone(&self.generation);
        let Some(walk) = &self.walk else {
            return Ok(Attempt::Absent);
        };
        let end = walk.end;
        let located = generation.table.locate(generation.header().poll(), hash)?;
        let state = located.region.stamp();
        let links = located.region.probe(hash);
        let mut corrupt = None;
        for (index, slot, link) in links.filter(|(_, _, link)| link.addr() >= end) {
            let place = link.addr();
            let number = generation.table.slot_number(located.region.number(), index);
            let Some(segment) = generation.segment(place.segment) else {
                let found = self.find_segment::<()>(place.segment, number)?;
                let is_unchanged = slot.link_after() == link;
                return Ok(match found {
                    Attempt::Corrupt(error) if is_unchanged => Attempt::Corrupt(error),
                    _ => Attempt::Retry,
                });
            };
            let read = SlotRead::new(located.region, state, slot, link);
            self.value.clear();
            let mut outcome = segment.read(place.unit, &self.key, true, &mut self.value)?;
            if outcome == RecordRead::Corrupt
                && let Some(header) = redo_copy::read(&generation, segment, place, &mut self.record)
                && self.record.key() == self.key
            {
                self.value.extend_from_slice(self.record.value());
                outcome = RecordRead::Match(header);
            }
            match outcome {
                RecordRead::OtherKey => {}
                _ if !(read.is_entry() && read.is_unchanged()) => return Ok(Attempt::Retry),
                RecordRead::Match(header) if header.kind == record::Kind::Entry => {
                    self.value_len = header.value_len;
                    let version = Version(header.mtime);
                    return Ok(Attempt::Done((read.identity.position, version)));
                }
                // It may be another key's of the same hash.
                RecordRead::Match(_) | RecordRead::Corrupt => {
                    corrupt = Some(segment.corrupted(Corruption::Record, place.unit));
                }
            }
        }
        let again = generation.table.look_again(&located, hash)?;
        Ok(match (again == (located.poll, located.entry), corrupt) {
            (false, _) => Attempt::Retry,
            (true, Some(error)) => Attempt::Corrupt(error),
            (true, None) => Attempt::Absent,
        })
    }

    /// Ends the walk in the order of the heap. If damage may have hidden entries from it, or some are
    /// missing, reads all positions for them.
    #[cold]
    fn end_heap_walk(&mut self) {
        let is_incomplete = self.walk.as_ref().is_some_and(|walk| walk.is_incomplete);
        if !is_incomplete && self.found >= self.expected.least(&self.generation) {
            self.position = self.end;
        }
    }

    /// Returns the record that has the entry that was read last; `None` if it was read in parts.
    #[inline(always)]
    fn whole(&self) -> Option<&WholeRecord> {
        match (self.source, &self.walk) {
            (Source::Record, _) => Some(&self.record),
            (Source::Walk, Some(walk)) => Some(walk.record()),
            (Source::Walk, None) | (Source::Parts, _) => None,
        }
    }

    /// Returns the key of the entry that was read last.
    #[inline(always)]
    pub(crate) fn key(&self) -> &[u8] {
        self.whole().map_or(&self.key, WholeRecord::key)
    }

    /// Returns its value.
    #[inline(always)]
    pub(crate) fn value(&self) -> &[u8] {
        self.whole().map_or(&self.value, WholeRecord::value)
    }

    /// Returns whether the entry that was just read by its position was listed by the walk before.
    #[inline(always)]
    fn was_listed(&self) -> bool {
        match &self.walk {
            None => false,
            Some(walk) => walk.has_listed(&self.generation, self.key(), self.place),
        }
    }

    /// Ends the listing. Returns the error of starting it, or an error if it had none so far and lacks
    /// entries.
    #[cold]
    fn conclude(&mut self) -> Option<Result<Version>> {
        if let Some(error) = self.start_error.take() {
            return Some(Err(error));
        }
        if std::mem::replace(&mut self.over, true) || self.failed {
            return None;
        }
        debug_assert!(self.position >= self.end, "all positions were read");
        debug_assert!(
            self.walk.is_some() || self.found <= self.end.into(),
            "R1: each entry once"
        );
        let error = self.expected.check(&self.generation, self.found).err()?;
        if error.is_corruption() {
            self.handle.saw_damage();
        }
        Some(Err(error))
    }

    /// Reads the position that was listed last again, and appends its value to `value` if it still
    /// has the entry of that key. The cursor's key and value are then those that were read now.
    #[cfg(feature = "dict")]
    pub(crate) fn value_of_last(&mut self, value: &mut Vec<u8>) -> Result<Option<Version>> {
        debug_assert!(self.position > 0, "an entry was listed");
        debug_assert_eq!(
            self.source,
            Source::Parts,
            "it was listed without its value"
        );
        let key = std::mem::take(&mut self.key);
        let read = self.read_position(self.position - 1, true)?;
        Ok(read.filter(|_| self.key == key).inspect(|_| {
            value.extend_from_slice(&self.value);
        }))
    }

    /// Prefetches a slot some positions ahead: slots lie all over the index (list all items: 200 ns
    /// an entry without).
    #[inline]
    fn prefetch_after(&self, position: u32) {
        let ahead = position.saturating_add(AHEAD);
        if ahead < self.end
            && let Ok(Position::Slot(number)) = self.generation.roster.get(ahead)
        {
            self.generation.table.prefetch_slot(number);
        }
    }

    /// Reads a position in the most frequent case: a valid entry whose record is mapped, or a hole.
    /// It compares the same words as [`Self::attempt`]. It has no result for corruption, which would
    /// go through memory with each entry (list all items: 60 ns an entry without this path, 54 with
    /// it).
    #[inline(always)]
    fn fast_path(&mut self, position: u32, with_value: bool) -> Attempt<u64> {
        if !with_value {
            // The slow path reads no values.
            return Attempt::Retry;
        }
        let generation = &*self.generation;
        let number = match generation.roster.get(position) {
            Ok(Position::Slot(number)) => number,
            Ok(Position::Free(_)) => return Attempt::Absent,
            Err(_) => return Attempt::Retry,
        };
        let (region, index) = generation.table.slot_home(number);
        let Some(region) = generation.table.region_mapped(region) else {
            return Attempt::Retry;
        };
        let state = region.stamp();
        let slot = region.slot(index);
        let read = SlotRead::new(region, state, slot, slot.link());
        // R2: position and slot name each other.
        let is_entry = read.is_entry() && read.identity.position == position;
        let is_valid = read.is_unchanged()
            && matches!(generation.roster.get(position), Ok(Position::Slot(again)) if again == number);
        if !(is_entry && is_valid) {
            return Attempt::Retry;
        }
        let place = read.link.addr();
        let Some(segment) = generation.segment(place.segment) else {
            return Attempt::Retry;
        };
        self.place = place;
        self.source = Source::Record;
        match segment.whole_mapped(place.unit, u64::MAX, &mut self.record) {
            Some(header)
                if header.kind == record::Kind::Entry
                    && is_key_of(generation, self.record.key(), read.identity, read.link) =>
            {
                self.value_len = header.value_len;
                Attempt::Done(header.mtime)
            }
            _ => Attempt::Retry,
        }
    }

    /// Reads a position until one attempt is valid. Returns the entry's version; `None` if the
    /// position has no entry.
    #[inline(always)]
    pub(crate) fn read_position(
        &mut self,
        position: u32,
        with_value: bool,
    ) -> Result<Option<Version>> {
        debug_assert!(position < self.end, "the caller goes by the length");
        self.source = Source::Parts;
        let handle = self.handle;
        let mut is_fresh = false;
        loop {
            let read = until_valid(
                handle,
                "an entry of a listing",
                self,
                |cursor| cursor.attempt(position, with_value),
                |cursor| cursor.generation.header().changes(),
            );
            match read {
                Err(error) if error.is_corruption() && !is_fresh && self.reopen()? => {
                    is_fresh = true;
                }
                read => return read,
            }
        }
    }

    /// Opens the files of this generation again on overlayfs, where the mapped ones may lack what
    /// was appended since. Returns false on other file systems.
    #[cold]
    fn reopen(&mut self) -> Result<bool> {
        if !self.handle.reopen_on_overlay()? {
            return Ok(false);
        }
        let generation = self.handle.generation.load_full();
        if generation.ids != self.generation.ids {
            return Err(self.superseded());
        }
        self.generation = generation;
        Ok(true)
    }

    #[cold]
    fn superseded(&self) -> Error {
        ErrorKind::Superseded.at(&self.handle.path)
    }

    /// Makes one attempt to read a position: roster, slot and record, then validates what it read of
    /// roster and slot. While this function runs, a writer can be in one of these states:
    ///
    /// - It inserts an entry at this position. It stores the redo record, then body, roster position
    ///   and control byte, and the link last (S1). Before the link, the slot has no entry, and the
    ///   redo record says why; after it, the entry is whole.
    /// - It deletes the entry: the link goes first, the position becomes a free-list entry later, and
    ///   the redo record is there until both are done. The same.
    /// - It overwrites the entry: the old record stays as it is (M3).
    /// - It deletes the entry, and inserts another one into the slot or at the position. Link, state
    ///   word and position are compared, so the fields of two entries are never mixed. All three can
    ///   be the same again only if changes were finished, which [`until_valid`] sees.
    /// - It replaces the region. The entry is copied before the roster leads to the copy (S6, R1), so
    ///   it is read from the old or from the new region, or the roster position has changed.
    /// - It builds the old region again for other hashes: the state word differs (S4).
    /// - It moves the record and reclaims the segment: the link differs (H4), or the mapping still
    ///   has the record (M3).
    /// - It switches to another generation: this one is not changed any more (G2), and its files stay
    ///   mapped. A segment that is needed and not mapped may be gone; then the listing is superseded.
    /// - It was killed at any of these points: the redo record stays until another writer recovers.
    fn attempt(&mut self, position: u32, with_value: bool) -> Result<Attempt<Version, Error>> {
        let generation = &*self.generation;
        let Position::Slot(number) = generation.roster.get(position)? else {
            return Ok(Attempt::Absent);
        };
        let (region_number, index) = generation.table.slot_home(number);
        let region = match generation.table.region(region_number) {
            Err(error) if error.is_corruption() => {
                let what = Corruption::PositionWithoutEntry;
                return Ok(Attempt::Corrupt(
                    generation.roster.corrupted(position, what),
                ));
            }
            region => region?,
        };
        let state = region.stamp();
        let slot = region.slot(index);
        let read = SlotRead::new(region, state, slot, slot.link());
        self.key.clear();
        self.value.clear();
        // R2: loaded after the link and before the comparisons, so a writer between its stores to
        // roster and slot has a redo record here.
        let is_writing = generation.header().has_redo();
        let is_valid = read.is_unchanged()
            && generation.roster.get(position).ok() == Some(Position::Slot(number));
        if !is_valid {
            return Ok(Attempt::Retry);
        }
        if read.is_entry() && read.identity.position == position {
            return self.read_unless_moved(number, read.link, read.identity, with_value);
        }
        if !read.link.is_entry() && is_writing {
            // Not published yet, or deleted already. It lasts if the writer was killed.
            return Ok(Attempt::Absent);
        }
        let what = Corruption::PositionMismatch;
        Ok(Attempt::Corrupt(damaged_slot(generation, number, what)))
    }

    /// Reads the record of a link, and loads the link again if the record is missing or corrupt:
    /// cleaning may have moved it since (H4).
    fn read_unless_moved(
        &mut self,
        number: u32,
        link: Link,
        identity: SlotIdentity,
        with_value: bool,
    ) -> Result<Attempt<Version, Error>> {
        let attempt = self.read_record(number, link, identity, with_value)?;
        if matches!(attempt, Attempt::Corrupt(_)) {
            let (region, index) = self.generation.table.slot_home(number);
            let slot = self.generation.table.region(region)?.slot(index);
            if slot.link_after() != link {
                return Ok(Attempt::Retry);
            }
        }
        Ok(attempt)
    }

    /// Reads the record of a link that was valid a moment ago: records do not change (M3).
    ///
    /// A key alone is read without the checksum, which covers the value too: the 31 bits of its hash
    /// that slot and link keep prove it as well (keys of 40 bytes with values of 4,000: 57 ns each,
    /// 938 with the checksum).
    fn read_record(
        &mut self,
        slot_number: u32,
        link: Link,
        identity: SlotIdentity,
        with_value: bool,
    ) -> Result<Attempt<Version, Error>> {
        let place = link.addr();
        self.place = place;
        let Some(segment) = self.generation.segment(place.segment) else {
            return self.find_segment(place.segment, slot_number);
        };
        let header = if with_value || self.generation.is_numbered() {
            let value = with_value.then_some(&mut self.value);
            segment.read_any(place.unit, &mut self.key, value)?
        } else {
            match segment.read_key(place.unit, &mut self.key)? {
                Some(header) if header.slot_units() == identity.units => Some(header),
                // One of the two is damaged, or of a killed writer.
                _ => {
                    self.key.clear();
                    segment.read_any(place.unit, &mut self.key, None)?
                }
            }
        };
        let header = header.or_else(|| {
            let found = redo_copy::read(&self.generation, segment, place, &mut self.record)?;
            self.key.extend_from_slice(self.record.key());
            if with_value {
                self.value.extend_from_slice(self.record.value());
            }
            Some(found)
        });
        let is_right = |header: &record::RecordHeader| {
            header.kind == record::Kind::Entry
                && is_key_of(&self.generation, &self.key, identity, link)
                && header.may_be_at(identity.position)
        };
        Ok(match header.filter(is_right) {
            Some(header) => {
                self.value_len = header.value_len;
                Attempt::Done(Version(header.mtime))
            }
            None => Attempt::Corrupt(segment.corrupted(Corruption::Record, place.unit)),
        })
    }

    /// Maps a segment that was created after the listing began, and keeps all segments that the
    /// listing has mapped before.
    fn find_segment<T>(&mut self, number: u16, slot_number: u32) -> Result<Attempt<T, Error>> {
        if let Some(segment) = open::segment(&self.generation, &self.handle.names, number)? {
            self.handle.share_segment(&self.generation, &segment);
            let all = self
                .generation
                .segments()
                .cloned()
                .chain([segment])
                .collect();
            self.generation = Arc::new(self.generation.with_segments(all));
            return Ok(Attempt::Retry);
        }
        // G2: files are removed only after the commit, so the path has another index then. The mark
        // alone may be corruption.
        let is_replaced =
            || Result::Ok(self.handle.inode_at_path()? != Some(self.generation.inode));
        if self.generation.header().poll().superseded() && is_replaced()? {
            return Err(self.superseded());
        }
        // H4: if the segment was reclaimed since, the link has changed; the caller loads it again.
        let missing = missing_segment(&self.generation, &self.handle.names, number)?;
        let damaged = || {
            let what = Corruption::LinkToMissingSegment;
            damaged_slot(&self.generation, slot_number, what)
        };
        Ok(Attempt::Corrupt(missing.unwrap_or_else(damaged)))
    }
}

/// Returns whether values are listed faster in the order of the heap.
fn is_heap_order_faster(generation: &Generation) -> bool {
    let header = generation.header();
    let heap_bytes = header.heap_base().saturating_add(header.tail().bytes());
    let live = header.counters().live;
    header.occupied() >= MANY && !generation.is_numbered() && live >= heap_bytes / 2
}

#[cold]
fn damaged_slot(generation: &Generation, number: u32, what: Corruption) -> Error {
    let (region, index) = generation.table.slot_home(number);
    let at = generation.table.body_at(region, index);
    generation.table.corrupted(what, at)
}

/// Returns whether a key has the 31 bits of its hash that slot and link keep. No checksum covers a
/// slot: a link that damage led to another entry's record passes with a probability of 2^-31.
#[inline(always)]
fn is_key_of(generation: &Generation, key: &[u8], identity: SlotIdentity, link: Link) -> bool {
    let hash = generation.hasher.hash(key);
    (hash.stored(), hash.tag()) == (identity.hash, link.tag())
}

/// Returns the generation with every segment mapped that its heap has now.
pub(crate) fn with_all_segments(
    handle: &Handle,
    generation: Arc<Generation>,
) -> Result<Arc<Generation>> {
    let header = generation.header();
    let mut all = Vec::new();
    let (oldest, last) = (header.oldest(), header.reserved().segment);
    for number in present_numbers(&handle.names, oldest, last) {
        match generation
            .segments()
            .find(|segment| segment.number() == number)
        {
            Some(segment) => all.push(Arc::clone(segment)),
            None => all.extend(open::segment(&generation, &handle.names, number)?),
        }
    }
    Ok(Arc::new(generation.with_segments(all)))
}
