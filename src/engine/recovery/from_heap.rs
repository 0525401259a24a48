//! Rebuilding index and roster from the heap.
//!
//! It reads the whole heap, and runs only after a power loss with unsynced writes, on copied files,
//! or when the shared state contradicts itself. It can be killed and run again. May call
//! `engine::switch` and everything below it.

use std::sync::Arc;

use crate::error::Result;
use crate::format::heap_addr::HeapAddr;
use crate::format::internal;
use crate::format::record::{self, Kind, Traits};
use crate::format::seal::SealedHeader;
use crate::format::segment::{SegmentHeader, first_place};
use crate::hash::Hash;
use crate::heap::{ScanItem, Segment};
use crate::index::header::Header;
use crate::os::file_names::Stage;
use crate::os::files;

use crate::engine::clean::state;
use crate::engine::file_header::read_sealed;
use crate::engine::generation::Generation;
use crate::engine::handle::Handle;
use crate::engine::header_check;
use crate::engine::heap_presence;
use crate::engine::ids::{self, KeyPolicy};
use crate::engine::recovery::losses::{Missing, Recovery};
use crate::engine::switch::{self, Heap, reindex_larger};
use crate::engine::version::Version;
use crate::engine::write::mutator::{Abort, Mutator, Target, WriteResult};
use crate::engine::write::put::StoredRecord;
use crate::engine::write::{cache_words, durability, heap_end, in_place, publish, put};

/// What reading the heap has found so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Salvage {
    /// Bytes of the heap that were read, and all of them.
    pub read_bytes: u64,
    pub heap_bytes: u64,
    pub records: u64,
    /// Bytes that are damaged, and how many stretches of them there are.
    pub damaged_bytes: u64,
    pub stretches: u64,
    /// Whether a deadline of a `Cache` is stored apart from its entry.
    pub has_deadlines: bool,
    /// Entries of the old index that are not in the new one; `None` if the old one is corrupt.
    pub missing: Option<Missing>,
}

/// Where the files of a recovery come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A writer wrote them where they are.
    Here,
    /// Another program copied or restored them.
    Elsewhere,
}

/// What bytes are that belong to no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Damage {
    /// From this place on, records that were not on the disk at a power loss. No caller was promised
    /// that they stay: filler records replace them. Before it all was synced, and is damaged.
    NeverWritten(HeapAddr),
    /// The files are copies: filler records replace all of it. Before the end of the heap it is
    /// damaged; after it, it was written during the copy.
    Copied(HeapAddr),
    /// From this place on, what a killed writer left of a record. All before it is complete, and so many
    /// roster positions were used: ids too, of which nothing may be left.
    Unfinished(HeapAddr, u64),
    /// They are left as they are, for inspection.
    Unknown,
}

impl Damage {
    /// Returns what the header of the last writer says of it.
    fn of(generation: &Generation, boot: [u64; 2], origin: Origin) -> Self {
        let header = generation.header();
        if origin == Origin::Elsewhere || generation.is_copied(boot) {
            Self::Copied(header.tail())
        } else if generation.is_from_elsewhere(boot) {
            Self::NeverWritten(match header.is_flushed() {
                true => header.synced_to(),
                false => HeapAddr::from_word(0),
            })
        } else {
            Self::Unknown
        }
    }

    /// Returns whether nothing was lost at a place: no record there ever came to the disk.
    pub(crate) fn was_never_written(self, place: HeapAddr) -> bool {
        matches!(
            self,
            Self::NeverWritten(from) | Self::Copied(from) | Self::Unfinished(from, _)
                if place >= from
        )
    }

    fn is_by_power_loss(self) -> bool {
        matches!(self, Self::NeverWritten(_))
    }

    /// Returns whether bytes that belong to no record are cleared there.
    fn is_cleared(self, place: HeapAddr) -> bool {
        matches!(self, Self::Copied(_)) || self.was_never_written(place)
    }
}

/// Bytes of heap between two calls of the progress callback.
const PROGRESS_EACH: u64 = 1 << 20;

