//! One region: a bucket of the extendible hash table, itself a small Swiss table.
//!
//! Probing is linear over groups and ends at a group with an empty byte, or after all groups. May
//! call `format`, `hash`, `index::group`, `os` and `sync`; independent of the directory that leads
//! to the region.

use crate::format::Geometry;
use crate::format::heap_addr::HeapAddr;
use crate::format::region::{
    DELETED, EMPTY, HEADER_BYTES, RegionShape, RegionStateWord, SlotCounts, word,
};
use crate::format::slot::{self, Link, SlotIdentity};
use crate::hash::Hash;
use crate::index::attempt::Attempt;
use crate::index::group::Group;
use crate::os::mmap::prefetch;
use crate::sync::{Word, acquire, acquire_fence, load, publish, release_fence, store};

/// Positions inside a region, in words, as the geometry determines them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RegionLayout {
    slots: u32,
    body_words: u32,
    links_at: u32,
    bodies_at: u32,
}

/// The highest mark: uses that CLOCK remembers of an entry.
pub(crate) const MARK_MAX: u8 = 3;

/// A link in the home group of a hash, and its slot.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HomeLink<'a> {
    pub link: Link,
    pub region: Region<'a>,
    pub index: u32,
}

/// What the links say about one record of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trace {
    /// An entry links to it.
    Live,
    /// None does, but one of the hash's tag links to a record at or after the given end.
    Later,
    /// Neither.
    Dead,
}

/// Words of a cache line.
const LINE: usize = 8;
const CONTROLS_AT: usize = HEADER_BYTES / 8;

impl RegionLayout {
    pub(crate) fn new(geometry: &Geometry) -> Self {
        debug_assert_eq!(geometry.fault(), None, "the caller checks the geometry");
        let bytes = geometry.region_slots as usize + geometry.mark_bytes();
        let links_at = (CONTROLS_AT + bytes / 8) as u32;
        let layout = Self {
            slots: geometry.region_slots,
            body_words: geometry.body_bytes() as u32 / 8,
            links_at,
            bodies_at: links_at + geometry.region_slots,
        };
        debug_assert_eq!(layout.region_words() * 8, geometry.region_bytes());
        layout
    }

    #[inline]
    pub(crate) fn region_words(&self) -> usize {
        (self.bodies_at + self.slots * self.body_words) as usize
    }

    /// Returns the offset of the bodies in a region, in bytes.
    pub(crate) fn bodies_at(&self) -> u64 {
        u64::from(self.bodies_at) * 8
    }

    fn groups(&self) -> usize {
        (self.slots / Group::WIDTH) as usize
    }

    /// Returns whether there are access marks between control bytes and links.
    #[inline(always)]
    fn has_marks(&self) -> bool {
        self.links_at as usize > CONTROLS_AT + self.groups()
    }
}

/// A generation over one region.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Region<'a> {
    words: &'a [Word],
    layout: RegionLayout,
    number: u32,
}

impl<'a> Region<'a> {
    /// Takes the words of the region, and no others.
    #[inline]
    pub(crate) fn new(words: &'a [Word], layout: RegionLayout, number: u32) -> Self {
        debug_assert_eq!(words.len(), layout.region_words());
        Self {
            words,
            layout,
            number,
        }
    }

    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    /// Loads the state word before anything else of the region is read.
    #[inline]
    pub(crate) fn stamp(&self) -> RegionStateWord {
        RegionStateWord(acquire(&self.words[word::STAMP]))
    }

    /// Loads the stamp again, after everything that was read under it (S4).
    #[inline]
    pub(crate) fn stamp_after(&self) -> RegionStateWord {
        acquire_fence();
        RegionStateWord(load(&self.words[word::STAMP]))
    }

    pub(crate) fn set_stamp(&self, stamp: RegionStateWord) {
        // S4: after all stores to the region's old contents, and before all stores to its new ones.
        publish(&self.words[word::STAMP], stamp.0);
        release_fence();
    }

    pub(crate) fn shape(&self) -> RegionShape {
        RegionShape::from_word(load(&self.words[word::SHAPE]))
    }

