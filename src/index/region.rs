//! One region: a small open-addressing table of its own.
//!
//! Probing is linear over groups and ends at a group with an empty byte, at the latest after all of
//! them. Knows its own words, not the directory that leads to it.

use crate::format::Geometry;
use crate::format::record::Variant;
use crate::format::region::{Counts, DELETED, EMPTY, HEADER_BYTES, Shape, Stamp, word};
use crate::format::slot::{self, Identity, Link, Meta};
use crate::hash::Hash;
use crate::index::group::Group;
use crate::os::mmap::prefetch;
use crate::sync::{Word, acquire, acquire_fence, load, publish, release_fence, store};

/// Places inside a region, in words, as the geometry decides them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    slots: u32,
    body_words: u32,
    links_at: u32,
    bodies_at: u32,
}

/// Words to a cache line.
const LINE: usize = 8;
const CONTROLS_AT: usize = HEADER_BYTES / 8;

impl Layout {
    pub(crate) fn new(geometry: &Geometry) -> Self {
        // Control bytes, then access marks: two bytes a slot.
        let links_at = CONTROLS_AT as u32 + geometry.region_slots / 4;
        Self {
            slots: geometry.region_slots,
            body_words: geometry.body_bytes() as u32 / 8,
            links_at,
            bodies_at: links_at + geometry.region_slots,
        }
    }

    #[inline]
    pub(crate) fn region_words(&self) -> usize {
        (self.bodies_at + self.slots * self.body_words) as usize
    }

    /// Where the bodies begin in a region, in bytes.
    pub(crate) fn bodies_at(&self) -> u64 {
        u64::from(self.bodies_at) * 8
    }

    fn groups(&self) -> usize {
        (self.slots / Group::WIDTH) as usize
    }
}

/// What the group says at which a search begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Glance {
    /// This is the first link that may lead to the key's record.
    Link(Link),
    /// The search ends here, without any.
    Absent,
    /// It takes the whole search.
    Unsure,
}

/// A generation over one region.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Region<'a> {
    words: &'a [Word],
    layout: Layout,
    number: u32,
}

impl<'a> Region<'a> {
    /// `words` are exactly the region's.
    #[inline]
    pub(crate) fn new(words: &'a [Word], layout: Layout, number: u32) -> Self {
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

    #[inline]
    pub(crate) fn stamp(&self) -> Stamp {
        Stamp(acquire(&self.words[word::STAMP]))
    }

    /// The stamp again, after everything that was read under it.
    #[inline]
    pub(crate) fn stamp_after(&self) -> Stamp {
        acquire_fence();
        Stamp(load(&self.words[word::STAMP]))
    }

    pub(crate) fn set_stamp(&self, stamp: Stamp) {
        publish(&self.words[word::STAMP], stamp.0);
        release_fence();
    }

    pub(crate) fn shape(&self) -> Shape {
        Shape::from_word(load(&self.words[word::SHAPE]))
    }

    pub(crate) fn counts(&self) -> Counts {
        Counts::from_word(load(&self.words[word::COUNTS]))
    }

    pub(crate) fn set_counts(&self, counts: Counts) {
        store(&self.words[word::COUNTS], counts.to_word());
    }

    pub(crate) fn next_free(&self) -> u64 {
        load(&self.words[word::NEXT_FREE])
    }

    pub(crate) fn set_next_free(&self, next: u64) {
        store(&self.words[word::NEXT_FREE], next);
    }

    /// The slots that are taken and deleted, counted from the control bytes.
    pub(crate) fn recount(&self) -> Counts {
        let mut counts = Counts::default();
        for group in self.groups() {
            counts.occupied += group.full().count();
            counts.deleted += group.matching(DELETED).count();
        }
        counts
    }

    /// Empties the region for a new life; the caller has stamped it as being built.
    pub(crate) fn reset(&self, shape: Shape) {
        store(&self.words[word::SHAPE], shape.to_word());
        store(&self.words[word::COUNTS], 0);
        for word in &self.words[CONTROLS_AT..self.layout.bodies_at as usize] {
            // Control bytes, marks and links alike: nothing, never used.
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
        Group(load(&self.words[CONTROLS_AT + group]))
    }

    #[inline(always)]
    fn home(&self, hash: Hash) -> usize {
        hash.group() & (self.layout.groups() - 1)
    }

    #[inline(always)]
    pub(crate) fn prefetch_stamp(&self) {
        prefetch(&self.words[word::STAMP]);
    }

    /// Asks for the control bytes and the links of a hash's home group.
    #[inline]
    pub(crate) fn prefetch(&self, hash: Hash) {
        prefetch(&self.words[CONTROLS_AT + self.home(hash)]);
        self.prefetch_links(hash);
    }

    /// Asks for the bodies of a hash's home group, one of which a new entry most likely takes.
    #[inline(always)]
    pub(crate) fn prefetch_home_bodies(&self, hash: Hash) {
        let (group, body) = (Group::WIDTH as usize, self.layout.body_words as usize);
        let at = self.layout.bodies_at as usize + self.home(hash) * group * body;
        let bodies = &self.words[at..at + group * body];
        for index in 0..group {
            prefetch(&bodies[index * body]);
        }
    }

    /// Asks for the links of a hash's home group: they share a cache line.
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
        let at = (index / Group::WIDTH) as usize;
        let group = self.group(at).with_byte(index % Group::WIDTH, control);
        store(&self.words[CONTROLS_AT + at], group.0);
    }

    /// Whether a deletion at `index` may leave it empty: no probe passes a group that has an empty
    /// byte.
    pub(crate) fn group_has_empty(&self, index: u32) -> bool {
        self.group((index / Group::WIDTH) as usize).empty().any()
    }

    #[inline(always)]
    pub(crate) fn link(&self, index: u32) -> Link {
        Link(acquire(
            &self.words[(self.layout.links_at + index) as usize],
        ))
    }

    #[inline(always)]
    pub(crate) fn slot(&self, index: u32) -> Slot<'a> {
        let at = (self.layout.bodies_at + index * self.layout.body_words) as usize;
        Slot {
            link: &self.words[(self.layout.links_at + index) as usize],
            body: &self.words[at..at + self.layout.body_words as usize],
        }
    }

