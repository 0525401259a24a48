//! The changing words of the index header: one getter for each, and setters grouped by owner.
//!
//! Any process may load a word. Only the holder of the writer lock stores one (invariant L3), and
//! `tests/tidy.rs` checks that the words of each owner are stored from one file. The structs at the
//! end are those owners; each exposes its own words only. May call `format`, `lock`, `sync` and
//! `index::redo`.

use crate::error::Result;
use crate::format::heap_addr::{CleanCursor, HeapAddr, Replaced};
use crate::format::index::{
    Counters, EXPIRING, HeaderStateWord, HeapHome, IndexHeader, NO_DEADLINES, SHARD_WORDS, SHARDS,
    STATISTICS, word,
};
use crate::format::segment::first_place;
use crate::format::settings::{self, Settings};
use crate::lock;
use crate::sync::{
    Relaxed, Word, acquire, acquire_fence, add, exchange, load, publish, release_fence, store,
};

use crate::index::redo::{self, HeaderPage, Redo, RedoState};

/// The roster's length among the counters.
const ROSTER_LEN: usize = 4;
/// The live heap bytes among the counters.
const LIVE: usize = 7;

/// The word whose upper half has the flags of the sealed header.
const FLAGS: usize = std::mem::offset_of!(IndexHeader, flags) / 8;
const _: () = assert!(std::mem::offset_of!(IndexHeader, flags) % 8 == 4);

/// Values of the dirty mark; 0 is clean.
const MARKING: u64 = 1;
const MARKED: u64 = 2;

/// The header page of an index.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header<'a>(&'a HeaderPage);

impl<'a> Header<'a> {
    /// The header in the first words of an index; `None` if there are too few.
    pub(crate) fn new(words: &'a [Word]) -> Option<Self> {
        words.first_chunk().map(Self)
    }

    /// The state word: the directory's depth and the superseded mark. Every reader polls it.
    pub(crate) fn poll(&self) -> HeaderStateWord {
        HeaderStateWord(acquire(&self.0[word::POLL]))
    }

    /// Where the heap is stored, and from which segment on all of it must be there.
    pub(crate) fn heap_home(&self) -> HeapHome {
        HeapHome::from_word(load(&self.0[word::HEAP_HOME]))
    }

    /// The segment numbers of the heap that this generation replaced: the first, and one past the
    /// last. An end of 0 means unknown.
    pub(crate) fn replaced_extent(&self) -> (u64, u64) {
        (
            load(&self.0[word::REPLACED_FIRST]),
            load(&self.0[word::REPLACED_END]),
        )
    }

    /// The counters of entries, roster positions, regions and live bytes.
    pub(crate) fn counters(&self) -> Counters {
        Counters::from_words(std::array::from_fn(|i| load(&self.0[word::COUNTERS + i])))
    }

    /// The counters after the change that is under way, or as they are if none is. During a change
    /// some are as before it, and some as after it.
    pub(crate) fn counters_after(&self) -> Counters {
        match self.redo() {
            RedoState::Committed(redo) => redo.after(),
            RedoState::Cleared | RedoState::Corrupt => self.counters(),
        }
    }

    /// The number of roster positions that were ever used, as the header counts them. A reader that
    /// sees the length sees its positions filled.
    pub(crate) fn roster_len(&self) -> u64 {
        acquire(&self.0[word::COUNTERS + ROSTER_LEN])
    }

    /// The number of entries.
    pub(crate) fn occupied(&self) -> u64 {
        load(&self.0[word::COUNTERS])
    }

    /// The reserved end of the heap: its end after the record that is being written.
    pub(crate) fn reserved(&self) -> HeapAddr {
        HeapAddr::from_word(load(&self.0[word::RESERVED]))
    }

    /// The committed end of the heap. A reader that sees an end sees the records before it.
    pub(crate) fn tail(&self) -> HeapAddr {
        HeapAddr::from_word(acquire(&self.0[word::TAIL]))
    }

    /// The live heap bytes after the record that is being written.
    pub(crate) fn live_after(&self) -> u64 {
        load(&self.0[word::LIVE_AFTER])
    }

    /// Bytes of all segments before the last one.
    pub(crate) fn heap_base(&self) -> u64 {
        load(&self.0[word::HEAP_BASE])
    }

    /// The latest version that an entry or a deletion was given, in nanoseconds since 1970. In an
    /// index with ids the word means [`Header::reserved_ids`] instead.
    pub(crate) fn last_version(&self) -> u64 {
        load(&self.0[word::LAST_MTIME])
    }

