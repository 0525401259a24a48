//! Looking at one piece of a cache, slot by slot, position by position, record by record.
//!
//! Knows what must hold, and how often to look again while somebody writes. Which pieces there are,
//! and in which order they are looked at, it does not know.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use crate::error::Result;
use crate::format::index::word;
use crate::format::record::Kind;
use crate::format::region::Stamp;
use crate::format::roster::Position;
use crate::format::segment;
use crate::format::slot::{Link, Meta};
use crate::hash::Hash;
use crate::heap::{Found, Segment};
use crate::index::region::{Region, Slot};
use crate::os::files::Stage;
use crate::sync::acquire_fence;

use crate::engine::generation::Generation;
use crate::engine::handle::Handle;

/// Faults that are listed one by one; beyond them they are only counted.
const LISTED: usize = 1_000;
/// Second looks at what seems wrong while somebody writes.
const LOOKS: u32 = 20;
/// Slots and positions whose memory is asked for before it is looked at.
const AHEAD: usize = 32;

/// Something that cannot be true.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fault {
    /// The file it is in.
    pub path: PathBuf,
    /// Where, in bytes from the file's start.
    pub at: u64,
    /// What is wrong.
    pub what: &'static str,
}

/// How much of a cache is checked. Each level has all that the ones before it have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Level {
    /// The headers of all files and regions, and the directory: what an operation needs to get
    /// anywhere. Takes time by the number of regions and segments.
    Headers,
    /// Every slot and roster position, and the counters, without the records that they lead to. Of
    /// the files, only index and roster are read.
    Slots,
    /// Every record of the heap by its checksum, dead ones too, and every slot against its record.
    #[default]
    Records,
}

/// The result of a check; made by [`MmapCache::verify`](crate::MmapCache::verify) and
/// [`Verification::run`](crate::Verification::run).
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Report {
    /// Entries that were checked and found right.
    pub entries: u64,
    /// Records in the heap that verify, live or dead.
    pub records: u64,
    /// Regions that were checked.
    pub regions: u64,
    /// Groups of eight slots that a search for an absent key looks at, on average; 1 at best.
    pub miss_groups: f64,
    /// Bytes of the heap that are no record where one should be.
    pub damaged_bytes: u64,
    /// Everything that is wrong, or the first thousand of it.
    pub faults: Vec<Fault>,
    /// How many faults there are in all.
    pub fault_count: u64,
    /// Whether nobody wrote meanwhile, so that the totals could be compared as well.
    pub totals_compared: bool,
}

/// What the slots of the whole table add up to.
#[derive(Debug, Default)]
pub(crate) struct Sums {
    pub occupied: u64,
    pub deleted: u64,
    pub live: u64,
    pub groups: u64,
    pub miss_groups: u64,
}

/// What one thread checks at a time.
#[derive(Clone, Debug)]
pub(crate) enum Piece {
    /// Directory entries, with the regions that they lead to, under a depth of the directory.
    Entries(Range<u32>, u32),
    Positions(Range<u32>),
    /// A segment, and how many bytes it has.
    Segment(u16, u64),
}

impl Sums {
    pub(crate) fn add(&mut self, other: &Self) {
        self.occupied += other.occupied;
        self.deleted += other.deleted;
        self.live += other.live;
        self.groups += other.groups;
        self.miss_groups += other.miss_groups;
    }
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.fault_count == 0
    }

    pub(crate) fn fault(&mut self, path: PathBuf, at: u64, what: &'static str) {
        self.fault_count += 1;
        if self.faults.len() < LISTED {
            self.faults.push(Fault { path, at, what });
        }
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.entries += other.entries;
        self.records += other.records;
        self.regions += other.regions;
        self.damaged_bytes += other.damaged_bytes;
        self.fault_count += other.fault_count;
        let room = LISTED - self.faults.len();
        self.faults.extend(other.faults.into_iter().take(room));
    }
}

