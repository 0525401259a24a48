//! Finishing what a killed writer left, and rebuilding index and roster from the heap.
//!
//! The first is bounded by one region and happens whenever the lock is taken; the second reads the
//! whole heap and happens only after a power loss with unsynced writes, or where the shared state
//! contradicts itself. Both can be killed and begun again.

use std::sync::Arc;

use crate::error::Result;
use crate::format::index::word;
use crate::format::record::{self, Kind};
use crate::format::roster::Position;
use crate::format::seal::Sealed;
use crate::format::segment::{SegmentHeader, first_place};
use crate::format::slot::{Cursor, Link, Meta, Place};
use crate::hash::Hash;
use crate::heap::{Found, Segment};
use crate::index::header::{Armed, Intent};
use crate::lock;
use crate::os::files::{self, Stage};
use crate::sync::Relaxed;

use crate::engine::generation::{Generation, read_sealed};
use crate::engine::handle::Handle;
use crate::engine::heap_presence;
use crate::engine::ids::highest_reserved;
use crate::engine::recovery::losses::{Missing, Recovery};
use crate::engine::switch::{Heap, reindex_larger};
use crate::engine::version::Version;
use crate::engine::write::mutator::{Abort, At, Mutator, Target, WriteResult};
use crate::engine::write::publish::Insertion;

/// The length that marks, while an index is rebuilt, that a key's newest record is a deletion.
const GONE: u32 = u32::MAX;

impl Mutator {
    /// Looks at what the last writer left, whether it was killed, or somebody else has changed it
    /// since, and finishes it where that is enough. What a recovery would be about is told beside.
    pub(crate) fn examine(
        &mut self,
        handle: &Handle,
        has_marked: bool,
    ) -> Result<(Origin, WriteResult<()>)> {
        // Not cloned: an atomic count would wait for the stores of the last write.
        let (generation, boot) = (&self.generation, handle.boot);
        let believed = handle.believed.load(Relaxed) == generation.inode.1;
        // Asked before this writer is seen to be at work: the name of one that was killed tells.
        let floor = generation.last_visit();
        let header = generation.header();
        header.set(word::HOLDER, u64::from(lock::process()));
        let settled = handle.settled.load(Relaxed) == generation.inode.1;
        if !settled || header.get(word::RENAMES_PENDING) != 0 {
            handle.settle(generation)?;
        }
        let elsewhere = generation.is_from_elsewhere(boot) && !has_marked;
        let doubtful = (generation.is_copied(boot) || generation.seen.latest > floor) && !believed;
        if elsewhere || doubtful {
            self.remove_leftovers(boot, floor)?;
        }
        let finished = if elsewhere {
            let what = "written under another boot, or copied";
            Err(Abort::Recover(what, At::Word(word::DIRTY)))
        } else if doubtful {
            let what = "copied or restored files that do not agree";
            Err(Abort::Recover(what, At::Word(word::INODE)))
        } else if let Some((what, at)) = self.generation.fault() {
            Err(Abort::Recover(what, At::Word(at)))
        } else if !settled && heap_presence::has_older(&self.generation, &handle.names)? {
            let what = "the heap's first segment, before which there is another";
            Err(Abort::Recover(what, At::Word(word::OLDEST)))
        } else {
            self.finish()
        };
        let origin = if doubtful {
            Origin::Elsewhere
        } else {
            Origin::Here
        };
        Ok((origin, finished))
    }

    /// Finishes or takes back the operation that a killed writer left half done.
    pub(crate) fn finish(&mut self) -> WriteResult<()> {
        match self.generation.header().intent() {
            Armed::No => self.finish_record(),
            Armed::Damaged => Err(Abort::Recover(
                "an intent that nobody armed",
                At::Word(word::INTENT),
            )),
            Armed::Yes(intent) => {
                self.finish_intent(&intent)?;
                self.close_record();
                self.generation.header().disarm();
                Ok(())
            }
        }
    }

