//! Compares the tables of `docs/format.md` with the code, in both directions.
//!
//! If a struct or a module of constants gets a new member, the lists here stop compiling or the
//! comparison fails, until the document has a row for it.

mod document;
mod structures;
mod vectors;

use crate::format::tests::document::{Document, Row, evaluate};
use crate::format::tests::structures::{Field, Structure};

use crate::format::heap_addr::HeapAddr;
use crate::format::record::{ChecksumSeed, SHORT_BYTES, Variant};
use crate::format::slot::Link;
use crate::format::*;
use crate::hash::Hasher;
use crate::os::file_names::{FileNames, Stage};

/// Values of the variables in the document's expressions, with which the code is compared.
const SIZES: [&[(&str, u64)]; 3] = [
    &[
        ("E", 1 << 20),
        ("G", 3),
        ("R", 512),
        ("B", 8),
        ("M", 0),
        ("N", 5),
        ("V", 11),
    ],
    &[
        ("E", 4),
        ("G", 1),
        ("R", 16),
        ("B", 16),
        ("M", 16),
        ("N", 65_535),
        ("V", 0),
    ],
    &[
        ("E", 1024),
        ("G", 7),
        ("R", 1024),
        ("B", 8),
        ("M", 0),
        ("N", 1),
        ("V", 7),
    ],
];

fn variable(sizes: &[(&str, u64)], name: &str) -> u64 {
    sizes.iter().find(|(known, _)| *known == name).unwrap().1
}

fn geometry(sizes: &[(&str, u64)]) -> Geometry {
    Geometry {
        region_slots: variable(sizes, "R") as u32,
        directory_bits: variable(sizes, "E").trailing_zeros(),
        max_segment_bytes: 1 << 20,
        max_entries: 0,
        append_only: false,
        in_place: false,
        variant: match variable(sizes, "B") {
            16 => Variant::Expiring,
            _ => Variant::Versioned,
        },
    }
}

/// Returns the rows of a structure's table as fields, without the rows for unused bytes.
fn named(rows: &[Row], sizes: &[(&str, u64)]) -> Vec<Field> {
    let mut fields: Vec<_> = rows
        .iter()
        .filter(|row| row.get("field") != "unused")
        .map(|row| Field {
            name: row.get("field").to_owned(),
            at: evaluate(row.get("offset"), sizes),
            size: evaluate(row.get("size"), sizes),
        })
        .collect();
    fields.sort();
    fields
}

fn bit_range(row: &Row) -> (u64, u64) {
    let (from, to) = row.get("bits").split_once("..").unwrap();
    (from.parse().unwrap(), to.parse().unwrap())
}

// Every row of the document is a field of the code, and every field has its row.
#[test]
fn document_rows_match_code_fields() {
    let document = Document::read();
    for sizes in SIZES {
        for Structure {
            title, mut fields, ..
        } in structures::all(&geometry(sizes), sizes)
        {
            fields.sort();
            let rows = named(&document.table(title), sizes);
            assert_eq!(
                rows, fields,
                "the table of \"{title}\" (left) and the code (right)"
            );
        }
    }
}

// Rows follow each other without gap or overlap up to the end of the structure.
#[test]
fn document_rows_are_contiguous() {
    let document = Document::read();
    for sizes in SIZES {
        for structure in structures::all(&geometry(sizes), sizes) {
            let mut at = structure.from;
            for row in document.table(structure.title) {
                let (title, field) = (structure.title, row.get("field"));
                let (offset, size) = (
                    evaluate(row.get("offset"), sizes),
                    evaluate(row.get("size"), sizes),
                );
                assert_eq!(
                    offset,
                    at.next_multiple_of(structure.align),
                    "{title}: {field}"
                );
                at = offset + size;
            }
            assert_eq!(at, structure.to, "the end of {}", structure.title);
        }
    }
}

#[test]
fn packed_bits_match_the_document() {
    let document = Document::read();
    for (title, width, mut fields) in structures::words() {
        fields.sort();
        let rows = document.table(title);
        let mut at = 0;
        for row in &rows {
            let (from, to) = bit_range(row);
            assert_eq!(from, at, "{title}: {}", row.get("field"));
            at = to;
        }
        assert_eq!(at, width, "the last bit of {title}");
        let mut named: Vec<_> = rows
            .iter()
            .filter(|row| row.get("field") != "unused")
            .map(|row| (row.get("field").to_owned(), bit_range(row)))
            .collect();
        named.sort();
        assert_eq!(
            named, fields,
            "the table of \"{title}\" (left) and the code (right)"
        );
    }
}

