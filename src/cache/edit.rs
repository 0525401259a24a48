//! Changing entries: the order of stores of every operation, each beside its argument.
//!
//! An [`Editor`] works on one generation whose writer lock is held, or which nobody else can see
//! yet. It knows how a change is made so that a kill at any store leaves the old or the new state;
//! not who may make it, nor when the heap is cleaned or the generation switched.

use std::sync::Arc;

use crate::dir::{Access, Names, Stage};
use crate::error::{Error, Result};
use crate::format::Geometry;
use crate::format::index::{Counters, word};
use crate::format::record::{self, Kind, Variant};
use crate::format::region::{Counts, DELETED, EMPTY, Stamp};
use crate::format::roster::Position;
use crate::format::segment::LAST_NUMBER;
use crate::format::slot::{Identity, Link, Meta, Place};
use crate::hash::Hash;
use crate::header::Intent;
use crate::heap::{Dead, Outcome, Segment};
use crate::sync::stores_done;
use crate::table::Table;
use crate::table::region::{Region, Slot};

use super::batch::Batch;
use super::version::Version;
use super::view::View;

/// Positions by which the roster grows at once, at most: 256 KiB.
const POSITIONS_AHEAD: u64 = 1 << 16;

/// Why an editor stopped.
#[derive(Debug)]
pub(crate) enum Stop {
    /// Boxed, to keep results small: they are copied while the stores of a change are on their way.
    Failed(Box<Error>),
    /// The shared state contradicts itself: index and roster must be rebuilt from the heap.
    Recover(&'static str),
    /// The table can grow no further with its geometry.
    Enlarge,
    /// The heap has used up its segment numbers.
    Renumber,
}

impl Stop {
    /// Whether a larger table or a larger disk would have helped.
    pub(crate) fn is_want_of_room(&self) -> bool {
        match self {
            Self::Failed(error) => matches!(**error, Error::DiskFull { .. }),
            Self::Enlarge => true,
            Self::Recover(_) | Self::Renumber => false,
        }
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(Box::new(error))
    }
}

pub(crate) type Outcomes<T> = std::result::Result<T, Stop>;

/// Changes one generation.
#[derive(Debug)]
pub(crate) struct Editor {
    pub view: Arc<View>,
    pub names: Arc<Names>,
    /// Under which names this generation's segments are made.
    pub stage: Stage,
    /// The view's table once more, kept over from the last change; see [`Editor::with_table`].
    table: Option<Arc<Table>>,
    /// Segments whose files were removed; whoever drops them last gives back memory and blocks.
    pub removed: Vec<Arc<Segment>>,
    /// What this editor superseded or deleted; see [`Editor::dead`].
    dead: Dead,
    /// The cleaner's, kept for the sake of its memory.
    pub batch: Batch,
}

/// An entry as a writer found it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target<'a> {
    pub region: u32,
    pub index: u32,
    pub slot: Slot<'a>,
    pub link: Link,
    /// The record's header, which the slot repeats, or else its checksum proves; none where the
    /// record cannot be believed and only the slot is known.
    pub record: Option<record::Header>,
}

/// Whether an appended record may use the heap's reserve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// It may not: the reserve is there so that deleting works on a full disk.
    Ordinary,
    Deletion,
}

impl Editor {
    pub(crate) fn new(view: Arc<View>, names: Arc<Names>, stage: Stage) -> Self {
        Self {
            dead: Dead::new(view.ids.roster),
            view,
            names,
            stage,
            table: None,
            removed: Vec::new(),
            batch: Batch::default(),
        }
    }

    /// What is known to be dead of this generation's heap.
    pub(crate) fn dead(&mut self) -> &mut Dead {
        let generation = self.view.ids.roster;
        if self.dead.generation() != generation {
            self.dead = Dead::new(generation);
        }
        &mut self.dead
    }

    /// Remembers that an entry's record is dead: nothing links to it any more.
    fn bury(&mut self, target: &Target<'_>) {
        if let Some(header) = target.record {
            self.bury_record(target.link.place(), header);
        }
    }

    fn bury_record(&mut self, place: Place, header: record::Header) {
        let Some(segment) = self.view.segment(place.segment) else {
            return;
        };
        let capacity = segment.capacity_units();
        let units = (header.stored_bytes() / 8) as u32;
        self.dead().mark(place, units, capacity);
    }