    pub(crate) fn counts(&self) -> SlotCounts {
        SlotCounts::from_word(load(&self.words[word::COUNTS]))
    }

    pub(crate) fn set_counts(&self, counts: SlotCounts) {
        store(&self.words[word::COUNTS], counts.to_word());
    }

    pub(crate) fn next_free(&self) -> u64 {
        load(&self.words[word::NEXT_FREE])
    }

    pub(crate) fn set_next_free(&self, next: u64) {
        store(&self.words[word::NEXT_FREE], next);
    }

    /// Counts the occupied and deleted slots by the control bytes.
    pub(crate) fn recount(&self) -> SlotCounts {
        let mut counts = SlotCounts::default();
        for group in self.groups() {
            counts.occupied += group.full().count();
            counts.deleted += group.matching(DELETED).count();
        }
        debug_assert!(counts.taken() <= self.layout.slots, "a byte counts once");
        counts
    }

    /// Empties the region for new contents, after the caller set its state to building (S4).
    pub(crate) fn reset(&self, shape: RegionShape) {
        debug_assert!(cfg!(loom) || !self.stamp().is_live(), "S4: set to building");
        debug_assert!(shape.holds(shape.prefix), "S2: it serves some hash");
        store(&self.words[word::SHAPE], shape.to_word());
        store(&self.words[word::COUNTS], 0);
        for word in &self.words[CONTROLS_AT..self.layout.bodies_at as usize] {
            // Control bytes, marks and links alike: empty, never used.
            store(word, 0);
        }
    }

