//! Replacing a whole generation with one rename.
//!
//! Knows how a new generation is built beside the old one and becomes the one that counts, and that
//! nothing is left of it when that fails. It does not know why it is built.

use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::format::index::{IndexHeader, word};
use crate::format::record::Kind;
use crate::format::roster::{Position, RosterHeader};
use crate::format::seal::Sealed;
use crate::format::segment::SegmentHeader;
use crate::format::{Geometry, LockKind};
use crate::index::header::Header;
use crate::index::region::Slot;
use crate::index::roster::Roster;
use crate::index::table::Table;
use crate::lock::{self, Patience};
use crate::os::files::{self, Names, Stage};

use crate::engine::generation::{Ids, Plan, View, read_sealed};
use crate::engine::handle::{Handle, acquire, random};
use crate::engine::segment_numbers::Extent;
use crate::engine::staging::{DiscardOnPanic, discard_listed, discard_staged, finish_renames};
use crate::engine::version;
use crate::engine::write::mutator::{At, Editor, Outcomes, Stop};

/// What becomes of the heap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heap {
    /// The new generation gets its own.
    Fresh,
    /// The segments stay as they are; only index and roster are new.
    Kept,
}

/// Words of the header that a new generation goes on with.
pub(crate) const CARRIED: [usize; 7] = [
    word::LAST_MTIME,
    word::CHANGES,
    word::PUTS,
    word::OVERWRITES,
    word::DELETES,
    word::DROPPED,
    word::RECOVERIES,
];
/// Words that describe the heap, and go where it goes.
const HEAP_WORDS: [usize; 9] = [
    word::HEAP_HOME,
    word::RESERVED,
    word::TAIL,
    word::HEAP_BASE,
    word::OLDEST,
    word::CURSOR,
    word::SYNCED,
    word::SYNC_ERROR,
    word::FLUSHED,
];

impl Handle {
    /// Builds a new generation with `fill` and makes it the one that counts. The editor, whose lock
    /// is held, works on it afterwards. If anything fails before the commit, all is as before.
    pub(crate) fn switch(
        &self,
        editor: &mut Editor,
        heap: Heap,
        capacity: u64,
        fill: impl FnOnce(&mut Editor) -> Outcomes<()>,
    ) -> Outcomes<()> {
        let replaced = match heap {
            Heap::Fresh => Extent::of(editor.view.header()),
            Heap::Kept => Extent::NONE,
        };
        self.names.check_replaceable(replaced.numbers())?;
        self.clear_the_way(editor)?;
        if heap == Heap::Kept {
            // A recovery: what the header says of the heap may be older than the heap.
            discard_listed(&self.names)?;
            map_all(editor)?;
        }
        let epoch = lock::epoch();
        let built =
            stage(editor, heap, *editor.view.table.geometry(), capacity).and_then(|mut fresh| {
                let guard = DiscardOnPanic::new(&self.names);
                fill(&mut fresh)?;
                drop(guard);
                self.commit(editor, &fresh)?;
                Ok(())
            });
        if built.is_err() && epoch == lock::epoch() {
            // The first error is the one to report; what is left behind is removed by the next
            // writer. In a child that `fill` has forked, the files are the parent's.
            let _ = discard_staged(&self.names, Extent::NONE);
        }
        built
    }

    /// The same entries in a table with larger regions, over the same heap.
    pub(crate) fn enlarge(&self, editor: &mut Editor) -> Outcomes<()> {
        self.names.check_replaceable(Extent::NONE.numbers())?;
        self.clear_the_way(editor)?;
        map_known(editor)?;
        let built = reindex_larger(editor).and_then(|fresh| {
            Extent::NONE.set_replaced(fresh.view.header());
            Ok(self.commit(editor, &fresh)?)
        });
        if built.is_err() {
            let _ = discard_staged(&self.names, Extent::NONE);
        }
        built
    }

    /// The same entries in a table and a roster of the right size, over the same heap.
    pub(crate) fn shrink(&self, editor: &mut Editor) -> Outcomes<()> {
        self.names.check_replaceable(Extent::NONE.numbers())?;
        self.clear_the_way(editor)?;
        map_known(editor)?;
        let geometry = *editor.view.table.geometry();
        let built = reindex(editor, geometry).and_then(|fresh| {
            Extent::NONE.set_replaced(fresh.view.header());
            Ok(self.commit(editor, &fresh)?)
        });
        if built.is_err() {
            let _ = discard_staged(&self.names, Extent::NONE);
        }
        built
    }

