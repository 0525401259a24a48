//! Looks keys up, without a lock.
//!
//! A hit is valid by itself, a miss only if the directory is unchanged afterwards. Stores into no
//! file. May call `validate`, `handle` and everything below them.

use std::cell::Cell;
use std::sync::Arc;

use arc_swap::Guard;

use crate::error::{Corruption, Error, ErrorKind, Result};
use crate::format::MAX_KEY;
use crate::format::heap_addr::HeapAddr;
use crate::format::index::HeaderStateWord;
use crate::format::life::Life;
use crate::format::record::{self, Traits};
use crate::format::slot::Link;
use crate::hash::Hash;
use crate::heap::{RecordRead, Segment, WholeRecord};
use crate::index::attempt::Attempt;
use crate::index::region::{MARK_MAX, Region, Slot};
use crate::index::table::Located;

use crate::engine::entry::Entry;
use crate::engine::generation::Generation;
use crate::engine::handle::Handle;
use crate::engine::heap_presence::missing_segment;
use crate::engine::read::redo_copy;
use crate::engine::read::validate::{ATTEMPTS, contended, judge};
use crate::engine::version::Version;

/// Keys of one call whose cache misses are waited for together.
pub(crate) const LANES: usize = 16;

/// Of so many consecutive misses of a thread, one reads the clock, which takes 3 of a miss's 36 ns.
/// A prime, so that a thread that alternates between handles still checks the path of each.
const MISSES_PER_CHECK: u32 = 13;

thread_local! {
    /// Consecutive misses of this thread, in all caches: they predict the next result.
    static MISSES: Cell<u32> = const { Cell::new(0) };
}

/// Returns the consecutive misses of this thread; 0 in a model, whose executions must not differ by
/// what they have in common.
#[inline(always)]
fn consecutive_misses() -> u32 {
    if cfg!(loom) { 0 } else { MISSES.get() }
}

/// The valid result of a look-up.
#[derive(Debug)]
pub(crate) enum Answer<T> {
    Found(T),
    Absent,
    /// The key has an entry, or had one, whose record or index words are corrupt.
    Damaged(Error),
}

/// Looks a key up, appends its value to `out`, and returns its version.
#[inline]
pub(crate) fn read(handle: &Handle, key: &[u8], out: &mut Vec<u8>) -> Result<Answer<Version>> {
    handle.check_key(key)?;
    match fast_path::<_, false>(handle, key, out, &mut 0, |header| header.mtime) {
        Attempt::Done(mtime) => Ok(Answer::Found(Version(mtime))),
        Attempt::Absent => Ok(Answer::Absent),
        Attempt::Retry => read_with(handle, key, out, |header| Version(header.mtime)),
    }
}

/// Returns the entry of a key. Corruption is an error.
#[inline]
pub(crate) fn entry(handle: &Handle, key: &[u8]) -> Result<Option<Entry>> {
    let mut value = Vec::new();
    match read(handle, key, &mut value)? {
        Answer::Found(version) => Ok(Some(Entry { value, version })),
        Answer::Absent => Ok(None),
        Answer::Damaged(error) => Err(error),
    }
}

/// What a cache decides by, of an entry that a look-up found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EntryTerms {
    pub version: u64,
    pub life: Life,
    pub traits: Traits,
    /// The count of invalidations before the record was read. As long as it is the same, what limits
    /// the entry is still where it was.
    pub invalidations: u64,
}

impl EntryTerms {
    fn of(header: record::RecordHeader) -> Self {
        Self {
            version: header.mtime,
            life: header.life,
            traits: header.traits,
            invalidations: 0,
        }
    }
}

