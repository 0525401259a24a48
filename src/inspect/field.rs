//! The headers of a cache's files, field by field, each with its place.
//!
//! Knows the tables of `docs/format.md`, which a test compares with those below, and what in a
//! header of a segment or of the roster cannot be true. What is implausible in the index's header
//! `doubt` knows.

use std::path::PathBuf;
use std::time::SystemTime;

use crate::error::{Corruption, Result};
use crate::format::heap_addr::HeapAddr;
use crate::format::index::{IndexHeader, PAGE};
use crate::format::record::Variant;
use crate::format::roster::RosterHeader;
use crate::format::seal::{self, HeaderError as SealFault, SealedHeader as Header};
use crate::format::segment::{HEADER_BYTES, SegmentHeader};
use crate::hash::Hasher;

use crate::inspect::changing::HeapPlace;
use crate::inspect::companion::{Companion, Role};
use crate::inspect::overview::Overview;
use crate::inspect::sealed::{Sealed, moment};
use crate::inspect::source::Source;

/// A field of a header.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Field {
    /// Its name in `docs/format.md`.
    pub name: &'static str,
    /// Where it stands, in bytes from the file's start.
    pub at: u64,
    /// How many bytes it takes.
    pub len: u32,
    /// What it says; none where the file ends before it does.
    pub value: Option<FieldValue>,
    /// What about it cannot be true, if anything.
    pub doubt: Option<Corruption>,
}

/// What a field says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FieldValue {
    /// A count, a size, a number.
    Number(u64),
    /// A number that is compared, not counted with: an id, a seed, a checksum, a set of flags.
    Id(u64),
    /// A moment; none for never.
    Time(Option<SystemTime>),
    /// A place of the heap.
    Place(HeapPlace),
    /// Bytes as they are.
    Bytes(Vec<u8>),
    /// Nothing, as far as this version knows; whether all of it is zero.
    Unused(bool),
}

/// The header of one file; made by [`Anatomy::header`](crate::inspect::Anatomy::header).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileHeader {
    /// The file.
    pub path: PathBuf,
    /// What it is to its cache, by its name.
    pub role: Role,
    /// Its fields, which cover the header without a gap; none in a lock file.
    pub fields: Vec<Field>,
}

/// How a field's bytes are read.
#[derive(Clone, Copy)]
enum Shape {
    Number,
    /// Of which the low bits are the number, and the others check it.
    Checked(u32),
    Id,
    Time,
    Place,
    Bytes,
    Unused,
}

use Shape::{Bytes, Checked, Id, Number, Time, Unused};

