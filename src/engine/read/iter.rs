//! Listing what is in a cache, without a lock.
//!
//! Walks the roster's positions, each of which belongs to one entry for its whole life: so what
//! exists during the whole walk comes exactly once, wherever it is moved meanwhile.

use std::fmt;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::index::word;
use crate::format::record;
use crate::format::roster::Position;
use crate::format::slot::{Identity, Link, Meta};

use crate::engine::entry::Entry;
use crate::engine::generation::Generation;
use crate::engine::handle::Handle;
use crate::engine::heap_presence::missing_segment;
use crate::engine::read::expected_count::ExpectedCount;
use crate::engine::segment_numbers::present_numbers;
use crate::engine::version::Version;

/// Looks at one position after which a listing gives up.
const ATTEMPTS: u32 = 10_000;
/// Positions whose slots are asked for together.
const AHEAD: u32 = 16;

/// A walk over the positions of one generation.
pub(crate) struct Cursor<'a> {
    handle: &'a Handle,
    generation: Arc<Generation>,
    position: u32,
    /// Positions there are.
    pub end: u32,
    /// The key of the entry that was seen last.
    pub key: Vec<u8>,
    value: Vec<u8>,
    /// The length of its value.
    value_len: u32,
    /// What the header counted at the beginning.
    tally: ExpectedCount,
    /// Entries that were found.
    found: u64,
    /// Whether an error was returned: whoever lists knows that something is missing.
    failed: bool,
    over: bool,
}

impl fmt::Debug for Cursor<'_> {
    /// Without the entry that was seen last.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cursor")
            .field("path", &self.handle.path)
            .field("position", &self.position)
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}

/// What stands at a position.
pub(crate) enum Seen {
    Entry(Version),
    Nothing,
}

/// A glance at a position.
enum Glance {
    /// With its version.
    Entry(u64),
    Hole,
    /// It takes a look.
    Unsure,
}

/// One look at a position.
enum Look {
    Entry(Version),
    Nothing,
    /// Something changed while it was read.
    Again,
    Damaged(Error),
    /// The entry's segment is gone, and the generation with it.
    Superseded,
}

impl<'a> Cursor<'a> {
    fn new(handle: &'a Handle) -> Result<Self> {
        // The upper bound first, then all segments, then a look whether they were still the
        // generation's.
        let generation = loop {
            let (guard, poll) = handle.current()?;
            let generation = Arc::clone(&guard);
            let tally = ExpectedCount::of(&generation);
            let end = generation.roster_len();
            let generation = with_all_segments(handle, generation)?;
            if generation.header().poll().superseded() == poll.superseded() {
                break (generation, end, tally);
            }
            // Marked while we looked: go on with it unless another generation has taken its place.
            if handle.inode_at_path()? == Some(generation.inode) {
                break (generation, end, tally);
            }
        };
        let (generation, end, tally) = generation;
        Ok(Self {
            end,
            tally,
            ..Self::of(handle, generation)
        })
    }

    /// Over the positions of a generation as it is: segments are mapped where a link leads to them.
    pub(crate) fn of(handle: &'a Handle, generation: Arc<Generation>) -> Self {
        Self {
            handle,
            position: 0,
            tally: ExpectedCount::of(&generation),
            found: 0,
            failed: false,
            end: generation.roster_len(),
            generation,
            key: Vec::new(),
            value: Vec::new(),
            value_len: 0,
            over: false,
        }
    }

    /// The next entry that is there, its key (and value) in the cursor's buffers.
    #[inline(always)]
    fn step(&mut self, with_value: bool) -> Option<Result<Version>> {
        while !self.over && self.position < self.end {
            let position = self.position;
            // Only a hint: loom must not take its loads for an ordering.
            if !cfg!(loom) {
                self.look_ahead(position);
            }
            self.position += 1;
            match self.glance(position, with_value) {
                Glance::Entry(version) => {
                    self.found += 1;
                    return Some(Ok(Version(version)));
                }
                Glance::Hole => continue,
                Glance::Unsure => {}
            }
            match self.settle(position, with_value) {
                Ok(Seen::Nothing) => {}
                Ok(Seen::Entry(version)) => {
                    self.found += 1;
                    return Some(Ok(version));
                }
                Err(error) => {
                    self.failed = true;
                    if error.is_of_one_entry() {
                        self.handle.saw_damage();
                    } else {
                        self.over = true;
                    }
                    return Some(Err(error));
                }
            }
        }
        self.conclude()
    }

