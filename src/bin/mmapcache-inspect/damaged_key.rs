//! Finds the key of a damaged entry.

use mmapcache::Problem;
use mmapcache::inspect::{CacheFiles, HeapAddress, Slot};

/// Returns the key of the entry that a problem is in; `None` if the problem is not in an entry or the
/// key is unknown. An error while reading also gives `None`: the caller still shows the problem.
pub(crate) fn find(cache_files: &CacheFiles, problem: &Problem) -> Option<Vec<u8>> {
    if problem.path == cache_files.path() {
        let slot = cache_files.slot_at(problem.at).ok()??;
        return of_slot(cache_files, slot);
    }
    let mut files = cache_files.files().iter();
    let file = files.find(|file| file.path == problem.path)?;
    of_record(cache_files, HeapAddress::new(file.segment()?, problem.at))
}

/// Returns the key in the record of a slot if the record is valid, or if the hash of the key is the one
/// in the index.
fn of_slot(cache_files: &CacheFiles, number: u32) -> Option<Vec<u8>> {
    let slot: Slot = cache_files.slot(number).ok()??;
    let record = slot.address.filter(|_| slot.is_entry());
    let record = record.and_then(|address| cache_files.record(address).ok()?);
    let has_hash = |key: &[u8]| {
        let found = cache_files.find_slots(key);
        !key.is_empty() && found.is_ok_and(|found| found.contains(&number))
    };
    let record = record.filter(|record| record.is_valid() || has_hash(&record.key));
    record.map(|record| record.key)
}

/// Returns the key of a damaged record if the index has that key. Otherwise the damage may be in the
/// key.
fn of_record(cache_files: &CacheFiles, address: HeapAddress) -> Option<Vec<u8>> {
    let record = cache_files.record(address).ok()??;
    let known = !record.key.is_empty() && !cache_files.find_slots(&record.key).ok()?.is_empty();
    known.then_some(record.key)
}
