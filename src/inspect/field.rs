//! The headers of a cache's files, field by field, with offsets.
//!
//! The tables are those of `docs/format.md`; a test compares the two. Also checks the headers of
//! segments and roster; `header_problems` checks that of the index.

use crate::error::{Corruption, Result};
use crate::format::heap_addr::HeapAddr;
use crate::format::index::{IndexHeader as DiskHeader, PAGE};
use crate::format::record::Variant;
use crate::format::roster::RosterHeader;
use crate::format::seal::{self, SealedHeader};
use crate::format::segment::{HEADER_BYTES, SegmentHeader};
use crate::hash::Hasher;

use crate::inspect::cache_file::{self, CacheFile, FileRole};
use crate::inspect::file_reader::FileReader;
use crate::inspect::headers::Headers;
use crate::inspect::index_header::IndexHeader;
use crate::inspect::index_state::HeapAddress;

/// A field of a header.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Field {
    /// The name in `docs/format.md`.
    pub name: &'static str,
    /// The offset in the file, in bytes.
    pub at: u64,
    /// The length in bytes.
    pub len: u32,
    /// The bytes of the field; `None` if the file ends before its end.
    pub bytes: Option<Vec<u8>>,
    kind: FieldKind,
    /// The problem of the field.
    pub problem: Option<Corruption>,
}

/// The meaning of a field's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FieldKind {
    Number,
    /// The low bits are the number; the others check it.
    Checked(u32),
    Id,
    Time,
    Address,
    Bytes,
    Unused,
}

use FieldKind::{Bytes, Checked, Id, Number, Time, Unused};

/// A row of a table: name, offset and kind of a field. It ends at the next one.
type Row = (&'static str, u64, FieldKind);

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
    ("reserved_a", 84, Unused),
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
    ("reserved", 256, FieldKind::Address),
    ("tail", 264, FieldKind::Address),
    ("live_after", 272, Number),
    ("last_mtime", 280, Time),
    ("changes", 288, Number),
    ("puts", 296, Number),
    ("overwrites", 304, Number),
    ("deletes", 312, Number),
    ("intent", 320, Checked(8)),
    ("intent_body", 328, Bytes),
    ("replaced", 352, FieldKind::Address),
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
    ("heap_base", 520, Number),
    ("oldest", 528, Checked(16)),
    ("cursor", 536, FieldKind::Address),
    ("dropped", 544, Number),
    ("synced", 552, FieldKind::Address),
    ("device", 560, Number),
    ("unused", 568, Unused),
    ("holder", 576, Number),
    ("lock", 584, Id),
    ("waiting", 592, Id),
    ("inside", 600, Number),
    ("visited", 608, Time),
    ("born", 616, Time),
    ("recoveries", 624, Number),
    ("frozen", 632, FieldKind::Address),
    ("unused", 640, Unused),
    ("settings.max_bytes", 1024, Number),
    ("settings.max_entries", 1032, Number),
    ("settings.time_to_live", 1040, Number),
    ("settings.time_to_idle", 1048, Number),
    ("settings.stale_for", 1056, Number),
    ("settings.stale_on_error", 1064, Number),
    ("settings.policy", 1072, Id),
    ("settings.check", 1080, Id),
    ("invalidations", 1088, Number),
    ("deadlines", 1096, Id),
    ("trusted_from", 1104, Time),
    ("sweep", 1112, Number),
    ("evicted", 1120, Number),
    ("ordered_from", 1128, FieldKind::Address),
    ("unused", 1136, Unused),
    ("settings_copy", 1152, Bytes),
    ("unused", 1216, Unused),
    ("shards", 1280, Bytes),
    ("redo_copy", 3328, Bytes),
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

impl Field {
    /// Returns the kind of the field:
    ///
    /// - "number": a count, a size or another number;
    /// - "id": a number that is only compared: an id, a seed, a checksum, flags;
    /// - "time": nanoseconds since the Unix epoch; 0 for never;
    /// - "address": a [heap address](Self::address);
    /// - "bytes": bytes of another kind;
    /// - "unused": bytes that are zero in this version.
    pub fn kind(&self) -> &'static str {
        match self.kind {
            Number | Checked(_) => "number",
            Id => "id",
            Time => "time",
            FieldKind::Address => "address",
            Bytes => "bytes",
            Unused => "unused",
        }
    }

    /// Returns the value of a number, an id or a time: the first eight bytes in little-endian order.
    /// `None` if the file ends before the end of the field.
    pub fn number(&self) -> Option<u64> {
        let bytes = self.bytes.as_ref()?;
        let mut eight = [0; 8];
        let low = bytes.len().min(8);
        eight[..low].copy_from_slice(&bytes[..low]);
        let word = u64::from_le_bytes(eight);
        Some(match self.kind {
            Checked(bits) => word & ((1 << bits) - 1),
            _ => word,
        })
    }

    /// Returns the value of an address. `None` if the file ends before the end of the field.
    pub fn address(&self) -> Option<HeapAddress> {
        let word = self.number()?;
        Some(HeapAddr::from_word(word).into())
    }

    /// Returns whether all bytes are zero.
    pub fn is_zero(&self) -> bool {
        let bytes = self.bytes.as_ref();
        bytes.is_some_and(|bytes| bytes.iter().all(|&byte| byte == 0))
    }
}