/// What was read; none where it is damaged. That the system refuses to map a file is no fault of
/// the file's.
fn unless_damaged<T>(read: Result<T>) -> Result<Option<T>> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(error) if error.is_corruption() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether the bits that the index keeps are those of a key's hash.
fn is_hash_of(generation: &Generation, said: Hash, key: &[u8]) -> bool {
    let hash = generation.hasher.hash(key);
    hash.control() == said.control() && hash.tag() == said.tag() && hash.stored() == said.stored()
}

/// What one slot turned out to be.
enum Slotted {
    Right {
        live: u64,
    },
    /// Nothing yet, or nothing any more.
    Vacant,
    Wrong(&'static str),
}

/// A check of some pieces of one generation, by one thread.
pub(crate) struct Check<'a> {
    handle: &'a Handle,
    generation: &'a Generation,
    level: Level,
    /// Segments that the generation did not have mapped.
    segments: BTreeMap<u16, Option<Arc<Segment>>>,
    pub report: Report,
    pub sums: Sums,
    key: Vec<u8>,
    /// Words of the header that a writer at work changes, and how often they were waited for.
    seen: [u64; 4],
    pauses: u32,
}

impl<'v> Check<'v> {
    pub(crate) fn new(handle: &'v Handle, generation: &'v Generation, level: Level) -> Self {
        Self {
            handle,
            generation,
            level,
            segments: BTreeMap::new(),
            report: Report::default(),
            sums: Sums::default(),
            key: Vec::new(),
            seen: [0; 4],
            pauses: 0,
        }
    }

    fn fault_in_index(&mut self, generation: &Generation, at: u64, what: &'static str) {
        self.report
            .fault(generation.table.file().path().to_owned(), at, what);
    }

    /// Checks what a piece is about.
    pub(crate) fn piece(&mut self, piece: &Piece) -> Result<()> {
        match *piece {
            Piece::Entries(ref range, depth) => {
                range.clone().try_for_each(|index| self.entry(index, depth))
            }
            Piece::Positions(ref range) => self.roster(range.clone()),
            Piece::Segment(number, _) => self.heap(number),
        }
    }

    /// A segment of the generation, mapped for this check if it was not.
    fn segment(&mut self, number: u16) -> Result<Option<&Segment>> {
        if self.generation.segment(number).is_some() {
            return Ok(self.generation.segment(number));
        }
        if !self.segments.contains_key(&number) {
            let found = self.generation.open_segment(&self.handle.names, number)?;
            self.segments.insert(number, found);
        }
        Ok(self.segments.get(&number).and_then(Option::as_deref))
    }

    /// Checks a directory entry, and its region if this is the first entry that leads there.
    fn entry(&mut self, index: u32, depth: u32) -> Result<()> {
        for look in 0..=LOOKS {
            let generation = self.generation;
            let at = crate::format::index::PAGE + u64::from(index) * 8;
            let (entry, region) = match generation
                .table
                .entry(index)
                .and_then(|entry| Ok((entry, generation.table.region(entry.region())?)))
            {
                Ok(found) => found,
                Err(error) if error.is_corruption() => {
                    self.fault_in_index(generation, at, "a directory entry that leads nowhere");
                    return Ok(());
                }
                Err(error) => return Err(error),
            };
            let shape = region.shape();
            let stamp = region.stamp();
            let right = stamp == Stamp::live(entry.incarnation())
                && shape.holds(index)
                && shape.depth
                    <= generation
                        .table
                        .depth(generation.header().poll())
                        .unwrap_or(depth);
            if right && index != shape.prefix {
                return Ok(());
            }
            if right && self.level == Level::Headers {
                self.report.regions += 1;
                return Ok(());
            }
            if right && self.region(generation, region, stamp)? {
                return Ok(());
            }
            if look == LOOKS {
                let what = "a directory entry and its region disagree";
                self.fault_in_index(generation, at, what);
            } else {
                self.pause(generation);
            }
        }
        Ok(())
    }

