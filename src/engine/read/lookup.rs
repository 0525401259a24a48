//! Looking a key up, without a lock.
//!
//! Knows when what was found, or not found, is valid. Nothing here stores into a file.

use std::cell::Cell;
use std::sync::Arc;

use arc_swap::Guard;

use crate::error::{Error, Result};
use crate::format::MAX_KEY;
use crate::format::index::Poll;
use crate::format::record;
use crate::format::region::Stamp;
use crate::format::slot::{Link, Meta};
use crate::hash::Hash;
use crate::heap::Outcome;
use crate::index::region::Slot;
use crate::index::table::{Glance, Located};

use crate::engine::generation::Generation;
use crate::engine::handle::Handle;
use crate::engine::heap_presence::missing_segment;
use crate::engine::version::Version;

/// Restarts after which a lookup gives up: each of them needs another change by a writer at just
/// the wrong moment.
const RESTARTS: u32 = 10_000;

/// Keys of one call whose cache misses are waited for together.
const LANES: usize = 16;

/// Of so many misses of a thread in a row one looks at the clock, which takes 3 of a miss's 36 ns. A
/// prime, so that of several handles that are asked in turn each has its look.
const MISSES_A_LOOK: u32 = 13;

thread_local! {
    /// Lookups of this thread in a row that found nothing, in whichever cache. The next one most
    /// likely goes as the last did.
    static MISSES: Cell<u32> = const { Cell::new(0) };
}

/// What executions of a model have in common must not make them differ: there it is none.
#[inline(always)]
fn misses_in_a_row() -> u32 {
    if cfg!(loom) { 0 } else { MISSES.get() }
}

/// What a lookup came to.
#[derive(Debug)]
pub(crate) enum Answer<T> {
    Found(T),
    Absent,
    /// The entry is there, or was, but cannot be believed.
    Damaged(Error),
}

/// What a glance came to.
enum Glimpse {
    /// With the version.
    Found(u64),
    Absent,
    /// It takes the whole search.
    Unsure,
}

/// What looking at one slot came to.
enum Step<T> {
    Found(T),
    Other,
    Damaged(Error),
    Restart,
    /// The segment is not mapped in this generation.
    Unmapped(u16),
}

impl Handle {
    pub(crate) fn check_key(&self, key: &[u8]) -> Result<()> {
        if key.is_empty() || key.len() > MAX_KEY {
            return Err(Error::KeyLength {
                path: self.path.to_path_buf(),
                len: key.len(),
            });
        }
        Ok(())
    }

    /// Looks a key up and appends its value to `out`; says when it was written.
    #[inline]
    pub(crate) fn read(&self, key: &[u8], out: &mut Vec<u8>) -> Result<Answer<Version>> {
        self.check_key(key)?;
        match self.glance(key, out) {
            Glimpse::Found(mtime) => Ok(Answer::Found(Version(mtime))),
            Glimpse::Absent => Ok(Answer::Absent),
            Glimpse::Unsure => self.read_and(key, out, |header| Version(header.mtime)),
        }
    }

    /// Whether there is such a key that can be read; then its value is appended to `out`.
    #[inline]
    pub(crate) fn read_value(&self, key: &[u8], out: &mut Vec<u8>) -> Result<bool> {
        self.check_key(key)?;
        match self.glance(key, out) {
            Glimpse::Found(_) => Ok(true),
            Glimpse::Absent => Ok(false),
            Glimpse::Unsure => self.search_value(key, out),
        }
    }

    #[inline(never)]
    fn search_value(&self, key: &[u8], out: &mut Vec<u8>) -> Result<bool> {
        let answer = self.read_and(key, out, |_| ())?;
        Ok(matches!(answer, Answer::Found(())))
    }

    /// A lookup where everything is as it mostly is: the first group at which the search begins has
    /// the key, or ends it. A hit near at hand takes 50 ns so, and 54 by [`Handle::attempt`], which
    /// has much to keep at hand for what it might find.
    #[inline(always)]
    fn glance(&self, key: &[u8], out: &mut Vec<u8>) -> Glimpse {
        let generation = self.generation.load();
        let poll = generation.header().poll();
        if poll.superseded() || self.is_due_on_overlay() {
            return Glimpse::Unsure;
        }
        let misses = misses_in_a_row();
        match generation
            .table
            .glance(poll, generation.hasher.hash(key), misses == 0)
        {
            Glance::Link(link) => {
                let place = link.place();
                let verify = self.options.verify;
                let mtime = generation
                    .segment(place.segment)
                    .and_then(|segment| segment.value_at_hand(place.unit, key, verify, out));
                if misses != 0 && mtime.is_some() {
                    MISSES.set(0);
                }
                mtime.map_or(Glimpse::Unsure, Glimpse::Found)
            }
            Glance::Absent if self.leaves_look_to_others(misses) => {
                MISSES.set(misses.wrapping_add(1));
                Glimpse::Absent
            }
            Glance::Absent | Glance::Unsure => Glimpse::Unsure,
        }
    }

