//! Decodes a record of the heap, whether it is valid or not.

use std::path::Path;
use std::sync::Arc;

use crate::engine::Problem;
use crate::error::{Corruption, Error, Result};
use crate::format::extension::{Extension, Span};
use crate::format::heap_addr::HeapAddr;
use crate::format::life::Life;
use crate::format::record::{
    ChecksumSeed, HEADER_WORDS, Kind, RecordHeader, SHORT_BYTES, SUM_BYTES, Traits, Variant,
};
use crate::format::segment::HEADER_BYTES;

use crate::inspect::file_reader::{self, FileReader};
use crate::inspect::index_state::HeapAddress;

/// The checksum of a long record is computed in pieces of this many bytes.
const PIECE: u64 = 64 << 10;

/// A record of the heap, without its value: [`CacheFiles::value`](crate::inspect::CacheFiles::value)
/// reads that.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Record {
    /// The address of its first byte.
    pub address: HeapAddress,
    path: Arc<Path>,
    /// Whether the record belongs to an id cache: it has an id and no value.
    pub numbered: bool,
    kind: Option<Kind>,
    /// The length of the key in bytes.
    pub key_len: u16,
    /// The length of the value in bytes; 0 in an id cache.
    pub value_len: u32,
    /// The version in nanoseconds since the Unix epoch; in an id cache the number of the key.
    pub version: u64,
    /// The key, or the part of it that is in the file.
    pub key: Vec<u8>,
    /// What a record of a [`Cache`](crate::Cache) says of its entry, by name; empty if a scan found the
    /// record:
    ///
    /// - "expires_at_ms": the deadline, in milliseconds since the Unix epoch. That of a value above 4,096
    ///   bytes may have been replaced by an entry of its own;
    /// - "negative", "internal", "idle": 1 if the key is known not to exist, if the entry is one of the
    ///   cache itself, if lookups renew its deadline;
    /// - "stale_for_ms", "cost_us", "tag_hash", "namespace_hash": what the insertion said, from the last
    ///   bytes of the value.
    pub terms: Vec<(&'static str, u64)>,
    /// The offset of the value in the file, in bytes.
    pub value_at: u64,
    /// The offset of the next record in the file, by the lengths of this one.
    pub end: u64,
    /// The checksum in the record; `None` if a scan found the record.
    pub stored_sum: Option<u32>,
    /// The checksum of the record's bytes. `None` if the file ends before the record does, if the id of
    /// the heap is unknown, or if a scan found the record.
    pub computed_sum: Option<u32>,
    /// The problems of the record, in the order of their offsets.
    pub problems: Vec<Problem>,
    verified: bool,
}

/// Reads the header of a record. `None` if there cannot be a record.
pub(super) fn read_header(
    file: &FileReader,
    at: u64,
    variant: Variant,
) -> Result<Option<RecordHeader>> {
    let mut bytes = [0; HEADER_WORDS * 8];
    let have = file_reader::read_at(file.file(), at, &mut bytes)
        .map_err(Error::io(file.path(), "read the file"))?;
    if have < variant.header_bytes() {
        return Ok(None);
    }
    let words: [u64; HEADER_WORDS] = bytemuck::cast(bytes);
    Ok(RecordHeader::from_words(variant, words.map(u64::from_le)))
}

