//! The slow truth: everything in a cache, checked against everything else.
//!
//! Knows what must hold between index, heap and roster. It changes nothing, and needs no lock: what
//! looks wrong while somebody writes is looked at again before it is reported.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::error::Result;
use crate::format::index::{Counters, word};
use crate::format::record::Kind;
use crate::format::region::Stamp;
use crate::format::roster::Position;
use crate::heap::{Found, Segment};
use crate::sync::loads_done;
use crate::table::region::Region;

use super::handle::Handle;
use super::view::View;

/// Faults that are listed one by one; beyond them they are only counted.
const LISTED: usize = 1_000;
/// Second looks at what seems wrong while somebody writes.
const LOOKS: u32 = 20;
/// Checks of generations that were replaced meanwhile, before the last is taken as it is.
const TRIES: u32 = 5;

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

/// The result of a full check; made by [`MmapCache::verify`](crate::MmapCache::verify).
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

impl Report {
    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.fault_count == 0
    }

    fn fault(&mut self, path: PathBuf, at: u64, what: &'static str) {
        self.fault_count += 1;
        if self.faults.len() < LISTED {
            self.faults.push(Fault { path, at, what });
        }
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

/// What the slots of the whole table add up to.
#[derive(Debug, Default)]
struct Sums {
    occupied: u64,
    deleted: u64,
    live: u64,
    groups: u64,
    miss_groups: u64,
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

/// A check of one generation.
struct Check<'a> {
    handle: &'a Handle,
    view: &'a View,
    /// Segments that the view did not have mapped.
    segments: BTreeMap<u16, Option<Arc<Segment>>>,
    report: Report,
    sums: Sums,
    key: Vec<u8>,
    /// Words of the header that a writer at work changes, and how often they were waited for.
    seen: [u64; 4],
    pauses: u32,
}

impl Report {
    pub(crate) fn of(handle: &Handle) -> Result<Self> {
        let mut tries = 0;
        loop {
            // One generation for the whole check; if another takes its place meanwhile, that is the
            // one to check.
            let view = Arc::clone(&handle.current()?.0);
            let report = Self::of_view(handle, &view)?;
            tries += 1;
            if tries == TRIES || handle.current()?.0.ids == view.ids {
                return Ok(report);
            }
        }
    }

    /// Whether index, roster and heap agree, and nothing was written behind the heap's end.
    pub(crate) fn is_whole(handle: &Handle) -> Result<bool> {
        let view = Arc::clone(&handle.current()?.0);
        let report = Self::of_view(handle, &view)?;
        let tail = view.header().tail();
        let newest = handle.names.segment_numbers()?.into_iter().max();
        let Some(segment) = view.open_segment(&handle.names, tail.segment)? else {
            return Ok(false);
        };
        let mut behind = segment.walk(tail.unit, segment.capacity_units());
        Ok(report.is_clean()
            && report.totals_compared
            && newest == Some(tail.segment)
            && behind.step()?.is_none())
    }

    fn of_view(handle: &Handle, view: &View) -> Result<Self> {
        let mut check = Check {
            handle,
            view,
            segments: BTreeMap::new(),
            report: Self::default(),
            sums: Sums::default(),
            key: Vec::new(),
            seen: [0; 4],
            pauses: 0,
        };
        let header = view.header();
        let (changes, counters) = (header.changes(), header.counters());
        check.regions()?;
        let groups = check.sums.groups.max(1);
        check.report.miss_groups = check.sums.miss_groups as f64 / groups as f64;
        check.roster()?;
        check.heap()?;
        check.end_of_heap()?;
        // A killed writer's last operation is finished by the next one; until then its counters are
        // on the way. Asked first: an operation that ends after it has changed them.
        let at_rest = header.reserved() == header.tail() && header.is_idle_since(changes);
        if at_rest && header.counters() == counters {
            check.totals(view, &counters);
        }
        Ok(check.report)
    }
}

impl<'v> Check<'v> {
    fn fault_in_index(&mut self, view: &View, at: u64, what: &'static str) {
        self.report
            .fault(view.table.file().path().to_owned(), at, what);
    }

    fn regions(&mut self) -> Result<()> {
        let view = self.view;
        let Ok(depth) = view.table.depth(view.header().poll()) else {
            self.fault_in_index(view, 128, "the directory's depth");
            return Ok(());
        };
        (0..1_u32 << depth).try_for_each(|index| self.entry(index, depth))
    }

    /// A segment of the generation, mapped for this check if it was not.
    fn segment(&mut self, number: u16) -> Result<Option<Arc<Segment>>> {
        if let Some(known) = self.segments.get(&number) {
            return Ok(known.clone());
        }
        let found = self.view.open_segment(&self.handle.names, number)?;
        self.segments.insert(number, found.clone());
        Ok(found)
    }

    /// Checks a directory entry, and its region if this is the first entry that leads there.
    fn entry(&mut self, index: u32, depth: u32) -> Result<()> {
        for look in 0..=LOOKS {
            let view = self.view;
            let at = crate::format::index::PAGE + u64::from(index) * 8;
            let (entry, region) = match view
                .table
                .entry(index)
                .and_then(|entry| Ok((entry, view.table.region(entry.region())?)))
            {
                Ok(found) => found,
                Err(error) if error.is_corruption() => {
                    self.fault_in_index(view, at, "a directory entry that leads nowhere");
                    return Ok(());
                }
                Err(error) => return Err(error),
            };
            let shape = region.shape();
            let stamp = region.stamp();
            let right = stamp == Stamp::live(entry.incarnation())
                && shape.holds(index)
                && shape.depth <= view.table.depth(view.header().poll()).unwrap_or(depth);
            if right && index != shape.prefix {
                return Ok(());
            }
            if right && self.region(view, region, stamp)? {
                return Ok(());
            }
            if look == LOOKS {
                let what = "a directory entry and its region disagree";
                self.fault_in_index(view, at, what);
            } else {
                self.pause(view);
            }
        }
        Ok(())
    }

    /// Checks a region's slots. False if it was replaced meanwhile.
    fn region(&mut self, view: &View, region: Region<'_>, stamp: Stamp) -> Result<bool> {
        let (mut live, mut right, mut wrong) = (0, 0, Vec::new());
        for index in region.full() {
            match self.settled(view, region, index)? {
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
            let at = view.table.body_at(region.number(), index);
            self.fault_in_index(view, at, what);
        }
        self.compare_counts(view, region, stamp);
        self.report.regions += 1;
        self.report.entries += right;
        self.sums.occupied += u64::from(counts.occupied);
        self.sums.deleted += u64::from(counts.deleted);
        self.sums.live += live;
        self.sums.groups += region.group_count();
        self.sums.miss_groups += region.miss_groups();
        Ok(true)
    }

    fn compare_counts(&mut self, view: &View, region: Region<'_>, stamp: Stamp) {
        for _ in 0..LOOKS {
            let same = region.recount() == region.counts();
            // An intent means that somebody is between two stores, or was killed there.
            let busy = view.header().get(word::INTENT) != 0;
            if same || busy || region.stamp_after() != stamp {
                return;
            }
            self.pause(view);
        }
        let at = view.table.region_at(region.number()) + 16;
        self.fault_in_index(view, at, "a region's counts");
    }

    /// Looks at a slot until it is right, or was wrong for as many looks. That nobody holds the
    /// lock is no reason to look less often: whoever held it may have been done a moment ago.
    fn settled(&mut self, view: &View, region: Region<'_>, index: u32) -> Result<Slotted> {
        let mut looks = 0;
        loop {
            let seen = self.slot(view, region, index)?;
            looks += 1;
            if looks == LOOKS || !matches!(seen, Slotted::Wrong(_)) {
                return Ok(seen);
            }
            self.pause(view);
        }
    }

    /// Checks one slot against its record and its roster position.
    fn slot(&mut self, view: &View, region: Region<'_>, index: u32) -> Result<Slotted> {
        let slot = region.slot(index);
        let link = slot.link();
        if !link.is_entry() {
            // The byte that led here may be older than the link: it is asked again at the end.
            let busy = view.header().get(word::INTENT) != 0;
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
        self.key.clear();
        let place = link.place();
        let record = match self.segment(place.segment)? {
            Some(segment) => segment.read_any(place.unit, &mut self.key, None)?,
            None => None,
        };
        let Some(header) = record.filter(|header| header.kind == Kind::Entry) else {
            return Ok(Slotted::Wrong("an entry whose record is damaged"));
        };
        let hash = view.hasher.hash(&self.key);
        let inline = self.key.len().min(slot.key().len() * 8);
        let number = view.table.slot_number(region.number(), index);
        let known = unless_damaged(view.roster.get(identity.position))?;
        let known = known == Some(Position::Slot(number));
        // A region that is being replaced is in the directory before the roster knows it.
        let busy = view.header().get(word::INTENT) != 0;
        Ok(
            if hash.control() != control
                || hash.tag() != link.tag()
                || hash.stored() != identity.hash
            {
                Slotted::Wrong("an entry under another key's hash")
            } else if !region.shape().holds(hash.directory()) {
                Slotted::Wrong("an entry in a region that is not its own")
            } else if usize::from(identity.key_len) != self.key.len()
                || !crate::bytes::equal(slot.key(), &self.key[..inline])
            {
                Slotted::Wrong("a slot whose part of the key differs from its record's")
            } else if meta.mtime != header.mtime || meta.value_len != header.value_len {
                Slotted::Wrong("a slot whose version or length differs from its record's")
            } else if !known && !busy {
                Slotted::Wrong("an entry that the roster does not know")
            } else if !region.probe(hash).any(|(found, _, _)| found == index) {
                Slotted::Wrong("an entry that no search reaches")
            } else {
                Slotted::Right {
                    live: header.stored_bytes(),
                }
            },
        )
    }

    /// Checks that each position of the roster leads to a slot that knows it.
    fn roster(&mut self) -> Result<()> {
        let view = self.view;
        let path = view.roster.file().path().to_owned();
        let end = u64::from(view.roster_len());
        for position in 0..end {
            let at = crate::format::roster::HEADER_BYTES + position * 4;
            for look in 0..=LOOKS {
                let busy = view.header().get(word::INTENT) != 0;
                let Ok(position) = u32::try_from(position) else {
                    return Ok(());
                };
                let Some(found) = unless_damaged(view.roster.get(position))? else {
                    self.report.fault(path, at, "a roster cut short");
                    return Ok(());
                };
                let Position::Slot(number) = found else { break };
                let (region, index) = view.table.slot_home(number);
                let knows = unless_damaged(view.table.region(region))?.is_some_and(|region| {
                    region.slot(index).link().is_entry()
                        && region.slot(index).identity().position == position
                });
                if knows || u64::from(position) >= view.header().counters().roster_len {
                    break;
                }
                if look == LOOKS && !busy && view.header().get(word::INTENT) == 0 {
                    self.report.fault(
                        path.clone(),
                        at,
                        "a roster position that leads to no entry of its own",
                    );
                }
                self.pause(view);
            }
        }
        Ok(())
    }

    /// Walks the whole heap.
    fn heap(&mut self) -> Result<()> {
        let header = self.view.header();
        let tail = header.tail();
        // By what stands in the directory: a damaged header may name sixty thousand of them.
        let known = header.oldest()..=tail.segment;
        let numbers = self.handle.names.segment_numbers()?;
        for number in numbers
            .into_iter()
            .filter(|&number| known.contains(&number))
        {
            let Some(segment) = self.segment(number)? else {
                // Cleaned away meanwhile, or lost: then its entries have told.
                continue;
            };
            let end = if number == tail.segment {
                tail.unit
            } else {
                segment.capacity_units()
            };
            let mut walker = segment.walk(0, end);
            while let Some(found) = walker.step()? {
                match found {
                    Found::Record(..) => self.report.records += 1,
                    Found::Damage { from, to } => {
                        self.report.damaged_bytes += u64::from(to - from) * 8;
                        let path = segment.file().path().to_owned();
                        self.report
                            .fault(path, u64::from(from) * 8, "bytes that are no record");
                    }
                }
            }
        }
        Ok(())
    }

    /// Checks that nothing stands behind the heap's end: else the index is older than the heap.
    fn end_of_heap(&mut self) -> Result<()> {
        let view = self.view;
        let tail = view.header().tail();
        let Some(segment) = self.segment(tail.segment)? else {
            return Ok(());
        };
        if segment.is_blank(tail.unit)? {
            return Ok(());
        }
        // A writer announces a record before it stores it.
        loads_done();
        if view.header().reserved() == tail && view.header().tail() == tail {
            let at = word::TAIL as u64 * 8;
            self.fault_in_index(view, at, "something stands behind the heap's end");
        }
        Ok(())
    }

    /// Compares the header's counters with what was counted, nobody having written meanwhile.
    fn totals(&mut self, view: &View, counters: &Counters) {
        self.report.totals_compared = true;
        for (at, stored, counted, what) in [
            (
                192,
                counters.occupied,
                self.sums.occupied,
                "the number of entries",
            ),
            (
                200,
                counters.deleted,
                self.sums.deleted,
                "the number of deleted slots",
            ),
            (
                248,
                counters.live,
                self.sums.live,
                "the number of live bytes",
            ),
        ] {
            // Where entries are damaged, the numbers that depend on them cannot agree.
            if stored != counted && self.report.fault_count == 0 {
                self.fault_in_index(view, at, what);
            }
        }
    }

    /// Waits for a writer that seems to be at work; without one there is nothing to wait for, and
    /// neither is there for one that does nothing: its name stays behind where it was killed.
    fn pause(&mut self, view: &View) {
        let header = view.header();
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
            crate::sync::modelled::pause();
        }
    }
}
