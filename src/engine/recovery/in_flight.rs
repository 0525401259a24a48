//! Redo or undo of the one operation that a killed writer left half done.
//!
//! Bounded by one region, it runs whenever the lock is taken. It can be killed and run again. May
//! call `write::{put, split}` and everything below them.

use crate::error::Corruption;
use std::sync::Arc;

use crate::format::heap_addr::HeapAddr;
use crate::format::index::{Counters, word};
use crate::format::record::Kind;
use crate::format::segment::first_place;
use crate::format::slot::Link;
use crate::heap::ScanItem;
use crate::index::redo::{Redo, RedoState};

use crate::engine::write::mutator::{Abort, At, Mutator, WriteResult};
use crate::engine::write::publish::{Insertion, Removal};
use crate::engine::write::split::Replacement;
use crate::engine::write::{durability, heap_end, in_place, publish, put, split};

/// Completes or takes back the operation that is under way, if any is.
pub(crate) fn recover(mutator: &mut Mutator) -> WriteResult<()> {
    match mutator.generation.header().redo() {
        RedoState::Cleared => recover_record(mutator),
        RedoState::Corrupt => Err(Abort::Recover(
            Corruption::RedoRecord,
            At::Word(word::INTENT),
        )),
        RedoState::Committed(redo) => {
            let header = mutator.generation.header();
            let (tail, reserved) = (header.tail(), header.reserved());
            // H1: `tail` must not go back over committed records.
            if reserved.segment != tail.segment || reserved < tail {
                return Err(Abort::Recover(
                    Corruption::ReservedBeforeTail,
                    At::Word(word::RESERVED),
                ));
            }
            apply(mutator, &redo)?;
            let header = mutator.generation.header();
            // H1: the record is linked, and not before.
            heap_end::commit_record(header);
            publish::clear_redo(header);
            debug_assert!(!header.has_redo() && header.tail() == header.reserved());
            Ok(())
        }
    }
}

/// Stores again what the redo record says. The stores that were done before the kill change
/// nothing.
fn apply(mutator: &mut Mutator, redo: &Redo) -> WriteResult<()> {
    let table = Arc::clone(&mutator.generation.table);
    let region = match *redo {
        Redo::Insert {
            slot,
            position,
            link,
            after,
        } => {
            redo_insert(mutator, slot, position, link, after)?;
            table.slot_home(slot).0
        }
        Redo::Delete {
            slot,
            position,
            vacant,
            next_free,
            after,
        } => {
            let removal = Removal {
                slot,
                position,
                vacant,
                next_free,
                after,
            };
            put::apply_delete(&mutator.generation, &table, &removal)?;
            table.slot_home(slot).0
        }
        Redo::Replace {
            old,
            low,
            high,
            after,
        } => {
            let replacement = Replacement {
                old,
                low,
                high,
                after,
            };
            split::apply_replace(&mutator.generation, &table, &replacement)?;
            low
        }
        Redo::Overwrite { place, .. } => return redo_overwrite(mutator, place),
    };
    // The region's own counts are not in the redo record: its control bytes tell.
    let region = table.region(region)?;
    region.set_counts(region.recount());
    Ok(())
}

/// W4: the redo copy was complete before the redo record named it.
fn redo_overwrite(mutator: &mut Mutator, place: HeapAddr) -> WriteResult<()> {
    mutator.segment(place.segment)?;
    let header = mutator.generation.header();
    if !in_place::complete(header, &mutator.generation)? {
        return Err(Abort::Recover(
            Corruption::RedoHeapRecord,
            At::Word(word::REDO_COPY),
        ));
    }
    publish::count_change(header);
    Ok(())
}

fn redo_insert(
    mutator: &mut Mutator,
    slot: u32,
    position: u32,
    link: Link,
    after: Counters,
) -> WriteResult<()> {
    let table = Arc::clone(&mutator.generation.table);
    let mut key = Vec::new();
    let place = link.addr();
    let found = match mutator.segment(place.segment)? {
        Some(segment) => segment.read_any(place.unit, &mut key, None)?,
        None => None,
    };
    // S1: the record was complete before the redo record named it.
    let Some(header) = found.filter(|header| header.kind == Kind::Entry) else {
        return Err(Abort::Recover(Corruption::RedoHeapRecord, At::Heap(place)));
    };
    let hash = mutator.generation.hasher.hash(&key);
    let region = table.region(table.slot_home(slot).0)?;
    // S2: the slot is in the region of the key's hash.
    if !region.shape().holds(hash.directory()) || link.tag() != hash.tag() {
        return Err(Abort::Recover(
            Corruption::RedoSlot,
            At::Word(word::INTENT_BODY),
        ));
    }
    let plan = Insertion {
        slot,
        position,
        counts: region.counts(),
        after,
    };
    put::apply_insert(&mutator.generation, &table, &plan, link, hash, &header)
}