    /// Stores again what the intent was armed for; the stores that were done before the kill change
    /// nothing.
    fn finish_intent(&mut self, intent: &Intent) -> WriteResult<()> {
        let table = Arc::clone(&self.generation.table);
        let region = match *intent {
            Intent::Insert {
                slot,
                position,
                link,
                after,
            } => {
                self.finish_insert(slot, position, link, after)?;
                table.slot_home(slot).0
            }
            Intent::Delete { slot, .. } => {
                self.apply_delete(&table, intent)?;
                table.slot_home(slot).0
            }
            Intent::Replace { low, .. } => {
                self.apply_replace(&table, intent)?;
                low
            }
        };
        // The region's own counts are not in the intent: its control bytes tell.
        let region = table.region(region)?;
        region.set_counts(region.recount());
        Ok(())
    }

    fn finish_insert(
        &mut self,
        slot: u32,
        position: u32,
        link: Link,
        after: crate::format::index::Counters,
    ) -> WriteResult<()> {
        let table = Arc::clone(&self.generation.table);
        let mut key = Vec::new();
        let place = link.place();
        let found = match self.segment(place.segment)? {
            Some(segment) => segment.read_any(place.unit, &mut key, None)?,
            None => None,
        };
        let Some(header) = found.filter(|header| header.kind == Kind::Entry) else {
            return Err(Abort::Recover(
                "an intent whose record is damaged",
                At::Heap(place),
            ));
        };
        let hash = self.generation.hasher.hash(&key);
        let region = table.region(table.slot_home(slot).0)?;
        if !region.shape().holds(hash.directory()) || link.tag() != hash.tag() {
            return Err(Abort::Recover(
                "an intent for a slot of other keys",
                At::Word(word::INTENT_BODY),
            ));
        }
        let plan = Insertion {
            slot,
            position,
            counts: region.counts(),
            after,
        };
        let meta = Meta {
            mtime: header.mtime,
            value_len: header.value_len,
        };
        self.apply_insert(&table, &plan, link, hash, meta, &key)
    }

    /// Without an intent, the operation was an overwrite, a copy of the cleaner's, or the beginning
    /// of a segment; or it had not come to its intent.
    fn finish_record(&mut self) -> WriteResult<()> {
        let header = self.generation.header();
        let (tail, reserved) = (header.tail(), header.reserved());
        if tail == reserved {
            return Ok(());
        }
        if reserved.segment != tail.segment {
            return self.finish_roll(tail, reserved);
        }
        self.segment(tail.segment)?;
        if reserved.unit < tail.unit || !self.generation.plausible(reserved) {
            return Err(Abort::Recover(
                "the heap's end lies before its end",
                At::Word(word::RESERVED),
            ));
        }
        if self.is_linked(tail, reserved)? {
            let header = self.generation.header();
            header.set_live(header.live_after());
            header.count_change();
            header.set_tail(reserved);
            return Ok(());
        }
        if self.holds_others(tail, reserved)? {
            return Err(Abort::Recover(
                "the heap's end lies before its records",
                At::Heap(tail),
            ));
        }
        // Nobody links to it: zero it, lest it speak up when the heap is read one day. The zeros
        // are to be synced too, by whoever syncs next.
        let header = self.generation.header();
        if header.get(word::SYNCED) == tail.to_word() {
            header.set(word::SYNCED, Place { unit: 0, ..tail }.to_word());
        }
        if let Some(segment) = self.generation.segment(tail.segment) {
            segment.erase(tail.unit, reserved.unit)?;
        }
        self.generation.header().unreserve(tail);
        Ok(())
    }