    fn groups(&self) -> impl Iterator<Item = Group> + 'a {
        self.words[CONTROLS_AT..CONTROLS_AT + self.layout.groups()]
            .iter()
            .map(|word| Group(load(word)))
    }

    #[inline(always)]
    fn group(&self, group: usize) -> Group {
        debug_assert!(group < self.layout.groups(), "access marks are after them");
        Group(load(&self.words[CONTROLS_AT + group]))
    }

    #[inline(always)]
    fn home(&self, hash: Hash) -> usize {
        hash.group() & (self.layout.groups() - 1)
    }

    #[inline(always)]
    pub(crate) fn prefetch_state(&self) {
        prefetch(&self.words[word::STAMP]);
    }

    /// Prefetches the control bytes and the links of a hash's home group.
    #[inline]
    pub(crate) fn prefetch(&self, hash: Hash) {
        prefetch(&self.words[CONTROLS_AT + self.home(hash)]);
        self.prefetch_links(hash);
    }

    /// Prefetches the bodies of a hash's home group, one of which a new entry most likely takes.
    #[inline(always)]
    pub(crate) fn prefetch_home_bodies(&self, hash: Hash) {
        let (group, body) = (Group::WIDTH as usize, self.layout.body_words as usize);
        let at = self.layout.bodies_at as usize + self.home(hash) * group * body;
        let bodies = &self.words[at..at + group * body];
        for line in bodies.chunks(LINE) {
            prefetch(&line[0]);
        }
    }

    /// Prefetches the links of a hash's home group, which share a cache line.
    #[inline(always)]
    pub(crate) fn prefetch_links(&self, hash: Hash) {
        let first = self.home(hash) * Group::WIDTH as usize;
        prefetch(&self.words[self.layout.links_at as usize + first]);
    }

    pub(crate) fn control(&self, index: u32) -> u8 {
        self.group((index / Group::WIDTH) as usize)
            .byte(index % Group::WIDTH)
    }

    pub(crate) fn set_control(&self, index: u32, control: u8) {
        debug_assert!(index < self.layout.slots);
        // S3: a full byte stays full while the link leads to a record.
        debug_assert!(cfg!(loom) || control >= 0x80 || !self.link(index).is_entry());
        let at = (index / Group::WIDTH) as usize;
        let group = self.group(at).with_byte(index % Group::WIDTH, control);
        store(&self.words[CONTROLS_AT + at], group.0);
    }

    /// Returns the word of a slot's mark, and the mark's place in it. `None` outside a `Cache`.
    #[inline(always)]
    fn mark_at(&self, index: u32) -> Option<(&'a Word, u32)> {
        debug_assert!(index < self.layout.slots, "links are after the marks");
        let at = CONTROLS_AT + self.layout.groups() + (index / Group::WIDTH) as usize;
        let word = self.layout.has_marks().then(|| &self.words[at])?;
        Some((word, index % Group::WIDTH * 8))
    }

    /// Returns how often an entry was used, up to [`MARK_MAX`], since it was put or passed over. A
    /// hint: any value is valid.
    #[inline(always)]
    pub(crate) fn mark(&self, index: u32) -> u8 {
        self.mark_at(index).map_or(0, |(word, shift)| {
            ((load(word) >> shift) as u8).min(MARK_MAX)
        })
    }

    /// Stores a mark. L3 allows it to readers: a store that undoes one of a neighbour costs a hint.
    #[inline(always)]
    pub(crate) fn set_mark(&self, index: u32, mark: u8) {
        if let Some((word, shift)) = self.mark_at(index) {
            let others = load(word) & !(0xff << shift);
            store(word, others | u64::from(mark) << shift);
        }
    }

    /// Prefetches the marks of a hash's home group.
    #[inline(always)]
    pub(crate) fn prefetch_marks(&self, hash: Hash) {
        prefetch(&self.words[CONTROLS_AT + self.layout.groups() + self.home(hash)]);
    }

    /// Returns whether a deletion at `index` may leave an empty byte: no probe passes a group that
    /// already has one (S2).
    pub(crate) fn group_has_empty(&self, index: u32) -> bool {
        self.group((index / Group::WIDTH) as usize).empty().any()
    }

    #[inline(always)]
    pub(crate) fn link(&self, index: u32) -> Link {
        debug_assert!(index < self.layout.slots, "bodies are after the links");
        Link(acquire(
            &self.words[(self.layout.links_at + index) as usize],
        ))
    }

    #[inline(always)]
    pub(crate) fn slot(&self, index: u32) -> Slot<'a> {
        debug_assert!(index < self.layout.slots, "bodies are after the links");
        let at = (self.layout.bodies_at + index * self.layout.body_words) as usize;
        Slot {
            link: &self.words[(self.layout.links_at + index) as usize],
            body: &self.words[at..at + self.layout.body_words as usize],
        }
    }

    /// Returns the indexes of the slots whose control byte is full.
    pub(crate) fn full(&self) -> impl Iterator<Item = u32> + 'a {
        self.groups()
            .zip(0..)
            .flat_map(|(group, at)| group.full().map(move |index| at * Group::WIDTH + index))
    }

    /// Returns the last of them.
    pub(crate) fn last_full(&self) -> Option<u32> {
        (0..self.layout.groups()).rev().find_map(|at| {
            let last = self.group(at).full().last_member()?;
            Some(at as u32 * Group::WIDTH + last)
        })
    }

    /// Probes the home group only. Returns the first link with the hash's tag, which may lead to the
    /// key's record, or that the probe ends here without one.
    #[inline(always)]
    pub(crate) fn fast_path(&self, hash: Hash) -> Attempt<HomeLink<'a>> {
        let home = self.home(hash);
        let group = self.group(home);
        for within in group.matching(hash.control()) {
            let index = home as u32 * Group::WIDTH + within;
            let link = self.link(index);
            if link.is_entry() && link.tag() == hash.tag() {
                let region = *self;
                return Attempt::Done(HomeLink {
                    link,
                    region,
                    index,
                });
            }
        }
        // S2: no group between an entry and its home group has an empty byte. S3: a link to the key's
        // record has the control byte that was matched.
        match group.empty().any() {
            true => Attempt::Absent,
            false => Attempt::Retry,
        }
    }

    /// Returns the slots that may hold the key of a hash, with the links by which they were found (S2).
    /// S3: a slot whose link leads to a record of this hash has the control byte that is matched.
    #[inline(always)]
    pub(crate) fn probe(&self, hash: Hash) -> Probe<'a> {
        let group = self.home(hash);
        let first = self.group(group);
        Probe {
            region: *self,
            control: hash.control(),
            tag: hash.tag(),
            group,
            left: self.layout.groups() - 1,
            last: first.empty().any(),
            matches: first.matching(hash.control()),
        }
    }

    /// Returns whether a slot on the path of a hash has an entry and a control byte that says otherwise,
    /// which only damage leaves (S3): the entry, and those after it on the path, are hidden.
    pub(crate) fn hides_entry(&self, hash: Hash) -> bool {
        let mut at = self.home(hash);
        for _ in 0..self.layout.groups() {
            let group = self.group(at);
            for within in group.vacant() {
                if self.link(at as u32 * Group::WIDTH + within).is_entry() {
                    return true;
                }
            }
            if group.empty().any() {
                return false;
            }
            at = (at + 1) & (self.layout.groups() - 1);
        }
        false
    }

    /// Returns what the links say about a record that has a key of this hash. `end` is after it.
    ///
    /// Reads links only, of which eight share a cache line, and no control byte. A link that was never
    /// used ends the path: its slot was vacant ever since the region was made, so no entry of this
    /// home group had to go further (S2).
    #[inline(always)]
    pub(crate) fn trace(&self, hash: Hash, place: HeapAddr, end: HeapAddr) -> Trace {
        debug_assert!(place <= end, "records are traced up to an end");
        let mut trace = Trace::Dead;
        let mut at = self.home(hash);
        for _ in 0..self.layout.groups() {
            let width = Group::WIDTH as usize;
            let first = self.layout.links_at as usize + at * width;
            let links = &self.words[first..first + width];
            if leads_to(links, place, hash) {
                return Trace::Live;
            }
            let all = || links.iter().map(|word| Link(load(word)));
            let is_later =
                |link: Link| link.is_entry() && link.tag() == hash.tag() && link.addr() >= end;
            if all().any(is_later) {
                trace = Trace::Later;
            }
            if all().any(|link| link == Link::NEVER) {
                break;
            }
            at = (at + 1) & (self.layout.groups() - 1);
        }
        trace
    }

    /// Returns the first slot on the probe's path that a new entry may take, and its control byte.
    pub(crate) fn vacancy(&self, hash: Hash) -> Option<(u32, u8)> {
        let mut at = self.home(hash);
        for _ in 0..self.layout.groups() {
            let group = self.group(at);
            if let Some(index) = group.vacant().next() {
                return Some((at as u32 * Group::WIDTH + index, group.byte(index)));
            }
            at = (at + 1) & (self.layout.groups() - 1);
        }
        None
    }

    /// As [`vacancy`](Self::vacancy), but any of the vacant slots of the group, as the hash says: those
    /// that remember an evicted key then forget it at random, not the last one first.
    pub(crate) fn any_vacancy(&self, hash: Hash) -> Option<(u32, u8)> {
        let mut at = self.home(hash);
        for _ in 0..self.layout.groups() {
            let group = self.group(at);
            let mut vacant = group.vacant();
            let count = vacant.count();
            if count > 0 {
                let index = vacant.nth(hash.choice(count) as usize)?;
                return Some((at as u32 * Group::WIDTH + index, group.byte(index)));
            }
            at = (at + 1) & (self.layout.groups() - 1);
        }
        None
    }

    /// Lets a vacant slot remember the key that was evicted from it.
    pub(crate) fn remember(&self, index: u32, hash: Hash) {
        self.set_mark(index, hash.ghost());
    }

    /// Returns whether a vacant slot of the home group remembers a key with this hash. A hint: other
    /// keys have the same eight bits.
    #[inline]
    pub(crate) fn remembers(&self, hash: Hash) -> bool {
        if !self.layout.has_marks() {
            return false;
        }
        let home = self.home(hash);
        let marks = Group(load(&self.words[CONTROLS_AT + self.layout.groups() + home]));
        let group = self.group(home);
        for within in marks.matching(hash.ghost()) {
            if group.byte(within) < 0x80 {
                return true;
            }
        }
        false
    }

    /// Returns the number of groups that searches for absent keys probe, summed over all home groups.
    pub(crate) fn miss_groups(&self) -> u64 {
        let groups = self.layout.groups();
        let probed = |home: usize| {
            let distance =
                (0..groups).position(|by| self.group((home + by) & (groups - 1)).empty().any());
            distance.map_or(groups, |by| by + 1) as u64
        };
        (0..groups).map(probed).sum()
    }

    /// Returns the number of groups.
    pub(crate) fn group_count(&self) -> u64 {
        self.layout.groups() as u64
    }

    /// Prefetches the bodies of all slots.
    pub(crate) fn prefetch_bodies(&self) {
        let bodies = &self.words[self.layout.bodies_at as usize..];
        for body in bodies.chunks_exact(self.layout.body_words as usize) {
            prefetch(&body[0]);
        }
    }

    /// Copies an entry from another region, into one that is being built. Stores the link before the
    /// control byte, which S1 and S3 allow because no reader accepts the region yet (S4).
    pub(crate) fn adopt(&self, from: Slot<'_>, hash: Hash, mark: u8) -> Option<u32> {
        debug_assert!(cfg!(loom) || !self.stamp().is_live(), "S4");
        let (index, _) = self.vacancy(hash)?;
        let to = self.slot(index);
        debug_assert_eq!(to.body.len(), from.body.len(), "S6: all of it is copied");
        let (targets, rest) = to.body.as_chunks::<LINE>();
        let (sources, others) = from.body.as_chunks::<LINE>();
        for (target, source) in targets.iter().zip(sources) {
            for word in 0..LINE {
                store(&target[word], load(&source[word]));
            }
        }
        for (target, source) in rest.iter().zip(others) {
            store(target, load(source));
        }
        store(to.link, load(from.link));
        self.set_control(index, hash.control());
        if mark > 0 {
            self.set_mark(index, mark);
        }
        Some(index)
    }
}

