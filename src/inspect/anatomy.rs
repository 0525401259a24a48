//! A cache's files, opened for looking at what is in them.
//!
//! Knows where everything stands and how to get at its bytes. What the bytes mean, and whether they
//! can be true, the files beside this one know.

use std::fmt;
use std::path::Path;

use crate::error::{Corruption, Error, Result};
use crate::format::Geometry;
use crate::format::index::{HeaderStateWord, PAGE, word};
use crate::format::region::DirectoryEntry;
use crate::format::roster::{HEADER_BYTES as ROSTER_HEADER, Position};
use crate::format::segment::{HEADER_BYTES as SEGMENT_HEADER, SegmentHeader};
use crate::format::slot::{Link, SlotIdentity};
use crate::hash::Hasher;
use crate::heap::segment;
use crate::index::region::{Region as Generation, RegionLayout as Places};
use crate::os::file_names::{FileNames, Stage};
use crate::os::mapped_file::MappedFile;
use crate::sync::Word;

use crate::inspect::census::{Census, Counting};
use crate::inspect::changing::HeapPlace;
use crate::inspect::companion::{Companion, Role};
use crate::inspect::field::FileHeader;
use crate::inspect::layout::{Knowledge, Known, Layout};
use crate::inspect::lock_state::LockState;
use crate::inspect::overview::Overview;
use crate::inspect::record::Record;
use crate::inspect::region::Region;
use crate::inspect::residency::Residency;
use crate::inspect::segment::Segment;
use crate::inspect::slot::{RosterEntry, Slot, Surroundings};
use crate::inspect::source::{self, Source};

/// A cache's files, whatever state they are in, opened for looking.
///
/// Index and roster are read by `pread` alone, and so are single records; a walk over a segment
/// maps that segment. Nothing is locked, changed, mended or created, so this is safe on a damaged
/// cache, on a copy, and on one that others write to. What is read while somebody writes is of
/// different moments: a slot and its roster position, or a region's header and its slots, can
/// disagree then without being wrong. Regions and segments are those that were there when the files
/// were opened; to see later ones, open another.
///
/// Nothing that a file says is believed further than the file is long: a damaged count or length
/// costs neither memory nor time.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("thumbnails");
/// # mmapcache::MmapCache::open(&path)?.put(b"key", b"value")?;
/// use mmapcache::inspect::{Anatomy, Stretch};
///
/// let anatomy = Anatomy::open(&path, None)?;
/// let census = anatomy.census()?;
/// assert_eq!((census.entries, census.implausible), (1, 0));
///
/// // From each record of the heap to what stands there.
/// let segment = anatomy.segment(0)?.expect("a heap begins with segment 0");
/// for found in segment.records() {
///     if let Stretch::Record(walked) = found? {
///         let record = anatomy.record(walked.place)?.expect("its segment is there");
///         assert!(record.is_sound());
///         assert_eq!(anatomy.value(&record, u64::MAX)?, b"value");
///     }
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Anatomy {
    overview: Overview,
    names: FileNames,
    index: Source,
    roster: Option<Source>,
    knowledge: Knowledge,
}

impl fmt::Debug for Anatomy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Anatomy")
            .field("path", &self.overview.path)
            .finish_non_exhaustive()
    }
}

impl Anatomy {
    /// Opens the files of the cache at `path`, whose heap stands at `heap_path` if not beside it.
    ///
    /// # Errors
    ///
    /// As [`Overview::read`]. What is in the files is never an error.
    pub fn open(path: impl AsRef<Path>, heap_path: Option<&Path>) -> Result<Self> {
        let overview = Overview::read(path.as_ref(), heap_path)?;
        let names = FileNames::resolve(path.as_ref(), heap_path)?;
        let index = Source::open(&overview.path)?;
        let knowledge = Knowledge::gather(&names, &index, &overview)?;
        let wanted = overview
            .sealed
            .as_ref()
            .map(|sealed| (sealed.cache_id, sealed.roster_id));
        let roster = match choose(&overview, Role::Roster, |file| file.belongs_to == wanted) {
            Some(file) => Source::open_if_there(&file.path)?,
            None => None,
        };
        Ok(Self {
            overview,
            names,
            index,
            roster,
            knowledge,
        })
    }

    /// What the headers say.
    pub fn overview(&self) -> &Overview {
        &self.overview
    }

    /// The header of one of the files that the [overview](Self::overview) lists, field by field.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`] where the file cannot be read.
    pub fn header(&self, file: &Companion) -> Result<FileHeader> {
        FileHeader::read(file, &self.overview)
    }

    /// How much of one of the files that the [overview](Self::overview) lists is in memory; none
    /// where the system does not tell, or where it is gone. Reads up to 256 single bytes of it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`] where the file cannot be opened.
    pub fn residency(&self, file: &Companion) -> Result<Option<Residency>> {
        Residency::look(file)
    }