    /// Whether the reserved range holds more than the one record that was under way: then its
    /// beginning is damaged, and erasing it would cost records that are sound.
    fn holds_others(&mut self, from: Place, to: Place) -> WriteResult<bool> {
        let Some(segment) = self.segment(from.segment)? else {
            return Ok(false);
        };
        let fills = |stored: u64| u64::from(to.unit - from.unit) * 8 == stored;
        if segment.stored_bytes(from.unit)?.is_some_and(fills)
            || segment.is_zero(from.unit, to.unit)?
        {
            return Ok(false);
        }
        // Killed within the first three words of a record, or damage: only now is it worth a walk.
        let mut walker = segment.walk(0, to.unit);
        while let Some(found) = walker.step()? {
            if matches!(found, Found::Record(..)) && walker.unit() > from.unit {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether the record that fills the reserved range is an entry's.
    fn is_linked(&mut self, from: Place, to: Place) -> WriteResult<bool> {
        let mut key = Vec::new();
        let Some(segment) = self.segment(from.segment)? else {
            return Ok(false);
        };
        let Some(header) = segment.read_any(from.unit, &mut key, None)? else {
            return Ok(false);
        };
        if u64::from(to.unit - from.unit) * 8 != header.stored_bytes() {
            return Ok(false);
        }
        let table = Arc::clone(&self.generation.table);
        Ok(self
            .find_place(&table, self.generation.hasher.hash(&key), from)?
            .is_some())
    }

    fn finish_roll(&mut self, tail: Place, reserved: Place) -> WriteResult<()> {
        let begun = reserved == first_place(reserved.segment)
            && reserved.segment == tail.segment.wrapping_add(1);
        if !begun {
            return Err(Abort::Recover(
                "the heap's end lies in two segments",
                At::Word(word::RESERVED),
            ));
        }
        if self.segment(reserved.segment)?.is_some() {
            self.generation.header().set_tail(reserved);
        } else {
            self.generation.header().unreserve(tail);
        }
        Ok(())
    }
}

/// What reading the heap brought back so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Salvage {
    /// Bytes of the heap that were read, and that there are.
    pub read_bytes: u64,
    pub heap_bytes: u64,
    pub records: u64,
    /// Bytes that are damaged, and how many stretches of them there are.
    pub damaged_bytes: u64,
    pub stretches: u64,
    /// Entries of the old index that did not come back; none where it told nothing.
    pub missing: Option<Missing>,
}

/// Whose files they are that a recovery is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A writer wrote them where they are.
    Here,
    /// Somebody copied or restored them.
    Elsewhere,
}

/// What bytes are that are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Damage {
    /// From this place on, records that had not come to the disk when the power was lost. Nobody
    /// was promised that they stay: gaps take their place. What stands before it was synced, and is
    /// damaged.
    NeverWritten(Place),
    /// The files are copies: gaps take the place of all of it. What stands before the end of the
    /// heap is damaged; what stands behind it was written while it was copied.
    Copied(Place),
    /// They are left as they are, for whoever wants to know.
    Unknown,
}

impl Damage {
    /// What the words of the last writer say of it.
    fn of(generation: &Generation, boot: [u64; 2], origin: Origin) -> Self {
        let header = generation.header();
        if origin == Origin::Elsewhere || generation.is_copied(boot) {
            Self::Copied(header.tail())
        } else if generation.is_from_elsewhere(boot) {
            let synced = match header.get(word::FLUSHED) {
                0 => 0,
                _ => header.get(word::SYNCED),
            };
            Self::NeverWritten(Place::from_word(synced))
        } else {
            Self::Unknown
        }
    }

    /// Whether nothing was lost at a place: no record ever came to stand there.
    pub(crate) fn was_never_written(self, place: Place) -> bool {
        matches!(self, Self::NeverWritten(from) | Self::Copied(from) if place >= from)
    }

    fn is_by_power_loss(self) -> bool {
        matches!(self, Self::NeverWritten(_))
    }

    /// Whether what is no record is taken away there.
    fn is_cleared(self, place: Place) -> bool {
        matches!(self, Self::Copied(_)) || self.was_never_written(place)
    }
}