    /// The highest id that is reserved. The same word as [`Header::last_version`].
    pub(crate) fn reserved_ids(&self) -> u64 {
        load(&self.0[word::LAST_MTIME])
    }

    /// The number of changes of entries so far. A reader that sees one counted sees all of it.
    pub(crate) fn changes(&self) -> u64 {
        acquire(&self.0[word::CHANGES])
    }

    /// The oldest segment that is in use; 0, so that all are, if the word is corrupt.
    pub(crate) fn oldest(&self) -> u16 {
        self.checked_oldest().unwrap_or(0)
    }

    /// As [`Header::oldest`]; `None` if the word is corrupt.
    pub(crate) fn checked_oldest(&self) -> Option<u16> {
        let word = load(&self.0[word::OLDEST]);
        (oldest_word(word as u16) == word).then_some(word as u16)
    }

    /// How far cleaning has come; `None` if the word is corrupt.
    pub(crate) fn clean_cursor(&self) -> Option<CleanCursor> {
        CleanCursor::from_word(load(&self.0[word::CURSOR]))
    }

    /// Up to which place the heap must be synced before evacuated segments may be removed, and
    /// which segments those are.
    pub(crate) fn replaced(&self) -> Replaced {
        Replaced::from_word(load(&self.0[word::REPLACED]))
    }

    /// The removals of all segments below this number are synced.
    pub(crate) fn removals_synced(&self) -> u64 {
        load(&self.0[word::REMOVALS_SYNCED])
    }

    /// The redo record.
    pub(crate) fn redo(&self) -> RedoState {
        redo::read_redo(self.0)
    }

