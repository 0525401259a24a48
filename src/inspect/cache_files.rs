//! Opens the files of a cache and reads parts of them.

use std::fmt;
use std::path::Path;

use crate::engine::Problem;
#[cfg(doc)]
use crate::error::ErrorKind;
use crate::error::{Corruption, Error, Result};
use crate::format::Geometry;
use crate::format::index::{HeaderStateWord, IndexHeader as DiskHeader, PAGE, word};
use crate::format::record::Variant;
use crate::format::region::DirectoryEntry;
use crate::format::roster::{HEADER_BYTES as ROSTER_HEADER, Position};
use crate::format::segment::{HEADER_BYTES as SEGMENT_HEADER, SegmentHeader};
use crate::format::slot::{Link, SlotIdentity};
use crate::hash::Hasher;
use crate::heap::segment::Segment;
use crate::index::region::{Region as IndexRegion, RegionLayout};
use crate::os::file_names::{FileNames, Stage};
use crate::os::mapped_file::MappedFile;
use crate::sync::Word;

use crate::inspect::cache_file::{CacheFile, FileRole};
use crate::inspect::field::{self, Field};
use crate::inspect::file_reader::{self, FileReader};
use crate::inspect::headers::Headers;
use crate::inspect::heap_scan;
use crate::inspect::index_header::IndexHeader;
use crate::inspect::index_scan::{IndexScan, IndexScanner};
use crate::inspect::index_state::{HeapAddress, IndexState};
use crate::inspect::layout::{Discovery, Layout};
use crate::inspect::lock_state::LockState;
use crate::inspect::page_cache::PageSample;
use crate::inspect::record::Record;
use crate::inspect::slot::{self, RosterEntry, Slot, SlotContext};

/// The files of a cache, opened to decode their contents, whether they are valid or not.
///
/// Reads index, roster and single records by `pread`, and maps a segment to scan it. Locks, changes,
/// repairs and creates nothing. It is therefore safe on a damaged cache, on a copy, and on files that
/// other processes write to. While a process writes, the parts are read at different moments: a slot
/// and its roster position can disagree without damage. Headers and the list of files are those of the
/// moment of [`open`](Self::open); open the files again to see later ones.
///
/// Checks all counts and lengths against the lengths of the files, so a damaged one costs neither
/// memory nor time.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("thumbnails");
/// # mmapcache::MmapCache::open(&path)?.put(b"key", b"value")?;
/// use mmapcache::inspect::CacheFiles;
///
/// let files = CacheFiles::open(&path, None)?;
/// assert!(files.problems().is_empty());
/// assert_eq!(files.state().map(|state| state.occupied), Some(1));
///
/// let scan = files.scan_index(|_, _| true, |_, _, _| {})?;
/// assert_eq!((scan.entries, scan.invalid), (1, 0));
///
/// let mut keys = Vec::new();
/// files.scan_segment(0, |record| {
///     keys.push(record.key);
///     true
/// })?;
/// assert_eq!(keys, [b"key"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct CacheFiles {
    headers: Headers,
    names: FileNames,
    index: FileReader,
    roster: Option<FileReader>,
    discovery: Discovery,
}

impl fmt::Debug for CacheFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheFiles")
            .field("path", &self.headers.path)
            .finish_non_exhaustive()
    }
}

impl CacheFiles {
    /// Opens the files of the cache at `path`. `heap_path` is the path of the first segment, if the
    /// heap is not beside the index.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] if there is no file at the path, [`ErrorKind::NotACacheFile`] if it is
    /// not a regular file, [`ErrorKind::Io`] if it cannot be read. The contents of the files are never
    /// an error.
    pub fn open(path: impl AsRef<Path>, heap_path: Option<&Path>) -> Result<Self> {
        let names = FileNames::resolve(path.as_ref(), heap_path)?;
        let headers = Headers::read(&names)?;
        let index = FileReader::open(&headers.path)?;
        let discovery = Discovery::run(&names, &index, &headers)?;
        let header = headers.header.as_ref();
        let ids = header.map(|header| (header.cache_id, header.roster_id));
        let roster = match choose(&headers, FileRole::Roster, |file| file.ids == ids) {
            Some(file) => FileReader::open_if_present(&file.path)?,
            None => None,
        };
        Ok(Self {
            headers,
            names,
            index,
            roster,
            discovery,
        })
    }