    /// The error of a listing that has come to its end without one, and lacks entries.
    #[cold]
    fn conclude(&mut self) -> Option<Result<Version>> {
        if std::mem::replace(&mut self.over, true) || self.failed {
            return None;
        }
        let error = self.tally.check(&self.generation, self.found).err()?;
        if error.is_corruption() {
            self.handle.saw_damage();
        }
        Some(Err(error))
    }

    /// Looks again at the position that was listed last, and appends its value to `value` if the
    /// entry of that key is still there. The cursor's key and value are then those of this look.
    #[cfg(feature = "dict")]
    pub(crate) fn value_of_last(&mut self, value: &mut Vec<u8>) -> Result<Option<Version>> {
        let key = std::mem::take(&mut self.key);
        let seen = self.settle(self.position - 1, true)?;
        Ok(match seen {
            Seen::Entry(version) if self.key == key => {
                value.extend_from_slice(&self.value);
                Some(version)
            }
            _ => None,
        })
    }

    /// Asks for a slot that comes some positions later: they lie all over the index (list all items:
    /// 200 ns an entry without).
    #[inline]
    fn look_ahead(&self, position: u32) {
        let ahead = position.saturating_add(AHEAD);
        if ahead < self.end
            && let Ok(Position::Slot(number)) = self.generation.roster.get(ahead)
        {
            self.generation.table.prefetch_slot(number);
        }
    }

    /// A look at a position where everything is as it mostly is. What it says is right by the same
    /// comparisons as in [`Self::look`]; it has no words for anything else, which would go through
    /// memory with each answer (list all items: 60 ns an entry without, 54 with it).
    #[inline(always)]
    fn glance(&mut self, position: u32, with_value: bool) -> Glance {
        if !with_value {
            // Keys come from slots, mostly: there is nothing to be gained.
            return Glance::Unsure;
        }
        let generation = &*self.generation;
        let number = match generation.roster.get(position) {
            Ok(Position::Slot(number)) => number,
            Ok(Position::Hole(_)) => return Glance::Hole,
            Err(_) => return Glance::Unsure,
        };
        let (region, index) = generation.table.slot_home(number);
        let Some(region) = generation.table.region_at_hand(region) else {
            return Glance::Unsure;
        };
        let stamp = region.stamp();
        let slot = region.slot(index);
        let link = slot.link();
        let identity = slot.identity();
        let meta = slot.meta(link.which());
        let is_entry = stamp.is_live() && link.is_entry() && identity.position == position;
        let is_still = region.stamp_after() == stamp
            && slot.link_after() == link
            && matches!(generation.roster.get(position), Ok(Position::Slot(again)) if again == number);
        if !(is_entry && is_still) {
            return Glance::Unsure;
        }
        let place = link.place();
        let Some(segment) = generation.segment(place.segment) else {
            return Glance::Unsure;
        };
        self.key.clear();
        self.value.clear();
        self.value_len = meta.value_len;
        match segment.entry_at_hand(place.unit, &mut self.key, &mut self.value) {
            Some(mtime) if mtime == meta.mtime => Glance::Entry(mtime),
            _ => Glance::Unsure,
        }
    }

    /// Looks at a position until it held still for one look.
    #[inline(always)]
    pub(crate) fn settle(&mut self, position: u32, with_value: bool) -> Result<Seen> {
        let handle = self.handle;
        let mut is_fresh = false;
        loop {
            let seen = settled(handle, || {
                let look = self.look(position, with_value)?;
                let changes = match look {
                    Look::Damaged(_) => self.generation.header().changes(),
                    _ => 0,
                };
                Ok((look, changes))
            });
            match seen {
                Err(error) if error.is_corruption() && !is_fresh && self.reopen()? => {
                    is_fresh = true;
                }
                seen => return seen,
            }
        }
    }

    /// On overlayfs, opens the files of this generation anew: what is mapped may be less than there
    /// is. False elsewhere.
    #[cold]
    fn reopen(&mut self) -> Result<bool> {
        if !self.handle.reopen_on_overlay()? {
            return Ok(false);
        }
        let generation = self.handle.generation.load_full();
        if generation.ids != self.generation.ids {
            return Err(Error::Superseded {
                path: self.handle.path.to_path_buf(),
            });
        }
        self.generation = generation;
        Ok(true)
    }