/// Rebuilds index and roster from the heap: of each key the newest record that verifies wins, and a
/// deletion wins like any other. Appends then go to a fresh segment.
///
/// Refuses if the heap, or a part of it, is not there: its entries would be dropped.
pub(crate) fn recover_from_heap(
    handle: &Handle,
    mutator: &mut Mutator,
    origin: Origin,
) -> WriteResult<()> {
    heap_presence::check(&mutator.generation, &handle.names, handle.boot)?;
    log::warn!(
        "{}: rebuilding index and roster from the heap",
        handle.path.display()
    );
    let mut salvage = Salvage::default();
    let old = Arc::clone(&mutator.generation);
    let rebooted = old.header().written_under() != handle.boot;
    let damage = Damage::of(&old, handle.boot, origin);
    let capacity = handle.options.capacity;
    switch::replace(handle, mutator, Heap::Kept, capacity, |fresh| {
        // W4: half of that record may be all that the heap has of its key.
        in_place::complete(old.header(), &fresh.generation)?;
        salvage = refill(fresh, damage, Some(&old), &mut |_| Ok(()))?;
        remove_unwritten(fresh, damage)?;
        let header = fresh.generation.header();
        if rebooted {
            durability::forget_failed_sync(header);
        }
        publish::count_dropped(header, salvage.dropped());
        publish::count_recovery(header);
        Ok(())
    })?;
    let recovery = salvage.recovery(mutator.generation.header().occupied());
    log::warn!("{}: {recovery}", handle.path.display());
    handle.recovered.store(Some(Arc::new(recovery)));
    Ok(())
}

impl Salvage {
    /// Returns the number of entries that are given up. If no old index counts them, each damaged
    /// stretch was at least one.
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
/// say, and rotates to a fresh segment. `progress` may end it by an error. Counts which entries of
/// the old index are missing, if there is one.
pub(crate) fn refill(
    fresh: &mut Mutator,
    damage: Damage,
    old: Option<&Generation>,
    progress: &mut dyn FnMut(Salvage) -> Result<()>,
) -> WriteResult<Salvage> {
    // A segment whose header never came to the disk has a name all the same: the next number is
    // after it.
    let all = fresh.names.segment_numbers()?;
    let highest = all.last().copied().unwrap_or(0);
    let salvage = read_heap(fresh, highest, damage, old, progress)?;
    match damage {
        Damage::Unfinished(_, given) if salvage.stretches == 0 => {
            ids::skip_to(&fresh.generation, given)?;
        }
        // Keys may have ids that the heap does not tell.
        _ => ids::give_up_reserved(&fresh.generation)?,
    }
    heap_end::rotate(fresh, 0)?;
    heap_presence::whole_from_tail(fresh.generation.header());
    Ok(salvage)
}

/// As [`refill`], but reserved ids are not given up, and the last segment stays the last. `highest`
/// is the highest number that a segment's file has.
pub(crate) fn read_heap(
    fresh: &mut Mutator,
    highest: u16,
    damage: Damage,
    old: Option<&Generation>,
    progress: &mut dyn FnMut(Salvage) -> Result<()>,
) -> WriteResult<Salvage> {
    reset_heap_words(fresh, highest)?;
    let mut salvage = index_heap(fresh, damage, progress)?;
    note_of_cache(fresh.generation.header(), &salvage);
    if let Some(old) = old
        && header_check::inconsistency(old).is_none()
        && ids::fault(old).is_none()
    {
        // Before the keys whose newest record is a deletion are removed from the table.
        let never_written = |place| damage.was_never_written(place);
        let is_older = damage.is_by_power_loss();
        salvage.missing = Some(Missing::of(old, fresh, is_older, never_written, has_id)?);
    }
    if KeyPolicy::of(&fresh.generation) == KeyPolicy::Versioned {
        sweep_deletions(fresh)?;
    }
    Ok(salvage)
}

/// Stores what a `Cache` must know of its heap. The old header may be older than the heap.
fn note_of_cache(header: Header<'_>, salvage: &Salvage) {
    if header.is_expiring() {
        cache_words::set_has_deadlines(header, salvage.has_deadlines);
        cache_words::forget_order(header);
    }
    // Also if no entry of the old index is missing: it may have lacked the newest ones.
    if salvage.stretches > 0 {
        cache_words::distrust_all(header);
    }
}

/// Returns whether the id of a roster position is known; `None` if the cache has no ids.
fn has_id(fresh: &Mutator, position: u32) -> WriteResult<Option<bool>> {
    match KeyPolicy::of(&fresh.generation) {
        KeyPolicy::Versioned => Ok(None),
        KeyPolicy::WithIds => ids::has_id(&fresh.generation, u64::from(position) + 1).map(Some),
    }
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
        last = HeapAddr {
            segment: segment.number(),
            unit: (segment.file().len()? / 8) as u32,
        };
    }
    // H3: no number is used again, also if its segment never came to the disk.
    if highest > last.segment {
        before += last.bytes();
        last = first_place(highest);
    }
    debug_assert!(first <= last.segment);
    state::begin_at(header, first);
    heap_end::set_end(header, before, last);
    durability::forget_synced(header, first);
    Ok(())
}