/// Looks up the entry of a `Cache`, fresh or not, appends its value to `out`, and marks it as used.
/// Compiled into each caller: a call takes 2 ns more.
#[inline(always)]
pub(crate) fn read_terms(
    handle: &Handle,
    key: &[u8],
    out: &mut Vec<u8>,
) -> Result<Answer<EntryTerms>> {
    handle.check_key(key)?;
    let mut seen = 0;
    match fast_path::<_, true>(handle, key, out, &mut seen, EntryTerms::of) {
        Attempt::Done(terms) => Ok(Answer::Found(EntryTerms {
            invalidations: seen,
            ..terms
        })),
        Attempt::Absent => Ok(Answer::Absent),
        Attempt::Retry => read_terms_slowly(handle, key, out),
    }
}

#[inline(never)]
fn read_terms_slowly(handle: &Handle, key: &[u8], out: &mut Vec<u8>) -> Result<Answer<EntryTerms>> {
    let answer = read_terms_unmarked(handle, key, out)?;
    if matches!(answer, Answer::Found(_)) {
        mark_used_slowly(handle, key);
    }
    Ok(answer)
}

/// As [`read_terms`], for those that look at all entries: it marks none as used.
pub(crate) fn read_terms_unmarked(
    handle: &Handle,
    key: &[u8],
    out: &mut Vec<u8>,
) -> Result<Answer<EntryTerms>> {
    handle.check_key(key)?;
    let invalidations = handle.current()?.0.header().invalidations();
    let answer = read_with(handle, key, out, EntryTerms::of)?;
    Ok(match answer {
        Answer::Found(terms) => Answer::Found(EntryTerms {
            invalidations,
            ..terms
        }),
        other => other,
    })
}

/// Marks an entry as used: CLOCK evicts those that no reader has used. A hint, stored without the
/// lock.
#[inline(always)]
fn mark_used(handle: &Handle, generation: &Generation, region: Region<'_>, index: u32) {
    let mark = region.mark(index);
    if mark < MARK_MAX && handle.may_mark(generation) {
        region.set_mark(index, mark + 1);
        handle.note_reader_store(generation);
    }
}

/// Marks the entry of a key whose slot a lookup did not keep.
#[cold]
fn mark_used_slowly(handle: &Handle, key: &[u8]) {
    let generation = handle.generation.load();
    let hash = generation.hasher.hash(key);
    if let Ok(located) = generation.table.locate(generation.header().poll(), hash)
        && let Some((index, _, _)) = located.region.probe(hash).next()
    {
        mark_used(handle, &generation, located.region, index);
    }
}

/// Appends the value of a key to `out`, and returns whether there was one that could be read.
#[inline]
pub(crate) fn read_value(handle: &Handle, key: &[u8], out: &mut Vec<u8>) -> Result<bool> {
    handle.check_key(key)?;
    match fast_path::<_, false>(handle, key, out, &mut 0, |_| ()) {
        Attempt::Done(()) => Ok(true),
        Attempt::Absent => Ok(false),
        Attempt::Retry => read_value_slowly(handle, key, out),
    }
}

#[inline(never)]
fn read_value_slowly(handle: &Handle, key: &[u8], out: &mut Vec<u8>) -> Result<bool> {
    let answer = read_with(handle, key, out, |_| ())?;
    Ok(matches!(answer, Answer::Found(())))
}

/// Looks a key up in its home group only: 50 ns for a hit in the nearest cache, against 54 by
/// [`attempt`], which keeps more in registers for the results that it may have.
///
/// It covers two cases, each by the rule of the slow path: the first link with the key's tag leads to
/// the key's valid record; or no control byte matches, one is empty, and the directory is unchanged.
/// Everything else is [`Attempt::Retry`]: another key with the same tag, a full group, a segment that
/// is not mapped, corruption, a superseded generation.
#[inline(always)]
fn fast_path<T, const MARKS: bool>(
    handle: &Handle,
    key: &[u8],
    out: &mut Vec<u8>,
    seen: &mut u64,
    keep: impl FnOnce(record::RecordHeader) -> T,
) -> Attempt<T> {
    let attempt = handle.generation.read(|generation| {
        if MARKS {
            // Before the link.
            *seen = generation.header().invalidations();
        }
        let hash = generation.hasher.hash(key);
        home_group::<T, MARKS>(handle, generation, key, hash, out, keep)
    });
    attempt.unwrap_or(Attempt::Retry)
}