    /// Returns the path of the index, with every symbolic link resolved.
    pub fn path(&self) -> &Path {
        &self.headers.path
    }

    /// Returns the fields of the index header that never change. `None` if the file ends before their
    /// end.
    pub fn header(&self) -> Option<&IndexHeader> {
        self.headers.header.as_ref()
    }

    /// Returns the fields of the index header that writers change. `None` if the file ends before their
    /// end.
    pub fn state(&self) -> Option<&IndexState> {
        self.headers.state.as_ref()
    }

    /// Returns whether headers and files did not change while they were read. Otherwise a writer was
    /// active, and [`problems`](Self::problems) did not compare them with each other.
    pub fn is_consistent(&self) -> bool {
        self.headers.consistent
    }

    /// Returns all files that have a name of this cache, the index first.
    pub fn files(&self) -> &[CacheFile] {
        &self.headers.files
    }

    /// Returns the impossible values in the headers, and missing or truncated files. A killed writer
    /// causes none of them.
    pub fn problems(&self) -> &[Problem] {
        &self.headers.problems
    }

    /// Returns the fields of the header of one of the [`files`](Self::files). They cover the header
    /// without gaps; a lock file has none.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`] if the file cannot be read.
    pub fn fields(&self, file: &CacheFile) -> Result<Vec<Field>> {
        field::read(file, &self.headers)
    }

    /// Returns about how many bytes of one of the [`files`](Self::files) are in the page cache, which all
    /// processes share. `None` if the system does not tell, or if the file was removed.
    ///
    /// The estimate is right to about 6 % of the file. It reads up to 256 single bytes; the system may
    /// load the missing ones of these pages. Holes do not count.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`] if the file cannot be opened.
    pub fn resident_bytes(&self, file: &CacheFile) -> Result<Option<u64>> {
        Ok(PageSample::take(&file.path)?.map(PageSample::bytes))
    }

    /// Returns the state of the writer lock, without taking it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`] if the index cannot be read.
    pub fn lock(&self) -> Result<LockState> {
        LockState::read(&self.index, &self.headers)
    }

    /// Returns whether this is an id cache: its keys have ids and no values.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Corrupted`] if neither the index nor a segment has a header with the layout of the
    /// index, [`ErrorKind::UnsupportedVersion`] if the files are of another release. If the header of the
    /// index is damaged, the layout is the one in it or in a segment that fits the regions.
    pub fn is_id_cache(&self) -> Result<bool> {
        Ok(self.layout()?.geometry.variant == Variant::Numbered)
    }

    /// Returns the number of slots. Slots have the numbers below it.
    ///
    /// # Errors
    ///
    /// As [`is_id_cache`](Self::is_id_cache).
    pub fn slot_count(&self) -> Result<u32> {
        let layout = self.layout()?;
        Ok(layout.regions.saturating_mul(layout.geometry.region_slots))
    }

    /// Decodes a slot of the index, with or without an entry. Returns `None` if there is no such slot.
    /// Reads its region and its roster position.
    ///
    /// # Errors
    ///
    /// As [`is_id_cache`](Self::is_id_cache), and [`ErrorKind::Io`] if a file cannot be read.
    pub fn slot(&self, number: u32) -> Result<Option<Slot>> {
        let geometry = &self.layout()?.geometry;
        let (region, index) = (
            number / geometry.region_slots,
            number % geometry.region_slots,
        );
        let Some(words) = self.region_words(region)? else {
            return Ok(None);
        };
        let decoded = IndexRegion::new(&words, RegionLayout::new(geometry), region);
        let SlotIdentity { position, .. } = decoded.slot(index).identity();
        let context = SlotContext {
            geometry,
            index: &self.index,
            hasher: self.discovery.hasher,
            region_at: region_at(geometry, region),
            roster_len: self.headers.state.as_ref().map(|state| state.roster_len),
            roster: self.roster_entry(position)?,
            segment_len: self.segment_len(decoded.link(index))?,
        };
        Ok(Some(Slot::decode(decoded, index, &context)))
    }