/// Reads the header of a file. Returns no field for a lock file.
///
/// The problems of the index are those that `headers` already has. The other files are compared with
/// the index if its header is valid.
pub(super) fn read(file: &CacheFile, headers: &Headers) -> Result<Vec<Field>> {
    let (rows, end) = match file.role {
        FileRole::Index => (INDEX, PAGE),
        FileRole::Segment(_) => (SEGMENT, HEADER_BYTES),
        FileRole::Roster => (ROSTER, crate::format::roster::HEADER_BYTES),
        FileRole::Lock => return Ok(Vec::new()),
    };
    let bytes = match FileReader::open_if_present(&file.path)? {
        Some(reader) => reader.read(0, end)?,
        None => Vec::new(),
    };
    let mut fields = FieldList(decode(rows, end, &bytes));
    let index = headers.valid_header();
    match file.role {
        FileRole::Index if file.path == headers.path => {
            fields.add_problems(headers);
            let numbered = Variant::Numbered.to_disk();
            let header = headers.header.as_ref();
            if header.is_some_and(|header| header.record_variant == numbered) {
                fields.show_last_version_as_number();
            }
        }
        FileRole::Index => fields.check_seal::<DiskHeader>(&bytes),
        FileRole::Segment(number) => {
            fields.check_seal::<SegmentHeader>(&bytes);
            fields.check_segment(number, &bytes, index);
        }
        FileRole::Roster => {
            fields.check_seal::<RosterHeader>(&bytes);
            fields.check_roster(&bytes, index);
        }
        FileRole::Lock => {}
    }
    Ok(fields.0)
}

/// The fields of a header while they are checked.
struct FieldList(Vec<Field>);

impl FieldList {
    /// Adds a problem to the field with a name, unless the condition holds or the field has one.
    fn check(&mut self, holds: bool, name: &str, what: Corruption) {
        let field = self.0.iter_mut().find(|field| field.name == name);
        if let Some(field) = field.filter(|field| !holds && field.problem.is_none()) {
            field.problem = Some(what);
        }
    }

    /// Adds the known problems of the index.
    fn add_problems(&mut self, headers: &Headers) {
        let problems = headers.problems.iter();
        for problem in problems.filter(|problem| problem.path == headers.path) {
            let contains = |field: &&mut Field| {
                (field.at..field.at + u64::from(field.len)).contains(&problem.at)
            };
            if let Some(field) = self.0.iter_mut().find(contains) {
                field.problem = Some(problem.what);
            }
        }
    }

    /// In an id cache the last version is a number, not a time.
    fn show_last_version_as_number(&mut self) {
        let mut fields = self.0.iter_mut();
        if let Some(field) = fields.find(|field| field.name == "last_mtime") {
            field.kind = Number;
        }
    }

    /// Checks magic, version, checksum and flags.
    fn check_seal<T: SealedHeader>(&mut self, bytes: &[u8]) {
        let Err(error) = seal::open::<T>(bytes) else {
            return;
        };
        let what = cache_file::header_problem(error);
        let name = match what {
            Corruption::HeaderMagic => "magic",
            Corruption::HeaderVersion => "version",
            Corruption::HeaderChecksum => "crc",
            Corruption::HeaderFlags => "flags",
            _ => return,
        };
        self.check(false, name, what);
    }

    fn check_roster(&mut self, bytes: &[u8], index: Option<&IndexHeader>) {
        let read = bytemuck::try_pod_read_unaligned::<RosterHeader>(bytes).ok();
        if let (Some(own), Some(index)) = (read, index) {
            let same = own.cache_id == index.cache_id;
            self.check(same, "cache_id", Corruption::OtherCacheId);
            let same = own.roster_id == index.roster_id;
            self.check(same, "roster_id", Corruption::RosterOfOtherGeneration);
            let same = own.generation == index.generation;
            self.check(same, "generation", Corruption::OtherGeneration);
        }
    }

    fn check_segment(&mut self, number: u16, bytes: &[u8], index: Option<&IndexHeader>) {
        let own = bytes.get(..size_of::<SegmentHeader>());
        let Some(own) = own.map(bytemuck::pod_read_unaligned::<SegmentHeader>) else {
            return;
        };
        let same = own.number == u32::from(number);
        self.check(same, "number", Corruption::SegmentNumber);
        let fits = own
            .hash_kind()
            .is_none_or(|kind| Hasher::new(kind, own.hash_seed).check_value() == own.hash_check);
        self.check(fits, "hash_check", Corruption::HashCheck);
        let known = own.hash_kind().is_some();
        self.check(known, "hash_kind", Corruption::HashKind);
        if let Some(index) = index {
            let same = own.cache_id == index.cache_id;
            self.check(same, "cache_id", Corruption::OtherCacheId);
            let same = own.heap_id == index.heap_id;
            self.check(same, "heap_id", Corruption::OtherHeapId);
            let same = own.record_variant == index.record_variant;
            self.check(same, "record_variant", Corruption::SegmentVariant);
        }
    }
}

/// Decodes the fields of a header.
fn decode(rows: &'static [Row], end: u64, bytes: &[u8]) -> Vec<Field> {
    let ends = rows.iter().skip(1).map(|&(_, at, _)| at).chain([end]);
    let decode = |(&(name, at, kind), end): (&Row, u64)| {
        let bytes = bytes.get(at as usize..end as usize).map(<[u8]>::to_vec);
        let mut field = Field {
            name,
            at,
            len: (end - at) as u32,
            bytes,
            kind,
            problem: None,
        };
        if field.bytes.is_none() {
            field.problem = Some(Corruption::HeaderTruncated);
        } else if kind == Unused && !field.is_zero() {
            field.problem = Some(Corruption::HeaderUnusedBytes);
        }
        field
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
