//! Creates a cache with any options and geometry under any name, and opens it with any others: what
//! is possible works, and the rest is refused with its own error.
#![no_main]

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use arbitrary::{Arbitrary, Unstructured};
use libfuzzer_sys::fuzz_target;
use mmapcache::inspect::CacheFiles;
use mmapcache::{Durability, Error, ErrorKind, MmapCache, Options, Result};
use mmapcache_fuzz::Scratch;

fuzz_target!(|data: &[u8]| {
    let mut input = Unstructured::new(data);
    let Ok((first, name)) = input.arbitrary::<(Wish, Name)>() else {
        return;
    };
    mmapcache::fuzzing::reseed(0);
    let scratch = Scratch::new();
    let inside = scratch.path().join("inside");
    std::fs::create_dir(&inside).expect("a directory");
    let path = inside.join(OsStr::from_bytes(&name.bytes()));
    let Some(mut cache) = create(&first, &path, name.is_plain()) else {
        return;
    };
    let mut run = Run {
        path,
        first,
        entries: 0,
    };
    run.work(&cache, &run.first.clone());
    while let Ok(next) = input.arbitrary::<Wish>()
        && !input.is_empty()
    {
        let keep = input.arbitrary().unwrap_or(false);
        if !keep {
            drop(cache);
            cache = run.reopen();
        }
        run.open_again(&cache, &next);
    }
});

/// A number for an option, often a valid one.
#[derive(Arbitrary, Clone, Copy, Debug)]
struct Number {
    pick: u8,
    raw: u64,
}

impl Number {
    fn of(self, good: &[u64]) -> u64 {
        match self.pick {
            0..220 => good[usize::from(self.pick) % good.len()],
            220..238 => good[usize::from(self.pick) % good.len()].wrapping_add(1),
            _ => self.raw,
        }
    }
}

#[derive(Arbitrary, Clone, Debug)]
struct Wish {
    switches: u8,
    mode: u16,
    capacity: Number,
    region_slots: Option<Number>,
    max_segment_bytes: Option<Number>,
    max_entries: Option<Number>,
    staleness: u64,
    lock_timeout: u8,
    clean: (u32, u64),
    heap: u8,
    directory_bits: u8,
    append_only: Option<bool>,
    in_place: Option<bool>,
}

impl Wish {
    fn has(&self, switch: u32) -> bool {
        self.switches >> switch & 1 == 1
    }

    /// Rarely: most caches are created and written.
    fn read_only(&self) -> bool {
        self.has(0) && self.has(1)
    }

    fn exclusive(&self) -> bool {
        self.has(2)
    }

    fn create(&self) -> bool {
        !(self.has(3) && self.has(1))
    }

    fn create_new(&self) -> bool {
        self.has(4) && self.has(1)
    }

    fn region_slots(&self) -> Option<u32> {
        self.region_slots
            .map(|n| n.of(&[16, 32, 64, 128, 256, 512, 1024]) as u32)
    }

    fn max_segment_bytes(&self) -> Option<u64> {
        self.max_segment_bytes
            .map(|n| n.of(&[16 << 10, 1 << 20, 1 << 30, 16 << 30, (16 << 10) + 8]))
    }

    fn max_entries(&self) -> Option<u64> {
        self.max_entries.map(|n| n.of(&[0, 1, 20, 1_000]))
    }

    /// The engine reserves room for as many entries, so they are few.
    fn capacity(&self) -> u64 {
        self.capacity.of(&[0, 1, 100, 2_000]) % 4_096
    }

    /// Returns the most entries that a table of this geometry can have.
    fn most_entries(&self) -> u64 {
        let slots = u64::from(self.region_slots().unwrap_or(512));
        slots << (u32::from(self.directory_bits) % 21)
    }

    /// Whether the setters' documentation allows the geometry.
    fn is_possible(&self) -> bool {
        let slots = self.region_slots().unwrap_or(512);
        let segment = self.max_segment_bytes().unwrap_or(1 << 30);
        (16..=1024).contains(&slots)
            && slots.is_power_of_two()
            && (16 << 10..=16 << 30).contains(&segment)
            && self.capacity() <= self.most_entries()
            && (self.append_only, self.in_place) != (Some(true), Some(true))
    }