    /// Returns the number of the slot whose body contains a byte of the index, or `None`.
    ///
    /// # Errors
    ///
    /// As [`is_id_cache`](Self::is_id_cache).
    pub fn slot_at(&self, at: u64) -> Result<Option<u32>> {
        let geometry = &self.layout()?.geometry;
        let Some(below) = at.checked_sub(geometry.regions_at()) else {
            return Ok(None);
        };
        let region_bytes = geometry.region_bytes() as u64;
        let (region, within) = (below / region_bytes, below % region_bytes);
        let slots = u64::from(geometry.region_slots);
        let [.., bodies] = slot::offsets(geometry, 0);
        let index = within.checked_sub(bodies);
        let index = index.map(|bytes| bytes / geometry.body_bytes() as u64);
        let number = |index| region.checked_mul(slots)?.checked_add(index);
        let number = index.filter(|&index| index < slots).and_then(number);
        Ok(number.and_then(|number| u32::try_from(number).ok()))
    }

    /// Returns the numbers of the slots that a search for a key compares, in its order: those with the
    /// hash bits of the key. Nearly always that is the slot of the key or none.
    ///
    /// # Errors
    ///
    /// As [`slot`](Self::slot), and [`ErrorKind::Corrupted`] if the hash seed is unknown.
    pub fn find_slots(&self, key: &[u8]) -> Result<Vec<u32>> {
        let geometry = &self.layout()?.geometry;
        let hash = self.hasher()?.hash(key);
        let index = hash.directory() & ((1 << self.depth(geometry)) - 1);
        let Some(entry) = self.directory_entry(index)? else {
            return Ok(Vec::new());
        };
        let Some(words) = self.region_words(entry.region())? else {
            return Ok(Vec::new());
        };
        let region = IndexRegion::new(&words, RegionLayout::new(geometry), entry.region());
        let first = entry.region() * geometry.region_slots;
        Ok(region
            .probe(hash)
            .map(|(index, ..)| first + index)
            .collect())
    }

    /// Decodes the bytes at an address of the heap as a record: header, key and checksum. Returns `None`
    /// if there is no such segment. Needs memory for the key.
    ///
    /// # Errors
    ///
    /// As [`slot`](Self::slot).
    pub fn record(&self, address: HeapAddress) -> Result<Option<Record>> {
        let variant = self.layout()?.geometry.variant;
        let Some(file) = self.open_segment(address.segment)? else {
            return Ok(None);
        };
        Record::read(&file, address, variant, self.discovery.heap_id).map(Some)
    }

    /// Reads the value of a record, up to `limit` bytes or the end of the file. Does not verify it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`] if the file cannot be read.
    pub fn value(&self, record: &Record, limit: u64) -> Result<Vec<u8>> {
        let len = limit.min(record.value_len.into());
        self.segment_bytes(
            HeapAddress::new(record.address.segment, record.value_at),
            len,
        )
    }

    /// Reads bytes of a segment, up to `limit` bytes or the end of the file. Returns none if the segment
    /// does not exist.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`] if the file cannot be read.
    pub fn segment_bytes(&self, address: HeapAddress, limit: u64) -> Result<Vec<u8>> {
        match self.open_segment(address.segment)? {
            Some(file) => file.read(address.at, limit),
            None => Ok(Vec::new()),
        }
    }

    /// Reads bytes of the index, up to `limit` bytes or the end of the file.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`] if the file cannot be read.
    pub fn index_bytes(&self, at: u64, limit: u64) -> Result<Vec<u8>> {
        self.index.read(at, limit)
    }

    /// Returns the numbers of the segments, in ascending order.
    pub fn segments(&self) -> Vec<u16> {
        let files = self.headers.files.iter();
        let mut numbers: Vec<u16> = files.filter_map(CacheFile::segment).collect();
        numbers.dedup();
        numbers
    }

    /// Returns the file of a segment. If there are several, it is the one of this heap.
    pub fn segment_file(&self, number: u16) -> Option<&CacheFile> {
        let heap_id = self.discovery.heap_id;
        let of_heap = |file: &CacheFile| file.ids.map(|(_, id)| id) == heap_id;
        choose(&self.headers, FileRole::Segment(number), of_heap)
    }