/// After so many bytes of heap whoever waits is told how far it is.
const TELL_EACH: u64 = 1 << 20;

impl Handle {
    /// Builds index and roster anew from the heap: of each key the newest record that verifies
    /// wins, and a deletion wins like any other. Appends then go to a fresh segment.
    ///
    /// Refuses where the heap, or a part of it, is not there: it would be dropped.
    pub(crate) fn recover_from_heap(
        &self,
        mutator: &mut Mutator,
        origin: Origin,
    ) -> WriteResult<()> {
        heap_presence::check(&mutator.generation, &self.names, self.boot)?;
        log::warn!(
            "{}: rebuilding index and roster from the heap",
            self.path.display()
        );
        let mut salvage = Salvage::default();
        let old = Arc::clone(&mutator.generation);
        let rebooted = old.header().written_under() != self.boot;
        let damage = Damage::of(&old, self.boot, origin);
        self.switch(mutator, Heap::Kept, self.options.capacity, |fresh| {
            salvage = refill(fresh, damage, Some(&old), &mut |_| Ok(()))?;
            remove_unwritten(fresh, damage)?;
            let header = fresh.generation.header();
            if rebooted {
                // What is read now comes from the disk, not from a cache that a failed sync left
                // behind.
                header.set(word::SYNC_ERROR, 0);
            }
            header.add(word::DROPPED, salvage.dropped());
            header.add(word::RECOVERIES, 1);
            Ok(())
        })?;
        let recovery = salvage.recovery(mutator.generation.header().occupied());
        log::warn!("{}: {recovery}", self.path.display());
        self.recovered.store(Some(Arc::new(recovery)));
        Ok(())
    }
}

impl Salvage {
    /// Entries that are given up. Where no index told of them, each stretch of damage was one at
    /// least.
    pub(crate) fn dropped(&self) -> u64 {
        self.missing
            .map_or(self.stretches, |missing| missing.dropped)
    }

    fn recovery(&self, entries: u64) -> Recovery {
        let missing = self.missing.unwrap_or_default();
        Recovery {
            entries_before: missing.entries_before,
            entries,
            records: self.records,
            dropped: self.dropped(),
            unwritten: missing.unwritten,
            damaged_bytes: self.damaged_bytes,
        }
    }
}

/// Fills an empty generation, which has all segments of the heap mapped, with what their records
/// say, and begins a fresh segment. `told` hears how far it is, and can end it by an error. Entries
/// of the old index, where there is one, are looked for.
pub(crate) fn refill(
    fresh: &mut Mutator,
    damage: Damage,
    old: Option<&Generation>,
    told: &mut dyn FnMut(Salvage) -> Result<()>,
) -> WriteResult<Salvage> {
    // A segment whose header never came to the disk has a name all the same: the next number lies
    // behind that.
    let all = fresh.names.segment_numbers()?;
    let highest = all.last().copied().unwrap_or(0);
    let salvage = read_heap(fresh, highest, damage, old, told)?;
    if fresh.generation.is_numbered() {
        fresh.give_up_reserved()?;
    }
    fresh.rotate(0)?;
    heap_presence::whole_from_tail(fresh.generation.header());
    Ok(salvage)
}

/// As [`refill`], but that numbers which may have been given are not given up, and that the last
/// segment stays the last. `highest` is the highest number that a segment's file has.
pub(crate) fn read_heap(
    fresh: &mut Mutator,
    highest: u16,
    damage: Damage,
    old: Option<&Generation>,
    told: &mut dyn FnMut(Salvage) -> Result<()>,
) -> WriteResult<Salvage> {
    reset_heap_words(fresh, highest)?;
    let mut salvage = index_heap(fresh, damage, told)?;
    if let Some(old) = old {
        // While the table still knows the keys whose newest record is a deletion.
        salvage.missing = Missing::of(old, fresh, damage.is_by_power_loss(), |place| {
            damage.was_never_written(place)
        })?;
    }
    if !fresh.generation.is_numbered() {
        sweep_deletions(fresh)?;
    }
    Ok(salvage)
}

