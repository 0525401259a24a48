//! Finds the key of a damaged entry.

use mmapcache::Problem;
use mmapcache::inspect::{Anatomy, HeapPlace, Layout, Role, Slot};

/// Bytes of a region before its control bytes, and bytes of each slot before the bodies.
const REGION_HEADER: u64 = 64;
const BEFORE_BODY: u64 = 10;
/// Bytes of a slot's body beside the key's first bytes; all of them where keys are numbered.
const BODY: u64 = 40;
const NUMBERED_BODY: u64 = 8;

/// The part of a damaged entry's key that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DamagedKey {
    /// The whole key.
    Whole(Vec<u8>),
    /// Its first bytes; the record, which stores the whole key, is damaged.
    Prefix(Vec<u8>),
}

/// Returns the key of the entry that a problem is in; `None` if the problem is not in an entry or the
/// key is unknown. An error while reading also gives `None`: the caller still shows the problem.
pub(crate) fn find(anatomy: &Anatomy, fault: &Problem) -> Option<DamagedKey> {
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

/// Returns the number of the slot whose body contains a byte of the index.
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

/// Returns the key in the slot or its record if its hash is the one in the index, or the key of a
/// valid record; otherwise the first bytes, from the slot.
fn of_slot(anatomy: &Anatomy, number: u32) -> Option<DamagedKey> {
    let slot: Slot = anatomy.slot(number).ok()??;
    let record = slot.place.filter(|_| slot.is_entry());
    let record = record.and_then(|place| anatomy.record(place).ok()?);
    let has_hash = |key: &[u8]| {
        let found = anatomy.slots_of(key);
        !key.is_empty() && found.is_ok_and(|found| found.contains(&number))
    };
    let whole = slot.key.len() == usize::from(slot.key_len);
    if whole && has_hash(&slot.key) {
        return Some(DamagedKey::Whole(slot.key));
    }
    if let Some(record) = record
        && (record.is_sound() || has_hash(&record.key))
    {
        return Some(DamagedKey::Whole(record.key));
    }
    (slot.is_entry() && !slot.key.is_empty()).then_some(DamagedKey::Prefix(slot.key))
}

/// Returns the key of a damaged record if the index has that key. Otherwise the damage may be in the
/// key.
fn of_record(anatomy: &Anatomy, place: HeapPlace) -> Option<DamagedKey> {
    let record = anatomy.record(place).ok()??;
    let known = !record.key.is_empty() && !anatomy.slots_of(&record.key).ok()?.is_empty();
    known.then_some(DamagedKey::Whole(record.key))
}