/// Without a redo record the operation was an overwrite, a copy by cleaning, or the begin of a
/// segment; or it had not come to its redo record.
fn recover_record(mutator: &mut Mutator) -> WriteResult<()> {
    let header = mutator.generation.header();
    let (tail, reserved) = (header.tail(), header.reserved());
    if tail == reserved {
        return Ok(());
    }
    if reserved.segment != tail.segment {
        return recover_rotation(mutator, tail, reserved);
    }
    mutator.segment(tail.segment)?;
    if reserved.unit < tail.unit || !mutator.generation.is_within(reserved) {
        return Err(Abort::Recover(
            Corruption::ReservedBeforeTail,
            At::Word(word::RESERVED),
        ));
    }
    if is_linked(mutator, tail, reserved)? {
        let header = mutator.generation.header();
        publish::set_live(header, header.live_after());
        publish::count_change(header);
        // H1: the record is linked.
        heap_end::commit_record(header);
        return Ok(());
    }
    if holds_others(mutator, tail, reserved)? {
        return Err(Abort::Recover(Corruption::RecordsAfterTail, At::Heap(tail)));
    }
    // H1: no entry links to it. Zero it, or a later scan of the heap would resurrect it. The next
    // sync must write the zeros too.
    debug_assert!(tail < reserved, "H1: one record to take back");
    durability::take_back_synced(mutator.generation.header(), tail);
    if let Some(segment) = mutator.generation.segment(tail.segment) {
        segment.erase(tail.unit, reserved.unit)?;
    }
    heap_end::take_back(mutator.generation.header(), tail);
    Ok(())
}

/// Returns whether the reserved range holds more than the one record that was being written. Then
/// its beginning is damaged, and erasing it would lose valid records.
fn holds_others(mutator: &mut Mutator, from: HeapAddr, to: HeapAddr) -> WriteResult<bool> {
    let Some(segment) = mutator.segment(from.segment)? else {
        return Ok(false);
    };
    let fills = |stored: u64| u64::from(to.unit - from.unit) * 8 == stored;
    if segment.stored_bytes(from.unit)?.is_some_and(fills) || segment.is_zero(from.unit, to.unit)? {
        return Ok(false);
    }
    // Killed within the first three words of a record, or damage: only now is a walk worth its
    // cost.
    let mut scanner = segment.scan(0, to.unit);
    while let Some(found) = scanner.next_item()? {
        if matches!(found, ScanItem::Record(..)) && scanner.unit() > from.unit {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Returns whether the record that fills the reserved range is an entry's.
fn is_linked(mutator: &mut Mutator, from: HeapAddr, to: HeapAddr) -> WriteResult<bool> {
    let mut key = Vec::new();
    let Some(segment) = mutator.segment(from.segment)? else {
        return Ok(false);
    };
    let Some(header) = segment.read_any(from.unit, &mut key, None)? else {
        return Ok(false);
    };
    if u64::from(to.unit - from.unit) * 8 != header.stored_bytes() {
        return Ok(false);
    }
    let hash = mutator.generation.hasher.hash(&key);
    let table = Arc::clone(&mutator.generation.table);
    Ok(mutator.find_place(&table, hash, from)?.is_some())
}

fn recover_rotation(mutator: &mut Mutator, tail: HeapAddr, reserved: HeapAddr) -> WriteResult<()> {
    let begun = reserved == first_place(reserved.segment)
        && reserved.segment == tail.segment.wrapping_add(1);
    if !begun {
        return Err(Abort::Recover(
            Corruption::HeapEndsApart,
            At::Word(word::RESERVED),
        ));
    }
    // H3: the segment was complete before `reserved` named it.
    if mutator.segment(reserved.segment)?.is_some() {
        heap_end::commit_segment(mutator.generation.header(), reserved);
    } else {
        heap_end::take_back(mutator.generation.header(), tail);
    }
    Ok(())
}