    /// Calls `visit` with the records of a segment in the order of their addresses, until it returns
    /// false.
    ///
    /// Verifies every record, so it reads the whole segment. Needs memory for one key. Damaged bytes
    /// between two valid records are visited as one record without kind and key, which is not
    /// [valid](Record::is_valid). The last segment is read up to the committed end of the heap, if that
    /// is known.
    ///
    /// Returns whether the scan reached the end. If `visit` never returned false, false means that the
    /// bytes after the last visited record contain so many invalid record headers that trying all of
    /// them would take too long. Returns `None` if there is no such segment, or if the file is too short.
    ///
    /// # Errors
    ///
    /// As [`slot`](Self::slot). [`ErrorKind::Corrupted`] also if neither the index nor a segment has the
    /// id of the heap, which is a part of each checksum.
    pub fn scan_segment(
        &self,
        number: u16,
        visit: impl FnMut(Record) -> bool,
    ) -> Result<Option<bool>> {
        let variant = self.layout()?.geometry.variant;
        let Some(file) = self.open_segment(number)? else {
            return Ok(None);
        };
        let len = file.len()? & !7;
        if len <= SEGMENT_HEADER {
            return Ok(None);
        }
        let Some(heap_id) = self.discovery.heap_id else {
            let what = Corruption::HeapUnidentified;
            return Err(Error::corrupted(file.path(), what, 0));
        };
        let header = SegmentHeader {
            heap_id,
            capacity: len.min(*Geometry::SEGMENT_BYTES.end() + PAGE),
            number: number.into(),
            ..bytemuck::Zeroable::zeroed()
        };
        let path = file.path().to_owned();
        let mapped = MappedFile::new(file.into_file(), &path, false);
        let segment = Segment::new(mapped, &header, variant)?;
        let end = self.committed_end(number).map_or(u64::MAX, |at| at / 8);
        let end = end.min(segment.capacity_units().into()) as u32;
        heap_scan::run(&segment, variant, end, visit).map(Some)
    }

    /// Counts what is in the index. Of the heap it reads the headers of the entries' records.
    ///
    /// Calls `progress` with the number of counted regions and that of all regions, about once per MiB;
    /// the scan ends if it returns false. Calls `entry` with key length, value length and version of
    /// every entry; in an id cache the value length is 0, and the version is the number of the key.
    ///
    /// Reads the whole index once, a MiB at a time, and each record's header by itself, one system
    /// call an entry. Takes no lock. While a process writes, the counts
    /// are of different moments, and valid slots can look invalid: see [`IndexScan::consistent`]. Keeps
    /// 16 bytes for each region and 48 for each segment.
    ///
    /// # Errors
    ///
    /// As [`slot`](Self::slot).
    pub fn scan_index(
        &self,
        mut progress: impl FnMut(u32, u32) -> bool,
        entry: impl FnMut(u16, u32, u64),
    ) -> Result<IndexScan> {
        /// Bytes that are read at once.
        const PIECE: u64 = 1 << 20;
        let layout = self.layout()?;
        let region_layout = RegionLayout::new(&layout.geometry);
        let (size, all) = (layout.geometry.region_bytes() as u64, layout.regions);
        let mut scanner = IndexScanner::new(layout.geometry, self.open_segments()?, entry);
        let (mut bytes, mut words, mut number) = (Vec::new(), Vec::new(), 0);
        while number < all {
            let at = region_at(&layout.geometry, number);
            let count = u64::from(all - number).min((PIECE / size).max(1));
            self.index.read_into(at, count * size, &mut bytes)?;
            words.clear();
            words.extend(file_reader::words(&bytes));
            let regions = words.chunks_exact(region_layout.region_words());
            if regions.len() == 0 {
                break;
            }
            for region in regions {
                scanner.region(IndexRegion::new(region, region_layout, number))?;
                number += 1;
            }
            if !progress(number, all) {
                break;
            }
        }
        // The scan used the segments that existed when the header was read.
        let before = self.headers.state.as_ref().map(|state| state.changes);
        let unchanged = self.current_changes()? == before;
        Ok(scanner.finish(number == all && self.headers.consistent && unchanged))
    }

    /// Returns the layout of the index.
    pub(super) fn layout(&self) -> Result<&Layout> {
        self.discovery.layout(&self.index)
    }