/// Reads every segment of the heap and indexes its records.
fn index_heap(
    fresh: &mut Mutator,
    damage: Damage,
    progress: &mut dyn FnMut(Salvage) -> Result<()>,
) -> WriteResult<Salvage> {
    let segments: Vec<_> = fresh.generation.segments().cloned().collect();
    let mut salvage = Salvage {
        heap_bytes: segments.iter().map(|segment| segment.allocated()).sum(),
        ..Salvage::default()
    };
    let carried = fresh.generation.header().last_version();
    let policy = KeyPolicy::of(&fresh.generation);
    // G3: also the versions of deletions that were dropped with their segments.
    let known = segments.iter().map(|segment| segment.created());
    let mut newest = known
        .chain([carried])
        .filter(|&version| version <= Version::MAX && policy == KeyPolicy::Versioned)
        .max()
        .unwrap_or(0);
    let mut before = 0;
    for segment in segments {
        let found = index_segment(fresh, &segment, damage, before, &mut salvage, progress)?;
        newest = newest.max(found);
        before += segment.allocated();
        salvage.read_bytes = before;
        progress(salvage)?;
    }
    match policy {
        KeyPolicy::Versioned => heap_end::set_last_version(fresh.generation.header(), newest),
        KeyPolicy::WithIds => ids::set_reserved(&fresh.generation, newest, carried),
    }
    Ok(salvage)
}

/// Indexes the records of one segment, before which `before` bytes of the heap were read. Returns
/// the newest version, or the highest id, among them.
fn index_segment(
    fresh: &mut Mutator,
    segment: &Segment,
    damage: Damage,
    before: u64,
    salvage: &mut Salvage,
    progress: &mut dyn FnMut(Salvage) -> Result<()>,
) -> WriteResult<u64> {
    let mut newest = 0;
    let mut key = Vec::new();
    let mut scanner = segment.scan(0, (segment.refresh()? / 8) as u32);
    while let Some(found) = scanner.next_item()? {
        let read_bytes = before + u64::from(scanner.unit()) * 8;
        if read_bytes - salvage.read_bytes >= PROGRESS_EACH {
            salvage.read_bytes = read_bytes;
            progress(*salvage)?;
        }
        match found {
            ScanItem::Corrupt { from, to } => {
                let place = HeapAddr {
                    segment: segment.number(),
                    unit: from,
                };
                if !damage.was_never_written(place) {
                    salvage.damaged_bytes += u64::from(to - from) * 8;
                    salvage.stretches += 1;
                }
                if damage.is_cleared(place) && !scanner.gave_up() {
                    close_gap(segment, from, to)?;
                }
            }
            ScanItem::Record(_, header) if header.kind == Kind::Filler => {}
            ScanItem::Record(place, header) => {
                key.clear();
                if segment.read_any(place.unit, &mut key, None)?.is_some() {
                    salvage.records += 1;
                    newest = newest.max(header.mtime);
                    salvage.has_deadlines |= header.traits.has(Traits::INTERNAL)
                        && internal::key_of_deadline(&key).is_some();
                    index_record(fresh, place, header, &key)?;
                }
            }
        }
    }
    Ok(newest)
}