    /// Runs a change with the table beside the editor.
    ///
    /// The table's count is not touched each time: an atomic increment waits until all stores
    /// before it are in the cache, and those of a put mostly miss it (650 ns a put with it, 520
    /// without).
    pub(crate) fn with_table<T>(&mut self, change: impl FnOnce(&mut Self, &Table) -> T) -> T {
        let kept = self
            .table
            .take()
            .filter(|table| Arc::ptr_eq(table, &self.view.table));
        let table = kept.unwrap_or_else(|| Arc::clone(&self.view.table));
        let done = change(self, &table);
        self.table = Some(table);
        done
    }

    /// Who may touch this generation's files, and so those that are made for it.
    pub(crate) fn access(&self) -> Result<Access> {
        let index = self.view.table.file();
        Access::of(index.file(), index.path())
    }

    /// A segment of the heap, mapped if it was not; none where its file is gone.
    pub(crate) fn segment(&mut self, number: u16) -> Result<Option<&Segment>> {
        if self.view.segment(number).is_none() {
            let Some(segment) = self.view.open_segment(&self.names, number)? else {
                return Ok(None);
            };
            self.view = Arc::new(self.view.with_segment(segment));
        }
        Ok(self.view.segment(number))
    }

    /// The region of a hash, checked against the directory entry that leads to it.
    ///
    /// In line, like the other parts of a put: it takes 189 ns of the engine, 201 where they hand
    /// their results on through memory.
    #[inline(always)]
    fn region<'t>(&self, table: &'t Table, hash: Hash) -> Outcomes<Region<'t>> {
        let located = table.locate(table.header().poll(), hash)?;
        // What the search begins with comes while the region is checked.
        located.region.prefetch(hash);
        let (stamp, shape) = (located.region.stamp(), located.region.shape());
        if stamp != Stamp::live(located.entry.incarnation()) || !shape.holds(hash.directory()) {
            return Err(Stop::Recover("a directory entry and its region disagree"));
        }
        Ok(located.region)
    }

    /// Finds the live entry of a key.
    pub(crate) fn find<'t>(
        &mut self,
        table: &'t Table,
        hash: Hash,
        key: &[u8],
    ) -> Outcomes<Option<Target<'t>>> {
        let region = self.region(table, hash)?;
        self.find_in(region, hash, key)
    }

    #[inline(always)]
    fn find_in<'t>(
        &mut self,
        region: Region<'t>,
        hash: Hash,
        key: &[u8],
    ) -> Outcomes<Option<Target<'t>>> {
        for (index, slot, link) in region.probe(hash) {
            // It comes while the record does.
            slot.prefetch();
            let record = match self.segment(link.place().segment)? {
                Some(segment) => match segment.compare(link.place().unit, key)? {
                    Outcome::Match(header) if slot_repeats(slot, link, header) => Some(header),
                    // One of the two is damaged.
                    Outcome::Match(_) => segment.verify(link.place().unit)?,
                    _ if slot_says(slot, key) => None,
                    _ => continue,
                },
                None if slot_says(slot, key) => None,
                None => continue,
            };
            let region = region.number();
            return Ok(Some(Target {
                region,
                index,
                slot,
                link,
                record,
            }));
        }
        Ok(None)
    }

    /// Finds the entry whose record stands at a place.
    pub(crate) fn find_place<'t>(
        &self,
        table: &'t Table,
        hash: Hash,
        place: Place,
    ) -> Outcomes<Option<Target<'t>>> {
        let located = table.locate(self.view.header().poll(), hash)?;
        let found = located
            .region
            .probe(hash)
            .find(|(_, _, link)| link.place() == place);
        Ok(found.map(|(index, slot, link)| Target {
            region: located.region.number(),
            index,
            slot,
            link,
            record: None,
        }))
    }

    /// Puts an entry. A version is given where an older one is repeated; else it is the next one.
    pub(crate) fn put(&mut self, key: &[u8], value: &[u8], version: Option<u64>) -> Outcomes<u64> {
        self.with_table(|editor, table| editor.put_into(table, key, value, version))
    }

    fn put_into(
        &mut self,
        table: &Table,
        key: &[u8],
        value: &[u8],
        version: Option<u64>,
    ) -> Outcomes<u64> {
        let hash = self.view.hasher.hash(key);
        let region = self.region(table, hash)?;
        // Not only the slot that is chosen later: storing to it else is what the next put waits for
        // (204 ns of the engine, 221 without).
        region.prefetch_home_bodies(hash);
        let header = self.entry_header(key, value, version)?;
        if let Some(target) = self.find_in(region, hash, key)? {
            self.refuse_overwriting(&target)?;
            self.overwrite(table, target, header, key, value)?;
            return Ok(header.mtime);
        }
        self.check_limit()?;
        if header.variant == Variant::Numbered {
            self.reserve_number(header.mtime)?;
        }
        let region = self.make_room(table, region, hash)?;
        let (bytes, version) = (header.stored_bytes(), header.mtime);
        let plan = self.plan_insert(table, region, hash, bytes, version)?;
        self.insert(table, &plan, hash, header, key, value)?;
        Ok(header.mtime)
    }

    #[inline(always)]
    fn entry_header(
        &self,
        key: &[u8],
        value: &[u8],
        version: Option<u64>,
    ) -> Outcomes<record::Header> {
        let Geometry {
            max_segment_bytes: most,
            variant,
            ..
        } = *self.view.table.geometry();
        let overhead = record::HEADER_BYTES as u64 + key.len() as u64;
        let room = (most - crate::format::segment::HEADER_BYTES - margin(most)) & !7;
        let max = match variant {
            Variant::Versioned => room.saturating_sub(overhead).min(u64::from(u32::MAX) - 1),
            Variant::Numbered => 0,
        };
        if value.len() as u64 > max {
            let path = self.names.cache().to_owned();
            return Err(Error::ValueTooLarge {
                path,
                len: value.len(),
                max,
            }
            .into());
        }
        let shared = self.view.header();
        let mtime = version.unwrap_or_else(|| match variant {
            Variant::Versioned => Version::next(shared.get(word::LAST_MTIME)),
            Variant::Numbered => shared.counters().roster_len.saturating_add(1),
        });
        Ok(record::Header {
            variant,
            value_len: value.len() as u32,
            mtime,
            key_len: key.len() as u16,
            kind: Kind::Entry,
        })
    }

    /// Refuses, where what was put stays as it is, whatever would change it.
    pub(crate) fn refuse_if_append_only(&self) -> Outcomes<()> {
        if !self.view.is_append_only() {
            return Ok(());
        }
        let path = self.names.cache().to_owned();
        Err(Error::AppendOnly { path }.into())
    }

    /// The same for another value of an entry. What damage has taken may be put again, but for a
    /// number, which would have to be another one.
    fn refuse_overwriting(&self, target: &Target<'_>) -> Outcomes<()> {
        if self.view.is_append_only() && !self.view.is_numbered() && !self.is_sound(target)? {
            return Ok(());
        }
        self.refuse_if_append_only()
    }

    /// Whether the record of an entry verifies.
    fn is_sound(&self, target: &Target<'_>) -> Result<bool> {
        let place = target.link.place();
        match self.view.segment(place.segment) {
            Some(segment) if target.record.is_some() => Ok(segment.verify(place.unit)?.is_some()),
            _ => Ok(false),
        }
    }

    fn check_limit(&self) -> Outcomes<()> {
        let geometry = self.view.table.geometry();
        if geometry.variant == Variant::Numbered {
            return self.check_numbers();
        }
        let limit = geometry.max_entries;
        if limit > 0 && self.view.header().occupied() >= limit {
            return Err(Error::TableFull {
                path: self.names.cache().to_owned(),
                limit,
            }
            .into());
        }
        Ok(())
    }

    /// Replaces the value of an entry.
    ///
    /// A kill before the link's store leaves the old value, and a record between `tail` and
    /// `reserved` that is taken back; after it, a record that is linked, and counters that
    /// `live_after` completes. The other meta is filled before the link chooses it, and not before
    /// a reader of an older link could tell (the fence in `reserve`).
    fn overwrite(
        &mut self,
        table: &Table,
        target: Target<'_>,
        header: record::Header,
        key: &[u8],
        value: &[u8],
    ) -> Outcomes<()> {
        let live = self.view.header().counters().live;
        let live_after = live
            .saturating_sub(old_bytes(&target))
            .saturating_add(header.stored_bytes());
        let place = self.append(header, key, value, live_after, Need::Ordinary)?;
        let which = !target.link.which();
        let meta = Meta {
            mtime: header.mtime,
            value_len: header.value_len,
        };
        target.slot.set_meta(which, meta);
        if target.record.is_none() {
            // What the slot repeats of a key whose record was damaged may be damaged too.
            target.slot.set_key(key);
        }
        target
            .slot
            .set_link(Link::new(place, which, target.link.tag()));
        let shared = table.header();
        shared.set_live(live_after);
        shared.count_change();
        shared.add(word::PUTS, 1);
        shared.add(word::OVERWRITES, 1);
        self.close_record();
        self.bury(&target);
        Ok(())
    }

    /// Makes a new entry; there is room for it.
    #[inline(always)]
    fn insert(
        &mut self,
        table: &Table,
        plan: &Plan,
        hash: Hash,
        header: record::Header,
        key: &[u8],
        value: &[u8],
    ) -> Outcomes<()> {
        let place = self.append(header, key, value, plan.after.live, Need::Ordinary)?;
        let meta = Meta {
            mtime: header.mtime,
            value_len: header.value_len,
        };
        self.link_new(
            table,
            plan,
            Link::new(place, false, hash.tag()),
            hash,
            meta,
            key,
        )?;
        table.header().add(word::PUTS, 1);
        self.close_record();
        table.header().disarm();
        Ok(())
    }

    /// Links a record that stands in the heap already, as the entry of a key that has none.
    pub(crate) fn adopt(
        &mut self,
        place: Place,
        meta: Meta,
        bytes: u64,
        hash: Hash,
        key: &[u8],
    ) -> Outcomes<()> {
        let table = Arc::clone(&self.view.table);
        let region = self.region(&table, hash)?;
        let region = self.make_room(&table, region, hash)?;
        let plan = self.plan_insert(&table, region, hash, bytes, meta.mtime)?;
        self.link_new(
            &table,
            &plan,
            Link::new(place, false, hash.tag()),
            hash,
            meta,
            key,
        )?;
        table.header().disarm();
        Ok(())
    }

    /// Links an entry to another record of its key, which stands in the heap already.
    pub(crate) fn relink(&self, target: &Target<'_>, place: Place, meta: Meta, live_after: u64) {
        let which = !target.link.which();
        target.slot.set_meta(which, meta);
        target
            .slot
            .set_link(Link::new(place, which, target.link.tag()));
        self.view.header().set_live(live_after);
    }

    /// Chooses slot and roster position of a new entry. Whatever can fail, fails here.
    #[inline(always)]
    fn plan_insert(
        &mut self,
        table: &Table,
        region: Region<'_>,
        hash: Hash,
        bytes: u64,
        version: u64,
    ) -> Outcomes<Plan> {
        let (index, control) = region.vacancy(hash).ok_or(Stop::Enlarge)?;
        // The slot comes while the record is being written: a put of a new key among a million cost
        // 577 ns without.
        region.slot(index).prefetch();
        let mut after = table.header().counters();
        let position = match table.geometry().variant {
            Variant::Versioned => self.take_position(&mut after)?,
            Variant::Numbered => self.position_of(version, &mut after)?,
        };
        let slot = table.slot_number(region.number(), index);
        after.occupied = after.occupied.saturating_add(1);
        after.deleted = after.deleted.saturating_sub(u64::from(control == DELETED));
        after.high_water = after.high_water.max(u64::from(slot) + 1);
        after.live = after.live.saturating_add(bytes);
        let mut counts = region.counts();
        counts.occupied = counts.occupied.saturating_add(1);
        counts.deleted = counts.deleted.saturating_sub(u32::from(control == DELETED));
        Ok(Plan {
            slot,
            position,
            counts,
            after,
        })
    }

    /// A roster position for a new entry: the first hole, if it really is one, or the next at the
    /// end.
    fn take_position(&mut self, after: &mut Counters) -> Outcomes<u32> {
        let roster = &self.view.roster;
        if let Some(position) = after.hole_head.checked_sub(1) {
            if position < after.roster_len
                && let Position::Hole(next) = roster.get(position as u32)?
                && u64::from(next) <= after.roster_len
            {
                after.hole_head = u64::from(next);
                return Ok(position as u32);
            }
            // The list cannot be believed: what it holds stays unused until the roster is rebuilt.
            after.hole_head = 0;
        }
        let position = after.roster_len;
        if position >= 1 << 31 {
            return Err(Stop::Enlarge);
        }
        self.room_in_roster(position)?;
        after.roster_len += 1;
        Ok(position as u32)
    }

    /// Sees to it that a roster position is allocated and mapped: here, where that may fail, and
    /// not when the intent is armed.
    pub(crate) fn room_in_roster(&self, position: u64) -> Outcomes<()> {
        let roster = &self.view.roster;
        if position >= roster.room() {
            // A sixteenth more, so that a large roster does not grow page by page, and not so much
            // that it takes long.
            let ahead = (roster.room() / 16).min(POSITIONS_AHEAD) + 1024;
            let more = (roster.room().max(position) + ahead).next_multiple_of(1024);
            if roster.allocate(more).is_err() {
                roster.allocate(position + 1)?;
            }
        }
        roster.get(position as u32)?;
        Ok(())
    }

    /// Publishes a new entry under an intent, which stays armed.
    ///
    /// The record is complete before the intent is armed, and the intent names all there is to
    /// know, so from here on whoever takes the lock next can only finish. The control byte precedes
    /// the link: one over an unpublished slot costs a reader a look, a missing one would hide the
    /// key.
    pub(crate) fn link_new(
        &self,
        table: &Table,
        plan: &Plan,
        link: Link,
        hash: Hash,
        meta: Meta,
        key: &[u8],
    ) -> Outcomes<()> {
        let (slot, position, after) = (plan.slot, plan.position, plan.after);
        table.header().arm(Intent::Insert {
            slot,
            position,
            link,
            after,
        });
        self.apply_insert(table, plan, link, hash, meta, key)
    }

    /// The stores of an insertion behind its intent; storing them twice is the same as once.
    pub(crate) fn apply_insert(
        &self,
        table: &Table,
        plan: &Plan,
        link: Link,
        hash: Hash,
        meta: Meta,
        key: &[u8],
    ) -> Outcomes<()> {
        let (region, index) = table.slot_home(plan.slot);
        let region = table.region(region)?;
        let slot = region.slot(index);
        slot.set_identity(Identity {
            position: plan.position,
            key_len: key.len() as u16,
            hash: hash.stored(),
        });
        slot.set_meta(link.which(), meta);
        slot.set_key(key);
        self.view
            .roster
            .set(plan.position, Position::Slot(plan.slot))?;
        let shared = table.header();
        shared.set_counters(&plan.after);
        region.set_counts(plan.counts);
        region.set_control(index, hash.control());
        slot.set_link(link);
        shared.count_change();
        Ok(())
    }

    /// Deletes the entry of a key. False where there is none.
    pub(crate) fn delete(&mut self, key: &[u8]) -> Outcomes<bool> {
        self.with_table(|editor, table| editor.delete_from(table, key))
    }

    fn delete_from(&mut self, table: &Table, key: &[u8]) -> Outcomes<bool> {
        self.refuse_if_append_only()?;
        let hash = self.view.hasher.hash(key);
        let Some(target) = self.find(table, hash, key)? else {
            return Ok(false);
        };
        self.view.roster.prefetch(target.slot.identity().position);
        let mtime = Version::next(self.view.header().get(word::LAST_MTIME));
        let header = record::Header {
            variant: Variant::Versioned,
            value_len: 0,
            mtime,
            key_len: key.len() as u16,
            kind: Kind::Deletion,
        };
        let removal = self.plan_removal(table, &target, old_bytes(&target))?;
        let place = self.append(header, key, &[], removal.after().live, Need::Deletion)?;
        self.remove(table, &removal)?;
        table.header().add(word::DELETES, 1);
        self.close_record();
        table.header().disarm();
        self.bury(&target);
        // To cleaning, which comes to it in the oldest segment, a deletion is dead from the start.
        self.bury_record(place, header);
        Ok(true)
    }

    /// Takes an entry out of index and roster without a record of it: one that is lost already.
    /// `bytes` of live records go with it.
    pub(crate) fn drop_entry(&self, target: &Target<'_>, bytes: u64) -> Outcomes<()> {
        let table = Arc::clone(&self.view.table);
        let removal = self.plan_removal(&table, target, bytes)?;
        self.remove(&table, &removal)?;
        table.header().disarm();
        Ok(())
    }

    fn plan_removal(&self, table: &Table, target: &Target<'_>, bytes: u64) -> Outcomes<Intent> {
        let region = table.region(target.region)?;
        let mut after = table.header().counters();
        let vacant = if region.group_has_empty(target.index) {
            Link::NEVER
        } else {
            Link::DELETED
        };
        let slot = table.slot_number(target.region, target.index);
        let mut position = target.slot.identity().position;
        let next_hole = after.hole_head as u32;
        let in_roster = u64::from(position) < after.roster_len
            && self.view.roster.get(position)? == Position::Slot(slot);
        if in_roster {
            after.hole_head = u64::from(position) + 1;
        } else {
            position = NO_POSITION;
        }
        after.occupied = after.occupied.saturating_sub(1);
        after.deleted = after
            .deleted
            .saturating_add(u64::from(vacant == Link::DELETED));
        after.live = after.live.saturating_sub(bytes);
        Ok(Intent::Delete {
            slot,
            position,
            vacant,
            next_hole,
            after,
        })
    }

    /// Publishes a deletion under an intent, which stays armed. The link goes first: it is what
    /// readers believe.
    fn remove(&self, table: &Table, removal: &Intent) -> Outcomes<()> {
        table.header().arm(*removal);
        self.apply_delete(table, removal)
    }

    /// The stores of a deletion behind its intent; storing them twice is the same as once.
    pub(crate) fn apply_delete(&self, table: &Table, removal: &Intent) -> Outcomes<()> {
        let &Intent::Delete {
            slot,
            position,
            vacant,
            next_hole,
            after,
        } = removal
        else {
            return Err(Stop::Recover("an intent of another kind"));
        };
        let (region, index) = table.slot_home(slot);
        let region = table.region(region)?;
        region.slot(index).set_link(vacant);
        region.set_control(
            index,
            if vacant == Link::NEVER {
                EMPTY
            } else {
                DELETED
            },
        );
        if position != NO_POSITION {
            self.view.roster.set(position, Position::Hole(next_hole))?;
        }
        table.header().set_counters(&after);
        let counts = region.counts();
        let deleted = counts
            .deleted
            .saturating_add(u32::from(vacant == Link::DELETED));
        region.set_counts(Counts {
            occupied: counts.occupied.saturating_sub(1),
            deleted,
        });
        table.header().count_change();
        Ok(())
    }

    /// Appends a record, which is then complete but neither linked nor counted: the heap's end is
    /// announced as `reserved`, and `tail` follows when the operation is done.
    pub(crate) fn append(
        &mut self,
        header: record::Header,
        key: &[u8],
        value: &[u8],
        live_after: u64,
        need: Need,
    ) -> Outcomes<Place> {
        let bytes = header.stored_bytes();
        let place = self.room_in_heap(bytes, need)?;
        let shared = self.view.header();
        let segment = self
            .view
            .segment(place.segment)
            .ok_or(Stop::Recover("the last segment is gone"))?;
        // A reservation counts when it is on the disk.
        if header.kind != Kind::Reservation {
            let last = shared.get(word::LAST_MTIME);
            shared.set(word::LAST_MTIME, header.mtime.max(last));
        }
        shared.reserve(
            Place {
                unit: place.unit + (bytes / 8) as u32,
                ..place
            },
            live_after,
        );
        if let Err(error) = segment.write(place.unit, header, key, value) {
            shared.unreserve(place);
            return Err(error.into());
        }
        stores_done();
        Ok(place)
    }

    /// The heap ends behind the record that was just appended.
    pub(crate) fn close_record(&self) {
        let shared = self.view.header();
        shared.set_tail(shared.reserved());
    }

    /// Bytes of all segments up to the heap's end.
    pub(crate) fn heap_bytes(&self) -> u64 {
        let header = self.view.header();
        header
            .get(word::HEAP_BASE)
            .saturating_add(header.tail().bytes())
    }

    /// The place of the next record; it is allocated, and nothing stands there.
    fn room_in_heap(&mut self, bytes: u64, need: Need) -> Outcomes<Place> {
        let mut tail = self.view.header().tail();
        let spare = |capacity| {
            if need == Need::Ordinary {
                margin(capacity)
            } else {
                0
            }
        };
        let segment = self
            .segment(tail.segment)?
            .ok_or(Stop::Recover("the last segment is gone"))?;
        let mut capacity = segment.capacity();
        if tail.bytes() + bytes + spare(capacity) > capacity {
            self.roll(bytes)?;
            tail = self.view.header().tail();
            capacity = self
                .segment(tail.segment)?
                .ok_or(Stop::Recover("the last segment is gone"))?
                .capacity();
        }
        let end = (tail.bytes() + bytes + spare(capacity)).min(capacity);
        let used = self.heap_bytes();
        let segment = self
            .view
            .segment(tail.segment)
            .ok_or(Stop::Recover("the last segment is gone"))?;
        if end > segment.allocated() && end > segment.refresh()? {
            // A quarter more at most; where that is too much for the disk, what is needed. Where
            // memory is short, zeros take 2 to 10 ms a MiB: a piece at a time.
            let step = 1 << (used / 4).clamp(4096, 1 << 18).ilog2();
            let ahead = (end + 1).next_multiple_of(step);
            if segment.grow(ahead).is_err() {
                segment.grow(end)?;
            }
        }
        if !segment.is_blank(tail.unit)? {
            return Err(Stop::Recover("something stands behind the heap's end"));
        }
        Ok(tail)
    }

    /// Begins the next segment, for a record of `need` bytes or for what comes.
    ///
    /// The segment is complete, and its name final, before `reserved` and `tail` name it; a kill
    /// between the two leaves a `tail` in the segment before, which whoever comes next moves on.
    pub(crate) fn roll(&mut self, need: u64) -> Outcomes<()> {
        let shared = self.view.header();
        let tail = shared.tail();
        let following = tail.segment.checked_add(1);
        let next = following
            .filter(|&next| u32::from(next) <= LAST_NUMBER)
            .ok_or(Stop::Renumber)?;
        let before = self.view.heap_bytes_before(&self.names, next)?;
        // What dead records take is going to be cleaned: it must not make the segments ever larger.
        let size = before.min(shared.counters().live.saturating_mul(2));
        let most = self.view.table.geometry().max_segment_bytes;
        let capacity = self.view.next_capacity(size, need + margin(most));
        let segment =
            self.view
                .create_segment(&self.names, next, capacity, self.stage, self.access()?)?;
        let view = Arc::new(self.view.with_segment(segment));
        let first = crate::format::segment::first_place(next);
        shared.set(word::HEAP_BASE, before);
        shared.unreserve(first);
        shared.set_tail(first);
        self.view = view;
        Ok(())
    }
}