    /// The words of the redo copy. What they hold counts under the redo record of an overwrite.
    pub(crate) fn redo_copy(&self) -> &'a [Word] {
        redo::redo_copy(self.0)
    }

    /// Returns whether the overwrite of this version has been under way all the time since its redo
    /// record was read.
    pub(crate) fn is_still_overwriting(&self, version: u64) -> bool {
        redo::is_still_overwriting(self.0, version)
    }

    /// Whether a redo record is committed: a change is under way, or its writer was killed.
    pub(crate) fn has_redo(&self) -> bool {
        load(&self.0[word::INTENT]) != 0
    }

    /// Returns whether no change is under way and none was completed since `changes` was loaded.
    /// What a reader has read in between is then no work in progress.
    pub(crate) fn is_idle_since(&self, changes: u64) -> bool {
        acquire_fence();
        let idle = acquire(&self.0[word::INTENT]) == 0;
        idle && self.changes() == changes
    }

    /// Words that change while a writer is at work, to be compared with earlier values.
    pub(crate) fn progress(&self) -> [u64; 4] {
        let at_work = [
            word::CHANGES,
            word::INTENT,
            word::RESERVED,
            word::INCARNATION,
        ];
        at_work.map(|at| load(&self.0[at]))
    }

    /// Words that change when a switch or cleaning moves or removes files of the heap.
    pub(crate) fn heap_shape(&self) -> [u64; 4] {
        [word::POLL, word::OLDEST, word::CURSOR, word::TAIL].map(|at| load(&self.0[at]))
    }

    /// The boot under which the files were last written.
    pub(crate) fn written_under(&self) -> [u64; 2] {
        [
            load(&self.0[word::BOOT_ID]),
            load(&self.0[word::BOOT_ID + 1]),
        ]
    }

    /// The inode number of the index file that was last written to.
    pub(crate) fn inode(&self) -> u64 {
        load(&self.0[word::INODE])
    }

    /// The device of the index file that was last written to.
    pub(crate) fn device(&self) -> u64 {
        load(&self.0[word::DEVICE])
    }

    /// When the index file was created, as its file system says, in nanoseconds since 1970; 0 if
    /// the file system does not know.
    pub(crate) fn born(&self) -> u64 {
        load(&self.0[word::BORN])
    }

    /// Whether the files were written to since the last flush.
    pub(crate) fn is_dirty(&self) -> bool {
        load(&self.0[word::DIRTY]) != 0
    }

    /// Whether the dirty mark is on the disk.
    pub(crate) fn is_marked(&self) -> bool {
        load(&self.0[word::DIRTY]) == MARKED
    }

    /// Whether the cache was ever flushed: from then on removals wait for syncs.
    pub(crate) fn is_flushed(&self) -> bool {
        load(&self.0[word::FLUSHED]) != 0
    }

    /// All records before this place are on the disk.
    pub(crate) fn synced_to(&self) -> HeapAddr {
        HeapAddr::from_word(load(&self.0[word::SYNCED]))
    }

    /// No record before this place is overwritten where it is; `None` if the word is corrupt.
    pub(crate) fn frozen_to(&self) -> Option<HeapAddr> {
        let frozen = CleanCursor::from_word(load(&self.0[word::FROZEN]))?.addr;
        // A zeroed word passes its check, and names no place of a record.
        (frozen >= first_place(frozen.segment)).then_some(frozen)
    }

    /// The mark of a failed sync: 1 after one failed, 0 if none did. Other values are corrupt.
    pub(crate) fn sync_error(&self) -> u64 {
        load(&self.0[word::SYNC_ERROR])
    }

    /// Whether a sync failed: later ones prove nothing.
    pub(crate) fn sync_failed(&self) -> bool {
        self.sync_error() != 0
    }

    /// Whether a committed switch has not yet given all files their final names.
    pub(crate) fn renames_pending(&self) -> bool {
        load(&self.0[word::RENAMES_PENDING]) != 0
    }

    /// The tag that the next region gets; no region ever had it.
    pub(crate) fn next_region_tag(&self) -> u64 {
        load(&self.0[word::INCARNATION])
    }

    /// When all dead records were last reclaimed, in nanoseconds since 1970; 0 if never.
    pub(crate) fn compacted(&self) -> u64 {
        load(&self.0[word::COMPACTED])
    }

    /// The number of puts so far, overwrites included.
    pub(crate) fn puts(&self) -> u64 {
        load(&self.0[word::PUTS])
    }

    /// The number of puts that replaced a value.
    pub(crate) fn overwrites(&self) -> u64 {
        load(&self.0[word::OVERWRITES])
    }

    /// The number of deletes that removed an entry.
    pub(crate) fn deletes(&self) -> u64 {
        load(&self.0[word::DELETES])
    }

    /// The number of entries that were given up because their records were damaged or gone.
    pub(crate) fn dropped(&self) -> u64 {
        load(&self.0[word::DROPPED])
    }

    /// How often index and roster were rebuilt from the heap.
    pub(crate) fn recoveries(&self) -> u64 {
        load(&self.0[word::RECOVERIES])
    }

    /// The process id of the writer, if it is one.
    pub(crate) fn holder(&self) -> Option<u32> {
        u32::try_from(self.holder_word()).ok().filter(|&id| id != 0)
    }

    /// The word in which a writer leaves its process id; 0 while no writer is at work.
    pub(crate) fn holder_word(&self) -> u64 {
        load(&self.0[word::HOLDER])
    }

    /// The writer-at-work word of the lock: the lock byte of the writer that is at work.
    pub(crate) fn at_work(&self) -> u64 {
        load(&self.0[word::INSIDE])
    }

    /// The contenders that wait for a `flock`.
    pub(crate) fn waiting(&self) -> u64 {
        load(&self.0[word::WAITING])
    }

    /// When a writer was last at work, in nanoseconds since 1970 by the clock of file systems.
    pub(crate) fn visited(&self) -> u64 {
        load(&self.0[word::VISITED])
    }

    /// Returns whether this is a copy of the file that was written to. Its dirty mark says nothing
    /// then: it may have been copied while the files were clean, and the rest while a writer was at
    /// work.
    pub(crate) fn is_copied(&self, boot: [u64; 2], (device, inode): (u64, u64)) -> bool {
        // Each boot gives devices new numbers.
        let is_same_boot = self.written_under() == boot && boot != [0; 2];
        self.inode() != inode || (is_same_boot && self.device() != device)
    }

    /// Returns whether the last writer wrote under this boot, and to this inode.
    pub(crate) fn is_from_here(&self, boot: [u64; 2], inode: (u64, u64)) -> bool {
        self.written_under() == boot && boot != [0; 2] && !self.is_copied(boot, inode)
    }

    /// The words by which the index is locked.
    pub(crate) fn lock_words(&self) -> lock::LockWords<'a> {
        lock::LockWords {
            state: &self.0[word::LOCK],
            inside: &self.0[word::INSIDE],
            waiting: &self.0[word::WAITING],
        }
    }

    /// See [`SyncNotes::note_sync`].
    pub(crate) fn note_sync(&self, synced: Result<()>) -> Result<()> {
        self.sync_notes().note_sync(synced)
    }

    /// The words for the results of syncs.
    pub(crate) fn sync_notes(&self) -> SyncNotes<'a> {
        SyncNotes {
            failed: &self.0[word::SYNC_ERROR],
            synced: &self.0[word::SYNCED],
            removals: &self.0[word::REMOVALS_SYNCED],
        }
    }

    /// The words of the heap's end. Owner: `engine::write::heap_end`.
    #[inline]
    pub(crate) fn heap_end_words(&self) -> HeapEndWords<'a> {
        HeapEndWords(self.0)
    }

    /// The words of entries: redo record, counters and totals. Owner: `engine::write::publish`.
    #[inline]
    pub(crate) fn entry_words(&self) -> EntryWords<'a> {
        EntryWords(self.0)
    }

    /// The words of cleaning. Owner: `engine::clean::state`.
    #[inline]
    pub(crate) fn clean_words(&self) -> CleanWords<'a> {
        CleanWords(self.0)
    }

    /// The words of durability. Owner: `engine::write::durability`.
    #[inline]
    pub(crate) fn durability_words(&self) -> DurabilityWords<'a> {
        DurabilityWords(self.0)
    }

    /// The words of the writer at work. Owner: `engine::write::session`.
    #[inline]
    pub(crate) fn session_words(&self) -> SessionWords<'a> {
        SessionWords(self.0)
    }

    /// The words of a header that no other process can see yet. Owners: the files that fill a new
    /// index.
    pub(crate) fn new_file_words(&self) -> NewFileWords<'a> {
        NewFileWords(self.0)
    }

    /// Whether this is the index of a `Cache`, by its sealed part.
    pub(crate) fn is_expiring(&self) -> bool {
        load(&self.0[FLAGS]) >> 32 & u64::from(EXPIRING) != 0
    }

    /// The limits and defaults of a `Cache`; `None` if they are corrupt, or if writers change them
    /// one after the other.
    pub(crate) fn settings(&self) -> Option<Settings> {
        let at = |first| Settings::from_words(std::array::from_fn(|i| load(&self.0[first + i])));
        at(word::SETTINGS).or_else(|| {
            // The copy was complete before any word of the first ones changed.
            acquire_fence();
            at(word::SETTINGS_COPY)
        })
    }

    /// The number of invalidations of groups. A reader that sees one counted finds its entry.
    pub(crate) fn invalidations(&self) -> u64 {
        acquire(&self.0[word::INVALIDATIONS])
    }

    /// Whether a deadline may be stored apart from its entry.
    pub(crate) fn has_deadlines(&self) -> bool {
        acquire(&self.0[word::DEADLINES]) != NO_DEADLINES
    }

    /// Entries with a version up to this may have lost what limits them.
    pub(crate) fn trusted_from(&self) -> u64 {
        load(&self.0[word::TRUSTED_FROM])
    }

    /// The slot at which the next search for expired entries begins. A hint.
    pub(crate) fn sweep_slot(&self) -> u64 {
        load(&self.0[word::SWEEP])
    }

    /// One more than the number of the last segment of which an entry was removed without a deletion
    /// record.
    pub(crate) fn evicted(&self) -> u64 {
        load(&self.0[word::EVICTED])
    }

    /// Returns whether a record lies in the heap after all that was written before it, but for what
    /// cleaning has moved since.
    pub(crate) fn is_in_order(&self, place: HeapAddr) -> bool {
        let from = CleanCursor::from_word(load(&self.0[word::ORDERED_FROM]));
        from.is_some_and(|from| from.addr <= place)
    }

    /// The statistics of a `Cache`: the sums over all shards.
    pub(crate) fn statistics(&self) -> [u64; STATISTICS] {
        std::array::from_fn(|counter| {
            let shard = |shard| load(&self.0[word::SHARDS + shard * SHARD_WORDS + counter]);
            (0..SHARDS).map(shard).fold(0, u64::wrapping_add)
        })
    }

    /// Adds to the statistics of a `Cache`, atomically: L3 allows it to any process, without the
    /// lock.
    pub(crate) fn add_statistics(&self, shard: usize, counted: &[u64; STATISTICS]) {
        let first = word::SHARDS + shard % SHARDS * SHARD_WORDS;
        for (at, &more) in counted.iter().enumerate().filter(|(_, more)| **more > 0) {
            add(&self.0[first + at], more);
        }
    }

    /// The words of a `Cache`. Owner: `engine::write::cache_words`.
    #[inline]
    pub(crate) fn cache_words(&self) -> CacheWords<'a> {
        CacheWords(self.0)
    }

    /// Stores the state word.
    pub(crate) fn set_poll(&self, poll: HeaderStateWord) {
        publish(&self.0[word::POLL], poll.0);
    }

    /// Stores in the state word whether another generation has replaced this one.
    pub(crate) fn set_superseded(&self, superseded: bool) {
        self.set_poll(self.poll().with_superseded(superseded));
    }

    /// Stores the contenders that wait for a `flock`, in a new index.
    pub(crate) fn set_waiting(&self, waiting: u64) {
        store(&self.0[word::WAITING], waiting);
    }

    /// Stores whether files have to be given their final names.
    pub(crate) fn set_renames_pending(&self, pending: bool) {
        store(&self.0[word::RENAMES_PENDING], u64::from(pending));
    }

    /// Stores the segment numbers of the heap that this generation replaces.
    pub(crate) fn set_replaced_extent(&self, first: u16, end: u32) {
        store(&self.0[word::REPLACED_FIRST], first.into());
        store(&self.0[word::REPLACED_END], end.into());
    }

    /// Stores where the heap is.
    pub(crate) fn set_heap_home(&self, home: HeapHome) {
        store(&self.0[word::HEAP_HOME], home.to_word());
    }

    /// Stores the highest id that is reserved, in an index with ids.
    pub(crate) fn set_reserved_ids(&self, highest: u64) {
        store(&self.0[word::LAST_MTIME], highest);
    }

    /// Stores the tag that the next region gets.
    pub(crate) fn set_next_region_tag(&self, tag: u64) {
        debug_assert!(
            tag > self.next_region_tag(),
            "S4: no tag is used twice, {tag}"
        );
        store(&self.0[word::INCARNATION], tag);
    }

    /// Stores that a writer is at work now. The time never goes back, whatever the clock does.
    #[inline]
    pub(crate) fn note_visit(&self, now: u64) {
        // A model has no clock, and each store would be one more step of it.
        if !cfg!(loom) {
            store(&self.0[word::VISITED], now.max(self.visited()));
        }
    }

    /// As [`note_visit`](Self::note_visit), for a process without the lock: it only raises the time
    /// (L3).
    pub(crate) fn raise_visited(&self, now: u64) {
        if !cfg!(loom) {
            raise(&self.0[word::VISITED], now);
        }
    }

    /// Stores any value in any word, as damage does.
    #[cfg(test)]
    pub(crate) fn corrupt(&self, at: usize, value: u64) {
        store(&self.0[at], value);
    }

    /// Loads any word.
    #[cfg(test)]
    pub(crate) fn raw(&self, at: usize) -> u64 {
        load(&self.0[at])
    }
}