/// Clears bytes that belong to no record: with zeros at the segment's end, with a filler record
/// before another record.
fn close_gap(segment: &Segment, from: u32, to: u32) -> Result<()> {
    if segment
        .scan(to, segment.capacity_units())
        .next_item()?
        .is_some()
    {
        segment.write_filler(from, to)
    } else {
        segment.erase(from, to)
    }
}

/// Removes the files of segments of which neither the header nor any record came to the disk.
/// Between the others, cleaning would take them for damage.
pub(crate) fn remove_unwritten(fresh: &Mutator, damage: Damage) -> Result<()> {
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

/// Takes a record into the index if it wins.
fn index_record(
    fresh: &mut Mutator,
    place: HeapAddr,
    header: record::RecordHeader,
    key: &[u8],
) -> WriteResult<()> {
    match KeyPolicy::of(&fresh.generation) {
        KeyPolicy::Versioned => index_version(fresh, place, header, key),
        KeyPolicy::WithIds => index_id(fresh, place, header, key),
    }
}

/// Of two records of a key the one with the later version wins, and a deletion wins like any other.
fn index_version(
    fresh: &mut Mutator,
    place: HeapAddr,
    header: record::RecordHeader,
    key: &[u8],
) -> WriteResult<()> {
    let hash = fresh.generation.hasher.hash(key);
    let bytes = live_bytes(&header);
    let table = Arc::clone(&fresh.generation.table);
    if let Some(target) = fresh.find(&table, hash, key)? {
        let known = target.record.map_or((0, target.link.addr()), |known| {
            (known.mtime, target.link.addr())
        });
        if (header.mtime, place) > known {
            let live = table.header().counters().live.saturating_add(bytes);
            let dead = target.record.as_ref().map_or(0, live_bytes);
            put::relink(&target, place, &header);
            publish::set_live(table.header(), live.saturating_sub(dead));
        }
        return Ok(());
    }
    adopt_enlarging(
        fresh,
        &StoredRecord {
            place,
            header,
            hash,
        },
    )
}

/// Returns the heap bytes that are live with a record.
fn live_bytes(header: &record::RecordHeader) -> u64 {
    match header.kind {
        Kind::Entry => header.stored_bytes(),
        _ => 0,
    }
}

/// Takes in the record of a key with an id. Of two records for one key, or for one id, the first
/// one counts: damage had hidden it from the writer of the second.
fn index_id(
    fresh: &mut Mutator,
    place: HeapAddr,
    header: record::RecordHeader,
    key: &[u8],
) -> WriteResult<()> {
    if header.kind != Kind::Entry || ids::has_id(&fresh.generation, header.mtime)? {
        return Ok(());
    }
    let hash: Hash = fresh.generation.hasher.hash(key);
    let table = Arc::clone(&fresh.generation.table);
    if fresh.find(&table, hash, key)?.is_some() {
        return Ok(());
    }
    adopt_enlarging(
        fresh,
        &StoredRecord {
            place,
            header,
            hash,
        },
    )
}

/// Links a record, in a larger table if it must be.
fn adopt_enlarging(fresh: &mut Mutator, stored: &StoredRecord) -> WriteResult<()> {
    loop {
        match ids::adopt(fresh, stored) {
            Err(Abort::Enlarge) => {
                let larger = reindex_larger(fresh)?;
                *fresh = larger;
            }
            other => return other,
        }
    }
}

/// Removes the keys whose newest record is a deletion.
fn sweep_deletions(fresh: &mut Mutator) -> WriteResult<()> {
    let generation = &fresh.generation;
    for position in 0..generation.roster_len() {
        let Some(target) = Target::at_position(generation, position)? else {
            continue;
        };
        if target.link.is_entry() && target.link.is_gone() {
            put::drop_entry(generation, &target, 0)?;
        }
    }
    Ok(())
}