    /// Checks a region's slots. False if it was replaced meanwhile.
    fn region(
        &mut self,
        generation: &Generation,
        region: Region<'_>,
        stamp: Stamp,
    ) -> Result<bool> {
        let (mut live, mut right, mut wrong) = (0, 0, Vec::new());
        let mut ahead = region.full();
        for index in ahead.by_ref().take(AHEAD) {
            self.look_ahead(region, index);
        }
        for index in region.full() {
            if let Some(next) = ahead.next() {
                self.look_ahead(region, next);
            }
            match self.settled(generation, region, index)? {
                Slotted::Right { live: bytes } => {
                    right += 1;
                    live += bytes;
                }
                Slotted::Vacant => {}
                Slotted::Wrong(what) => wrong.push((index, what)),
            }
        }
        let counts = region.recount();
        if region.stamp_after() != stamp {
            return Ok(false);
        }
        for (index, what) in wrong {
            let at = generation.table.body_at(region.number(), index);
            self.fault_in_index(generation, at, what);
        }
        self.compare_counts(generation, region, stamp);
        self.report.regions += 1;
        self.report.entries += right;
        self.sums.occupied += u64::from(counts.occupied);
        self.sums.deleted += u64::from(counts.deleted);
        self.sums.live += live;
        self.sums.groups += region.group_count();
        self.sums.miss_groups += region.miss_groups();
        Ok(true)
    }

    fn compare_counts(&mut self, generation: &Generation, region: Region<'_>, stamp: Stamp) {
        for _ in 0..LOOKS {
            let same = region.recount() == region.counts();
            // An intent means that somebody is between two stores, or was killed there.
            let busy = generation.header().get(word::INTENT) != 0;
            if same || busy || region.stamp_after() != stamp {
                return;
            }
            self.pause(generation);
        }
        let at = generation.table.region_at(region.number()) + 16;
        self.fault_in_index(generation, at, "a region's counts");
    }

    /// Looks at a slot until it is right, or was wrong for as many looks. That nobody holds the
    /// lock is no reason to look less often: whoever held it may have been done a moment ago.
    fn settled(
        &mut self,
        generation: &Generation,
        region: Region<'_>,
        index: u32,
    ) -> Result<Slotted> {
        let mut looks = 0;
        loop {
            let seen = self.slot(generation, region, index)?;
            looks += 1;
            if looks == LOOKS || !matches!(seen, Slotted::Wrong(_)) {
                return Ok(seen);
            }
            self.pause(generation);
        }
    }

    /// Asks for what a slot leads to, which lies all over heap and roster (a million entries: 230 ns
    /// an entry, 420 without).
    #[inline]
    fn look_ahead(&self, region: Region<'_>, index: u32) {
        // Only a hint: loom must not take its loads for an ordering.
        if cfg!(loom) {
            return;
        }
        let slot = region.slot(index);
        let link = slot.link();
        self.generation.roster.prefetch(slot.identity().position);
        if self.level == Level::Records
            && link.is_entry()
            && let Some(segment) = self.generation.segment(link.place().segment)
        {
            segment.prefetch(link.place().unit);
        }
    }

    /// Checks one slot against its record and its roster position.
    fn slot(&mut self, generation: &Generation, region: Region<'_>, index: u32) -> Result<Slotted> {
        let slot = region.slot(index);
        let link = slot.link();
        if !link.is_entry() {
            // The byte that led here may be older than the link: it is asked again at the end.
            let busy = generation.header().get(word::INTENT) != 0;
            return Ok(if busy || region.control(index) < 0x80 {
                Slotted::Vacant
            } else {
                Slotted::Wrong("a full control byte over no entry")
            });
        }
        let (identity, meta, control) = (
            slot.identity(),
            slot.meta(link.which()),
            region.control(index),
        );
        let said = slot.hash(link, control);
        let contents = if self.level == Level::Records {
            self.record(generation, slot, link, meta, said)?
        } else {
            self.link(generation, slot, link, meta, said)?
        };
        let number = generation.table.slot_number(region.number(), index);
        let known = unless_damaged(generation.roster.get(identity.position))?;
        let known = known == Some(Position::Slot(number));
        // A region that is being replaced is in the directory before the roster knows it.
        let busy = generation.header().get(word::INTENT) != 0;
        Ok(match contents {
            Slotted::Right { live } => {
                if control < 0x80 {
                    Slotted::Wrong("an entry under another key's hash")
                } else if !region.shape().holds(said.directory()) {
                    Slotted::Wrong("an entry in a region that is not its own")
                } else if !known && !busy {
                    Slotted::Wrong("an entry that the roster does not know")
                } else if !region.probe(said).any(|(found, _, _)| found == index) {
                    Slotted::Wrong("an entry that no search reaches")
                } else {
                    Slotted::Right { live }
                }
            }
            other => other,
        })
    }