    /// The same entries, with their versions, in a heap of their own: what is dead is left behind.
    pub(crate) fn rebuild_from_itself(&self, editor: &mut Editor) -> Outcomes<()> {
        let table = Arc::clone(&editor.view.table);
        let roster = Arc::clone(&editor.view.roster);
        let mut source = Editor::new(
            Arc::clone(&editor.view),
            Arc::clone(&editor.names),
            editor.stage,
        );
        self.switch(editor, Heap::Fresh, table.header().occupied(), |fresh| {
            if fresh.view.is_numbered() {
                fresh.append_reservation(table.header().get(word::LAST_MTIME))?;
            }
            let (mut key, mut value) = (Vec::new(), Vec::new());
            let mut listed = 0;
            for position in 0..source.view.roster_len() {
                let Some(slot) = listed_slot(&table, &roster, position)? else {
                    continue;
                };
                listed += 1;
                let place = slot.link().place();
                key.clear();
                value.clear();
                let found = match source.segment(place.segment)? {
                    Some(segment) => segment.read_any(place.unit, &mut key, Some(&mut value))?,
                    None => {
                        source.refuse_missing(place.segment)?;
                        None
                    }
                };
                match found {
                    Some(_) if has_entry(fresh, &key)? => return Err(twice(position)),
                    Some(header) => put_staged(fresh, &key, &value, Some(header.mtime))?,
                    None => fresh.view.header().add(word::DROPPED, 1),
                }
            }
            fresh.go_on_behind(source.view.roster_len().into())?;
            all_listed(&table, listed)
        })
    }

    /// Removes what an interrupted switch left under preliminary names. What a committed one left
    /// there comes first to its final names: it is this very generation's. Refuses to replace what
    /// is of another release.
    fn clear_the_way(&self, editor: &Editor) -> Result<()> {
        // A sync that fails meanwhile would be forgotten with the old index.
        if let Some(errand) = self.gate().errands.lock().under_way.take()
            && let Some(outcome) = errand.collect()
        {
            // What it was about is done anew.
            let _ = editor.view.header().note_sync(outcome);
        }
        if editor.view.header().get(word::RENAMES_PENDING) != 0 {
            finish_renames(&self.names, &editor.view)?;
        }
        let extent = Extent::of(editor.view.header());
        for number in extent.numbers() {
            read_sealed::<SegmentHeader>(&self.names.segment(number, Stage::Final))?;
        }
        discard_staged(&self.names, extent)
    }

    /// Makes a finished generation the one that counts, and the editor work on it.
    fn commit(&self, editor: &mut Editor, fresh: &Editor) -> Result<()> {
        let old = Arc::clone(&editor.view);
        let heap = if old.ids.heap == fresh.view.ids.heap {
            Heap::Kept
        } else {
            Heap::Fresh
        };
        commit(&self.names, &fresh.view, heap, Some(old.header()))?;
        self.follow(editor, &fresh.view);
        Ok(())
    }

    /// What follows a commit cannot undo it: where something fails, the next writer finishes it.
    fn follow(&self, editor: &mut Editor, view: &Arc<View>) {
        if let Err(error) = finish_renames(&self.names, view) {
            log::warn!("{error}: the files' final names are left to the next writer");
        }
        // Open by the final names, and keep the lock that is held.
        let mut reopened = View::open(&self.names, true);
        if let Ok(opened) = &mut reopened
            && opened.ids == view.ids
        {
            opened.lock.clone_from(&view.lock);
        }
        editor.view = match reopened {
            Ok(opened) if opened.ids == view.ids => Arc::new(opened),
            _ => Arc::clone(view),
        };
        editor.stage = Stage::Final;
        self.view.store(Arc::clone(&editor.view));
    }
}

/// Makes a finished generation the one that counts: the rename of its index commits. `old` is the
/// header of the one that it replaces, where there is one that can be read.
pub(crate) fn commit(
    names: &Names,
    view: &View,
    heap: Heap,
    old: Option<Header<'_>>,
) -> Result<()> {
    make_ready(names, view, heap, old)?;
    if let Some(old) = old {
        // Whoever began to wait for the old index's lock is to find the new one's free for a
        // moment.
        view.header().set(word::WAITING, old.get(word::WAITING));
        old.set_poll(old.poll().with_superseded(true));
    }
    let renamed = files::rename(&names.index(Stage::New), &names.index(Stage::Final));
    if renamed.is_err()
        && let Some(old) = old
    {
        old.set_poll(old.poll().with_superseded(false));
    }
    renamed
}