    /// Whether a miss need not look whether the files were replaced by hand.
    #[inline(always)]
    fn leaves_look_to_others(&self, misses: u32) -> bool {
        let is_of_those = misses.is_multiple_of(MISSES_A_LOOK) || self.options.staleness.is_zero();
        !(is_of_those && self.is_due_for_look())
    }

    /// Looks a key up, appends its value to `out`, and keeps what is wanted of its record's header:
    /// all of it would be stored in pieces and loaded in larger ones, which the processor waits for.
    #[inline(always)]
    pub(crate) fn read_and<T>(
        &self,
        key: &[u8],
        out: &mut Vec<u8>,
        keep: impl Fn(record::Header) -> T,
    ) -> Result<Answer<T>> {
        self.check_key(key)?;
        self.search(key, |generation, _, slot, link| {
            self.examine(generation, slot, link, key, out, &keep)
        })
    }

    /// Whether the record of a link is the key's; then its value is appended to `out`.
    #[inline(always)]
    fn examine<T>(
        &self,
        generation: &Generation,
        slot: Slot<'_>,
        link: Link,
        key: &[u8],
        out: &mut Vec<u8>,
        keep: impl Fn(record::Header) -> T,
    ) -> Result<Step<T>> {
        let place = link.place();
        let Some(segment) = generation.segment(place.segment) else {
            return Ok(Step::Unmapped(place.segment));
        };
        Ok(
            match segment.read(place.unit, key, self.options.verify, out)? {
                Outcome::Match(header) => Step::Found(keep(header)),
                Outcome::OtherKey => Step::Other,
                Outcome::Damaged if slot.link_after() != link => Step::Restart,
                Outcome::Damaged => Step::Damaged(segment.damaged("a record", place.unit)),
            },
        )
    }

    /// Looks many keys up, one after the other as by themselves, and hands out their numbers and
    /// values. What a group of them will touch is asked for ahead, so that it comes at once.
    pub(crate) fn read_many<K: AsRef<[u8]>>(
        &self,
        keys: impl Iterator<Item = K>,
        mut each: impl FnMut(usize, Option<&[u8]>),
    ) -> Result<()> {
        let mut keys = keys.fuse();
        let mut value = Vec::new();
        let mut number = 0;
        loop {
            let group: [Option<K>; LANES] = std::array::from_fn(|_| keys.next());
            let looked = self.looked();
            let (generation, poll) = self.current()?;
            let hashes = prefetch(&generation, poll, &group);
            let mut is_good = true;
            for (key, hash) in group.iter().zip(hashes) {
                let (Some(key), Some(hash)) = (key, hash) else {
                    return Ok(());
                };
                let key = key.as_ref();
                self.check_key(key)?;
                value.clear();
                // One load of the generation for the group, as long as a load would give it again.
                let poll = generation.header().poll();
                is_good &= !poll.superseded() && self.looked() == looked;
                let mut answer = None;
                if is_good {
                    answer =
                        self.attempt(&generation, poll, hash, |generation, _, slot, link| {
                            self.examine(generation, slot, link, key, &mut value, |_| ())
                        })?;
                }
                // A key that has to begin again may have found the generation to lack a segment.
                is_good = answer.is_some();
                let is_there = match answer {
                    Some(answer) => matches!(answer, Answer::Found(())),
                    None => self.read_value(key, &mut value)?,
                };
                each(number, is_there.then_some(&value));
                number += 1;
            }
        }
    }