impl Record {
    /// Returns the file of the segment.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the kind of the record, or `None` if it is unknown:
    ///
    /// - "entry": the key has this value, or this id;
    /// - "deletion": the key was deleted;
    /// - "gap": a filler record, which replaces bytes that a power loss tore;
    /// - "reservation": ids up to this one may have been given to keys. Only in an id cache.
    pub fn kind(&self) -> Option<&'static str> {
        self.kind.map(|kind| match kind {
            Kind::Entry => "entry",
            Kind::Deletion => "deletion",
            Kind::Filler => "gap",
            Kind::Reservation => "reservation",
        })
    }

    /// Returns whether the record is valid: its checksum matches, and it has no problem.
    pub fn is_valid(&self) -> bool {
        self.problems.is_empty() && self.verified
    }

    /// Returns a record that a scan verified.
    pub(super) fn scanned(
        path: &Arc<Path>,
        address: HeapAddress,
        variant: Variant,
        header: RecordHeader,
        key: Vec<u8>,
    ) -> Self {
        let mut record = Self::empty(path, address, variant);
        let key_at = address.at + variant.header_bytes() as u64;
        record.kind = Some(header.kind);
        record.key_len = header.key_len;
        record.value_len = header.value_len;
        record.version = header.mtime;
        record.value_at = key_at + u64::from(header.key_len);
        record.end = address.at + header.stored_bytes();
        record.key = key;
        record.verified = true;
        record
    }

    /// Returns an invalid record for bytes in which a scan found none.
    pub(super) fn damaged(
        path: &Arc<Path>,
        address: HeapAddress,
        variant: Variant,
        end: u64,
    ) -> Self {
        let mut record = Self::empty(path, address, variant);
        record.end = end;
        record.problems.push(Problem {
            path: path.to_path_buf(),
            at: address.at,
            what: Corruption::RecordBytes,
        });
        record
    }

    fn empty(path: &Arc<Path>, address: HeapAddress, variant: Variant) -> Self {
        Self {
            address,
            path: Arc::clone(path),
            numbered: variant == Variant::Numbered,
            kind: None,
            key_len: 0,
            value_len: 0,
            version: 0,
            key: Vec::new(),
            terms: Vec::new(),
            value_at: address.at,
            end: address.at,
            stored_sum: None,
            computed_sum: None,
            problems: Vec::new(),
            verified: false,
        }
    }

    /// Reads a record. The end of the file bounds what its lengths make this function read.
    pub(super) fn read(
        file: &FileReader,
        address: HeapAddress,
        variant: Variant,
        heap_id: Option<u64>,
    ) -> Result<Self> {
        let header = file.read(address.at, variant.header_bytes() as u64)?;
        let fields = Fields::decode(variant, &header);
        let key_at = address.at.saturating_add(variant.header_bytes() as u64);
        let value_at = key_at.saturating_add(fields.key_len.into());
        let mut record = Self {
            kind: fields.kind(variant),
            key_len: fields.key_len,
            value_len: fields.value_len,
            version: fields.version,
            key: file.read(key_at, fields.key_len.into())?,
            value_at,
            end: value_at
                .saturating_add(fields.value_len.into())
                .checked_next_multiple_of(8)
                .unwrap_or(u64::MAX),
            stored_sum: Some(fields.sum),
            ..Self::empty(&Arc::from(file.path()), address, variant)
        };
        if variant == Variant::Expiring {
            record.terms = record.read_terms(file, &fields)?;
        }
        record.computed_sum = record.compute_sum(file, heap_id)?;
        record.verified = record.computed_sum == record.stored_sum;
        record.problems = record.find_problems(file, &fields, header.len())?;
        Ok(record)
    }

    /// Decodes the terms of an entry of a `Cache`.
    fn read_terms(&self, file: &FileReader, fields: &Fields) -> Result<Vec<(&'static str, u64)>> {
        let life = Life(fields.words[2] as u32);
        let traits = Traits((fields.words[2] >> 56) as u8);
        let len = u64::from(traits.extension_bytes());
        let at = self.content_end().saturating_sub(len).max(self.value_at);
        let bytes = file.read(at, len)?;
        let extension = Extension::split(traits, &bytes).map(|(_, extension)| extension);
        let extension = extension.unwrap_or_default();
        let flag = |which| traits.has(which).then_some(1);
        let terms = [
            ("expires_at_ms", life.deadline(self.version)),
            ("negative", flag(Traits::NEGATIVE)),
            ("internal", flag(Traits::INTERNAL)),
            ("idle", flag(Traits::IDLE)),
            ("stale_for_ms", extension.stale_for.map(Span::get)),
            ("cost_us", extension.cost.map(Span::get)),
            ("tag_hash", extension.tag),
            ("namespace_hash", extension.namespace),
        ];
        let known = terms
            .into_iter()
            .filter_map(|(name, term)| Some((name, term?)));
        Ok(known.collect())
    }

    /// Returns the offset of the end of the record without its padding.
    fn content_end(&self) -> u64 {
        self.value_at.saturating_add(self.value_len.into())
    }

    /// Computes the checksum; `None` if that is not possible.
    fn compute_sum(&self, file: &FileReader, heap_id: Option<u64>) -> Result<Option<u32>> {
        let HeapAddress { segment, at } = self.address;
        let (Some(heap_id), Ok(unit)) = (heap_id, u32::try_from(at / 8)) else {
            return Ok(None);
        };
        if !at.is_multiple_of(8) || self.content_end() > file.len()? {
            return Ok(None);
        }
        let seed = ChecksumSeed::new(heap_id, HeapAddr { segment, unit });
        let mut from = at + SUM_BYTES as u64;
        if self.content_end() - at <= SHORT_BYTES as u64 {
            let content = file.read(from, self.content_end() - from)?;
            return Ok(Some(seed.sum_short(&content)));
        }
        let (mut sum, mut piece) = (seed.long(), Vec::new());
        while from < self.content_end() {
            file.read_into(from, PIECE.min(self.content_end() - from), &mut piece)?;
            if piece.is_empty() {
                return Ok(None);
            }
            sum.update(&piece);
            from += piece.len() as u64;
        }
        Ok(Some(sum.value()))
    }

    fn find_problems(
        &self,
        file: &FileReader,
        fields: &Fields,
        header_len: usize,
    ) -> Result<Vec<Problem>> {
        let at = self.address.at;
        let (len, content_end) = (file.len()?, self.content_end());
        let padding = file.read(content_end, self.end.saturating_sub(content_end))?;
        let byte = |numbered: u64, versioned: u64| {
            at.saturating_add(if self.numbered { numbered } else { versioned })
        };
        let whole = header_len == if self.numbered { 12 } else { 24 };
        let checks = [
            (at >= HEADER_BYTES, at, Corruption::RecordPlace),
            (at.is_multiple_of(8), at, Corruption::RecordPlace),
            (whole, len, Corruption::RecordTruncated),
            (
                !whole || self.kind.is_some(),
                byte(10, 22),
                Corruption::RecordKind,
            ),
            (
                !whole || self.key_len > 0,
                byte(8, 20),
                Corruption::RecordWithoutKey,
            ),
            (
                !whole || fields.unused == 0,
                byte(11, 16),
                Corruption::RecordUnusedBytes,
            ),
            (
                !whole || content_end <= len,
                byte(8, 4),
                Corruption::RecordTruncated,
            ),
            (
                self.computed_sum.is_none() || self.verified,
                at,
                Corruption::RecordChecksum,
            ),
            (
                padding.iter().all(|&byte| byte == 0),
                content_end,
                Corruption::RecordPadding,
            ),
        ];
        let wrong = checks.into_iter().filter(|(holds, ..)| !holds);
        let mut problems: Vec<Problem> =
            wrong.map(|(_, at, what)| file.problem(at, what)).collect();
        problems.sort_by_key(|fault| fault.at);
        Ok(problems)
    }
}

