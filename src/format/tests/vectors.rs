//! The test vectors of `docs/format.md`, computed by the code.

use crate::format::extension::{Extension, Span};
use crate::format::heap_addr::HeapAddr;
use crate::format::internal::{self, GroupKind, StoredDeadline};
use crate::format::life::Life;
use crate::format::record::Traits;
use crate::format::record::{ChecksumSeed, Kind, RecordHeader, SHORT_BYTES, SUM_BYTES, Variant};
use crate::format::roster::RosterHeader;
use crate::format::tests::document::{Document, Row};
use crate::format::{HashKind, seal};
use crate::hash::Hasher;

fn number(cell: &str) -> u64 {
    match cell.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).unwrap(),
        None => cell.parse().unwrap(),
    }
}

/// Bytes such as `` `text` ``, `` `v` x 300 ``, `` `\0` `` or `empty`.
fn bytes(cell: &str) -> Vec<u8> {
    if cell == "empty" {
        return Vec::new();
    }
    let (text, times) = cell.rsplit_once("` x ").unwrap_or((cell, "1"));
    let text = text.trim_matches('`').replace("\\0", "\0");
    text.as_bytes().repeat(times.parse().unwrap())
}

fn hex(cell: &str) -> Vec<u8> {
    let digits = cell.trim_matches('`').as_bytes();
    let pairs = digits
        .chunks(2)
        .map(|two| std::str::from_utf8(two).unwrap());
    pairs
        .map(|two| u8::from_str_radix(two, 16).unwrap())
        .collect()
}

fn place(word: u64) -> HeapAddr {
    let place = HeapAddr {
        segment: (word >> 32) as u16,
        unit: word as u32,
    };
    assert_eq!(place.to_word(), word);
    place
}

/// The record of a row: its checksum, and all of its bytes.
fn record(row: &Row) -> (u32, Vec<u8>) {
    let (name, key, value) = (
        row.get("record"),
        bytes(row.get("key")),
        bytes(row.get("value")),
    );
    let variant = match name {
        "numbered entry" | "reservation" => Variant::Numbered,
        _ => Variant::Versioned,
    };
    let header = RecordHeader {
        variant,
        value_len: value.len() as u32,
        mtime: number(row.get("mtime or number")),
        key_len: key.len() as u16,
        kind: match name {
            "deletion" => Kind::Deletion,
            "reservation" => Kind::Reservation,
            _ => Kind::Entry,
        },
        life: Life::NONE,
        traits: Traits::NONE,
    };
    let at = (number(row.get("heap_id")), place(number(row.get("place"))));
    record_bytes(&header, at, &key, &value)
}

/// The checksum of a record, and all of its bytes.
fn record_bytes(
    header: &RecordHeader,
    (heap, place): (u64, HeapAddr),
    key: &[u8],
    value: &[u8],
) -> (u32, Vec<u8>) {
    let words = header.to_words().map(u64::to_le_bytes).concat();
    let mut record = [&words[..header.variant.header_bytes()], key, value].concat();
    assert_eq!(record.len() as u64, header.content_bytes());
    let seed = ChecksumSeed::new(heap, place);
    let sum = if record.len() <= SHORT_BYTES {
        seed.sum_short(&record[SUM_BYTES..])
    } else {
        let mut long = seed.long();
        long.update(&record[SUM_BYTES..]);
        long.value()
    };
    record[..SUM_BYTES].copy_from_slice(&sum.to_le_bytes());
    record.resize(header.stored_bytes() as usize, 0);
    (sum, record)
}

#[test]
fn hash_vectors_match_the_code() {
    let rows = Document::read().table("Vectors of hashes");
    for row in &rows {
        let (key, seed) = (bytes(row.get("key")), number(row.get("hash_seed")));
        let raw = xxhash_rust::xxh3::xxh3_64_with_seed(&key, seed);
        let hash = Hasher::new(HashKind::Xxh3, seed).hash(&key);
        for (column, in_code) in [
            ("hash", raw),
            ("stored", hash.stored().into()),
            ("tag", hash.tag().into()),
            ("group", hash.group() as u64),
            ("control", u64::from(hash.control()) - 0x80),
            ("directory bits", hash.directory().into()),
        ] {
            assert_eq!(in_code, number(row.get(column)), "{column}: {row:?}");
        }
    }
    assert_eq!(rows.len(), 5);
}