/// The fast path in one generation.
#[inline(always)]
fn home_group<T, const MARKS: bool>(
    handle: &Handle,
    generation: &Generation,
    key: &[u8],
    hash: Hash,
    out: &mut Vec<u8>,
    keep: impl FnOnce(record::RecordHeader) -> T,
) -> Attempt<T> {
    let poll = generation.header().poll();
    if poll.superseded() || handle.is_due_on_overlay() {
        return Attempt::Retry;
    }
    let misses = consecutive_misses();
    let found = generation.table.fast_path(poll, hash, misses == 0, MARKS);
    match found {
        Attempt::Done(found) => {
            let kept = value_of::<_, MARKS>(handle, generation, found.link.addr(), key, out, keep);
            if misses != 0 && kept.is_some() {
                MISSES.set(0);
            }
            if MARKS && kept.is_some() {
                mark_used(handle, generation, found.region, found.index);
            }
            kept.map_or(Attempt::Retry, Attempt::Done)
        }
        Attempt::Absent if !(may_check_path(handle, misses) && handle.is_path_check_due()) => {
            MISSES.set(misses.wrapping_add(1));
            Attempt::Absent
        }
        Attempt::Absent | Attempt::Retry => Attempt::Retry,
    }
}

/// Reads the record at a place for the fast path, if it is mapped and the key's.
///
/// Not inlined: a miss does without the registers that it needs.
#[inline(never)]
fn value_of<T, const MARKS: bool>(
    handle: &Handle,
    generation: &Generation,
    place: HeapAddr,
    key: &[u8],
    out: &mut Vec<u8>,
    keep: impl FnOnce(record::RecordHeader) -> T,
) -> Option<T> {
    let segment = generation.segment(place.segment)?;
    let verify = handle.options.verify;
    segment.entry_value::<_, MARKS>(place.unit, key, verify, out, keep)
}

/// Returns whether a miss after so many others reads the clock, to find out whether the path has to
/// be checked.
#[inline(always)]
fn may_check_path(handle: &Handle, misses: u32) -> bool {
    misses.is_multiple_of(MISSES_PER_CHECK) || handle.options.staleness.is_zero()
}

/// Looks a key up, appends its value to `out`, and keeps a part of its record's header: the whole
/// header would be stored in pieces and loaded in larger ones, which the processor waits for.
#[inline(always)]
pub(crate) fn read_with<T>(
    handle: &Handle,
    key: &[u8],
    out: &mut Vec<u8>,
    keep: impl Fn(record::RecordHeader) -> T,
) -> Result<Answer<T>> {
    handle.check_key(key)?;
    search(handle, key, |generation, located, slot, link| {
        examine(handle, generation, located, (slot, link), key, out, &keep)
    })
}