    fn look(&mut self, position: u32, with_value: bool) -> Result<Look> {
        let generation = &*self.generation;
        let Position::Slot(number) = generation.roster.get(position)? else {
            return Ok(Look::Nothing);
        };
        let (region_number, index) = generation.table.slot_home(number);
        let region = match generation.table.region(region_number) {
            Err(error) if error.is_corruption() => {
                let what = "a position that leads to no slot";
                return Ok(Look::Damaged(generation.roster.damaged(position, what)));
            }
            region => region?,
        };
        let stamp = region.stamp();
        let slot = region.slot(index);
        let link = slot.link();
        let identity = slot.identity();
        let meta = slot.meta(link.which());
        self.key.clear();
        self.value.clear();
        self.value_len = meta.value_len;
        let wanted = usize::from(identity.key_len);
        let inline = !with_value && wanted > 0 && wanted <= slot.key().len() * 8;
        if inline {
            self.key.resize(wanted.next_multiple_of(8), 0);
            crate::os::words::copy_out(slot.key(), &mut self.key);
            self.key.truncate(wanted);
        }
        // Asked after the link was read and before all is compared again: a writer between its
        // stores has said so.
        let writing = generation.header().get(word::INTENT) != 0;
        // What was read counts only if region, slot and roster are what they were before.
        let still = || {
            let same_stamp = region.stamp_after() == stamp;
            same_stamp
                && slot.link_after() == link
                && generation.roster.get(position).ok() == Some(Position::Slot(number))
        };
        if !still() {
            return Ok(Look::Again);
        }
        if stamp.is_live() && link.is_entry() && identity.position == position {
            if !inline {
                return self.read_unless_moved(number, link, identity, meta, with_value);
            }
            if is_key_of(generation, &self.key, identity, link) {
                return Ok(Look::Entry(Version(meta.mtime)));
            }
            let what = "a key that does not fit the hash in its slot";
            let at = generation.table.body_at(region_number, index);
            return Ok(Look::Damaged(generation.table.damaged(what, at)));
        }
        if !link.is_entry() && writing {
            // Not yet published, or gone already; where the writer was killed, this can last.
            return Ok(Look::Nothing);
        }
        let what = "a slot that does not know its roster position";
        let at = generation.table.body_at(region_number, index);
        Ok(Look::Damaged(generation.table.damaged(what, at)))
    }

    /// Reads the record behind a link, and looks at the link again where it was missing or wrong:
    /// it may have been moved away a moment ago.
    fn read_unless_moved(
        &mut self,
        number: u32,
        link: Link,
        identity: Identity,
        meta: Meta,
        with_value: bool,
    ) -> Result<Look> {
        let read = self.read_record(number, link, identity, meta, with_value)?;
        if matches!(read, Look::Damaged(_)) {
            let (region, index) = self.generation.table.slot_home(number);
            if self
                .generation
                .table
                .region(region)?
                .slot(index)
                .link_after()
                != link
            {
                return Ok(Look::Again);
            }
        }
        Ok(read)
    }

    /// Reads the record behind a link that was valid a moment ago: records do not change.
    ///
    /// A key alone is read without the checksum, which would take the value too: the 31 bits that
    /// slot and link keep of its hash prove it as well (keys of 40 bytes with values of 4,000:
    /// 57 ns each, 938 with the checksum).
    fn read_record(
        &mut self,
        slot_number: u32,
        link: Link,
        identity: Identity,
        meta: Meta,
        with_value: bool,
    ) -> Result<Look> {
        let place = link.place();
        let Some(segment) = self.generation.segment(place.segment) else {
            return self.find_segment(place.segment, slot_number);
        };
        let header = if with_value || self.generation.is_numbered() {
            let value = with_value.then_some(&mut self.value);
            segment.read_any(place.unit, &mut self.key, value)?
        } else {
            let header = segment.read_key(place.unit, &mut self.key)?;
            header.filter(|header| {
                is_key_of(&self.generation, &self.key, identity, link)
                    && (header.key_len, header.value_len) == (identity.key_len, meta.value_len)
            })
        };
        Ok(match header {
            Some(header) if header.kind == record::Kind::Entry && header.mtime == meta.mtime => {
                Look::Entry(Version(header.mtime))
            }
            _ => Look::Damaged(segment.damaged("a record", place.unit)),
        })
    }

