//! The keys of damaged entries, as far as they can be known.
//!
//! Knows where in the files a fault was found, and looks there for a key; how faults are found and
//! shown, others know.

use mmapcache::Problem;
use mmapcache::inspect::{Anatomy, HeapPlace, Layout, Role, Slot};

/// Bytes of a region before its control bytes, and bytes of each slot before the bodies.
const REGION_HEADER: u64 = 64;
const BEFORE_BODY: u64 = 10;
/// Bytes of a slot's body beside the key's first bytes; all of them where keys are numbered.
const BODY: u64 = 40;
const NUMBERED_BODY: u64 = 8;

/// What is known of the key of a damaged entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Culprit {
    /// The key.
    Key(Vec<u8>),
    /// Its first bytes: the record, which has the others, is damaged.
    Start(Vec<u8>),
}

/// The key of the entry in which a fault was found; none where the fault is not in an entry, or
/// where its key cannot be known. A file that cannot be read is no reason to hide the fault.
pub(crate) fn of(anatomy: &Anatomy, fault: &Problem) -> Option<Culprit> {
    if fault.path == anatomy.overview().path {
        let layout = anatomy.layout().ok()?;
        return of_slot(anatomy, slot_at(layout, fault.at)?);
    }
    let mut files = anatomy.overview().files.iter();
    match files.find(|file| file.path == fault.path)?.role {
        Role::Segment(number) => of_record(anatomy, HeapPlace::new(number, fault.at)),
        _ => None,
    }
}

/// The number of the slot whose body contains a byte of the index.
fn slot_at(layout: &Layout, at: u64) -> Option<u32> {
    let below = at.checked_sub(layout.regions_at)?;
    let (region, within) = (below / layout.region_bytes, below % layout.region_bytes);
    let slots = u64::from(layout.region_slots);
    let body = match layout.numbered {
        true => NUMBERED_BODY,
        false => BODY + u64::from(layout.inline_key_bytes),
    };
    let index = within.checked_sub(REGION_HEADER + BEFORE_BODY * slots)? / body;
    let number = region.checked_mul(slots)?.checked_add(index)?;
    (index < slots)
        .then(|| u32::try_from(number).ok())
        .flatten()
}

/// The key of a slot's entry: what the slot or its record says, if it has the hash that the index
/// keeps; what a sound record says; or the first bytes, from the slot.
fn of_slot(anatomy: &Anatomy, number: u32) -> Option<Culprit> {
    let slot: Slot = anatomy.slot(number).ok()??;
    let record = slot.place.filter(|_| slot.is_entry());
    let record = record.and_then(|place| anatomy.record(place).ok()?);
    let has_hash = |key: &[u8]| {
        let found = anatomy.slots_of(key);
        !key.is_empty() && found.is_ok_and(|found| found.contains(&number))
    };
    let whole = slot.key.len() == usize::from(slot.key_len);
    if whole && has_hash(&slot.key) {
        return Some(Culprit::Key(slot.key));
    }
    if let Some(record) = record
        && (record.is_sound() || has_hash(&record.key))
    {
        return Some(Culprit::Key(record.key));
    }
    (slot.is_entry() && !slot.key.is_empty()).then_some(Culprit::Start(slot.key))
}

/// The key of a damaged record, if the index has that key: else its bytes may be the damaged ones.
fn of_record(anatomy: &Anatomy, place: HeapPlace) -> Option<Culprit> {
    let record = anatomy.record(place).ok()??;
    let known = !record.key.is_empty() && !anatomy.slots_of(&record.key).ok()?.is_empty();
    known.then_some(Culprit::Key(record.key))
}