    /// Who holds the writer lock, without taking it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`] where the system does not tell.
    pub fn lock(&self) -> Result<LockState> {
        LockState::look(&self.index, &self.overview)
    }

    /// Where things stand in the index. Where its own header is damaged, what that says all the
    /// same and what the segments' headers repeat of it are tried against the regions that are
    /// there.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Corrupted`] where neither the index nor a segment can tell, [`ErrorKind::UnsupportedVersion`] where
    /// the files are another version's. All that needs the layout fails so too: regions, slots,
    /// records, segments and the census.
    pub fn layout(&self) -> Result<&Layout> {
        Ok(&self.known()?.layout)
    }

    /// How many slots there are; each has a number below this. Regions and slots that the file has
    /// room for behind the last can be looked at as well.
    ///
    /// # Errors
    ///
    /// As [`layout`](Self::layout).
    pub fn slots(&self) -> Result<u32> {
        let layout = self.layout()?;
        Ok(layout.regions.saturating_mul(layout.region_slots))
    }

    /// A region of the index, by its number; none where there is none. Reads the region.
    ///
    /// # Errors
    ///
    /// As [`layout`](Self::layout), and where a file cannot be read.
    pub fn region(&self, number: u32) -> Result<Option<Region>> {
        let known = self.known()?;
        let Some(words) = self.region_words(known, number)? else {
            return Ok(None);
        };
        let generation = Generation::new(&words, Places::new(&known.geometry), number);
        let shape = generation.shape();
        let entry = match shape.depth <= self.depth(known) {
            true => self.directory_entry(known, shape.prefix)?,
            false => None,
        };
        let bits = known.geometry.directory_bits;
        let at = region_at(&known.geometry, number);
        Ok(Some(Region::decode(
            generation,
            at,
            bits,
            entry,
            &self.index,
        )))
    }

    /// A slot of the index, by its number, whether it holds an entry or not; none where there is no
    /// such slot. Reads its region and a position of the roster.
    ///
    /// # Errors
    ///
    /// As [`region`](Self::region).
    pub fn slot(&self, number: u32) -> Result<Option<Slot>> {
        let known = self.known()?;
        let slots = known.geometry.region_slots;
        let (region, index) = (number / slots, number % slots);
        let Some(words) = self.region_words(known, region)? else {
            return Ok(None);
        };
        let generation = Generation::new(&words, Places::new(&known.geometry), region);
        let link = generation.link(index);
        let SlotIdentity { position, .. } = generation.slot(index).identity();
        let around = Surroundings {
            geometry: &known.geometry,
            index: &self.index,
            hasher: self.knowledge.hasher,
            region_at: region_at(&known.geometry, region),
            roster_len: self.overview.changing.as_ref().map(|now| now.roster_len),
            roster: self.roster_entry(position)?,
            segment_len: self.segment_len(link)?,
        };
        Ok(Some(Slot::decode(generation, index, &around)))
    }

    /// The numbers of the slots in which a search for a key looks closer, in its order: those whose
    /// hash bits are the key's. Nearly always the key's own or none.
    ///
    /// # Errors
    ///
    /// As [`region`](Self::region); [`ErrorKind::Corrupted`] where it is not known how keys are hashed.
    pub fn slots_of(&self, key: &[u8]) -> Result<Vec<u32>> {
        let known = self.known()?;
        let hash = self.hasher()?.hash(key);
        let index = hash.directory() & ((1 << self.depth(known)) - 1);
        let Some(entry) = self.directory_entry(known, index)? else {
            return Ok(Vec::new());
        };
        let Some(words) = self.region_words(known, entry.region())? else {
            return Ok(Vec::new());
        };
        let generation = Generation::new(&words, Places::new(&known.geometry), entry.region());
        let first = entry.region() * known.geometry.region_slots;
        Ok(generation
            .probe(hash)
            .map(|(index, ..)| first + index)
            .collect())
    }

    /// What the roster has at a position; none where there is no roster or no such position.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`] where the file cannot be read.
    pub fn roster_entry(&self, position: u32) -> Result<Option<RosterEntry>> {
        let Some(roster) = &self.roster else {
            return Ok(None);
        };
        let bytes = roster.read(ROSTER_HEADER + u64::from(position) * 4, 4)?;
        let four: Option<[u8; 4]> = bytes.try_into().ok();
        let stored = four.map(|four| Position::from_disk(u32::from_le_bytes(four)));
        Ok(stored.map(|stored| match stored {
            Position::Slot(number) => RosterEntry::Slot(number),
            Position::Free(next) => RosterEntry::Hole(next.checked_sub(1)),
        }))
    }

