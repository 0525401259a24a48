//! A record of the heap, decoded, whether it verifies or not.
//!
//! Knows one place of one segment. Whether anything links there it does not know.

use std::path::PathBuf;

use crate::engine::Problem;
use crate::error::{Corruption, Result};
use crate::format::heap_addr::HeapAddr;
use crate::format::record::{
    ChecksumSeed, HEADER_WORDS, Kind, RecordHeader, SHORT_BYTES, SUM_BYTES, Variant,
};
use crate::format::segment::HEADER_BYTES;

use crate::inspect::changing::HeapPlace;
use crate::inspect::source::Source;

/// A checksum is computed over pieces of so many bytes.
const PIECE: u64 = 64 << 10;

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecordKind {
    /// The key has this value, or this number.
    Entry,
    /// The key is gone.
    Deletion,
    /// Nothing: it fills the place of what a power loss took.
    Gap,
    /// Numbers up to this one may have been given to keys. Among numbered records only.
    Reservation,
}

impl From<Kind> for RecordKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Entry => Self::Entry,
            Kind::Deletion => Self::Deletion,
            Kind::Filler => Self::Gap,
            Kind::Reservation => Self::Reservation,
        }
    }
}

/// What stands at a place of the heap, read as a record.
///
/// Its value is not among it: [`Anatomy::value`](crate::inspect::Anatomy::value) reads that.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Record {
    /// Where it begins.
    pub place: HeapPlace,
    /// The segment's file.
    pub path: PathBuf,
    /// Whether it has a number instead of a value.
    pub numbered: bool,
    /// The bytes before the key, as they are: 24, or 12 of a numbered record; fewer where the file
    /// ends before.
    pub header: Vec<u8>,
    /// What it is; none where its byte says nothing that a record is.
    pub kind: Option<RecordKind>,
    /// Bytes of the key.
    pub key_len: u16,
    /// Bytes of the value; 0 where it is numbered.
    pub value_len: u32,
    /// When it was written, in nanoseconds since the Unix epoch; or its number.
    pub version: u64,
    /// The key, or as much of it as the file has.
    pub key: Vec<u8>,
    /// Where the value begins, in bytes from the file's start.
    pub value_at: u64,
    /// Where the next record begins, by this one's lengths.
    pub end: u64,
    /// The checksum that stands in it.
    pub stored_sum: u32,
    /// The checksum that its bytes have; none where the file ends before it does, or where it is
    /// not known of which heap the segment is.
    pub computed_sum: Option<u32>,
    /// What is wrong, each with its place in the file.
    pub doubts: Vec<Problem>,
}

impl Record {
    /// Whether the record can be believed: its checksum fits, and so does all else.
    pub fn is_sound(&self) -> bool {
        self.doubts.is_empty() && self.computed_sum == Some(self.stored_sum)
    }

    /// Reads a record. Its lengths bound nothing by themselves: what is read ends with the file.
    pub(super) fn read(
        file: &Source,
        place: HeapPlace,
        variant: Variant,
        heap_id: Option<u64>,
    ) -> Result<Self> {
        let header = file.read(place.at, variant.header_bytes() as u64)?;
        let fields = Fields::of(variant, &header);
        let key_at = place.at.saturating_add(variant.header_bytes() as u64);
        let value_at = key_at.saturating_add(fields.key_len.into());
        let mut record = Self {
            place,
            path: file.path().to_owned(),
            numbered: variant == Variant::Numbered,
            kind: fields.kind(variant).map(RecordKind::from),
            key_len: fields.key_len,
            value_len: fields.value_len,
            version: fields.version,
            key: file.read(key_at, fields.key_len.into())?,
            value_at,
            end: value_at
                .saturating_add(fields.value_len.into())
                .checked_next_multiple_of(8)
                .unwrap_or(u64::MAX),
            stored_sum: fields.sum,
            computed_sum: None,
            doubts: Vec::new(),
            header,
        };
        record.computed_sum = record.sum(file, heap_id)?;
        record.doubts = record.doubt(file, &fields)?;
        Ok(record)
    }

    /// Where what the record says ends, the padding not counted.
    fn content_end(&self) -> u64 {
        self.value_at.saturating_add(self.value_len.into())
    }

    /// The checksum of the bytes that are there.
    fn sum(&self, file: &Source, heap_id: Option<u64>) -> Result<Option<u32>> {
        let HeapPlace { segment, at } = self.place;
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

    fn doubt(&self, file: &Source, fields: &Fields) -> Result<Vec<Problem>> {
        let at = self.place.at;
        let (len, content_end) = (file.len()?, self.content_end());
        let padding = file.read(content_end, self.end.saturating_sub(content_end))?;
        let byte = |numbered: u64, versioned: u64| {
            at.saturating_add(if self.numbered { numbered } else { versioned })
        };
        let whole = self.header.len() == if self.numbered { 12 } else { 24 };
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
                self.computed_sum.is_none_or(|sum| sum == self.stored_sum),
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
        let mut doubts: Vec<Problem> = wrong.map(|(_, at, what)| file.fault(at, what)).collect();
        doubts.sort_by_key(|fault| fault.at);
        Ok(doubts)
    }
}

/// The fields before the key, whatever they are.
struct Fields {
    sum: u32,
    value_len: u32,
    version: u64,
    key_len: u16,
    /// The bytes that are zero in every record, as one number.
    unused: u64,
    words: [u64; HEADER_WORDS],
}

impl Fields {
    /// What is missing counts as zeros.
    fn of(variant: Variant, bytes: &[u8]) -> Self {
        let mut padded = [0; HEADER_WORDS * 8];
        padded[..bytes.len()].copy_from_slice(bytes);
        let mut words = [0; HEADER_WORDS];
        for (word, eight) in words.iter_mut().zip(padded.as_chunks::<8>().0) {
            *word = u64::from_le_bytes(*eight);
        }
        let (sum, high) = (words[0] as u32, words[0] >> 32);
        match variant {
            Variant::Versioned => Self {
                sum,
                value_len: high as u32,
                version: words[1],
                key_len: (words[2] >> 32) as u16,
                unused: words[2] & 0xff00_0000_ffff_ffff,
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

    /// What the engine takes it for, its other fields put right.
    fn kind(&self, variant: Variant) -> Option<Kind> {
        let mut words = self.words;
        match variant {
            Variant::Versioned => words[2] = words[2] & 0x00ff_0000_0000_0000 | 1 << 32,
            Variant::Numbered => words[1] = words[1] & 0x00ff_0000 | 1,
        }
        RecordHeader::from_words(variant, words).map(|header| header.kind)
    }
}
