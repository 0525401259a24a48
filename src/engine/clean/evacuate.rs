//! Evacuating the oldest segment: copying its live records to the end of the heap, a few at a time.
//!
//! This is log-structured cleaning (LFS). When it is worth while, `clean::policy` decides; how
//! evacuated segments are removed, `clean::reclaim`. May call `write::put`, `clean::reclaim` and
//! everything below them.

use crate::error::Corruption;
use std::sync::Arc;

use crate::format::heap_addr::{CleanCursor, HeapAddr};
use crate::format::life::Life;
use crate::format::record::{Kind, RecordHeader};
use crate::format::segment::{HEADER_BYTES, first_place};
use crate::format::settings::{EvictionPolicy, Settings};
use crate::heap::Segment;

use crate::engine::clean::batch::{Batch, PendingMove};
use crate::engine::clean::retention::{Fate, Retention, Validity};
use crate::engine::clean::validity::Judge;
use crate::engine::clean::{bound, reclaim, state};
use crate::engine::generation::Generation;
use crate::engine::open;
use crate::engine::statistics::Counter;
use crate::engine::write::heap_end::{self, Need};
use crate::engine::write::mutator::{Abort, At, Mutator, Target, WriteResult, old_bytes};
use crate::engine::write::{cache_words, publish, put};

/// Evacuates and removes every segment that there is now.
pub(crate) fn clean_all(mutator: &mut Mutator) -> WriteResult<()> {
    let live = mutator.generation.header().counters().live;
    if heap_end::heap_bytes(&mutator.generation) <= live.saturating_add(HEADER_BYTES) {
        return Ok(());
    }
    if let Err(stop) = heap_end::rotate_whole(mutator, 0) {
        if !stop.is_want_of_room() {
            return Err(stop);
        }
        // On a full disk, removing the segments without live records makes room for the others.
        clean_before_last(mutator)?;
        heap_end::rotate_whole(mutator, 0)?;
    }
    clean_before_last(mutator)?;
    state::note_compacted(mutator.generation.header());
    Ok(())
}

fn clean_before_last(mutator: &mut Mutator) -> WriteResult<()> {
    let last = mutator.generation.header().tail().segment;
    while mutator.generation.header().oldest() < last {
        reclaim::reclaim_all(mutator)?;
        if mutator.generation.header().oldest() < last {
            mutator.retention = bound::retention(mutator);
            clean_step(mutator, 1 << 20)?;
        }
    }
    Ok(())
}

/// Walks about `budget` bytes of the oldest segment, and keeps what `retention` says.
pub(crate) fn walk(mutator: &mut Mutator, budget: u64, retention: Retention) -> WriteResult<()> {
    let header = mutator.generation.header();
    if state::cursor(header).addr.segment == header.tail().segment {
        // All dead records are in the last segment: rotate, and clean it from then on.
        return heap_end::rotate_whole(mutator, 0);
    }
    mutator.retention = retention;
    let walked = clean_step(mutator, budget);
    mutator.retention = Retention::ALL;
    walked
}

/// Removes the oldest segment with all entries in it.
pub(crate) fn drop_oldest(mutator: &mut Mutator) -> WriteResult<()> {
    let number = state::cursor(mutator.generation.header()).addr.segment;
    let retention = Retention {
        most_live: 0,
        ignores_marks: true,
        // Not those of the settings: the walk ends with the segment, not with the entries' number.
        ..Retention::ALL
    };
    while state::cursor(mutator.generation.header()).addr.segment == number {
        walk(mutator, 1 << 18, retention)?;
    }
    reclaim::reclaim_all(mutator)
}

/// Removes the oldest segment of a bounded cache with all entries in it, if a copy of all that is there
/// would exceed the bound. Returns whether it did.
pub(crate) fn drop_for_copy(mutator: &mut Mutator) -> WriteResult<bool> {
    let generation = &mutator.generation;
    let header = generation.header();
    let may_evict = |settings: &Settings| settings.eviction != EvictionPolicy::Refuse;
    if !generation.settings().as_ref().is_some_and(may_evict)
        || generation
            .bound()
            .is_none_or(|bound| bound::admits_copy(bound, generation))
        || state::cursor(header).addr.segment == header.tail().segment
    {
        return Ok(false);
    }
    drop_oldest(mutator)?;
    Ok(true)
}