/// The header of the old index may be as old as the last sync: the segments themselves say where
/// the heap is.
fn reset_heap_words(fresh: &Mutator, highest: u16) -> WriteResult<()> {
    let header = fresh.generation.header();
    let first = fresh
        .generation
        .segments()
        .next()
        .map_or(0, |segment| segment.number());
    let mut before = 0;
    let mut last = first_place(first);
    for segment in fresh.generation.segments() {
        before += last.bytes();
        last = Place {
            segment: segment.number(),
            unit: (segment.file().len()? / 8) as u32,
        };
    }
    if highest > last.segment {
        before += last.bytes();
        last = first_place(highest);
    }
    header.set_oldest(first);
    header.set(word::CURSOR, Cursor::at(first_place(first)).to_word());
    header.set(word::HEAP_BASE, before);
    header.unreserve(last);
    header.set_tail(last);
    if header.get(word::SYNC_ERROR) > 1 {
        header.set(word::SYNC_ERROR, 0);
    }
    // What was synced of it is not known any more.
    header.set(word::SYNCED, first_place(first).to_word());
    Ok(())
}

fn index_heap(
    fresh: &mut Mutator,
    damage: Damage,
    told: &mut dyn FnMut(Salvage) -> Result<()>,
) -> WriteResult<Salvage> {
    let segments: Vec<_> = fresh.generation.segments().cloned().collect();
    let mut salvage = Salvage {
        heap_bytes: segments.iter().map(|segment| segment.allocated()).sum(),
        ..Salvage::default()
    };
    let carried = fresh.generation.header().get(word::LAST_MTIME);
    let is_numbered = fresh.generation.is_numbered();
    let known = segments.iter().map(|segment| segment.created());
    let mut newest = known
        .chain([carried])
        .filter(|&version| version <= Version::MAX && !is_numbered)
        .max()
        .unwrap_or(0);
    let mut key = Vec::new();
    let mut before = 0;
    for segment in segments {
        let mut walker = segment.walk(0, (segment.refresh()? / 8) as u32);
        while let Some(found) = walker.step()? {
            let read_bytes = before + u64::from(walker.unit()) * 8;
            if read_bytes - salvage.read_bytes >= TELL_EACH {
                salvage.read_bytes = read_bytes;
                told(salvage)?;
            }
            match found {
                Found::Damage { from, to } => {
                    let place = Place {
                        segment: segment.number(),
                        unit: from,
                    };
                    if !damage.was_never_written(place) {
                        salvage.damaged_bytes += u64::from(to - from) * 8;
                        salvage.stretches += 1;
                    }
                    if damage.is_cleared(place) && !walker.gave_up() {
                        close_gap(&segment, from, to)?;
                    }
                }
                Found::Record(_, header) if header.kind == Kind::Gap => {}
                Found::Record(place, header) => {
                    key.clear();
                    if segment.read_any(place.unit, &mut key, None)?.is_some() {
                        salvage.records += 1;
                        newest = newest.max(header.mtime);
                        if is_numbered {
                            index_numbered(fresh, place, header, &key)?;
                        } else {
                            index_record(fresh, place, header, &key)?;
                        }
                    }
                }
            }
        }
        before += segment.allocated();
        salvage.read_bytes = before;
        told(salvage)?;
    }
    if is_numbered {
        newest = highest_reserved(newest, carried);
    }
    fresh.generation.header().set(word::LAST_MTIME, newest);
    Ok(salvage)
}

/// Takes away what is no record: behind it the segment is at its end, or there is another record.
fn close_gap(segment: &Segment, from: u32, to: u32) -> Result<()> {
    if segment.walk(to, segment.capacity_units()).step()?.is_some() {
        segment.fill_gap(from, to)
    } else {
        segment.erase(from, to)
    }
}