    /// What stands at a place of the heap, read as a record: header, key and checksum. None where
    /// there is no such segment. Needs memory for the key.
    ///
    /// # Errors
    ///
    /// As [`layout`](Self::layout), and where the file cannot be read.
    pub fn record(&self, place: HeapPlace) -> Result<Option<Record>> {
        let known = self.known()?;
        let Some(file) = self.segment_source(place.segment)? else {
            return Ok(None);
        };
        let variant = known.geometry.variant;
        Record::read(&file, place, variant, self.knowledge.heap_id).map(Some)
    }

    /// The value of a record, or as much of it as `limit` and the file allow, verified or not.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`] where the file cannot be read.
    pub fn value(&self, record: &Record, limit: u64) -> Result<Vec<u8>> {
        let len = limit.min(record.value_len.into());
        self.bytes(record.place.segment, record.value_at, len)
    }

    /// Bytes of a segment as they are, up to `limit` or the file's end; none of a segment that is
    /// not there.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`] where the file cannot be read.
    pub fn bytes(&self, segment: u16, at: u64, limit: u64) -> Result<Vec<u8>> {
        match self.segment_source(segment)? {
            Some(file) => file.read(at, limit),
            None => Ok(Vec::new()),
        }
    }

    /// Bytes of the index as they are, up to `limit` or the file's end.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`] where the file cannot be read.
    pub fn index_bytes(&self, at: u64, limit: u64) -> Result<Vec<u8>> {
        self.index.read(at, limit)
    }

    /// The numbers of the segments whose files are there, from low to high.
    pub fn segments(&self) -> Vec<u16> {
        let mut numbers: Vec<u16> = self.segment_files().map(|(number, _)| number).collect();
        numbers.dedup();
        numbers
    }

    /// A segment of the heap, mapped for a walk over its records; none where there is no such file,
    /// or where it is too short to be one.
    ///
    /// # Errors
    ///
    /// As [`layout`](Self::layout); [`ErrorKind::Corrupted`] where neither the index nor the segment says
    /// of which heap it is, for then no checksum can be computed; [`ErrorKind::Io`] where it cannot be
    /// mapped.
    pub fn segment(&self, number: u16) -> Result<Option<Segment>> {
        let known = self.known()?;
        let Some(file) = self.segment_source(number)? else {
            return Ok(None);
        };
        let len = file.len()? & !7;
        if len <= SEGMENT_HEADER {
            return Ok(None);
        }
        let Some(heap_id) = self.knowledge.heap_id else {
            return Err(Error::corrupted(
                file.path(),
                Corruption::HeapUnidentified,
                0,
            ));
        };
        let capacity = len.min(*Geometry::SEGMENT_BYTES.end() + PAGE);
        let header = SegmentHeader {
            heap_id,
            capacity,
            number: number.into(),
            ..bytemuck::Zeroable::zeroed()
        };
        let path = file.path().to_owned();
        let mapped = MappedFile::new(file.into_file(), &path, false);
        let inner = segment::Segment::new(mapped, &header, known.geometry.variant)?;
        let end = self.end_of(number).map_or(u64::MAX, |at| at / 8);
        let end = end.min(inner.capacity_units().into()) as u32;
        Ok(Some(Segment { inner, end }))
    }

    /// Counts what is in the index, in one pass over it; the heap is not read.
    ///
    /// See [`Census`] for what that costs.
    ///
    /// # Errors
    ///
    /// As [`layout`](Self::layout), and where a file cannot be read.
    pub fn census(&self) -> Result<Census> {
        self.census_with(|_, _| true)
    }

    /// The same, told of its progress: `progress` gets how many regions were counted and how many
    /// there are, again and again, and ends the pass where it returns false. What was counted until
    /// then is the result.
    ///
    /// # Errors
    ///
    /// As [`census`](Self::census).
    pub fn census_with(&self, mut progress: impl FnMut(u32, u32) -> bool) -> Result<Census> {
        /// Bytes that are read at once.
        const PIECE: u64 = 1 << 20;
        let known = self.known()?;
        let places = Places::new(&known.geometry);
        let (size, all) = (known.layout.region_bytes, known.layout.regions);
        let mut counting = Counting::new(known, self.segment_lengths()?, &self.overview);
        let (mut bytes, mut words, mut number) = (Vec::new(), Vec::new(), 0);
        while number < all {
            let at = region_at(&known.geometry, number);
            let count = u64::from(all - number).min((PIECE / size).max(1));
            self.index.read_into(at, count * size, &mut bytes)?;
            words.clear();
            words.extend(source::words(&bytes));
            let regions = words.chunks_exact(places.region_words());
            if regions.len() == 0 {
                break;
            }
            for region in regions {
                counting.region(Generation::new(region, places, number));
                number += 1;
            }
            if !progress(number, all) {
                break;
            }
        }
        // The segments are those that were there when the header was read.
        let before = self.overview.changing.as_ref().map(|header| header.changes);
        let steady = number == all && self.overview.steady && self.quiet_since()? == before;
        Ok(counting.end(steady))
    }