/// Continues through the oldest segment that is not evacuated, for about `budget` bytes. At its end
/// the segment is evacuated.
pub(crate) fn clean_step(mutator: &mut Mutator, budget: u64) -> WriteResult<()> {
    let cursor = state::cursor(mutator.generation.header());
    let number = cursor.addr.segment;
    mutator.generation.note_visit();
    debug_assert!(number <= mutator.generation.header().tail().segment);
    if mutator.segment(number)?.is_none() {
        if open::has_segment_file(&mutator.names, number) {
            return Err(Abort::Recover(
                Corruption::OldestSegmentMissing,
                At::Heap(first_place(number)),
            ));
        }
        mutator.refuse_missing(number)?;
        // Nothing of it is left to evacuate.
        state::mark_evacuated(mutator.generation.header(), number);
        return Ok(());
    }
    // The segment stays mapped by this generation, whatever appending does to the mutator's.
    let generation = Arc::clone(&mutator.generation);
    let Some(segment) = generation.segment(number) else {
        return Err(Abort::Recover(
            Corruption::OldestSegmentMissing,
            At::Heap(first_place(number)),
        ));
    };
    mutator.dead().forget_before(number);
    let mut scanner = segment.scan(cursor.addr.unit, segment.capacity_units());
    let from = scanner.unit();
    let mut batch = std::mem::take(&mut mutator.batch);
    batch.begin(cursor.damage);
    let until = u64::from(from).saturating_add(budget / 8);
    while !batch.over && u64::from(scanner.unit()) <= until {
        let counters = mutator.generation.header().counters();
        if mutator.retention.is_reached(&counters) {
            break;
        }
        batch.size = mutator.retention.batch_records(&counters, Batch::SIZE);
        batch.fill(&generation, &mut scanner, mutator.dead().of(number), until)?;
        evacuate_batch(mutator, &generation, segment, &mut batch)?;
    }
    let (over, damage) = (batch.over, batch.damage);
    mutator.batch = batch;
    if !over {
        let place = HeapAddr {
            segment: number,
            unit: scanner.unit(),
        };
        let cursor = CleanCursor {
            addr: place,
            damage,
        };
        state::set_cursor(mutator.generation.header(), cursor);
        return Ok(());
    }
    if damage {
        sweep(mutator, number)?;
    }
    // H4: no link leads into the segment any more.
    state::mark_evacuated(mutator.generation.header(), number);
    Ok(())
}

/// Copies the records of a batch to which an entry links, and empties it. H5: deletion records are
/// dropped here, in the oldest segment, so nothing older is left that could come back.
fn evacuate_batch(
    mutator: &mut Mutator,
    generation: &Generation,
    segment: &Segment,
    batch: &mut Batch,
) -> WriteResult<()> {
    debug_assert_eq!(generation.ids, mutator.generation.ids, "the same heap");
    for moving in &mut batch.records {
        let found = mutator.find_place(&generation.table, moving.hash, moving.place)?;
        moving.slot = found.map(|target| {
            // Its memory comes while the others are looked up.
            target.slot.prefetch();
            generation.table.slot_number(target.region, target.index)
        });
    }
    let judge = Judge::of(generation);
    for at in 0..batch.records.len() {
        let moving = batch.records[at];
        let Some(slot) = moving.slot else {
            continue;
        };
        let life = match &judge {
            None => Some(moving.header.life),
            Some(judge) => settle_fate(mutator, generation, (segment, batch), at, judge)?,
        };
        if let Some(life) = life
            && let Some((key, value)) = batch.content(segment, moving)?
        {
            move_record(mutator, generation, (moving, life), slot, key, value)?;
        }
    }
    batch.clear();
    Ok(())
}