/// Removes the files of segments of which neither the header nor any record came to the disk: in
/// the midst of the others they would be taken for damage when cleaning gets there.
fn remove_unwritten(fresh: &Mutator, damage: Damage) -> Result<()> {
    for number in fresh.names.segment_numbers()? {
        let path = fresh.names.segment(number, Stage::Final);
        let unknown = damage.is_cleared(first_place(number))
            && fresh.generation.segment(number).is_none()
            && read_sealed::<SegmentHeader>(&path)?.is_none();
        if unknown && files::is_ours_or_blank(&path, SegmentHeader::MAGIC)? {
            files::remove(&path)?;
        }
    }
    Ok(())
}

/// Lets a record win or lose against what is known of its key.
fn index_record(
    fresh: &mut Mutator,
    place: Place,
    header: record::Header,
    key: &[u8],
) -> WriteResult<()> {
    let hash = fresh.generation.hasher.hash(key);
    let gone = header.kind == Kind::Deletion;
    let meta = Meta {
        mtime: header.mtime,
        value_len: if gone { GONE } else { header.value_len },
    };
    let bytes = |header: record::Header| {
        if header.kind == Kind::Entry {
            header.stored_bytes()
        } else {
            0
        }
    };
    let table = Arc::clone(&fresh.generation.table);
    if let Some(target) = fresh.find(&table, hash, key)? {
        let known = target.record.map_or((0, target.link.place()), |known| {
            (known.mtime, target.link.place())
        });
        if (header.mtime, place) > known {
            let live = table.header().counters().live.saturating_add(bytes(header));
            fresh.relink(
                &target,
                place,
                meta,
                live.saturating_sub(target.record.map_or(0, bytes)),
            );
        }
        return Ok(());
    }
    adopt_enlarging(fresh, place, meta, bytes(header), hash, key)
}

/// Takes in the record of a numbered key. Of two for one key, or for one number, the first is the
/// one that counts: to whoever wrote the second, damage had hidden it.
fn index_numbered(
    fresh: &mut Mutator,
    place: Place,
    header: record::Header,
    key: &[u8],
) -> WriteResult<()> {
    if header.kind != Kind::Entry || fresh.has_number(header.mtime)? {
        return Ok(());
    }
    let hash = fresh.generation.hasher.hash(key);
    let table = Arc::clone(&fresh.generation.table);
    if fresh.find(&table, hash, key)?.is_some() {
        return Ok(());
    }
    let meta = Meta {
        mtime: header.mtime,
        value_len: 0,
    };
    adopt_enlarging(fresh, place, meta, header.stored_bytes(), hash, key)
}

/// Links a record, in a larger table if it must be.
fn adopt_enlarging(
    fresh: &mut Mutator,
    place: Place,
    meta: Meta,
    bytes: u64,
    hash: Hash,
    key: &[u8],
) -> WriteResult<()> {
    loop {
        match fresh.adopt(place, meta, bytes, hash, key) {
            Err(Abort::Enlarge) => {
                let larger = reindex_larger(fresh)?;
                *fresh = larger;
            }
            other => return other,
        }
    }
}

/// Takes out the keys whose newest record is a deletion.
fn sweep_deletions(fresh: &mut Mutator) -> WriteResult<()> {
    let table = Arc::clone(&fresh.generation.table);
    for position in 0..fresh.generation.roster_len() {
        let Position::Slot(number) = fresh.generation.roster.get(position)? else {
            continue;
        };
        let (region, index) = table.slot_home(number);
        let slot = table.region(region)?.slot(index);
        let link = slot.link();
        if link.is_entry() && slot.meta(link.which()).value_len == GONE {
            fresh.drop_entry(
                &Target {
                    region,
                    index,
                    slot,
                    link,
                    record: None,
                },
                0,
            )?;
        }
    }
    Ok(())
}