    /// Maps a segment that was begun after the walk, and keeps all that the walk has mapped before.
    fn find_segment(&mut self, number: u16, slot_number: u32) -> Result<Look> {
        if let Some(segment) = self.generation.open_segment(&self.handle.names, number)? {
            self.handle.share_segment(&self.generation, &segment);
            let all = self
                .generation
                .segments()
                .cloned()
                .chain([segment])
                .collect();
            self.generation = Arc::new(self.generation.with_segments(all));
            return Ok(Look::Again);
        }
        // Files go only behind the commit: the mark alone may be damage.
        let replaced = || Ok(self.handle.inode_at_path()? != Some(self.generation.inode));
        if self.generation.header().poll().superseded() && replaced()? {
            return Ok(Look::Superseded);
        }
        // If it was cleaned away between the link and now, the link has changed, and is looked at
        // again.
        let missing = missing_segment(&self.generation, &self.handle.names, number)?;
        let what = "a link to a segment that is not there";
        let (region, index) = self.generation.table.slot_home(slot_number);
        let damaged = || {
            let at = self.generation.table.body_at(region, index);
            self.generation.table.damaged(what, at)
        };
        Ok(Look::Damaged(missing.unwrap_or_else(damaged)))
    }
}

/// Looks until one look held still. `look` returns how many changes there had been behind a look
/// that found damage.
///
/// What looks like damage counts only if no change was finished during a whole look: between a
/// deletion and the insertion that takes its slot and position, all that is compared can be the
/// same again. (Each look ends with a fence.) After [`ATTEMPTS`] looks it is damage if each of them
/// found some, and contention if any was disturbed.
#[inline(always)]
fn settled(handle: &Handle, mut look: impl FnMut() -> Result<(Look, u64)>) -> Result<Seen> {
    let (mut doubted, mut was_disturbed) = (None, false);
    for attempt in 1..=ATTEMPTS {
        match look()? {
            (Look::Entry(version), _) => return Ok(Seen::Entry(version)),
            (Look::Nothing, _) => return Ok(Seen::Nothing),
            (Look::Damaged(error), changes) => {
                let is_last = attempt == ATTEMPTS && !was_disturbed;
                if doubted.replace(changes) == Some(changes) || is_last {
                    return Err(error);
                }
            }
            (Look::Superseded, _) => {
                return Err(Error::Superseded {
                    path: handle.path.to_path_buf(),
                });
            }
            (Look::Again, _) => {
                was_disturbed = true;
                std::hint::spin_loop();
            }
        }
    }
    Err(Error::Contended {
        path: handle.path.to_path_buf(),
        what: "an entry of a listing",
        looks: ATTEMPTS,
    })
}

/// Whether a key has the 31 bits of its hash that slot and link keep. No checksum covers a slot: a
/// key that damage changed passes with a probability of 2^-31.
#[inline(always)]
fn is_key_of(generation: &Generation, key: &[u8], identity: Identity, link: Link) -> bool {
    let hash = generation.hasher.hash(key);
    (hash.stored(), hash.tag()) == (identity.hash, link.tag())
}

/// The generation with every segment mapped that its generation has now.
pub(crate) fn with_all_segments(
    handle: &Handle,
    generation: Arc<Generation>,
) -> Result<Arc<Generation>> {
    let header = generation.header();
    let mut all = Vec::new();
    let (oldest, last) = (header.oldest(), header.reserved().segment);
    for number in present_numbers(&handle.names, oldest, last) {
        match generation
            .segments()
            .find(|segment| segment.number() == number)
        {
            Some(segment) => all.push(Arc::clone(segment)),
            None => all.extend(generation.open_segment(&handle.names, number)?),
        }
    }
    Ok(Arc::new(generation.with_segments(all)))
}

/// An entry of a listing, without its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Listed<'a> {
    /// The entry's key.
    pub key: &'a [u8],
    /// The length of its value in bytes.
    pub value_len: u64,
    /// When it was put.
    pub version: Version,
}

/// The keys of a cache; made by [`MmapCache::keys`](crate::MmapCache::keys).
#[derive(Debug)]
pub struct Keys<'a>(Cursor<'a>);

/// The keys and values of a cache; made by [`MmapCache::items`](crate::MmapCache::items).
#[derive(Debug)]
pub struct Items<'a>(Cursor<'a>);

/// The keys and entries of a cache; made by [`MmapCache::entries`](crate::MmapCache::entries).
#[derive(Debug)]
pub struct Entries<'a>(Cursor<'a>);

impl<'a> Keys<'a> {
    pub(crate) fn new(handle: &'a Handle) -> Result<Self> {
        Cursor::new(handle).map(Self)
    }