    /// Compares a slot with the record that it leads to.
    fn record(
        &mut self,
        generation: &Generation,
        slot: Slot<'_>,
        link: Link,
        meta: Meta,
        said: Hash,
    ) -> Result<Slotted> {
        let place = link.place();
        let mut key = std::mem::take(&mut self.key);
        key.clear();
        let record = match self.segment(place.segment)? {
            Some(segment) => segment.read_any(place.unit, &mut key, None)?,
            None => None,
        };
        let slotted = match record.filter(|header| header.kind == Kind::Entry) {
            None => Slotted::Wrong("an entry whose record is damaged"),
            Some(_) if !is_hash_of(generation, said, &key) => {
                Slotted::Wrong("an entry under another key's hash")
            }
            Some(header) => {
                let inline = key.len().min(slot.key().len() * 8);
                if usize::from(slot.identity().key_len) != key.len()
                    || !crate::os::words::equal(slot.key(), &key[..inline])
                {
                    Slotted::Wrong("a slot whose part of the key differs from its record's")
                } else if meta.mtime != header.mtime || meta.value_len != header.value_len {
                    Slotted::Wrong("a slot whose version or length differs from its record's")
                } else {
                    Slotted::Right {
                        live: header.stored_bytes(),
                    }
                }
            }
        };
        self.key = key;
        Ok(slotted)
    }

    /// What a slot says by itself: whether there can be a record where it leads, and whether it is
    /// under the hash of its key, if it has all of that.
    fn link(
        &mut self,
        generation: &Generation,
        slot: Slot<'_>,
        link: Link,
        meta: Meta,
        said: Hash,
    ) -> Result<Slotted> {
        let (place, len) = (link.place(), usize::from(slot.identity().key_len));
        let fixed = slot.variant().header_bytes() as u64;
        let live = (fixed + len as u64 + u64::from(meta.value_len)).next_multiple_of(8);
        let end = match self.segment(place.segment)? {
            None => return Ok(Slotted::Wrong("an entry in a segment that is not there")),
            Some(segment) if place.bytes() + live <= segment.allocated() => segment.allocated(),
            Some(segment) => segment.refresh()?,
        };
        if place.bytes() < segment::HEADER_BYTES || place.bytes() + live > end {
            return Ok(Slotted::Wrong("an entry beyond the end of its segment"));
        }
        if len > slot.key().len() * 8 {
            return Ok(Slotted::Right { live });
        }
        self.key.clear();
        self.key.resize(len.next_multiple_of(8), 0);
        crate::os::words::copy_out(slot.key(), &mut self.key);
        self.key.truncate(len);
        Ok(if is_hash_of(generation, said, &self.key) {
            Slotted::Right { live }
        } else {
            Slotted::Wrong("an entry under another key's hash")
        })
    }