    /// Looks a key up by keys alone: the value and its checksum are not looked at.
    pub(crate) fn peek(&self, key: &[u8]) -> Result<Answer<Meta>> {
        self.check_key(key)?;
        self.search(key, |generation, located, slot, link| {
            let stamp = located.region.stamp();
            if stamp != Stamp::live(located.entry.incarnation()) {
                return Ok(Step::Restart);
            }
            let identity = slot.identity();
            let meta = slot.meta(link.which());
            let inline = slot.key().len() * 8;
            let same = usize::from(identity.key_len) == key.len()
                && crate::os::words::equal(slot.key(), &key[..key.len().min(inline)]);
            if located.region.stamp_after() != stamp || slot.link_after() != link {
                return Ok(Step::Restart);
            }
            if !same {
                return Ok(Step::Other);
            }
            if key.len() <= inline {
                return Ok(Step::Found(meta));
            }
            let place = link.place();
            let Some(segment) = generation.segment(place.segment) else {
                return Ok(Step::Unmapped(place.segment));
            };
            Ok(match segment.compare(place.unit, key)? {
                Outcome::Match(_) => Step::Found(meta),
                Outcome::OtherKey => Step::Other,
                Outcome::Damaged if slot.link_after() != link => Step::Restart,
                Outcome::Damaged => Step::Damaged(segment.damaged("a record", place.unit)),
            })
        })
    }

    /// The generation and place of a key's verified record, for reading it where it lies.
    pub(crate) fn find_in_place(
        &self,
        key: &[u8],
    ) -> Result<Answer<(Arc<Generation>, Link, record::Header)>> {
        self.check_key(key)?;
        let mut copy = Vec::new();
        self.search(key, |generation, _, slot, link| {
            let place = link.place();
            let Some(segment) = generation.segment(place.segment) else {
                return Ok(Step::Unmapped(place.segment));
            };
            copy.clear();
            Ok(
                match segment.read(place.unit, key, self.options.verify, &mut copy)? {
                    Outcome::Match(header) => Step::Found((Arc::clone(generation), link, header)),
                    Outcome::OtherKey => Step::Other,
                    Outcome::Damaged if slot.link_after() != link => Step::Restart,
                    Outcome::Damaged => Step::Damaged(segment.damaged("a record", place.unit)),
                },
            )
        })
    }

    /// The loop of every lookup.
    #[inline(always)]
    fn search<T>(
        &self,
        key: &[u8],
        mut examine: impl FnMut(
            &Guard<Arc<Generation>>,
            &Located<'_>,
            Slot<'_>,
            Link,
        ) -> Result<Step<T>>,
    ) -> Result<Answer<T>> {
        let (mut began, mut is_fresh) = (None, false);
        for _ in 0..RESTARTS {
            let generation = self.generation.load();
            let Some(poll) = self.poll(&generation)? else {
                continue;
            };
            let hash = generation.hasher.hash(key);
            match self.attempt(&generation, poll, hash, &mut examine)? {
                Some(Answer::Damaged(_)) if !is_fresh && self.reopen_on_overlay()? => {
                    is_fresh = true;
                }
                Some(answer) => return Ok(answer),
                None => {}
            }
            began.get_or_insert_with(|| generation.header().changes());
        }
        Err(self.never_still(began))
    }

    /// The error of a lookup that gave up: contention, unless nobody changed anything meanwhile.
    #[cold]
    fn never_still(&self, began: Option<u64>) -> Error {
        let generation = self.generation.load();
        if began == Some(generation.header().changes()) {
            return generation
                .table
                .damaged("an entry that contradicts itself", 0);
        }
        Error::Contended {
            path: self.path.to_path_buf(),
            what: "the entry of a key",
            looks: RESTARTS,
        }
    }