/// The fields before the key.
struct Fields {
    sum: u32,
    value_len: u32,
    version: u64,
    key_len: u16,
    /// The unused bytes, which are zero in every valid record, as one number.
    unused: u64,
    words: [u64; HEADER_WORDS],
}

impl Fields {
    /// Decodes the fields. Missing bytes count as zeros.
    fn decode(variant: Variant, bytes: &[u8]) -> Self {
        let mut padded = [0; HEADER_WORDS * 8];
        padded[..bytes.len()].copy_from_slice(bytes);
        let mut words = [0; HEADER_WORDS];
        for (word, eight) in words.iter_mut().zip(padded.as_chunks::<8>().0) {
            *word = u64::from_le_bytes(*eight);
        }
        let (sum, high) = (words[0] as u32, words[0] >> 32);
        match variant {
            Variant::Versioned | Variant::Expiring => Self {
                sum,
                value_len: high as u32,
                version: words[1],
                key_len: (words[2] >> 32) as u16,
                unused: match variant {
                    Variant::Expiring => 0,
                    _ => words[2] & 0xff00_0000_ffff_ffff,
                },
                words,
            },
            Variant::Numbered => Self {
                sum,
                value_len: 0,
                version: high,
                key_len: words[1] as u16,
                unused: words[1] & 0xff00_0000,
                words,
            },
        }
    }

    /// Returns the kind that the engine would decode if the other fields were valid.
    fn kind(&self, variant: Variant) -> Option<Kind> {
        let mut words = self.words;
        match variant {
            Variant::Versioned | Variant::Expiring => {
                words[2] = words[2] & 0x00ff_0000_0000_0000 | 1 << 32
            }
            Variant::Numbered => {
                words[0] |= 1 << 32;
                words[1] = words[1] & 0x00ff_0000 | 1;
            }
        }
        RecordHeader::from_words(variant, words).map(|header| header.kind)
    }
}