#[test]
fn every_document_table_is_checked() {
    let document = Document::read();
    let mut checked: Vec<&str> = structures::all(&geometry(SIZES[0]), SIZES[0])
        .iter()
        .map(|structure| structure.title)
        .chain(structures::words().iter().map(|(title, ..)| *title))
        .chain([
            "Files",
            "Start of every header#2",
            "Intent",
            "Control byte",
            "Hash",
            "Limits",
            // By `tests/dict/files.rs` and `vectors.rs`.
            "Keys of dictionaries",
            "Vectors of hashes",
            "Vectors of record checksums",
            "Vectors of groups",
            "Vectors of records of a cache",
            "Vectors of whole records",
            "Vector of a sealed header",
        ])
        .collect();
    checked.sort_unstable();
    assert_eq!(document.titles(), checked);
}

#[test]
fn hash_bits_match_the_document() {
    let rows = Document::read().table("Hash");
    let hasher = Hasher::new(HashKind::Xxh3, 77);
    for i in 0..500_u32 {
        let key = i.to_le_bytes();
        let raw = xxhash_rust::xxh3::xxh3_64_with_seed(&key, 77);
        let hash = hasher.hash(&key);
        let mut low_and_stored = 0;
        for row in &rows {
            let (from, to) = bit_range(row);
            let bits = (raw >> from) & ((1 << (to - from)) - 1);
            let (in_code, in_document) = match row.get("field") {
                "stored" => (u64::from(hash.stored()), bits),
                "tag" => (u64::from(hash.tag()), bits),
                "group" => (hash.group() as u64, bits),
                "control" => (u64::from(hash.control()), bits | 0x80),
                "low" => (u64::from(hash.directory() & 0xf), bits),
                "ghost" => (u64::from(hash.ghost()), bits.max(4)),
                "choice" => (u64::from(hash.choice(256)), bits),
                other => panic!("the code has no hash bits called {other}"),
            };
            assert_eq!(in_code, in_document, "{}", row.get("field"));
            low_and_stored += match row.get("field") {
                "low" => bits,
                "stored" => 16 * bits,
                _ => 0,
            };
        }
        assert_eq!(u64::from(hash.directory()), low_and_stored);
    }
    assert_eq!(rows.len(), 7);
    let check = xxhash_rust::xxh3::xxh3_64_with_seed(b"mmapcache hash check", 77);
    assert_eq!(hasher.check_value(), check);
}

// A checksum computed from the document alone is the one in the records.
#[test]
fn documented_record_checksum_is_right() {
    for (heap, segment, unit) in [
        (0_u64, 0_u16, 16_u32),
        (0x1234_5678_9abc_def0, 7, 99),
        (u64::MAX, 65_535, u32::MAX),
    ] {
        let place = u64::from(unit) | u64::from(segment) << 32;
        let mixed = (u128::from(heap ^ place) * 0x9E37_79B9_7F4A_7C15) as u64;
        let seed = ChecksumSeed::new(heap, HeapAddr { segment, unit });

        let bytes: Vec<u8> = (0..=251).collect();
        for len in [30, 128, 129, 252] {
            let (first, rest) = bytes[..len].split_at(len.min(128));
            let mut sum = xxhash_rust::xxh3::xxh3_64_with_seed(first, mixed);
            if !rest.is_empty() {
                sum = xxhash_rust::xxh3::xxh3_64_with_seed(rest, sum);
            }
            assert_eq!(seed.sum_short(&bytes[..len]), sum as u32);
        }
        assert_eq!(SHORT_BYTES, 256);

        let mut long = seed.long();
        let (first, rest) = bytes.split_at(11);
        long.update(first);
        long.update(rest);
        assert_eq!(long.value(), crc32((mixed >> 32) as u32, &bytes));
    }
    // The check value that every catalogue of CRCs gives for CRC-32/ISO-HDLC.
    assert_eq!(crc32(0, b"123456789"), 0xcbf4_3926);
}