/// The position of an entry that the roster does not know.
pub(crate) const NO_POSITION: u32 = u32::MAX;

/// What an insertion is going to store, apart from the entry itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub slot: u32,
    pub position: u32,
    pub counts: Counts,
    pub after: Counters,
}

/// Bytes at a segment's end that only deletions may use.
fn margin(capacity: u64) -> u64 {
    (capacity / 16).min(4096) & !7
}

/// Whether the slot itself names the key in full.
fn slot_says(slot: Slot<'_>, key: &[u8]) -> bool {
    let whole = key.len() <= slot.key().len() * 8;
    whole
        && usize::from(slot.identity().key_len) == key.len()
        && crate::bytes::equal(slot.key(), key)
}

/// Whether a slot says the same of its record as the record's header, which is in another file.
#[inline]
fn slot_repeats(slot: Slot<'_>, link: Link, header: record::Header) -> bool {
    let repeated = slot.meta(link.which());
    (header.mtime, header.value_len) == (repeated.mtime, repeated.value_len)
}

/// Heap bytes of the record that an entry links to, by the record or else by the slot.
pub(crate) fn old_bytes(target: &Target<'_>) -> u64 {
    match target.record {
        Some(header) => header.stored_bytes(),
        None => {
            let meta = target.slot.meta(target.link.which());
            let key = u64::from(target.slot.identity().key_len);
            let fixed = target.slot.variant().header_bytes() as u64;
            (fixed + key + u64::from(meta.value_len)).next_multiple_of(8)
        }
    }
}