    fn hasher(&self) -> Result<Hasher> {
        self.discovery.hasher.ok_or_else(|| {
            let at = std::mem::offset_of!(DiskHeader, hash_seed);
            Error::corrupted(self.index.path(), Corruption::HashSeed, at as u64)
        })
    }

    /// Returns the depth of the directory, limited to its maximum.
    fn depth(&self, geometry: &Geometry) -> u32 {
        let state = self.headers.state.as_ref();
        state.map_or(0, |state| state.depth.min(geometry.directory_bits))
    }

    /// Returns the current count of changes. `None` during a change, and if another index has replaced
    /// this one.
    fn current_changes(&self) -> Result<Option<u64>> {
        let state_word = self.index.word(word::POLL)?;
        let superseded = state_word.is_none_or(|word| HeaderStateWord(word).superseded());
        let idle = self.index.word(word::INTENT)? == Some(0) && !superseded;
        Ok(self.index.word(word::CHANGES)?.filter(|_| idle))
    }

    fn directory_entry(&self, index: u32) -> Result<Option<DirectoryEntry>> {
        let bytes = self.index.read(PAGE + u64::from(index) * 8, 8)?;
        let word = bytes.try_into().ok().map(u64::from_le_bytes);
        Ok(word.map(DirectoryEntry))
    }

    /// Returns the words of a region; `None` if the file ends before its end.
    fn region_words(&self, number: u32) -> Result<Option<Vec<Word>>> {
        let geometry = &self.layout()?.geometry;
        if u64::from(number) >= geometry.max_regions() {
            return Ok(None);
        }
        let len = geometry.region_bytes() as u64;
        let bytes = self.index.read(region_at(geometry, number), len)?;
        let whole = bytes.len() as u64 == len;
        Ok(whole.then(|| file_reader::words(&bytes).collect()))
    }

    /// Returns the contents of a roster position; `None` if it cannot be read.
    fn roster_entry(&self, position: u32) -> Result<Option<RosterEntry>> {
        let Some(roster) = &self.roster else {
            return Ok(None);
        };
        let bytes = roster.read(ROSTER_HEADER + u64::from(position) * 4, 4)?;
        let four: Option<[u8; 4]> = bytes.try_into().ok();
        let stored = four.map(|four| Position::from_disk(u32::from_le_bytes(four)));
        Ok(stored.map(|stored| match stored {
            Position::Slot(number) => RosterEntry::Slot(number),
            Position::Free(_) => RosterEntry::Free,
        }))
    }

    /// Returns the committed end of the heap if it is in this segment and the headers are valid.
    fn committed_end(&self, segment: u16) -> Option<u64> {
        let state = self.headers.state.as_ref()?;
        let valid = self.headers.consistent && self.headers.problems.is_empty();
        (valid && state.tail.segment == segment).then_some(state.tail.at)
    }

    fn open_segment(&self, number: u16) -> Result<Option<FileReader>> {
        match self.segment_file(number) {
            Some(file) => FileReader::open_if_present(&file.path),
            // It may have been created since the files were listed.
            None => FileReader::open_if_present(&self.names.segment(number, Stage::Final)),
        }
    }

    /// Returns the length of the linked segment.
    fn segment_len(&self, link: Link) -> Result<Option<u64>> {
        if !link.is_entry() {
            return Ok(None);
        }
        let file = self.open_segment(link.addr().segment)?;
        file.map(|file| file.len()).transpose()
    }

    /// Opens all segments. Returns their numbers, files and lengths.
    fn open_segments(&self) -> Result<Vec<(u16, FileReader, u64)>> {
        let mut found = Vec::new();
        for number in self.segments() {
            if let Some(file) = self.open_segment(number)? {
                let len = file.len()?;
                found.push((number, file, len));
            }
        }
        Ok(found)
    }
}

/// Returns the offset of a region in the index.
fn region_at(geometry: &Geometry, number: u32) -> u64 {
    geometry.regions_at() + u64::from(number) * geometry.region_bytes() as u64
}

/// Returns the first file of a role that matches, otherwise the first file of the role.
fn choose(
    headers: &Headers,
    role: FileRole,
    matches: impl Fn(&CacheFile) -> bool,
) -> Option<&CacheFile> {
    let mut files = headers.files.iter().filter(|file| file.role == role);
    let first = files.clone().next();
    files.find(|file| matches(file)).or(first)
}