/// The segment number with a check above it. With a damaged number, cleaning would drop deletions
/// before what they delete.
fn oldest_word(number: u16) -> u64 {
    let check = u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (check & !0xffff) | u64::from(number)
}

/// The end of the heap: `tail`, `reserved`, `live_after`, `heap_base`, and the last version.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeapEndWords<'a>(&'a HeaderPage);

impl HeapEndWords<'_> {
    /// Announces that the bytes between `tail` and `end` are about to change.
    #[inline]
    pub(crate) fn reserve(&self, end: HeapAddr, live_after: u64) {
        store(&self.0[word::LIVE_AFTER], live_after);
        publish(&self.0[word::RESERVED], end.to_word());
        release_fence();
    }

    /// Stores the reserved end without a record before it.
    pub(crate) fn set_reserved(&self, end: HeapAddr) {
        publish(&self.0[word::RESERVED], end.to_word());
    }

    /// Stores the committed end.
    #[inline]
    pub(crate) fn set_tail(&self, tail: HeapAddr) {
        publish(&self.0[word::TAIL], tail.to_word());
    }

    /// Stores the bytes of all segments before the last one.
    pub(crate) fn set_heap_base(&self, bytes: u64) {
        store(&self.0[word::HEAP_BASE], bytes);
    }

    /// Stores the latest version.
    #[inline]
    pub(crate) fn set_last_version(&self, version: u64) {
        store(&self.0[word::LAST_MTIME], version);
    }
}