    /// One turn of that loop; none where it has to begin again. A hit is valid wherever it was
    /// found, for a record is bound to its key; a miss only if neither the depth nor the directory
    /// entry changed meanwhile.
    ///
    /// Not inlined: compiled into one function with the loop and the loading of the generation, a hit in
    /// the nearest cache takes 90 ns and a miss 41, against 81 and 33.
    #[inline(never)]
    fn attempt<T>(
        &self,
        generation: &Guard<Arc<Generation>>,
        poll: Poll,
        hash: Hash,
        mut examine: impl FnMut(
            &Guard<Arc<Generation>>,
            &Located<'_>,
            Slot<'_>,
            Link,
        ) -> Result<Step<T>>,
    ) -> Result<Option<Answer<T>>> {
        let located = match generation.table.locate(poll, hash) {
            Ok(located) => located,
            Err(error) => return self.not_located(error).map(Some),
        };
        // Where a hit is to be expected, the links come while the control bytes are waited for: a
        // hit among a million entries takes 0.90 of an in-memory map's time, against 0.97. A miss
        // has no use for them: it took 43 ns without, 53 with them.
        let misses = misses_in_a_row();
        if misses == 0 {
            located.region.prefetch_links(hash);
        }
        let mut damaged = None;
        for (_, slot, link) in located.region.probe(hash) {
            match examine(generation, &located, slot, link)? {
                Step::Found(found) => {
                    if misses != 0 {
                        MISSES.set(0);
                    }
                    return Ok(Some(Answer::Found(found)));
                }
                Step::Other => {}
                Step::Restart => return Ok(None),
                Step::Damaged(error) => damaged = Some(error),
                Step::Unmapped(number) => {
                    if self.map_segment(generation, number)? || slot.link_after() != link {
                        return Ok(None);
                    }
                    let at = generation.table.region_at(located.region.number());
                    damaged = Some(self.lost_link(generation, number, at)?);
                }
            }
        }
        if !self.still(generation, &located, hash)? {
            return Ok(None);
        }
        if let Some(error) = damaged {
            self.saw_damage();
            return Ok(Some(Answer::Damaged(error)));
        }
        MISSES.set(misses.wrapping_add(1));
        // A miss is the moment to look whether the files were replaced by hand.
        let has_look = misses.is_multiple_of(MISSES_A_LOOK) || self.options.staleness.is_zero();
        if has_look && self.due_for_look() && self.replaced_by_hand(generation)? {
            return Ok(None);
        }
        Ok(Some(Answer::Absent))
    }

    /// The validation of a miss. During an uncommitted switch the old generation is frozen, and
    /// only marked.
    #[inline(always)]
    pub(crate) fn still(
        &self,
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
        // Superseded: by a switch that is not committed yet, or by one that this handle must
        // follow.
        Ok(self.inode_at_path()? == Some(generation.inode))
    }

    /// The error for a link, stored at a place of the index, to a segment that is not there.
    #[cold]
    fn lost_link(&self, generation: &Generation, number: u16, at: u64) -> Result<Error> {
        let missing = missing_segment(generation, &self.names, number)?;
        let damaged = || {
            generation
                .table
                .damaged("a link to a segment that is not there", at)
        };
        Ok(missing.unwrap_or_else(damaged))
    }

    #[cold]
    fn not_located<T>(&self, error: Error) -> Result<Answer<T>> {
        if error.is_corruption() {
            self.saw_damage();
            return Ok(Answer::Damaged(error));
        }
        Err(error)
    }

    /// Whether another file stands at the path; the handle is on it then. Of files that were only
    /// removed it keeps what it has mapped.
    #[cold]
    fn replaced_by_hand(&self, generation: &Generation) -> Result<bool> {
        let replaced = self
            .inode_at_path()?
            .is_some_and(|inode| inode != generation.inode);
        if replaced {
            self.reopen(generation)?;
        }
        Ok(replaced)
    }
}

/// Asks for what lookups of these keys will touch: first where their links stand, then the records.
/// Nothing that is seen here is believed later. Returns the hashes.
#[inline]
fn prefetch<K: AsRef<[u8]>>(
    generation: &Generation,
    poll: Poll,
    keys: &[Option<K>; LANES],
) -> [Option<Hash>; LANES] {
    let hash = |key: &K| generation.hasher.hash(key.as_ref());
    let hashes = std::array::from_fn(|lane| keys[lane].as_ref().map(hash));
    let regions = hashes.map(|hash| generation.table.approach(poll, hash?));
    for (hash, region) in hashes.into_iter().zip(regions) {
        let (Some(hash), Some(region)) = (hash, region) else {
            continue;
        };
        if let Some((_, _, link)) = region.probe(hash).next() {
            let place = link.place();
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

    /// A lookup that loses every race says that it did; one that never ends though nobody changes
    /// anything has found damage.
    #[test]
    fn lost_lookup_races_are_no_corruption() {
        let dir = tempfile::tempdir().unwrap();
        let cache = crate::MmapCache::open(dir.path().join("cache")).unwrap();
        cache.put(b"key", b"value").unwrap();
        let handle = cache.handle();
        let restart = |is_changed: bool| {
            let answer = handle.search(b"key", |generation, _, _, _| {
                if is_changed {
                    generation.header().count_change();
                }
                Ok(Step::<()>::Restart)
            });
            answer.unwrap_err()
        };
        let error = restart(true);
        assert!(matches!(error, Error::Contended { .. }), "{error:?}");
        assert!(!error.is_corruption());
        assert!(restart(false).is_corruption());
    }
}