/// Makes a finished generation a cache where there is none.
pub(crate) fn commit_new(names: &Names, view: &View) -> Result<()> {
    Extent::NONE.set_replaced(view.header());
    make_ready(names, view, Heap::Fresh, None)?;
    files::rename_new(&names.index(Stage::New), &names.index(Stage::Final))
}

/// Sees to it that all files of a finished generation are on the disk, and takes its lock, before
/// anybody can.
fn make_ready(names: &Names, view: &View, heap: Heap, old: Option<Header<'_>>) -> Result<()> {
    view.header().set(word::RENAMES_PENDING, 1);
    view.header().set(word::COMPACTED, version::now());
    if let (Heap::Fresh, Some(old)) = (heap, old) {
        Extent::of(old).set_replaced(view.header());
    }
    // To whoever polls it, replacing everything is a change too, though it be by nothing.
    view.header().count_change();
    // Of a kept heap: that its pages count as clean from now on must not be mistaken for written.
    let shared = old.filter(|_| heap == Heap::Kept);
    note_sync(shared, view.sync_heap())?;
    // All of it is on the disk, so from here on nothing of it may be removed before what replaces
    // it is.
    view.header()
        .set(word::SYNCED, view.header().tail().to_word());
    view.header().set(word::FLUSHED, 1);
    view.sync_index()?;
    note_sync(old, names.sync_dirs())?;
    // Nobody can know the new inode yet, so this never waits; it is held before anybody can.
    if let Some(lock) = &view.lock {
        let at_once = Patience::new(Some(Duration::ZERO));
        acquire(lock, Some(view.header()), &at_once, names)?;
        view.note_visit();
    }
    Ok(())
}

fn note_sync(header: Option<Header<'_>>, synced: Result<()>) -> Result<()> {
    match header {
        Some(header) => header.note_sync(synced),
        None => synced,
    }
}

/// Maps every segment of the heap that stands in the directory, whatever the header says.
pub(crate) fn map_all(editor: &mut Editor) -> Result<()> {
    let numbers = editor.names.segment_numbers()?;
    map_numbers(editor, numbers.into_iter())
}

/// Maps every segment of the heap that the header knows.
pub(crate) fn map_known(editor: &mut Editor) -> Result<()> {
    let extent = Extent::of(editor.view.header());
    map_numbers(editor, extent.numbers())
}

/// A segment whose header is damaged gets it back, if its records are of this heap.
fn map_numbers(editor: &mut Editor, numbers: impl Iterator<Item = u16>) -> Result<()> {
    let names = Arc::clone(&editor.names);
    let mut segments = Vec::new();
    for number in numbers {
        let opened = match editor.view.open_segment(&names, number) {
            Err(error) if !error.is_corruption() => return Err(error),
            opened => opened.ok().flatten(),
        };
        match opened {
            Some(segment) => segments.push(segment),
            None => segments.extend(editor.view.salvage_segment(&names, number)?),
        }
    }
    editor.view = Arc::new(editor.view.with_segments(segments));
    Ok(())
}

/// An empty generation under preliminary names, and an editor for it.
fn stage(old: &Editor, heap: Heap, geometry: Geometry, capacity: u64) -> Outcomes<Editor> {
    let (from, access) = (&old.view, old.access()?);
    let fresh_heap = heap == Heap::Fresh;
    let plan = Plan {
        geometry,
        hash_kind: from.hash_kind,
        // Another seed whenever all keys are hashed again, so that keys chosen against one do not
        // stay a nuisance.
        seed: if fresh_heap { random() } else { from.seed },
        ids: Ids {
            cache: from.ids.cache,
            generation: from.ids.generation.wrapping_add(1),
            heap: if fresh_heap { random() } else { from.ids.heap },
            roster: random(),
        },
        created: from.created,
        lock: from
            .lock
            .as_ref()
            .map_or(LockKind::Word, |lock| lock.kind()),
        capacity,
        access,
    };
    let made = View::create(&old.names, &plan)?;
    for at in CARRIED {
        made.header().set(at, from.header().get(at));
    }
    let view = match heap {
        Heap::Fresh => made.with_first_segment(&old.names, &plan.access)?,
        Heap::Kept => {
            for at in HEAP_WORDS {
                made.header().set(at, from.header().get(at));
            }
            made.with_segments(from.segments().cloned().collect())
        }
    };
    // A kept heap's segments stand under their final names already.
    let stage = if fresh_heap { Stage::New } else { old.stage };
    Ok(Editor::new(Arc::new(view), Arc::clone(&old.names), stage))
}