/// Entries: the redo record, the counters, and the totals of what was done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EntryWords<'a>(&'a HeaderPage);

impl EntryWords<'_> {
    /// Commits a redo record: see [`Redo`].
    #[inline]
    pub(crate) fn commit_redo(&self, redo: Redo) {
        redo::commit_redo(self.0, redo);
    }

    /// Clears the redo record.
    #[inline]
    pub(crate) fn clear_redo(&self) {
        redo::clear_redo(self.0);
    }

    /// Stores all counters. A reader that sees the roster's length sees its positions filled: a
    /// listing, which goes by the length, cannot tell an unused position from a slot's number.
    #[inline]
    pub(crate) fn set_counters(&self, counters: &Counters) {
        for (i, value) in counters.to_words().into_iter().enumerate() {
            if i == ROSTER_LEN {
                publish(&self.0[word::COUNTERS + i], value);
            } else {
                store(&self.0[word::COUNTERS + i], value);
            }
        }
    }

    /// Stores the live heap bytes alone: an overwrite changes no other counter.
    #[inline]
    pub(crate) fn set_live(&self, live: u64) {
        store(&self.0[word::COUNTERS + LIVE], live);
    }

    /// Counts a change of an entry, after its other stores.
    #[inline]
    pub(crate) fn count_change(&self) {
        let word = &self.0[word::CHANGES];
        publish(word, load(word).wrapping_add(1));
    }

    /// Counts a put.
    #[inline]
    pub(crate) fn count_put(&self) {
        self.add(word::PUTS, 1);
    }

    /// Counts a put that replaced a value.
    #[inline]
    pub(crate) fn count_overwrite(&self) {
        self.add(word::OVERWRITES, 1);
    }

    /// Counts a delete that removed an entry.
    #[inline]
    pub(crate) fn count_delete(&self) {
        self.add(word::DELETES, 1);
    }

    /// Counts entries that were given up.
    pub(crate) fn count_dropped(&self, entries: u64) {
        self.add(word::DROPPED, entries);
    }

    /// Counts a rebuild from the heap.
    pub(crate) fn count_recovery(&self) {
        self.add(word::RECOVERIES, 1);
    }

    #[inline]
    fn add(&self, at: usize, more: u64) {
        store(&self.0[at], load(&self.0[at]).wrapping_add(more));
    }
}