/// Decides about an entry of a `Cache`, and removes it if it goes. Returns the life with which it is
/// moved if it stays.
///
/// No deletion record: nothing older of the key is left, and if a rebuild from the heap brings the
/// entry back, that is its last value still. A caller's removal after this appends one, see
/// `put::delete`.
fn settle_fate(
    mutator: &mut Mutator,
    generation: &Generation,
    (segment, batch): (&Segment, &mut Batch),
    at: usize,
    judge: &Judge,
) -> WriteResult<Option<Life>> {
    let moving = batch.records[at];
    let Some(slot_number) = moving.slot else {
        return Ok(None);
    };
    let has_damage = batch.damage;
    let validity = if Judge::is_plain(&moving.header) {
        judge.plain(&moving.header)
    } else {
        let Some((key, stored)) = batch.content(segment, moving)? else {
            return Ok(None);
        };
        match judge.judge(mutator, (moving.place, &moving.header), key, stored)? {
            // Damage may have hidden something before it.
            Validity::Unneeded if has_damage => Validity::Needed,
            validity => validity,
        }
    };
    let (region, index) = generation.table.slot_home(slot_number);
    let home = generation.table.region(region)?;
    let (mark, counters) = (home.mark(index), generation.header().counters());
    let bytes = moving.header.stored_bytes();
    let fate = mutator.retention.decide(validity, bytes, mark, &counters);
    match fate {
        Fate::Kept(life) => Ok(Some(life)),
        Fate::Spared(life) => {
            home.set_mark(index, mark - 1);
            Ok(Some(life))
        }
        Fate::Removed(counter) => {
            remove(generation, moving, (region, index), Some(counter))?;
            let key = batch.key(moving);
            mutator.note_removal(counter, key, moving.header.value_len);
            Ok(None)
        }
        Fate::Dropped => {
            remove(generation, moving, (region, index), None)?;
            Ok(None)
        }
    }
}

/// Removes an entry that is not moved; `None` for one of the cache's own.
fn remove(
    generation: &Generation,
    moving: PendingMove,
    (region, index): (u32, u32),
    counter: Option<Counter>,
) -> WriteResult<()> {
    let home = generation.table.region(region)?;
    let slot = home.slot(index);
    let target = Target {
        region,
        index,
        slot,
        link: slot.link(),
        record: None,
    };
    debug_assert_eq!(target.link.addr(), moving.place, "as it was looked up");
    cache_words::note_evicted(generation.header(), moving.place.segment);
    if counter.is_none() {
        // E2: a reader that has an entry in hand that it ended must not find it gone.
        cache_words::count_invalidation(generation.header());
    }
    put::drop_entry(generation, &target, moving.header.stored_bytes())?;
    match counter {
        Some(Counter::EvictedSize | Counter::EvictedNumber) => home.remember(index, moving.hash),
        _ => home.set_mark(index, 0),
    }
    Ok(())
}

/// Copies a record and links its entry to the copy. Like an overwrite with the old version: one
/// store of the link, and no reader sees a change.
fn move_record(
    mutator: &mut Mutator,
    generation: &Generation,
    (moving, life): (PendingMove, Life),
    slot_number: u32,
    key: &[u8],
    value: &[u8],
) -> WriteResult<()> {
    let header = RecordHeader {
        life,
        ..moving.header
    };
    let live = generation.header().counters().live;
    let copy = heap_end::append(mutator, header, key, value, live, Need::Ordinary)?;
    let (region, index) = generation.table.slot_home(slot_number);
    let slot = generation.table.region(region)?.slot(index);
    let target = Target {
        region,
        index,
        slot,
        link: slot.link(),
        record: Some(moving.header),
    };
    debug_assert_eq!(target.link.addr(), moving.place, "as it was looked up");
    debug_assert!(
        copy.segment > moving.place.segment,
        "H4: not into the same segment"
    );
    put::relink(&target, copy, &header);
    publish::set_live(generation.header(), live);
    heap_end::commit_record(mutator.generation.header());
    Ok(())
}

/// Searches all entries for links into a segment in which damage may have hidden their records
/// from the walk.
fn sweep(mutator: &mut Mutator, number: u16) -> WriteResult<()> {
    let generation = Arc::clone(&mutator.generation);
    let Some(segment) = generation.segment(number) else {
        return Err(Abort::Recover(
            Corruption::OldestSegmentMissing,
            At::Heap(first_place(number)),
        ));
    };
    let mut batch = Batch::default();
    batch.damage = true;
    for position in 0..generation.roster_len() {
        let Some(target) = Target::at_position(&generation, position)? else {
            continue;
        };
        let link = target.link;
        if !link.is_entry() || link.addr().segment != number {
            continue;
        }
        match batch.take(&generation, segment, link.addr())? {
            Some(Kind::Entry) => evacuate_batch(mutator, &generation, segment, &mut batch)?,
            _ => {
                put::drop_entry(&generation, &target, old_bytes(&generation, &target)?)?;
                publish::count_dropped(generation.header(), 1);
            }
        }
    }
    Ok(())
}