    fn heap(&self, path: &Path) -> Option<PathBuf> {
        let beside = |suffix: &str| {
            let mut name = path.as_os_str().to_owned();
            name.push(suffix);
            Some(PathBuf::from(name))
        };
        match self.heap {
            200 => beside(""),
            201 => beside(".roster"),
            202 => beside(".lock"),
            203 => beside(".new"),
            204 => beside(".heap.1"),
            205 => beside(".roster.new"),
            206 => Some(path.parent()?.to_owned()),
            207 => Some(path.join("inside a file")),
            208 => Some(PathBuf::new()),
            209.. => Some(path.with_file_name("the heap")),
            _ => None,
        }
    }

    fn options(&self, path: &Path) -> Options {
        let mut options = Options::new();
        options
            .create(self.create())
            .create_new(self.create_new())
            .read_only(self.read_only())
            .exclusive(self.exclusive())
            .allow_network_fs(self.has(5))
            .verify_checksums(!self.has(6))
            .file_mode(u32::from(self.mode) | 0o600)
            .capacity(self.capacity())
            .staleness_check_interval(Duration::from_millis(self.staleness))
            .compaction_threshold(self.clean.0, self.clean.1)
            .narrow(u32::from(self.directory_bits) % 21, false);
        options.lock_timeout(Some(Duration::from_micros(
            u64::from(self.lock_timeout) * 4,
        )));
        if self.has(7) {
            options.durability(Durability::Sync);
        }
        if let Some(slots) = self.region_slots() {
            options.region_slots(slots);
        }
        if let Some(bytes) = self.max_segment_bytes() {
            options.max_segment_bytes(bytes);
        }
        if let Some(most) = self.max_entries() {
            options.max_entries(most);
        }
        if let Some(append_only) = self.append_only {
            options.append_only(append_only);
        }
        if let Some(in_place) = self.in_place {
            options.in_place(in_place);
        }
        if let Some(heap) = self.heap(path) {
            options.heap_path(heap);
        }
        options
    }
}

/// The name of a cache, usually a plain one.
#[derive(Arbitrary, Debug)]
struct Name {
    odd: u8,
    raw: [u8; 6],
    long: u8,
}

impl Name {
    fn is_plain(&self) -> bool {
        self.odd < 200
    }

    fn bytes(&self) -> Vec<u8> {
        match self.odd {
            0..200 => b"cache".to_vec(),
            200 => b".".to_vec(),
            201 => b"..".to_vec(),
            202 => Vec::new(),
            203 => b"c.heap".to_vec(),
            204 => b"c.new".to_vec(),
            205 => b"c.heap.1".to_vec(),
            206..226 => vec![b'n'; usize::from(self.long)],
            // Without a slash: all files stay in the directory.
            _ => self
                .raw
                .iter()
                .map(|byte| if *byte == b'/' { b'_' } else { *byte })
                .collect(),
        }
    }
}

/// Creates a cache; `None` if that was refused correctly.
fn create(wish: &Wish, path: &Path, plain: bool) -> Option<MmapCache> {
    let allowed = (wish.create() || wish.create_new()) && !wish.read_only();
    match wish.options(path).open(path) {
        Ok(cache) => {
            assert!(allowed && wish.is_possible());
            return Some(cache);
        }
        Err(error) if matches!(error.kind(), ErrorKind::NotFound) => assert!(!allowed),
        Err(error) if matches!(error.kind(), ErrorKind::InvalidOption { .. }) => {
            assert!(allowed && !wish.is_possible())
        }
        Err(error) if matches!(error.kind(), ErrorKind::DiskFull { .. }) => {
            assert!(wish.capacity() > 1 << 40)
        }
        // The file system does not take the name, or another file has it.
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::Io { .. } | ErrorKind::NotACacheFile { .. } | ErrorKind::AlreadyExists
            ) && (!plain || wish.heap >= 200) => {}
        // The heap would take the name of one of the cache's own files.
        Err(error) if matches!(error.kind(), ErrorKind::Unsupported { .. }) => {
            assert!(wish.heap >= 200)
        }
        Err(other) => panic!("{other:?}"),
    }
    None
}

struct Run {
    path: PathBuf,
    /// The options that created the cache.
    first: Wish,
    /// Number of keys put.
    entries: u32,
}

impl Run {
    fn reopen(&self) -> MmapCache {
        let mut options = Options::new();
        if let Some(heap) = self.first.heap(&self.path) {
            options.heap_path(heap);
        }
        options.open(&self.path).expect("the cache once more")
    }