/// Cleaning: which segments are in use, how far it has come, and what its removals wait for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CleanWords<'a>(&'a HeaderPage);

impl CleanWords<'_> {
    /// Stores how far cleaning has come.
    pub(crate) fn set_cursor(&self, cursor: CleanCursor) {
        store(&self.0[word::CURSOR], cursor.to_word());
    }

    /// Stores what must be synced before evacuated segments are removed.
    pub(crate) fn set_replaced(&self, replaced: Replaced) {
        store(&self.0[word::REPLACED], replaced.to_word());
    }

    /// Stores the number of the oldest segment in use.
    pub(crate) fn set_oldest(&self, number: u16) {
        store(&self.0[word::OLDEST], oldest_word(number));
    }

    /// Stores when all dead records were reclaimed, in nanoseconds since 1970.
    pub(crate) fn set_compacted(&self, now: u64) {
        store(&self.0[word::COMPACTED], now);
    }
}

/// Durability: what is known to be on the disk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DurabilityWords<'a>(&'a HeaderPage);

impl DurabilityWords<'_> {
    /// Stores up to which place all records are on the disk.
    pub(crate) fn set_synced_to(&self, place: HeapAddr) {
        store(&self.0[word::SYNCED], place.to_word());
    }

    /// Stores before which place no record is overwritten where it is.
    pub(crate) fn set_frozen_to(&self, place: HeapAddr) {
        store(&self.0[word::FROZEN], CleanCursor::at(place).to_word());
    }

    /// Stores that the cache was flushed.
    pub(crate) fn set_flushed(&self) {
        store(&self.0[word::FLUSHED], 1);
    }

    /// Stores whether a sync failed.
    pub(crate) fn set_sync_failed(&self, failed: bool) {
        store(&self.0[word::SYNC_ERROR], u64::from(failed));
    }
}

/// The writer at work: who it is, and the mark that the files are not flushed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SessionWords<'a>(&'a HeaderPage);

impl SessionWords<'_> {
    /// Stores the process id of the writer; 0 when it leaves.
    pub(crate) fn set_holder(&self, process: u32) {
        store(&self.0[word::HOLDER], u64::from(process));
    }

    /// Stores under which boot, and to which file, a writer writes; then the mark that it does.
    pub(crate) fn mark_dirty(&self, boot: [u64; 2], (device, inode): (u64, u64), born: u64) {
        store(&self.0[word::BOOT_ID], boot[0]);
        store(&self.0[word::BOOT_ID + 1], boot[1]);
        store(&self.0[word::INODE], inode);
        store(&self.0[word::DEVICE], device);
        store(&self.0[word::BORN], born);
        publish(&self.0[word::DIRTY], MARKING);
    }

    /// Stores that the dirty mark is on the disk. If a writer is killed before this, the next one
    /// syncs the mark.
    pub(crate) fn set_mark_synced(&self) {
        debug_assert_eq!(load(&self.0[word::DIRTY]), MARKING, "marked before");
        store(&self.0[word::DIRTY], MARKED);
    }

    /// Removes the dirty mark: all is on the disk.
    pub(crate) fn clear_dirty(&self) {
        store(&self.0[word::DIRTY], 0);
    }
}