    /// The slots whose control byte is full, with their numbers inside the region.
    pub(crate) fn full(&self) -> impl Iterator<Item = u32> + 'a {
        self.groups()
            .zip(0..)
            .flat_map(|(group, at)| group.full().map(move |index| at * Group::WIDTH + index))
    }

    /// The last of them.
    pub(crate) fn last_full(&self) -> Option<u32> {
        (0..self.layout.groups()).rev().find_map(|at| {
            let last = self.group(at).full().last_member()?;
            Some(at as u32 * Group::WIDTH + last)
        })
    }

    /// The beginning of [`Self::probe`].
    #[inline(always)]
    pub(crate) fn glance(&self, hash: Hash) -> Glance {
        let home = self.home(hash);
        let group = self.group(home);
        let matches = group.matching(hash.control());
        if !matches.any() {
            return match group.empty().any() {
                true => Glance::Absent,
                false => Glance::Unsure,
            };
        }
        for within in matches {
            let link = self.link(home as u32 * Group::WIDTH + within);
            if link.is_entry() && link.tag() == hash.tag() {
                return Glance::Link(link);
            }
        }
        Glance::Unsure
    }

    /// The slots that may hold the key of a hash, with the links they were found by.
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

    /// The first slot on the probe's way that may be taken, and what its control byte is now.
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

    /// The groups that searches for absent keys look at, added up over all home groups.
    pub(crate) fn miss_groups(&self) -> u64 {
        let groups = self.layout.groups();
        let looks = |home: usize| {
            let distance =
                (0..groups).position(|by| self.group((home + by) & (groups - 1)).empty().any());
            distance.map_or(groups, |by| by + 1) as u64
        };
        (0..groups).map(looks).sum()
    }

    /// The groups of the region.
    pub(crate) fn group_count(&self) -> u64 {
        self.layout.groups() as u64
    }

    /// Asks for all of the slots' bodies.
    pub(crate) fn prefetch_bodies(&self) {
        let bodies = &self.words[self.layout.bodies_at as usize..];
        for body in bodies.chunks_exact(self.layout.body_words as usize) {
            prefetch(&body[0]);
        }
    }

    /// Takes an entry over from another region, as it is there; only into a region that is being
    /// built.
    pub(crate) fn adopt(&self, from: Slot<'_>, hash: Hash) -> Option<u32> {
        let (index, _) = self.vacancy(hash)?;
        let to = self.slot(index);
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
        Some(index)
    }
}

/// A walk over the slots that may hold one key.
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

/// A generation over one slot.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot<'a> {
    link: &'a Word,
    body: &'a [Word],
}

impl<'a> Slot<'a> {
    /// Asks for the slot's cache lines.
    #[inline]
    pub(crate) fn prefetch(&self) {
        prefetch(self.link);
        prefetch(&self.body[0]);
    }

    #[inline]
    pub(crate) fn link(&self) -> Link {
        Link(acquire(self.link))
    }

    /// The link again, after everything that was read under it.
    #[inline]
    pub(crate) fn link_after(&self) -> Link {
        acquire_fence();
        Link(load(self.link))
    }

    /// The one store that makes an entry appear, change or go.
    pub(crate) fn set_link(&self, link: Link) {
        publish(self.link, link.0);
        release_fence();
    }

    pub(crate) fn identity(&self) -> Identity {
        Identity::from_word(load(&self.body[slot::word::IDENTITY]))
    }

    pub(crate) fn set_identity(&self, identity: Identity) {
        store(&self.body[slot::word::IDENTITY], identity.to_word());
    }

    /// Numbered entries have none of their own: their version is their number, which is their
    /// position and one.
    pub(crate) fn meta(&self, which: bool) -> Meta {
        if self.variant() == Variant::Numbered {
            return Meta {
                mtime: u64::from(self.identity().position) + 1,
                value_len: 0,
            };
        }
        let at = slot::word::META + if which { 2 } else { 0 };
        Meta {
            mtime: load(&self.body[at]),
            value_len: load(&self.body[at + 1]) as u32,
        }
    }