    fn known(&self) -> Result<&Known> {
        self.knowledge.known(&self.index)
    }

    fn hasher(&self) -> Result<Hasher> {
        self.knowledge.hasher.ok_or_else(|| {
            let at = std::mem::offset_of!(crate::format::index::IndexHeader, hash_seed);
            Error::corrupted(self.index.path(), Corruption::HashSeed, at as u64)
        })
    }

    /// The directory's depth, as far as it can be true.
    fn depth(&self, known: &Known) -> u32 {
        let header = self.overview.changing.as_ref();
        header.map_or(0, |header| header.depth.min(known.geometry.directory_bits))
    }

    /// The header's count of changes; none while one is under way, or where another index has taken
    /// this one's place.
    fn quiet_since(&self) -> Result<Option<u64>> {
        let word = |word: usize| -> Result<Option<u64>> {
            let bytes = self.index.read(word as u64 * 8, 8)?;
            Ok(bytes.try_into().ok().map(u64::from_le_bytes))
        };
        let superseded = word(word::POLL)?.is_none_or(|word| HeaderStateWord(word).superseded());
        let quiet = word(word::INTENT)? == Some(0) && !superseded;
        Ok(word(word::CHANGES)?.filter(|_| quiet))
    }

    fn directory_entry(&self, known: &Known, index: u32) -> Result<Option<DirectoryEntry>> {
        if index >> self.depth(known) != 0 {
            return Ok(None);
        }
        let bytes = self.index.read(PAGE + u64::from(index) * 8, 8)?;
        let word = bytes.try_into().ok().map(u64::from_le_bytes);
        Ok(word.map(DirectoryEntry))
    }

    /// The words of a region; none where the file ends before.
    fn region_words(&self, known: &Known, number: u32) -> Result<Option<Vec<Word>>> {
        if u64::from(number) >= known.geometry.max_regions() {
            return Ok(None);
        }
        let at = region_at(&known.geometry, number);
        let bytes = self.index.read(at, known.layout.region_bytes)?;
        let whole = bytes.len() as u64 == known.layout.region_bytes;
        Ok(whole.then(|| source::words(&bytes).collect()))
    }

    fn segment_files(&self) -> impl Iterator<Item = (u16, &Companion)> {
        self.overview
            .files
            .iter()
            .filter_map(|file| match file.role {
                Role::Segment(number) => Some((number, file)),
                _ => None,
            })
    }

    /// Where a segment's records end, if it is the last one and that can be believed.
    fn end_of(&self, segment: u16) -> Option<u64> {
        let header = self.overview.changing.as_ref()?;
        let believed = self.overview.steady && self.overview.implausible.is_empty();
        (believed && header.tail.segment == segment).then_some(header.tail.at)
    }

    /// The file of a segment: that of this heap where there are two, or of which it cannot be told.
    fn segment_source(&self, number: u16) -> Result<Option<Source>> {
        let heap_id = self.knowledge.heap_id;
        let of_heap = |file: &Companion| file.belongs_to.map(|(_, id)| id) == heap_id;
        match choose(&self.overview, Role::Segment(number), of_heap) {
            Some(file) => Source::open_if_there(&file.path),
            // Begun since the directory was listed.
            None => Source::open_if_there(&self.names.segment(number, Stage::Final)),
        }
    }

    /// Bytes of the segment that a link names.
    fn segment_len(&self, link: Link) -> Result<Option<u64>> {
        if !link.is_entry() {
            return Ok(None);
        }
        let file = self.segment_source(link.addr().segment)?;
        file.map(|file| file.len()).transpose()
    }

    /// The lengths of all segments that are there.
    fn segment_lengths(&self) -> Result<Vec<(u16, u64)>> {
        let mut found = Vec::new();
        for number in self.segments() {
            if let Some(file) = self.segment_source(number)? {
                found.push((number, file.len()?));
            }
        }
        Ok(found)
    }
}

/// Where a region begins in the index.
fn region_at(geometry: &Geometry, number: u32) -> u64 {
    geometry.regions_at() + u64::from(number) * geometry.region_bytes() as u64
}

/// The file of a role that passes, or else the first that has a name for it: the final one.
fn choose(
    overview: &Overview,
    role: Role,
    passes: impl Fn(&Companion) -> bool,
) -> Option<&Companion> {
    let mut all = overview.files.iter().filter(|file| file.role == role);
    let first = all.clone().next();
    all.find(|file| passes(file)).or(first)
}