/// A `Cache`: its settings, and what lookups must know of its groups and deadlines.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CacheWords<'a>(&'a HeaderPage);

impl CacheWords<'_> {
    /// Stores limits and defaults, the copy first: a kill at any store leaves the old or the new
    /// ones.
    pub(crate) fn set_settings(&self, settings: Settings) {
        for first in [word::SETTINGS_COPY, word::SETTINGS] {
            for (i, value) in settings.to_words().into_iter().enumerate() {
                store(&self.0[first + i], value);
            }
            release_fence();
        }
    }

    /// Counts an invalidation, after its entry was put.
    pub(crate) fn count_invalidation(&self) {
        let word = &self.0[word::INVALIDATIONS];
        publish(word, load(word).wrapping_add(1));
    }

    /// Stores whether a deadline may be stored apart from its entry.
    pub(crate) fn set_has_deadlines(&self, has: bool) {
        publish(&self.0[word::DEADLINES], if has { 0 } else { NO_DEADLINES });
    }

    /// Stores up to which version entries may have lost what limits them.
    pub(crate) fn set_trusted_from(&self, version: u64) {
        store(&self.0[word::TRUSTED_FROM], version);
    }

    /// Stores of which segment an entry was last removed without a deletion record, plus one.
    pub(crate) fn set_evicted(&self, after: u64) {
        store(&self.0[word::EVICTED], after);
    }

    /// Stores from which place on records lie in the order in which they were written.
    pub(crate) fn set_ordered_from(&self, place: HeapAddr) {
        store(
            &self.0[word::ORDERED_FROM],
            CleanCursor::at(place).to_word(),
        );
    }

    /// Stores where the next search for expired entries begins.
    pub(crate) fn set_sweep_slot(&self, slot: u64) {
        store(&self.0[word::SWEEP], slot);
    }
}

/// A header that no other process can see yet: what a new index begins with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewFileWords<'a>(&'a HeaderPage);

impl NewFileWords<'_> {
    /// The words that count over all generations, except the last version.
    const TOTALS: [usize; 6] = [
        word::CHANGES,
        word::PUTS,
        word::OVERWRITES,
        word::DELETES,
        word::DROPPED,
        word::RECOVERIES,
    ];
    /// The words that describe the heap.
    const HEAP: [usize; 11] = [
        word::HEAP_HOME,
        word::RESERVED,
        word::TAIL,
        word::HEAP_BASE,
        word::OLDEST,
        word::CURSOR,
        word::SYNCED,
        word::SYNC_ERROR,
        word::FLUSHED,
        word::EVICTED,
        word::ORDERED_FROM,
    ];

    /// Stores which file this is: its inode number, and when it was created.
    pub(crate) fn set_file(&self, inode: u64, born: u64) {
        store(&self.0[word::INODE], inode);
        store(&self.0[word::BORN], born);
    }

    /// Stores where the heap is.
    pub(crate) fn set_heap_home(&self, home: HeapHome) {
        store(&self.0[word::HEAP_HOME], home.to_word());
    }

    /// Marks the new file as dirty, as [`SessionWords::mark_dirty`] does. The caller syncs the file
    /// before another process can see it.
    pub(crate) fn begin_dirty(&self, boot: [u64; 2], file: (u64, u64), born: u64) {
        let words = SessionWords(self.0);
        words.mark_dirty(boot, file, born);
        words.set_mark_synced();
    }

    /// Begins an empty heap at a place, whose records may be overwritten if it is `in_place`.
    pub(crate) fn begin_heap(&self, first: HeapAddr, in_place: bool) {
        let end = HeapEndWords(self.0);
        end.set_reserved(first);
        end.set_tail(first);
        CleanWords(self.0).set_cursor(CleanCursor::at(first));
        if in_place {
            DurabilityWords(self.0).set_frozen_to(first);
        }
    }

    /// Marks a new cache as flushed: its heap is on the disk up to here, and all its files are.
    pub(crate) fn begin_flushed(&self, tail: HeapAddr) {
        let words = DurabilityWords(self.0);
        words.set_synced_to(tail);
        words.set_flushed();
    }

    /// Begins an empty table of `2^depth` regions, which have the tags from 1 on.
    pub(crate) fn begin_table(&self, depth: u32) {
        store(&self.0[word::INCARNATION], (1 << depth) + 1);
        EntryWords(self.0).set_counters(&Counters {
            regions: 1 << depth,
            ..Counters::default()
        });
        Header(self.0).set_poll(HeaderStateWord::at_depth(depth));
    }

    /// Continues the totals of another generation.
    pub(crate) fn carry_totals(&self, from: Header<'_>) {
        self.carry(&Self::TOTALS, from);
    }

    /// Continues the last version, or the reserved ids, of another generation.
    pub(crate) fn carry_last_version(&self, from: Header<'_>) {
        self.carry(&[word::LAST_MTIME], from);
    }

    /// Continues the settings and statistics of a `Cache`, and what its lookups must know.
    pub(crate) fn carry_cache(&self, from: Header<'_>) {
        let settings = word::SETTINGS..word::SETTINGS + settings::WORDS;
        let copy = word::SETTINGS_COPY..word::SETTINGS_COPY + settings::WORDS;
        let shards = word::SHARDS..word::SHARDS + SHARDS * SHARD_WORDS;
        for at in settings.chain(copy).chain(shards) {
            store(&self.0[at], load(&from.0[at]));
        }
        let words = [word::INVALIDATIONS, word::DEADLINES, word::TRUSTED_FROM];
        self.carry(&words, from);
    }

    /// Takes over what another generation's header says of the heap.
    pub(crate) fn carry_heap(&self, from: Header<'_>) {
        self.carry(&Self::HEAP, from);
    }

    fn carry(&self, words: &[usize], from: Header<'_>) {
        for &at in words {
            store(&self.0[at], load(&from.0[at]));
        }
    }
}