    pub(crate) fn set_meta(&self, which: bool, meta: Meta) {
        if self.variant() == Variant::Numbered {
            return;
        }
        let at = slot::word::META + if which { 2 } else { 0 };
        store(&self.body[at], meta.mtime);
        store(&self.body[at + 1], u64::from(meta.value_len));
    }

    /// How the records are laid out to which slots of this size lead.
    pub(crate) fn variant(&self) -> Variant {
        if self.body.len() == 1 {
            Variant::Numbered
        } else {
            Variant::Versioned
        }
    }

    /// The words of the key's first bytes.
    pub(crate) fn key(&self) -> &'a [Word] {
        self.body.get(slot::word::KEY..).unwrap_or(&[])
    }

    pub(crate) fn set_key(&self, key: &[u8]) {
        let words = self.key();
        let part = &key[..key.len().min(words.len() * 8)];
        crate::os::words::copy_in(words, &[part]);
        for word in &words[part.len().div_ceil(8)..] {
            store(word, 0);
        }
    }

    /// The hash bits that the slot, its link and its control byte keep.
    pub(crate) fn hash(&self, link: Link, control: u8) -> Hash {
        Hash::from_parts(self.identity().hash, link.tag(), control)
    }
}

const _: () = assert!(EMPTY != DELETED && EMPTY < 0x80 && DELETED < 0x80);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::HashKind;
    use crate::format::slot::Place;
    use crate::hash::Hasher;

    fn geometry(slots: u32) -> Geometry {
        Geometry {
            region_slots: slots,
            inline_key: 16,
            directory_bits: 4,
            max_segment_bytes: 1 << 20,
            max_entries: 0,
            append_only: false,
            variant: Variant::Versioned,
        }
    }

    fn insert(region: &Region<'_>, hash: Hash, unit: u32) -> Option<u32> {
        let (index, _) = region.vacancy(hash)?;
        region.set_control(index, hash.control());
        region
            .slot(index)
            .set_link(Link::new(Place { segment: 0, unit }, false, hash.tag()));
        Some(index)
    }

    fn find(region: &Region<'_>, hash: Hash, unit: u32) -> bool {
        region
            .probe(hash)
            .any(|(_, _, link)| link.place().unit == unit)
    }

    // A region filled to its last slot finds every entry, and every probe ends.
    #[test]
    fn full_region_finds_everything() {
        let geometry = geometry(32);
        let layout = Layout::new(&geometry);
        let words: Vec<Word> = (0..layout.region_words()).map(|_| Word::new(0)).collect();
        let region = Region::new(&words, layout, 0);
        let hasher = Hasher::new(HashKind::Xxh3, 3);
        let hash = |i: u32| hasher.hash(&i.to_le_bytes());
        for i in 0..32 {
            assert!(insert(&region, hash(i), 100 + i).is_some());
        }
        assert!(region.vacancy(hash(99)).is_none());
        assert!((0..32).all(|i| find(&region, hash(i), 100 + i)));
        assert!(
            !find(&region, hash(99), 1),
            "and a probe without an empty byte ends"
        );
        assert_eq!(
            region.recount(),
            Counts {
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
        let layout = Layout::new(&geometry);
        let area = || -> Vec<Word> { (0..layout.region_words()).map(|_| Word::new(0)).collect() };
        let (old, low, high) = (area(), area(), area());
        let region = Region::new(&old, layout, 0);
        let hasher = Hasher::new(HashKind::Xxh3, 3);
        for i in 0..50_u32 {
            let hash = hasher.hash(&i.to_le_bytes());
            let index = insert(&region, hash, 100 + i).unwrap();
            region.slot(index).set_identity(Identity {
                position: i,
                key_len: 4,
                hash: hash.stored(),
            });
        }
        let halves = [Region::new(&low, layout, 1), Region::new(&high, layout, 2)];
        for index in region.full() {
            let slot = region.slot(index);
            let hash = slot.hash(slot.link(), region.control(index));
            halves[(hash.directory() & 1) as usize]
                .adopt(slot, hash)
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

    #[test]
    fn inline_keys_are_zero_padded() {
        let layout = Layout::new(&geometry(16));
        let words: Vec<Word> = (0..layout.region_words())
            .map(|_| Word::new(u64::MAX))
            .collect();
        let slot = Region::new(&words, layout, 0).slot(3);
        for len in 1..40 {
            let key: Vec<u8> = (1..=len).collect();
            slot.set_key(&key);
            let mut out = [0xee; 16];
            crate::os::words::copy_out(slot.key(), &mut out);
            let kept = key.len().min(16);
            assert_eq!(out[..kept], key[..kept]);
            assert!(out[kept..].iter().all(|&byte| byte == 0));
        }
        assert_eq!(
            Region::new(&words, layout, 0).slot(4).link(),
            Link(u64::MAX),
            "the next slot is untouched"
        );
    }
}