    /// Checks that each position of the roster leads to a slot that knows it.
    fn roster(&mut self, positions: Range<u32>) -> Result<()> {
        let generation = self.generation;
        let path = generation.roster.file().path().to_owned();
        for position in positions.clone() {
            let at = crate::format::roster::HEADER_BYTES + u64::from(position) * 4;
            let ahead = position.saturating_add(AHEAD as u32);
            if !cfg!(loom)
                && positions.contains(&ahead)
                && let Ok(Position::Slot(number)) = generation.roster.get(ahead)
            {
                generation.table.prefetch_slot(number);
            }
            for look in 0..=LOOKS {
                let busy = generation.header().get(word::INTENT) != 0;
                let Some(found) = unless_damaged(generation.roster.get(position))? else {
                    self.report.fault(path, at, "a roster cut short");
                    return Ok(());
                };
                let Position::Slot(number) = found else { break };
                let (region, index) = generation.table.slot_home(number);
                let knows =
                    unless_damaged(generation.table.region(region))?.is_some_and(|region| {
                        region.slot(index).link().is_entry()
                            && region.slot(index).identity().position == position
                    });
                if knows || u64::from(position) >= generation.header().counters().roster_len {
                    break;
                }
                if look == LOOKS && !busy && generation.header().get(word::INTENT) == 0 {
                    self.report.fault(
                        path.clone(),
                        at,
                        "a roster position that leads to no entry of its own",
                    );
                }
                self.pause(generation);
            }
        }
        Ok(())
    }

    /// Walks a segment.
    fn heap(&mut self, number: u16) -> Result<()> {
        let generation = self.generation;
        let tail = generation.header().tail();
        let level = self.level;
        let path = self.handle.names.segment(number, Stage::Final);
        let Some(segment) = self.segment(number)? else {
            // Cleaned away meanwhile, or lost: then its entries have told.
            if level != Level::Records && Generation::has_segment_file(&self.handle.names, number) {
                let what = "a segment whose header is damaged";
                self.report.fault(path, 0, what);
            }
            return Ok(());
        };
        if level != Level::Records {
            return Ok(());
        }
        let end = if number == tail.segment {
            tail.unit
        } else {
            segment.capacity_units()
        };
        let path = segment.file().path().to_owned();
        let (mut records, mut damage) = (0, Vec::new());
        let mut walker = segment.walk(0, end);
        while let Some(found) = walker.step()? {
            match found {
                Found::Record(..) => records += 1,
                Found::Damage { from, to } => damage.push((from, to)),
            }
        }
        self.report.records += records;
        for (from, to) in damage {
            self.report.damaged_bytes += u64::from(to - from) * 8;
            let what = "bytes that are no record";
            self.report.fault(path.clone(), u64::from(from) * 8, what);
        }
        Ok(())
    }

    /// Checks that nothing stands behind the heap's end: else the index is older than the heap.
    pub(crate) fn end_of_heap(&mut self) -> Result<()> {
        let generation = self.generation;
        let tail = generation.header().tail();
        let Some(segment) = self.segment(tail.segment)? else {
            return Ok(());
        };
        if segment.is_blank(tail.unit)? {
            return Ok(());
        }
        // A writer announces a record before it stores it.
        acquire_fence();
        if generation.header().reserved() == tail && generation.header().tail() == tail {
            let at = word::TAIL as u64 * 8;
            self.fault_in_index(generation, at, "something stands behind the heap's end");
        }
        Ok(())
    }

    /// Waits for a writer that seems to be at work; without one there is nothing to wait for, and
    /// neither is there for one that does nothing: its name stays behind where it was killed.
    fn pause(&mut self, generation: &Generation) {
        let header = generation.header();
        let at_work = [
            word::CHANGES,
            word::INTENT,
            word::RESERVED,
            word::INCARNATION,
        ];
        let now = at_work.map(|at| header.get(at));
        if self.seen != now {
            (self.seen, self.pauses) = (now, 0);
        }
        if header.get(word::HOLDER) != 0 && self.pauses < LOOKS {
            self.pauses += 1;
            #[cfg(not(loom))]
            std::thread::sleep(std::time::Duration::from_micros(500));
            #[cfg(loom)]
            crate::sync::loom_model::pause();
        }
    }
}