#[test]
fn record_vectors_match_the_code() {
    let document = Document::read();
    let rows = document.table("Vectors of record checksums");
    for row in &rows {
        assert_eq!(u64::from(record(row).0), number(row.get("sum")), "{row:?}");
    }
    // One of each kind, and both sides of the length from which on the checksum is another.
    assert_eq!(rows.len(), 10);
    let lengths: Vec<_> = rows.iter().map(|row| record(row).1.len()).collect();
    assert!(lengths.contains(&SHORT_BYTES) && lengths.contains(&(SHORT_BYTES + 8)));
    let whole = document.table("Vectors of whole records");
    assert_eq!(whole.len(), 3);
    for shown in whole {
        let name = shown.get("record");
        let row = rows.iter().find(|row| row.get("record") == name).unwrap();
        assert_eq!(record(row).1, hex(shown.get("bytes")), "{name}");
    }
}

#[test]
fn group_vectors_match_the_code() {
    let rows = Document::read().table("Vectors of groups");
    for row in &rows {
        let kind = match row.get("kind") {
            "tag" => GroupKind::Tag,
            _ => GroupKind::Namespace,
        };
        let hash = internal::group_hash(kind, &bytes(row.get("name")));
        assert_eq!(hash, number(row.get("hash")), "{row:?}");
    }
    assert_eq!(rows.len(), 3);
}

#[test]
fn cache_vectors_match_the_code() {
    let cache = std::array::from_fn(|index| index as u8);
    let tag = internal::group_hash(GroupKind::Tag, b"user:42");
    let extension = Extension {
        stale_for: Some(Span::new(60_000)),
        cost: Some(Span::new(1_500)),
        tag: Some(tag),
        namespace: Some(internal::group_hash(GroupKind::Namespace, b"user:42")),
    };
    let mut value = b"one".to_vec();
    extension.append_to(&mut value);
    let (version, written) = (1_700_000_000_123_456_789, 1_700_000_000_123);
    let life = Life::new(version, written + 600_000);
    let apart = StoredDeadline {
        version,
        deadline: Some(written + 600_000),
    };
    let (group, deadline) = (
        internal::group_key(cache, tag).to_vec(),
        internal::deadline_key(cache, b"a").unwrap(),
    );
    let rows = Document::read().table("Vectors of records of a cache");
    let expected = [
        (b"a".to_vec(), value, life, extension.traits()),
        (group, Vec::new(), Life::NONE, Traits::INTERNAL),
        (
            deadline,
            apart.to_bytes().to_vec(),
            Life::NONE,
            Traits::INTERNAL,
        ),
    ];
    assert_eq!(rows.len(), expected.len());
    for (row, (key, value, life, traits)) in rows.iter().zip(expected) {
        assert_eq!(hex(row.get("key")), key, "{row:?}");
        assert_eq!(hex(row.get("value").trim_start_matches("empty")), value);
        assert_eq!(number(row.get("life")), u64::from(life.0));
        assert_eq!(number(row.get("traits")), u64::from(traits.0));
        let header = RecordHeader {
            variant: Variant::Expiring,
            value_len: value.len() as u32,
            mtime: number(row.get("mtime")),
            key_len: key.len() as u16,
            kind: Kind::Entry,
            life,
            traits,
        };
        let place = (0xfedc_ba98_7654_3210, place(number(row.get("place"))));
        let record = record_bytes(&header, place, &key, &value).1;
        assert_eq!(record, hex(row.get("bytes")), "{row:?}");
    }
}

#[test]
fn header_vector_matches_the_code() {
    let rows = Document::read().table("Vector of a sealed header");
    let header = RosterHeader {
        cache_id: std::array::from_fn(|index| index as u8),
        roster_id: 0x1122_3344_5566_7788,
        generation: 3,
        ..bytemuck::Zeroable::zeroed()
    };
    assert_eq!(seal::seal(header), hex(rows[0].get("bytes")));
    assert_eq!(rows.len(), 1);
}