/// A row of a table: the field's name, where it begins, how it is read. It ends where the next one
/// begins.
type Row = (&'static str, u64, Shape);

const INDEX: &[Row] = &[
    ("magic", 0, Bytes),
    ("version", 8, Number),
    ("crc", 12, Id),
    ("cache_id", 16, Bytes),
    ("generation", 32, Number),
    ("heap_id", 40, Id),
    ("roster_id", 48, Id),
    ("hash_seed", 56, Id),
    ("hash_check", 64, Id),
    ("hash_kind", 72, Number),
    ("flags", 76, Id),
    ("region_slots", 80, Number),
    ("inline_key", 84, Number),
    ("directory_bits", 88, Number),
    ("record_variant", 92, Number),
    ("max_segment_bytes", 96, Number),
    ("max_entries", 104, Number),
    ("created", 112, Time),
    ("reserved", 120, Unused),
    ("poll", 128, Id),
    ("heap_home", 136, Id),
    ("replaced_first", 144, Number),
    ("replaced_end", 152, Number),
    ("unused", 160, Unused),
    ("counters.occupied", 192, Number),
    ("counters.deleted", 200, Number),
    ("counters.high_water", 208, Number),
    ("counters.hole_head", 216, Number),
    ("counters.roster_len", 224, Number),
    ("counters.free_region", 232, Number),
    ("counters.regions", 240, Number),
    ("counters.live", 248, Number),
    ("reserved", 256, Shape::Place),
    ("tail", 264, Shape::Place),
    ("live_after", 272, Number),
    ("last_mtime", 280, Time),
    ("changes", 288, Number),
    ("heap_base", 296, Number),
    ("oldest", 304, Checked(16)),
    ("cursor", 312, Shape::Place),
    ("intent", 320, Checked(8)),
    ("intent_body", 328, Bytes),
    ("replaced", 352, Shape::Place),
    ("removals_synced", 360, Number),
    ("unused", 368, Unused),
    ("intent_counters.occupied", 384, Number),
    ("intent_counters.deleted", 392, Number),
    ("intent_counters.high_water", 400, Number),
    ("intent_counters.hole_head", 408, Number),
    ("intent_counters.roster_len", 416, Number),
    ("intent_counters.free_region", 424, Number),
    ("intent_counters.regions", 432, Number),
    ("intent_counters.live", 440, Number),
    ("boot_id", 448, Bytes),
    ("inode", 464, Number),
    ("dirty", 472, Number),
    ("flushed", 480, Number),
    ("sync_error", 488, Number),
    ("renames_pending", 496, Number),
    ("incarnation", 504, Number),
    ("compacted", 512, Time),
    ("puts", 520, Number),
    ("overwrites", 528, Number),
    ("deletes", 536, Number),
    ("dropped", 544, Number),
    ("synced", 552, Shape::Place),
    ("device", 560, Number),
    ("unused", 568, Unused),
    ("holder", 576, Number),
    ("lock", 584, Id),
    ("waiting", 592, Id),
    ("inside", 600, Number),
    ("visited", 608, Time),
    ("born", 616, Time),
    ("recoveries", 624, Number),
    ("unused", 632, Unused),
];

const SEGMENT: &[Row] = &[
    ("magic", 0, Bytes),
    ("version", 8, Number),
    ("crc", 12, Id),
    ("cache_id", 16, Bytes),
    ("heap_id", 32, Id),
    ("capacity", 40, Number),
    ("number", 48, Number),
    ("flags", 52, Id),
    ("hash_seed", 56, Id),
    ("hash_check", 64, Id),
    ("hash_kind", 72, Number),
    ("region_slots", 76, Number),
    ("inline_key", 80, Number),
    ("directory_bits", 84, Number),
    ("record_variant", 88, Number),
    ("reserved_a", 92, Unused),
    ("max_segment_bytes", 96, Number),
    ("max_entries", 104, Number),
    ("created", 112, Time),
    ("unused", 120, Unused),
];

const ROSTER: &[Row] = &[
    ("magic", 0, Bytes),
    ("version", 8, Number),
    ("crc", 12, Id),
    ("cache_id", 16, Bytes),
    ("roster_id", 32, Id),
    ("generation", 40, Number),
    ("reserved", 48, Unused),
];

impl Shape {
    fn read(self, bytes: &[u8]) -> FieldValue {
        let mut eight = [0; 8];
        let low = bytes.len().min(8);
        eight[..low].copy_from_slice(&bytes[..low]);
        let word = u64::from_le_bytes(eight);
        match self {
            Number => FieldValue::Number(word),
            Checked(bits) => FieldValue::Number(word & ((1 << bits) - 1)),
            Id => FieldValue::Id(word),
            Time => FieldValue::Time((word != 0).then(|| moment(word))),
            Shape::Place => FieldValue::Place(HeapAddr::from_word(word).into()),
            Bytes => FieldValue::Bytes(bytes.to_vec()),
            Unused => FieldValue::Unused(bytes.iter().all(|&byte| byte == 0)),
        }
    }
}

impl FileHeader {
    /// Reads the header of a file. What is wrong with an index the overview has said; others are
    /// compared with the index, where that can be believed.
    pub(super) fn read(file: &Companion, overview: &Overview) -> Result<Self> {
        let mut header = Self {
            path: file.path.clone(),
            role: file.role,
            fields: Vec::new(),
        };
        let (rows, end) = match file.role {
            Role::Index => (INDEX, PAGE),
            Role::Segment(_) => (SEGMENT, HEADER_BYTES),
            Role::Roster => (ROSTER, crate::format::roster::HEADER_BYTES),
            Role::Lock => return Ok(header),
        };
        let bytes = match Source::open_if_there(&file.path)? {
            Some(source) => source.read(0, end)?,
            None => Vec::new(),
        };
        header.fields = decode(rows, end, &bytes);
        let index = overview.sealed.as_ref();
        let index = index.filter(|index| index.checksum_ok == Some(true) && index.version_ok);
        match file.role {
            Role::Index if file.path == overview.path => {
                header.repeat(overview);
                let numbered = Variant::Numbered.to_disk();
                if (overview.sealed.as_ref()).is_some_and(|it| it.record_variant == numbered) {
                    header.count_versions(&bytes);
                }
            }
            Role::Index => header.doubt_seal::<IndexHeader>(&bytes),
            Role::Segment(number) => {
                header.doubt_seal::<SegmentHeader>(&bytes);
                header.doubt_segment(number, &bytes, index);
            }
            Role::Roster => {
                header.doubt_seal::<RosterHeader>(&bytes);
                header.doubt_roster(&bytes, index);
            }
            Role::Lock => {}
        }
        Ok(header)
    }

    /// Says of the field with a name what is wrong with it, unless something has been said.
    fn doubt(&mut self, holds: bool, name: &str, what: Corruption) {
        let field = self.fields.iter_mut().find(|field| field.name == name);
        if let Some(field) = field.filter(|field| !holds && field.doubt.is_none()) {
            field.doubt = Some(what);
        }
    }

    /// What the overview says of the index.
    fn repeat(&mut self, overview: &Overview) {
        let faults = overview.implausible.iter();
        for fault in faults.filter(|fault| fault.path == overview.path) {
            let holds = |field: &&mut Field| {
                (field.at..field.at + u64::from(field.len)).contains(&fault.at)
            };
            if let Some(field) = self.fields.iter_mut().find(holds) {
                field.doubt = Some(fault.what);
            }
        }
    }

    /// Where entries are numbered, the highest version is a number, and no moment.
    fn count_versions(&mut self, bytes: &[u8]) {
        let field = self
            .fields
            .iter_mut()
            .find(|field| field.name == "last_mtime");
        if let Some(field) = field {
            let at = field.at as usize..field.at as usize + field.len as usize;
            field.value = bytes.get(at).map(|bytes| Number.read(bytes));
        }
    }

    /// Magic, version and checksum.
    fn doubt_seal<T: Header>(&mut self, bytes: &[u8]) {
        let fault = seal::open::<T>(bytes).err();
        self.doubt(
            fault != Some(SealFault::Magic),
            "magic",
            Corruption::HeaderMagic,
        );
        self.doubt(
            !matches!(fault, Some(SealFault::Version(_))),
            "version",
            Corruption::HeaderVersion,
        );
        self.doubt(
            fault != Some(SealFault::Checksum),
            "crc",
            Corruption::HeaderChecksum,
        );
        self.doubt(
            !matches!(fault, Some(SealFault::Flags(_))),
            "flags",
            Corruption::HeaderFlags,
        );
    }

    fn doubt_roster(&mut self, bytes: &[u8], index: Option<&Sealed>) {
        let read = bytemuck::try_pod_read_unaligned::<RosterHeader>(bytes).ok();
        if let (Some(own), Some(index)) = (read, index) {
            let same = own.cache_id == index.cache_id;
            self.doubt(same, "cache_id", Corruption::OtherCacheId);
            let same = own.roster_id == index.roster_id;
            self.doubt(same, "roster_id", Corruption::RosterOfOtherGeneration);
            let same = own.generation == index.generation;
            self.doubt(same, "generation", Corruption::OtherGeneration);
        }
    }

    fn doubt_segment(&mut self, number: u16, bytes: &[u8], index: Option<&Sealed>) {
        let own = bytes.get(..size_of::<SegmentHeader>());
        let Some(own) = own.map(bytemuck::pod_read_unaligned::<SegmentHeader>) else {
            return;
        };
        let same = own.number == u32::from(number);
        self.doubt(same, "number", Corruption::SegmentNumber);
        let fits = own
            .hash_kind()
            .is_none_or(|kind| Hasher::new(kind, own.hash_seed).check_value() == own.hash_check);
        self.doubt(fits, "hash_check", Corruption::HashCheck);
        let known = own.hash_kind().is_some();
        self.doubt(known, "hash_kind", Corruption::HashKind);
        if let Some(index) = index {
            let same = own.cache_id == index.cache_id;
            self.doubt(same, "cache_id", Corruption::OtherCacheId);
            let same = own.heap_id == index.heap_id;
            self.doubt(same, "heap_id", Corruption::OtherHeapId);
            let same = own.record_variant == index.record_variant;
            self.doubt(same, "record_variant", Corruption::SegmentVariant);
        }
    }
}

fn decode(rows: &'static [Row], end: u64, bytes: &[u8]) -> Vec<Field> {
    let ends = rows.iter().skip(1).map(|&(_, at, _)| at).chain([end]);
    let decode = |(&(name, at, shape), end): (&Row, u64)| {
        let value = bytes
            .get(at as usize..end as usize)
            .map(|bytes| shape.read(bytes));
        let used = value == Some(FieldValue::Unused(false));
        let missing = value.is_none().then_some(Corruption::HeaderTruncated);
        Field {
            name,
            at,
            len: (end - at) as u32,
            value,
            doubt: missing.or(used.then_some(Corruption::HeaderUnusedBytes)),
        }
    };
    rows.iter().zip(ends).map(decode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rows of the table under a heading of the document: offset, bytes and name.
    fn documented(heading: &str) -> Vec<(u64, u64, String)> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/format.md");
        let text = std::fs::read_to_string(path).unwrap();
        let (_, section) = text.split_once(&format!("\n## {heading}\n")).unwrap();
        let rows = section.lines().skip_while(|line| !line.starts_with('|'));
        rows.skip(2)
            .take_while(|line| line.starts_with('|'))
            .map(|line| {
                let cells: Vec<&str> = line.split('|').map(str::trim).collect();
                let number = |cell: &str| cell.parse().unwrap();
                (number(cells[1]), number(cells[2]), cells[3].to_owned())
            })
            .collect()
    }

    #[test]
    fn documented_fields_have_their_place() {
        for (rows, end, headings) in [
            (
                INDEX,
                PAGE,
                &["Index header", "Index header, changing words"][..],
            ),
            (SEGMENT, HEADER_BYTES, &["Segment header"]),
            (ROSTER, 64, &["Roster header"]),
        ] {
            let mut fields = decode(rows, end, &vec![0; end as usize]).into_iter();
            for (at, len, name) in headings.iter().flat_map(|heading| documented(heading)) {
                let mut reached = at;
                while reached < at + len {
                    let field = fields.next().unwrap();
                    let group = field.name.split('.').next().unwrap();
                    assert_eq!((field.at, group), (reached, name.as_str()));
                    reached += u64::from(field.len);
                }
                assert_eq!(reached, at + len, "{name}");
            }
            assert_eq!(fields.next(), None);
        }
    }
}