    /// The next key, borrowed from a buffer that the next call uses again, and its version: listing
    /// without allocations, and without values.
    ///
    /// A key that the index holds in full costs one slot of it, version included, and a longer one
    /// the beginning of its record besides; no value is touched, however long it is. In the files
    /// of [`Labels`](crate::Labels) the version is the label's id plus one.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let cache = mmapcache::MmapCache::open(dir.path().join("c"))?;
    /// cache.put(b"old", b"1")?;
    /// let newer = cache.put(b"new", b"2")?;
    ///
    /// let mut keys = cache.keys()?;
    /// let mut newest = None;
    /// while let Some(listed) = keys.next_borrowed() {
    ///     let (key, version) = listed?;
    ///     if newest.as_ref().is_none_or(|(_, seen)| *seen < version) {
    ///         newest = Some((key.to_vec(), version));
    ///     }
    /// }
    /// assert_eq!(newest, Some((b"new".to_vec(), newer)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As the iterator's items.
    pub fn next_borrowed(&mut self) -> Option<Result<(&[u8], Version)>> {
        let listed = self.next_listed()?;
        Some(listed.map(|listed| (listed.key, listed.version)))
    }

    /// As [`next_borrowed`](Self::next_borrowed), with the length of the value, which is not looked
    /// at for that.
    ///
    /// # Errors
    ///
    /// As the iterator's items.
    pub fn next_listed(&mut self) -> Option<Result<Listed<'_>>> {
        let stepped = self.0.step(false)?;
        Some(stepped.map(|version| Listed {
            key: &self.0.key,
            value_len: self.0.value_len.into(),
            version,
        }))
    }
}

#[cfg(feature = "dict")]
impl Keys<'_> {
    /// Appends the value of the entry that was listed last to `value`, and returns its version;
    /// none where it was deleted since. Reads the same slot again, so it costs no search.
    pub(crate) fn value_of_last(&mut self, value: &mut Vec<u8>) -> Result<Option<Version>> {
        self.0.value_of_last(value)
    }
}

impl<'a> Items<'a> {
    pub(crate) fn new(handle: &'a Handle) -> Result<Self> {
        Cursor::new(handle).map(Self)
    }

    /// The next key and value, borrowed from buffers that the next call uses again: listing without
    /// allocations.
    ///
    /// # Errors
    ///
    /// As the iterator's items.
    pub fn next_borrowed(&mut self) -> Option<Result<(&[u8], &[u8])>> {
        let stepped = self.0.step(true)?;
        Some(stepped.map(|_| (&self.0.key[..], &self.0.value[..])))
    }
}

impl<'a> Entries<'a> {
    pub(crate) fn new(handle: &'a Handle) -> Result<Self> {
        Cursor::new(handle).map(Self)
    }
}

impl Iterator for Keys<'_> {
    type Item = Result<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        let stepped = self.0.step(false)?;
        Some(stepped.map(|_| self.0.key.clone()))
    }
}

impl Iterator for Items<'_> {
    type Item = Result<(Vec<u8>, Vec<u8>)>;

    fn next(&mut self) -> Option<Self::Item> {
        let stepped = self.0.step(true)?;
        Some(stepped.map(|_| (self.0.key.clone(), self.0.value.clone())))
    }
}

impl Iterator for Entries<'_> {
    type Item = Result<(Vec<u8>, Entry)>;

    fn next(&mut self) -> Option<Self::Item> {
        let stepped = self.0.step(true)?;
        Some(stepped.map(|version| {
            (
                self.0.key.clone(),
                Entry {
                    value: self.0.value.clone(),
                    version,
                },
            )
        }))
    }
}

impl std::iter::FusedIterator for Keys<'_> {}
impl std::iter::FusedIterator for Items<'_> {}
impl std::iter::FusedIterator for Entries<'_> {}

#[cfg(not(loom))]
#[cfg(test)]
mod tests {
    use super::*;

    /// A position at which each look loses a race is contention; one at which each look finds damage
    /// is damage, however much is changed elsewhere.
    #[test]
    fn lost_listing_races_are_no_corruption() {
        let dir = tempfile::tempdir().unwrap();
        let cache = crate::MmapCache::open(dir.path().join("cache")).unwrap();
        let handle = cache.handle();
        let damage = || Look::Damaged(Error::damaged(&handle.path, "a test", 0));
        let mut changes = 0;
        let mut lost = |is_race: fn(u64) -> bool| {
            let result = settled(handle, || {
                changes += 1;
                let look = if is_race(changes) {
                    Look::Again
                } else {
                    damage()
                };
                Ok((look, changes))
            });
            result.err().unwrap()
        };
        for error in [lost(|_| true), lost(|changes| changes % 1_000 == 0)] {
            assert!(matches!(error, Error::Contended { .. }), "{error:?}");
            assert!(!error.is_corruption());
        }
        assert!(lost(|_| false).is_corruption());
        let still = settled(handle, || Ok((damage(), 7)));
        assert!(still.err().unwrap().is_corruption());
    }
}