/// The words that a thread without the writer lock may store (invariant L3): the result of a sync
/// that it made. Each only grows here, so two threads cannot undo each other's stores.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SyncNotes<'a> {
    failed: &'a Word,
    synced: &'a Word,
    removals: &'a Word,
}

impl SyncNotes<'_> {
    /// Remembers in the header that a sync failed. The system counts the lost pages as written
    /// from then on, so a later sync that succeeds proves nothing.
    pub(crate) fn note_sync(&self, synced: Result<()>) -> Result<()> {
        synced.inspect_err(|error| {
            if error.is_failed_sync() {
                raise(self.failed, 1);
            }
        })
    }

    /// Stores that all segments below a number are synced. The place of this is the beginning of
    /// the file, which says nothing about the segment itself, nor about zeros in it.
    pub(crate) fn segments_are_synced(&self, below: u16) {
        let place = HeapAddr {
            segment: below,
            unit: 0,
        };
        raise(self.synced, place.to_word());
    }

    /// Stores that the removals of all segments below a number are synced.
    pub(crate) fn removals_are_synced(&self, below: u16) {
        raise(self.removals, u64::from(below));
    }
}

/// Stores a value if it is larger than the word's (L3): only raises, with the lock or without it.
fn raise(word: &Word, value: u64) {
    loop {
        let seen = load(word);
        if seen >= value || exchange(word, seen, value, Relaxed) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::redo::WORDS;
    use crate::sync::failpoint;

    fn page() -> Vec<Word> {
        (0..WORDS).map(|_| Word::new(0)).collect()
    }

    // A kill at any store of new settings leaves the old or the new ones: never half of each, and never
    // settings that pass for damage.
    #[test]
    fn stopped_settings_are_whole() {
        let settings = |number| Settings {
            max_bytes: number,
            time_to_live: number + 1,
            jitter: number as u8,
            ..Settings::default()
        };
        for steps in 0.. {
            let page = page();
            let header = Header::new(&page).unwrap();
            header.cache_words().set_settings(settings(1));
            failpoint::set(steps);
            let stopped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                header.cache_words().set_settings(settings(2));
            }));
            failpoint::clear();
            let found = header.settings();
            assert!(
                [settings(1), settings(2)].map(Some).contains(&found),
                "{steps}: {found:?}"
            );
            if stopped.is_ok() {
                assert_eq!((found, steps), (Some(settings(2)), 16));
                break;
            }
        }
    }

    // If the number of the oldest segment is corrupt, every segment counts as in use.
    #[test]
    fn corrupt_oldest_segment_means_all() {
        let page = page();
        let header = Header::new(&page).unwrap();
        for number in [0, 1, 2, 600, u16::MAX] {
            header.clean_words().set_oldest(number);
            assert_eq!(
                (header.oldest(), header.checked_oldest()),
                (number, Some(number))
            );
            for bit in 0..64 {
                let was = header.raw(word::OLDEST);
                header.corrupt(word::OLDEST, was ^ (1 << bit));
                assert_eq!(
                    (header.oldest(), header.checked_oldest()),
                    (0, None),
                    "{bit}"
                );
                header.corrupt(word::OLDEST, was);
            }
        }
    }
}