/// Reads the record of a link. If it is the key's, its value is appended to `out`.
#[inline(always)]
fn examine<T>(
    handle: &Handle,
    generation: &Generation,
    located: &Located<'_>,
    (slot, link): (Slot<'_>, Link),
    key: &[u8],
    out: &mut Vec<u8>,
    keep: impl FnOnce(record::RecordHeader) -> T,
) -> Result<Attempt<T, Error>> {
    let place = link.addr();
    let Some(segment) = generation.segment(place.segment) else {
        return unmapped(handle, generation, located.region.number(), slot, link);
    };
    let outcome = segment.read(place.unit, key, handle.options.verify, out)?;
    if outcome == RecordRead::Corrupt && generation.is_in_place() {
        return read_overwritten(generation, segment, (slot, link), key, Some(out), keep);
    }
    Ok(judge(&outcome, segment, slot, link, keep))
}

/// Reads the record of a link that a writer may be overwriting, or may have overwritten since it was
/// read: from the redo copy, or else again. Appends its value to `out` if there is one.
#[cold]
#[inline(never)]
fn read_overwritten<T>(
    generation: &Generation,
    segment: &Segment,
    (slot, link): (Slot<'_>, Link),
    key: &[u8],
    out: Option<&mut Vec<u8>>,
    keep: impl FnOnce(record::RecordHeader) -> T,
) -> Result<Attempt<T, Error>> {
    let place = link.addr();
    let changes = generation.header().changes();
    let mut copy = WholeRecord::default();
    if let Some(header) = redo_copy::read(generation, segment, place, &mut copy) {
        if copy.key() != key {
            return Ok(Attempt::Absent);
        }
        if let Some(out) = out {
            out.extend_from_slice(copy.value());
        }
        return Ok(Attempt::Done(keep(header)));
    }
    let outcome = match out {
        Some(out) => segment.read(place.unit, key, true, out)?,
        None => compare(segment, place.unit, key, true)?,
    };
    if outcome == RecordRead::Corrupt && !redo_copy::is_settled(generation, place, changes) {
        return Ok(Attempt::Retry);
    }
    Ok(judge(&outcome, segment, slot, link, keep))
}

/// Compares the key of a record without its value and its checksum, unless the key is another one.
#[inline(always)]
fn compare(segment: &Segment, unit: u32, key: &[u8], verify: bool) -> Result<RecordRead> {
    match segment.compare(unit, key)? {
        RecordRead::OtherKey => segment.judge_other(unit, verify),
        outcome => Ok(outcome),
    }
}

/// Maps the segment of a link. H3: a segment has its final name before a link leads into it; so if
/// it has no file, the link was changed since (H4), or the segment is lost.
///
/// Takes the region's number instead of [`Located`], which would have to be in memory for the call.
#[cold]
#[inline(never)]
fn unmapped<T>(
    handle: &Handle,
    generation: &Generation,
    region: u32,
    slot: Slot<'_>,
    link: Link,
) -> Result<Attempt<T, Error>> {
    let number = link.addr().segment;
    if handle.map_segment(generation, number)? || slot.link_after() != link {
        return Ok(Attempt::Retry);
    }
    let missing = missing_segment(generation, &handle.names, number)?;
    let damaged = || {
        let at = generation.table.region_at(region);
        generation
            .table
            .corrupted(Corruption::LinkToMissingSegment, at)
    };
    Ok(Attempt::Corrupt(missing.unwrap_or_else(damaged)))
}

/// Looks many keys up, each as by itself and in their order, and hands out their indices and values.
/// Prefetches what a group of them will touch.
pub(crate) fn read_many<K: AsRef<[u8]>>(
    handle: &Handle,
    keys: impl Iterator<Item = K>,
    mut each: impl FnMut(usize, Option<&[u8]>),
) -> Result<()> {
    let mut keys = keys.fuse();
    let mut value = Vec::new();
    let mut number = 0;
    loop {
        let group: [Option<K>; LANES] = std::array::from_fn(|_| keys.next());
        let checked_at = handle.path_checked_at();
        let (generation, poll) = handle.current()?;
        let hashes = prefetch(&generation, poll, &group);
        for (key, hash) in group.iter().zip(hashes) {
            let (Some(key), Some(hash)) = (key, hash) else {
                return Ok(());
            };
            let key = key.as_ref();
            handle.check_key(key)?;
            value.clear();
            // The group shares one load of the generation, as long as another load would return the
            // same one.
            let found = match handle.path_checked_at() == checked_at {
                true => home_group::<_, false>(handle, &generation, key, hash, &mut value, |_| ()),
                false => Attempt::Retry,
            };
            let is_found = match found {
                Attempt::Done(()) => true,
                Attempt::Absent => false,
                Attempt::Retry => read_value(handle, key, &mut value)?,
            };
            each(number, is_found.then_some(&value));
            number += 1;
        }
    }
}

/// Prefetches what lookups of some keys will touch.
pub(crate) fn prefetch_group<K: AsRef<[u8]>>(
    handle: &Handle,
    group: &[Option<K>; LANES],
) -> Result<()> {
    let (generation, poll) = handle.current()?;
    prefetch(&generation, poll, group);
    Ok(())
}

/// Looks a key up without its value and its checksum.
pub(crate) fn peek(handle: &Handle, key: &[u8]) -> Result<Answer<record::RecordHeader>> {
    handle.check_key(key)?;
    search(handle, key, |generation, located, slot, link| {
        let place = link.addr();
        let Some(segment) = generation.segment(place.segment) else {
            return unmapped(handle, generation, located.region.number(), slot, link);
        };
        let outcome = compare(segment, place.unit, key, handle.options.verify)?;
        if outcome == RecordRead::Corrupt && generation.is_in_place() {
            let keep = |header| header;
            return read_overwritten(generation, segment, (slot, link), key, None, keep);
        }
        Ok(judge(&outcome, segment, slot, link, |header| header))
    })
}

/// A record of a key, and the generation that keeps it mapped.
pub(crate) type RecordInPlace = (Arc<Generation>, Link, record::RecordHeader);

/// Looks up the record of a key, for reading it in the mapped file. `is_valid` verifies the record at a
/// place. Refuses a cache in which writers overwrite records.
pub(crate) fn find_in_place(
    handle: &Handle,
    key: &[u8],
    is_valid: impl Fn(&Generation, HeapAddr, record::RecordHeader) -> bool,
) -> Result<Answer<RecordInPlace>> {
    handle.check_key(key)?;
    refuse_in_place(handle, &handle.current()?.0)?;
    search(handle, key, |generation, located, slot, link| {
        // Another program may have replaced the files.
        refuse_in_place(handle, generation)?;
        let place = link.addr();
        let Some(segment) = generation.segment(place.segment) else {
            return unmapped(handle, generation, located.region.number(), slot, link);
        };
        let outcome = match segment.compare(place.unit, key)? {
            RecordRead::Match(header) if !is_valid(generation, place, header) => {
                RecordRead::Corrupt
            }
            RecordRead::OtherKey => segment.judge_other(place.unit, handle.options.verify)?,
            outcome => outcome,
        };
        let keep = |header| (Arc::clone(generation), link, header);
        Ok(judge(&outcome, segment, slot, link, keep))
    })
}

/// Refuses to lend bytes of a heap whose records writers overwrite (M3).
fn refuse_in_place(handle: &Handle, generation: &Generation) -> Result<()> {
    if !generation.is_in_place() {
        return Ok(());
    }
    Err(ErrorKind::Unsupported {
        what: "lending a value of a cache with `Options::in_place`, which a writer may overwrite; use \
               `get`",
    }
    .at(&handle.path))
}

/// Makes attempts with the current generation until one is valid: the loop of every look-up.
#[inline(always)]
fn search<T>(
    handle: &Handle,
    key: &[u8],
    mut examine: impl FnMut(
        &Guard<Arc<Generation>>,
        &Located<'_>,
        Slot<'_>,
        Link,
    ) -> Result<Attempt<T, Error>>,
) -> Result<Answer<T>> {
    debug_assert!((1..=MAX_KEY).contains(&key.len()), "the caller checks keys");
    let (mut began, mut is_fresh) = (None, false);
    for _ in 0..ATTEMPTS {
        let generation = handle.generation.load();
        let Some(poll) = handle.poll(&generation)? else {
            continue;
        };
        let hash = generation.hasher.hash(key);
        match attempt(handle, &generation, poll, hash, &mut examine)? {
            Attempt::Done(found) => return Ok(Answer::Found(found)),
            Attempt::Absent => return Ok(Answer::Absent),
            Attempt::Corrupt(_) if !is_fresh && handle.reopen_on_overlay()? => is_fresh = true,
            Attempt::Corrupt(error) => return Ok(Answer::Damaged(error)),
            Attempt::Retry => {}
        }
        began.get_or_insert_with(|| generation.header().changes());
    }
    given_up(handle, began)
}

/// Ends a look-up that gave up: with contention, or with a damaged entry if no writer changed
/// anything during the attempts.
#[cold]
fn given_up<T>(handle: &Handle, began: Option<u64>) -> Result<Answer<T>> {
    let generation = handle.generation.load();
    if began == Some(generation.header().changes()) {
        let error = generation.table.corrupted(Corruption::EntryContradicts, 0);
        return Ok(Answer::Damaged(error));
    }
    Err(contended(handle, "the entry of a key", ATTEMPTS))
}

/// Makes one attempt to look a key up: locates the region of its hash, examines each link with the
/// hash's tag, and validates the result.
///
/// A hit needs no validation, wherever its link was found: see [`judge`]. A miss does. While this
/// function runs, a writer can be in one of these states:
///
/// - It inserts the key. S1: before the link is stored, the key is absent, and the miss is valid;
///   after it, the whole record is there.
/// - It overwrites the key. The link that was loaded leads to the old record or to a newer one;
///   neither is ever written again (M3), so the value is never torn.
/// - It deletes the key, and puts another one into its slot. The record names its key: a hit was the
///   key's value when its link was loaded. If the key is inserted elsewhere while the probe passes,
///   it may be missed; between the deletion and the insertion it was absent.
/// - It replaces the region by one or two. S6: until directory and roster lead only to the new
///   regions, the old one says the same, and the result is valid.
/// - It builds the old region again for other hashes. S4: before anything of that is stored, the
///   region's state word changes, and before that the directory entry. So a reader that saw any of
///   the new contents sees another directory entry in [`is_unchanged`], after its fence.
/// - It doubles the directory. Entries of both depths lead to the same region. The depth alone does
///   not tell a replacement, because entries are switched at an unchanged depth: both are compared.
/// - It begins a segment, or reclaims one: see [`unmapped`] and [`judge`].
/// - It switches to another generation. G2: the old one is not changed any more. Until its state word
///   is marked, its contents are the cache's; the mark is seen by the validation, see
///   [`is_unchanged`].
/// - It was killed at any of these points. Then each of its stores so far is one of the cases above,
///   and a reader needs no recovery first.
///
/// Not inlined: compiled into one function with the loop and the load of the generation, a hit in
/// the nearest cache takes 90 ns and a miss 41, against 81 and 33.
#[inline(never)]
fn attempt<T>(
    handle: &Handle,
    generation: &Guard<Arc<Generation>>,
    poll: HeaderStateWord,
    hash: Hash,
    mut examine: impl FnMut(
        &Guard<Arc<Generation>>,
        &Located<'_>,
        Slot<'_>,
        Link,
    ) -> Result<Attempt<T, Error>>,
) -> Result<Attempt<T, Error>> {
    let located = match generation.table.locate(poll, hash) {
        Ok(located) => located,
        Err(error) => return not_located(handle, error),
    };
    // If a hit is likely, the links are fetched while the control bytes are waited for: a hit among
    // a million entries takes 0.90 of an in-memory map's time, against 0.97. A miss does not need
    // them: it took 43 ns without the prefetch, 53 with it.
    let misses = consecutive_misses();
    if misses == 0 {
        located.region.prefetch_links(hash);
    }
    let mut corrupt = None;
    // S2, S3: the key's entry is in this region, and no group before its own has an empty byte. A
    // control byte is only a filter; the link decides.
    for (_, slot, link) in located.region.probe(hash) {
        match examine(generation, &located, slot, link)? {
            Attempt::Done(found) => {
                if misses != 0 {
                    MISSES.set(0);
                }
                return Ok(Attempt::Done(found));
            }
            Attempt::Absent => {}
            Attempt::Retry => return Ok(Attempt::Retry),
            Attempt::Corrupt(error) => corrupt = Some(error),
        }
    }
    if !is_unchanged(handle, generation, &located, hash)? {
        return Ok(Attempt::Retry);
    }
    if let Some(error) = corrupt {
        handle.saw_damage();
        return Ok(Attempt::Corrupt(error));
    }
    MISSES.set(misses.wrapping_add(1));
    // A miss is the moment to check whether another program replaced the files.
    if may_check_path(handle, misses)
        && handle.claim_path_check()
        && replaced_by_hand(handle, generation)?
    {
        return Ok(Attempt::Retry);
    }
    Ok(Attempt::Absent)
}

/// Validates a miss: after a fence, the directory entry and the state word are as they were (S4).
///
/// If only the superseded mark was added, a switch has frozen the old generation. Until its commit,
/// which is the rename of the index (G2), the path still has this inode, and the miss is valid.
#[inline(always)]
pub(crate) fn is_unchanged(
    handle: &Handle,
    generation: &Generation,
    located: &Located<'_>,
    hash: Hash,
) -> Result<bool> {
    let (poll, entry) = generation.table.look_again(located, hash)?;
    if poll == located.poll {
        return Ok(entry == located.entry);
    }
    if entry != located.entry || poll != located.poll.with_superseded(true) {
        return Ok(false);
    }
    Ok(handle.inode_at_path()? == Some(generation.inode))
}

#[cold]
fn not_located<T>(handle: &Handle, error: Error) -> Result<Attempt<T, Error>> {
    if error.is_corruption() {
        handle.saw_damage();
        return Ok(Attempt::Corrupt(error));
    }
    Err(error)
}

/// Returns whether the path has another file, and opens that. If the files were only removed, the
/// handle keeps those that it has mapped.
#[cold]
fn replaced_by_hand(handle: &Handle, generation: &Generation) -> Result<bool> {
    let replaced = handle
        .inode_at_path()?
        .is_some_and(|inode| inode != generation.inode);
    if replaced {
        handle.reopen(generation)?;
    }
    Ok(replaced)
}

/// Prefetches what look-ups of these keys will touch: first their control bytes and links, then their
/// records. The look-ups load everything again. Returns the hashes.
#[inline]
fn prefetch<K: AsRef<[u8]>>(
    generation: &Generation,
    poll: HeaderStateWord,
    keys: &[Option<K>; LANES],
) -> [Option<Hash>; LANES] {
    let hash = |key: &K| generation.hasher.hash(key.as_ref());
    let hashes = std::array::from_fn(|lane| keys[lane].as_ref().map(hash));
    let regions = hashes.map(|hash| generation.table.prefetch_region(poll, hash?));
    for (hash, region) in hashes.into_iter().zip(regions) {
        let (Some(hash), Some(region)) = (hash, region) else {
            continue;
        };
        if let Some((_, _, link)) = region.probe(hash).next() {
            let place = link.addr();
            if let Some(segment) = generation.segment(place.segment) {
                segment.prefetch(place.unit);
            }
        }
    }
    hashes
}

#[cfg(not(loom))]
#[cfg(test)]
mod tests {
    use super::*;

    /// A look-up that loses every race reports contention; one that never succeeds though no writer
    /// changes anything has found corruption.
    #[test]
    fn lost_lookup_races_are_no_corruption() {
        let dir = tempfile::tempdir().unwrap();
        let cache = crate::MmapCache::open(dir.path().join("cache")).unwrap();
        cache.put(b"key", b"value").unwrap();
        let handle = cache.handle();
        let restart = |is_changed: bool| {
            search(handle, b"key", |generation, _, _, _| {
                if is_changed {
                    generation.header().entry_words().count_change();
                }
                Ok(Attempt::<(), _>::Retry)
            })
        };
        let error = restart(true).unwrap_err();
        assert!(
            matches!(error.kind(), crate::ErrorKind::Contended { .. }),
            "{error:?}"
        );
        assert!(!error.is_corruption());
        // To `get` a damaged entry is absent, to `entry` an error.
        assert!(matches!(restart(false), Ok(Answer::Damaged(error)) if error.is_corruption()));
    }
}