/// Returns whether one of eight links leads to a place and has the tag of a hash. Looks at all of them:
/// which one it is cannot be predicted.
#[inline(always)]
fn leads_to(links: &[Word], place: HeapAddr, hash: Hash) -> bool {
    let wanted = Link::new(place, hash.tag());
    links.iter().fold(false, |found, word| {
        found | Link(load(word)).is_same_place(wanted)
    })
}

/// An iterator over the slots that may hold one key.
#[derive(Debug)]
pub(crate) struct Probe<'a> {
    region: Region<'a>,
    control: u8,
    tag: u16,
    group: usize,
    left: usize,
    last: bool,
    matches: crate::index::group::Matches,
}

impl<'a> Iterator for Probe<'a> {
    type Item = (u32, Slot<'a>, Link);

    #[inline(always)]
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            for within in self.matches.by_ref() {
                let index = self.group as u32 * Group::WIDTH + within;
                let link = self.region.link(index);
                if link.is_entry() && link.tag() == self.tag {
                    return Some((index, self.region.slot(index), link));
                }
            }
            if self.last || self.left == 0 {
                return None;
            }
            self.left -= 1;
            self.group = (self.group + 1) & (self.region.layout.groups() - 1);
            let group = self.region.group(self.group);
            self.last = group.empty().any();
            self.matches = group.matching(self.control);
        }
    }
}