/// The same entries with regions of twice the slots, or four times, up to the most.
pub(crate) fn reindex_larger(old: &mut Editor) -> Outcomes<Editor> {
    let mut geometry = *old.view.table.geometry();
    loop {
        if geometry.region_slots * 2 > *Geometry::REGION_SLOTS.end() {
            let limit = u64::from(geometry.region_slots) << geometry.directory_bits;
            return Err(Error::TableFull {
                path: old.names.cache().to_owned(),
                limit,
            }
            .into());
        }
        geometry.region_slots *= 2;
        match reindex(old, geometry) {
            Err(Stop::Enlarge) => {}
            other => return other,
        }
    }
}

/// The same entries, in roster order, in a new index and roster over the same heap.
fn reindex(old: &mut Editor, geometry: Geometry) -> Outcomes<Editor> {
    files::remove_stale(&old.names.index(Stage::New), IndexHeader::MAGIC)?;
    files::remove_stale(&old.names.roster(Stage::New), RosterHeader::MAGIC)?;
    let mut fresh = stage(old, Heap::Kept, geometry, old.view.header().occupied())?;
    let table = Arc::clone(&old.view.table);
    let mut key = Vec::new();
    let mut listed = 0;
    for position in 0..old.view.roster_len() {
        let Some(slot) = listed_slot(&table, &old.view.roster, position)? else {
            continue;
        };
        listed += 1;
        let link = slot.link();
        let place = link.place();
        key.clear();
        let found = match old.segment(place.segment)? {
            Some(segment) => segment.read_any(place.unit, &mut key, None)?,
            None => {
                // It may come back.
                old.refuse_missing(place.segment)?;
                None
            }
        };
        let Some(found) = found else {
            fresh.view.header().add(word::DROPPED, 1);
            continue;
        };
        let bytes = if found.kind == Kind::Entry {
            found.stored_bytes()
        } else {
            0
        };
        let hash = fresh.view.hasher.hash(&key);
        if has_entry(&mut fresh, &key)? {
            return Err(twice(position));
        }
        fresh.adopt(place, slot.meta(link.which()), bytes, hash, &key)?;
    }
    fresh.go_on_behind(old.view.roster_len().into())?;
    all_listed(&table, listed)?;
    fresh.view = Arc::new(
        fresh
            .view
            .with_segments(old.view.segments().cloned().collect()),
    );
    Ok(fresh)
}

/// The slot that a roster position leads to; none where it is a hole. What goes by the roster would
/// leave out the entries that a damaged one does not know: the heap still has them.
fn listed_slot<'t>(table: &'t Table, roster: &Roster, position: u32) -> Outcomes<Option<Slot<'t>>> {
    let Position::Slot(number) = roster.get(position)? else {
        return Ok(None);
    };
    let (region, index) = table.slot_home(number);
    let slot = table.region(region)?.slot(index);
    if !slot.link().is_entry() || slot.identity().position != position {
        return Err(Stop::Recover(
            "a roster position that leads to no entry of its own",
            At::Roster(position),
        ));
    }
    Ok(Some(slot))
}

/// Whether a roster listed as many entries as there are.
fn all_listed(table: &Table, listed: u64) -> Outcomes<()> {
    if listed == table.header().occupied() {
        return Ok(());
    }
    Err(Stop::Recover(
        "a roster that does not know every entry",
        At::Word(word::COUNTERS),
    ))
}

/// One of them was hidden by damage; which is newer, the heap knows.
fn twice(position: u32) -> Stop {
    Stop::Recover("a key with two entries", At::Roster(position))
}

fn has_entry(fresh: &mut Editor, key: &[u8]) -> Outcomes<bool> {
    let table = Arc::clone(&fresh.view.table);
    let hash = fresh.view.hasher.hash(key);
    Ok(fresh.find(&table, hash, key)?.is_some())
}

/// Puts an entry into a generation that nobody sees yet, enlarging its table where it must.
pub(crate) fn put_staged(
    editor: &mut Editor,
    key: &[u8],
    value: &[u8],
    version: Option<u64>,
) -> Outcomes<()> {
    loop {
        match editor.put(key, value, version) {
            Err(Stop::Enlarge) => {
                let larger = reindex_larger(editor)?;
                *editor = larger;
            }
            other => return other.map(|_| ()),
        }
    }
}

/// The error of a stop that no further step can mend.
pub(crate) fn give_up(stop: Stop, editor: &Editor) -> Error {
    match stop {
        Stop::Failed(error) => *error,
        Stop::Recover(what, at) => editor.damaged(what, at),
        Stop::Enlarge | Stop::Renumber => Error::TableFull {
            path: editor.names.cache().to_owned(),
            limit: editor.view.header().occupied(),
        },
    }
}