    /// Whether options ask for another geometry than the cache has, apart from the region size.
    fn differs(&self, wish: &Wish) -> bool {
        let first = &self.first;
        wish.max_segment_bytes()
            .is_some_and(|asked| asked != first.max_segment_bytes().unwrap_or(1 << 30))
            || wish
                .max_entries()
                .is_some_and(|asked| asked != first.max_entries().unwrap_or(0))
            || wish
                .append_only
                .is_some_and(|asked| asked != first.append_only.unwrap_or(false))
            || wish
                .in_place
                .is_some_and(|asked| asked != first.in_place.unwrap_or(false))
    }

    /// Whether options ask for larger regions than at creation: they may have grown since.
    fn wants_larger_regions(&self, wish: &Wish) -> bool {
        let slots = self.first.region_slots().unwrap_or(512);
        wish.region_slots().is_some_and(|asked| asked > slots)
    }

    /// Opens the cache with other options, while another handle is open.
    fn open_again(&mut self, other: &MmapCache, wish: &Wish) {
        if wish.heap(&self.path) != self.first.heap(&self.path) {
            // All handles must use the same options: the setter says so, and promises nothing
            // otherwise.
            return;
        }
        let opened = wish.options(&self.path).open(&self.path);
        match opened {
            Ok(cache) => {
                assert!(!self.differs(wish) && !wish.create_new());
                self.work(&cache, wish);
                drop(cache);
                self.compare(other);
            }
            Err(error) if matches!(error.kind(), ErrorKind::OptionMismatch { .. }) => {
                assert!(self.differs(wish) || self.wants_larger_regions(wish));
            }
            Err(error) if matches!(error.kind(), ErrorKind::AlreadyExists) => {
                assert!(wish.create_new())
            }
            Err(error) if matches!(error.kind(), ErrorKind::Locked { .. }) => {
                assert!(wish.exclusive() && self.first.exclusive())
            }
            Err(other) => panic!("{other:?}"),
        }
    }

    fn key(number: u32) -> Vec<u8> {
        format!("key {number} {}", "+".repeat(number as usize % 90)).into_bytes()
    }

    /// Uses a cache that could be opened.
    fn work(&mut self, cache: &MmapCache, wish: &Wish) {
        let limit = match self.first.max_entries().unwrap_or(0) {
            0 => u64::MAX,
            limit => limit,
        };
        for _ in 0..24 {
            let key = Self::key(self.entries);
            let put = cache.put(&key, &self.entries.to_le_bytes());
            match put {
                Ok(_) => self.entries += 1,
                Err(error) if matches!(error.kind(), ErrorKind::ReadOnly) => {
                    assert!(wish.read_only())
                }
                Err(error) if matches!(error.kind(), ErrorKind::TableFull { .. }) => {
                    assert!(cache.len() == limit)
                }
                Err(error) if matches!(error.kind(), ErrorKind::Locked { .. }) => {
                    assert!(self.first.exclusive())
                }
                Err(other) => panic!("{other:?}"),
            }
        }
        match self.replace(cache) {
            // Regions may have grown, which leaves room for more entries.
            Err(error) if matches!(error.kind(), ErrorKind::InvalidOption { .. }) => {
                assert!(wish.capacity() > self.first.most_entries())
            }
            replaced => replaced.expect("replacing everything"),
        }
        self.compare(cache);
        let report = cache.verify().run().expect("a check");
        assert!(report.is_clean(), "{:?}", report.problems);
        assert!(cache.len() <= limit);
        let heap = wish.heap(&self.path);
        let files = CacheFiles::open(cache.path(), heap.as_deref()).expect("files");
        assert!(files.problems().is_empty(), "{:?}", files.problems());
    }

    fn replace(&self, cache: &MmapCache) -> Result<()> {
        let refused =
            |error: &Error| matches!(error.kind(), ErrorKind::ReadOnly | ErrorKind::Locked { .. });
        match cache.compact().and_then(|()| cache.flush()) {
            Err(error) if !refused(&error) => return Err(error),
            _ => {}
        }
        let Ok(mut writer) = cache.writer() else {
            return Ok(());
        };
        match writer.atomic_rebuild(cache.iter()?) {
            Err(error)
                if matches!(error.kind(), ErrorKind::AppendOnly) && cache.is_append_only() =>
            {
                Ok(())
            }
            done => {
                assert!(done.is_err() || !cache.is_append_only());
                done
            }
        }
    }

    fn compare(&self, cache: &MmapCache) {
        assert_eq!(cache.len(), u64::from(self.entries));
        assert_eq!(cache.keys().expect("a listing").count() as u64, cache.len());
        for number in 0..self.entries {
            let value = cache.get(&Self::key(number)).expect("a lookup");
            assert_eq!(value.as_deref(), Some(&number.to_le_bytes()[..]));
        }
    }
}