/// The words of one slot.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot<'a> {
    link: &'a Word,
    body: &'a [Word],
}

impl<'a> Slot<'a> {
    /// Prefetches the slot's cache lines.
    #[inline]
    pub(crate) fn prefetch(&self) {
        prefetch(self.link);
        prefetch(&self.body[0]);
    }

    /// Loads the link before anything that it publishes is read (S1).
    #[inline]
    pub(crate) fn link(&self) -> Link {
        Link(acquire(self.link))
    }

    /// Loads the link again, after everything that was read under it (S1, S5).
    #[inline]
    pub(crate) fn link_after(&self) -> Link {
        acquire_fence();
        Link(load(self.link))
    }

    /// Makes an entry appear, change or disappear, with one store.
    pub(crate) fn set_link(&self, link: Link) {
        // S1: after the record, the body and the control byte.
        publish(self.link, link.0);
        release_fence();
    }

    pub(crate) fn identity(&self) -> SlotIdentity {
        SlotIdentity::from_word(load(&self.body[slot::word::IDENTITY]))
    }

    pub(crate) fn set_identity(&self, identity: SlotIdentity) {
        store(&self.body[slot::word::IDENTITY], identity.to_word());
    }

    /// Returns the deadline in milliseconds since the Unix epoch, 0 if there is none: a hint for the
    /// search for expired entries (S5). Only in a `Cache`.
    pub(crate) fn deadline(&self) -> u64 {
        self.body.get(slot::word::DEADLINE).map_or(0, load)
    }