/// Returns the CRC-32/ISO-HDLC, bit by bit, continuing from the finished CRC of the bytes before.
fn crc32(before: u32, bytes: &[u8]) -> u32 {
    let mut register = !before;
    for &byte in bytes {
        register ^= u32::from(byte);
        for _ in 0..8 {
            let carry = register & 1 != 0;
            register = register >> 1 ^ if carry { 0xEDB8_8320 } else { 0 };
        }
    }
    !register
}

// A header's checksum omits its own four bytes only.
#[test]
fn header_checksum_covers_all_else() {
    let header = roster::RosterHeader {
        cache_id: [9; 16],
        roster_id: 3,
        ..bytemuck::Zeroable::zeroed()
    };
    let bytes = seal::seal(header);
    let covered = [&bytes[..12], &bytes[16..]].concat();
    assert_eq!(bytes[12..16], crc32(0, &covered).to_le_bytes());
    assert!(seal::open::<roster::RosterHeader>(&bytes).is_ok());
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        assert!(
            seal::open::<roster::RosterHeader>(&damaged).is_err(),
            "byte {at}"
        );
    }
}

#[test]
fn constants_match_the_document() {
    let document = Document::read();
    let pairs = |title, left: &str, right: &str| -> Vec<(String, String)> {
        let rows = document.table(title);
        rows.iter()
            .map(|row| (row.get(left).to_owned(), row.get(right).to_owned()))
            .collect()
    };
    let owned = |pairs: &[(&str, String)]| -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|(left, right)| ((*left).to_owned(), right.clone()))
            .collect()
    };
    let magic = |magic: [u8; 8]| {
        format!(
            "`{}`",
            magic.escape_ascii().to_string().replace("\\x00", "\\0")
        )
    };
    use crate::format::seal::SealedHeader;
    assert_eq!(
        pairs("Start of every header#2", "name", "magic"),
        owned(&[
            ("index", magic(index::IndexHeader::MAGIC)),
            ("segment", magic(segment::SegmentHeader::MAGIC)),
            ("roster", magic(roster::RosterHeader::MAGIC)),
        ])
    );
    assert_eq!(
        pairs("Control byte", "name", "value"),
        owned(&[
            ("empty", format!("{:#04x}", region::EMPTY)),
            ("deleted", format!("{:#04x}", region::DELETED)),
            (
                "full",
                format!("{:#04x}", crate::hash::Hash::from_parts(0, 0, 0).control())
            ),
        ])
    );
    assert_eq!(
        pairs("Intent", "kind", "value"),
        owned(&structures::intents().map(|(name, kind, _)| (name, kind.to_string())))
    );
    // The test build has fewer segments than the others.
    let highest = include_str!("segment.rs")
        .contains("else { 65_535 }")
        .then_some(65_535);
    assert_eq!(
        pairs("Limits", "name", "value"),
        owned(&[
            ("version", VERSION.to_string()),
            ("longest key", MAX_KEY.to_string()),
            ("most directory bits", MAX_DIRECTORY_BITS.to_string()),
            ("highest segment number", highest.unwrap().to_string()),
            (
                "first record of a segment",
                segment::first_place(0).bytes().to_string()
            ),
            ("first entry of a roster", roster::HEADER_BYTES.to_string()),
        ])
    );
}

#[test]
fn file_names_match_the_document() {
    let dir = tempfile::tempdir().unwrap();
    let names = FileNames::resolve(&dir.path().join("P"), None).unwrap();
    let ours: Vec<String> = [
        names.index(Stage::Final),
        names.segment(0, Stage::Final),
        names.segment(1, Stage::Final),
        names.roster(Stage::Final),
        names.lock(),
    ]
    .iter()
    .map(|path| format!("`{}`", path.file_name().unwrap().to_str().unwrap()))
    .collect();
    let rows = Document::read().table("Files");
    let theirs: Vec<_> = rows.iter().map(|row| row.get("name")).collect();
    assert_eq!(theirs, ours);
    assert!(names.segment(1, Stage::New).ends_with("P.heap.1.new"));
    assert!(names.index(Stage::New).ends_with("P.new"));
}

// A vacant link leads nowhere, whatever its other bits are.
#[test]
fn vacant_link_is_no_entry() {
    let vacant = |unit: u64| Link(unit | 0xffff_ffff_0000_0000);
    assert!(!vacant(0).is_entry() && !vacant(1).is_entry() && vacant(2).is_entry());
}