    /// Stores the deadline; nothing outside a `Cache`.
    #[inline]
    pub(crate) fn set_deadline(&self, deadline: Option<u64>) {
        if let Some(word) = self.body.get(slot::word::DEADLINE) {
            // 0 is none; any time long ago is as good as another.
            store(word, deadline.map_or(0, |deadline| deadline.max(1)));
        }
    }

    /// Returns the hash bits that the slot, its link and its control byte keep.
    pub(crate) fn hash(&self, link: Link, control: u8) -> Hash {
        Hash::from_parts(self.identity().hash, link.tag(), control)
    }
}

const _: () = assert!(EMPTY != DELETED && EMPTY < 0x80 && DELETED < 0x80);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::HashKind;
    use crate::format::record::Variant;
    use crate::hash::Hasher;

    fn geometry(slots: u32) -> Geometry {
        Geometry {
            region_slots: slots,
            directory_bits: 4,
            max_segment_bytes: 1 << 20,
            max_entries: 0,
            append_only: false,
            in_place: false,
            variant: Variant::Versioned,
        }
    }

    fn insert(region: &Region<'_>, hash: Hash, unit: u32) -> Option<u32> {
        let (index, _) = region.vacancy(hash)?;
        // S1: the control byte before the link.
        region.set_control(index, hash.control());
        region
            .slot(index)
            .set_link(Link::new(HeapAddr { segment: 0, unit }, hash.tag()));
        Some(index)
    }

    fn find(region: &Region<'_>, hash: Hash, unit: u32) -> bool {
        region
            .probe(hash)
            .any(|(_, _, link)| link.addr().unit == unit)
    }

    // A region filled to its last slot finds every entry, and every probe ends.
    #[test]
    fn full_region_finds_everything() {
        let geometry = geometry(32);
        let layout = RegionLayout::new(&geometry);
        let words: Vec<Word> = (0..layout.region_words()).map(|_| Word::new(0)).collect();
        let region = Region::new(&words, layout, 0);
        let hasher = Hasher::new(HashKind::Xxh3, 3);
        let hash = |i: u32| hasher.hash(&i.to_le_bytes());
        for i in 0..32 {
            assert!(insert(&region, hash(i), 100 + i).is_some());
        }
        assert!(region.vacancy(hash(99)).is_none());
        assert!((0..32).all(|i| find(&region, hash(i), 100 + i)));
        // S3: each link has a full control byte.
        assert!((0..32).all(|i| region.link(i).is_entry() && region.control(i) >= 0x80));
        assert!(
            !find(&region, hash(99), 1),
            "and a probe without an empty byte ends"
        );
        assert_eq!(
            region.recount(),
            SlotCounts {
                occupied: 32,
                deleted: 0
            }
        );
        assert_eq!(region.full().count(), 32);
        assert_eq!(region.last_full(), Some(31));
    }

    #[test]
    fn region_split_needs_no_keys() {
        let geometry = geometry(64);
        let layout = RegionLayout::new(&geometry);
        let area = || -> Vec<Word> { (0..layout.region_words()).map(|_| Word::new(0)).collect() };
        let (old, low, high) = (area(), area(), area());
        let region = Region::new(&old, layout, 0);
        let hasher = Hasher::new(HashKind::Xxh3, 3);
        for i in 0..50_u32 {
            let hash = hasher.hash(&i.to_le_bytes());
            let index = insert(&region, hash, 100 + i).unwrap();
            region.slot(index).set_identity(SlotIdentity {
                position: i,
                units: 4,
                hash: hash.stored(),
            });
        }
        let halves = [Region::new(&low, layout, 1), Region::new(&high, layout, 2)];
        for index in region.full() {
            let slot = region.slot(index);
            let hash = slot.hash(slot.link(), region.control(index));
            halves[(hash.directory() & 1) as usize]
                .adopt(slot, hash, region.mark(index))
                .unwrap();
        }
        for half in halves {
            assert_eq!(half.last_full(), half.full().last());
        }
        for i in 0..50_u32 {
            let hash = hasher.hash(&i.to_le_bytes());
            let (mine, other) = if hash.directory() & 1 == 0 {
                (0, 1)
            } else {
                (1, 0)
            };
            assert!(find(&halves[mine], hash, 100 + i), "{i}");
            assert!(!find(&halves[other], hash, 100 + i), "{i}");
        }
    }

    // Found by links alone, in a home group or after it, and told from records of the same tag.
    #[test]
    fn links_alone_tell_live_records() {
        let geometry = geometry(32);
        let layout = RegionLayout::new(&geometry);
        let words: Vec<Word> = (0..layout.region_words()).map(|_| Word::new(0)).collect();
        let region = Region::new(&words, layout, 0);
        let hasher = Hasher::new(HashKind::Xxh3, 3);
        let hash = |i: u32| hasher.hash(&i.to_le_bytes());
        let at = |unit| HeapAddr { segment: 0, unit };
        for filled in 1..=32 {
            insert(&region, hash(filled), 100 + filled).unwrap();
            for i in 1..=filled {
                let trace = |unit, end| region.trace(hash(i), at(unit), at(end));
                assert_eq!(trace(100 + i, 1_000), Trace::Live, "{i} of {filled}");
                assert_eq!(trace(99, 1_000), Trace::Dead, "an older record");
                assert_eq!(trace(99, 100 + i), Trace::Later, "{i} of {filled}");
            }
            let absent = region.trace(hash(1_000), at(99), at(100));
            assert_eq!(absent, Trace::Dead, "of another tag");
        }
    }

    // S3: a control byte is full as long as the link leads to a record.
    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "is_entry")]
    fn linked_slot_keeps_its_control_byte() {
        let layout = RegionLayout::new(&geometry(16));
        let words: Vec<Word> = (0..layout.region_words()).map(|_| Word::new(0)).collect();
        let region = Region::new(&words, layout, 0);
        let hash = Hasher::new(HashKind::Xxh3, 3).hash(b"key");
        let index = insert(&region, hash, 100).unwrap();
        region.set_control(index, DELETED);
    }

    #[test]
    fn reused_region_fails_validation() {
        let layout = RegionLayout::new(&geometry(16));
        let words: Vec<Word> = (0..layout.region_words()).map(|_| Word::new(0)).collect();
        let region = Region::new(&words, layout, 0);
        region.set_stamp(RegionStateWord::live(4));
        let seen = region.stamp();
        assert_eq!(region.stamp_after(), seen);
        region.set_stamp(RegionStateWord::building(5));
        region.reset(RegionShape {
            depth: 1,
            prefix: 1,
        });
        region.set_stamp(RegionStateWord::live(5));
        // S4: no state word is used twice, so a reader of the old contents notices.
        assert_ne!(region.stamp_after(), seen);
    }

    // Only slots of a `Cache` have room for one.
    #[test]
    fn deadlines_need_their_word() {
        for variant in [Variant::Versioned, Variant::Expiring] {
            let layout = RegionLayout::new(&Geometry {
                variant,
                ..geometry(16)
            });
            let words: Vec<Word> = (0..layout.region_words()).map(|_| Word::new(7)).collect();
            let region = Region::new(&words, layout, 0);
            region.slot(3).set_deadline(Some(1_000));
            let expected = if variant == Variant::Expiring {
                1_000
            } else {
                0
            };
            assert_eq!(region.slot(3).deadline(), expected);
            assert_eq!(region.slot(4).identity(), SlotIdentity::from_word(7));
            region.slot(3).set_deadline(None);
            assert_eq!(region.slot(3).deadline(), 0);
        }
    }
}
