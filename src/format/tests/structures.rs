//! Lists the fields of every structure on disk, as the code has them.
//!
//! The fields of packed words are found by packing ones into each in turn and locating these bits.
//! Every struct is destructured or built in full, so that a new field does not compile here until it
//! is listed.

use std::mem::offset_of;
use std::ops::Range;

use crate::engine::statistics::Counter;
use crate::format::extension::{Extension, Span};
use crate::format::heap_addr::HeapAddr;
use crate::format::index::{self, Counters, HeaderStateWord, HeapHome, HeapLocation, IndexHeader};
use crate::format::internal::{self, StoredDeadline};
use crate::format::life::Life;
use crate::format::lock::{LockWord, OWNER_IDS};
use crate::format::record::Traits;
use crate::format::region::{
    self, DirectoryEntry, MAX_INCARNATION, RegionShape, RegionStateWord, SlotCounts,
};
use crate::format::roster::{self, Position, RosterHeader};
use crate::format::segment::{self, SegmentHeader};
use crate::format::settings::{self, Settings};
use crate::format::slot::{self, Link, SlotIdentity};
use crate::format::tests::variable;
use crate::format::{Geometry, LockKind, record, seal};
use crate::index::header::Header;
use crate::index::redo::{Redo, WORDS};
use crate::index::region::{Region, RegionLayout};
use crate::sync::{Word, load};

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Field {
    pub at: u64,
    pub size: u64,
    pub name: String,
}

/// A structure under the heading of its table; the rows run from `from` to `to`.
pub(super) struct Structure {
    pub title: &'static str,
    pub from: u64,
    pub to: u64,
    /// Rows may leave a gap up to a multiple of this; 1 in most structures.
    pub align: u64,
    pub fields: Vec<Field>,
}

type Bits = (String, (u64, u64));

fn field(name: &str, at: usize, size: usize) -> Field {
    Field {
        at: at as u64,
        size: size as u64,
        name: name.to_owned(),
    }
}

/// All fields of a header struct, which a pattern without `..` guarantees.
macro_rules! fields {
    ($header:ident { $($name:ident),* $(,)? }) => {{
        let $header { $($name),* } = bytemuck::Zeroable::zeroed();
        vec![$(field(stringify!($name), offset_of!($header, $name), size_of_val(&$name))),*]
    }};
}

/// The bits of a word that a field fills.
fn bits(name: &str, word: u64) -> Bits {
    let (from, to) = (
        u64::from(word.trailing_zeros()),
        64 - u64::from(word.leading_zeros()),
    );
    assert_eq!(u64::from(word.count_ones()), to - from, "{name} is torn");
    (name.to_owned(), (from, to))
}

/// The same as whole bytes, of the word at `at`.
fn bytes(name: &str, at: usize, word: u64) -> Field {
    let (name, (from, to)) = bits(name, word);
    assert!(from % 8 == 0 && to % 8 == 0, "{name} is no whole bytes");
    field(&name, at * 8 + from as usize / 8, (to - from) as usize / 8)
}

/// The constants of `mod word` in a source file, by their names in small letters. Constants that
/// are computed from another one name a word within a group, which has a row of its own.
fn word_constants(source: &str) -> Vec<(String, usize)> {
    let start = source.find("pub(crate) mod word {").unwrap();
    let end = start + source[start..].find("\n}").unwrap();
    let constants: Vec<_> = source[start..end]
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .filter_map(|line| Some(line.split_once("const ")?.1))
        .filter(|line| !line.contains("= COUNTERS"))
        .map(|line| {
            let (name, value) = line.split_once(": usize = ").unwrap();
            (
                name.to_lowercase(),
                value.trim_end_matches(';').parse().unwrap(),
            )
        })
        .collect();
    assert!(!constants.is_empty());
    constants
}

fn structure(title: &'static str, from: u64, to: u64, fields: Vec<Field>) -> Structure {
    Structure {
        title,
        from,
        to,
        align: 1,
        fields,
    }
}

/// Every structure that has a table of offsets.
pub(super) fn all(geometry: &Geometry, sizes: &[(&str, u64)]) -> Vec<Structure> {
    let mut all = vec![
        extension(),
        start_of_headers(),
        index_file(geometry, variable(sizes, "G")),
        structure(
            "Index header",
            0,
            size_of::<IndexHeader>() as u64,
            index_header(),
        ),
        structure(
            "Index header, changing words",
            size_of::<IndexHeader>() as u64,
            index::PAGE,
            changing_words(),
        ),
        structure(
            "Counters",
            0,
            size_of_val(&Counters::default().to_words()) as u64,
            counters(),
        ),
        structure("Directory entry", 0, 8, directory_entry()),
        structure(
            "Settings",
            0,
            size_of_val(&Settings::default().to_words()) as u64,
            settings(),
        ),
        structure("Statistics", 0, index::SHARD_WORDS as u64 * 8, statistics()),
        structure(
            "Region",
            0,
            geometry.region_bytes() as u64,
            region(geometry),
        ),
        structure(
            "Region header",
            0,
            region::HEADER_BYTES as u64,
            region_header(),
        ),
        structure(
            "Slot body",
            0,
            geometry.body_bytes() as u64,
            slot_body(geometry),
        ),
        structure("Segment header", 0, segment::HEADER_BYTES, segment_header()),
        record(variable(sizes, "N") as u16, variable(sizes, "V") as u32),
        numbered_record(variable(sizes, "N") as u16),
        structure("Roster header", 0, roster::HEADER_BYTES, roster_header()),
    ];
    all.extend(internal_entries());
    for (name, _, fields) in intents() {
        let title = match name {
            "insert" => "Intent body: insert",
            "delete" => "Intent body: delete",
            "overwrite" => "Intent body: overwrite",
            _ => "Intent body: replace",
        };
        all.push(structure(title, 0, 24, fields));
    }
    all
}

fn start_of_headers() -> Structure {
    let range = |name, range: std::ops::Range<usize>| field(name, range.start, range.len());
    let fields = vec![
        range("magic", seal::at::MAGIC),
        range("version", seal::at::VERSION),
        range("crc", seal::at::CRC),
        field("cache_id", 16, 16),
    ];
    for header in [index_header(), segment_header(), roster_header()] {
        assert_eq!(header[..4], fields, "the headers start alike");
    }
    structure("Start of every header", 0, 32, fields)
}

fn index_file(geometry: &Geometry, regions: u64) -> Structure {
    let (at, page) = (geometry.regions_at(), index::PAGE);
    let bytes = regions * geometry.region_bytes() as u64;
    let fields = vec![
        field("header", 0, page as usize),
        field(
            "directory",
            page as usize,
            geometry.directory_bytes() as usize,
        ),
        field("regions", at as usize, bytes as usize),
    ];
    Structure {
        align: crate::format::region::ALIGNMENT,
        ..structure("Index file", 0, at + bytes, fields)
    }
}

fn index_header() -> Vec<Field> {
    fields!(IndexHeader {
        magic,
        version,
        crc,
        cache_id,
        generation,
        heap_id,
        roster_id,
        hash_seed,
        hash_check,
        hash_kind,
        flags,
        region_slots,
        reserved_a,
        directory_bits,
        record_variant,
        max_segment_bytes,
        max_entries,
        created,
        reserved,
    })
}

fn segment_header() -> Vec<Field> {
    fields!(SegmentHeader {
        magic,
        version,
        crc,
        cache_id,
        heap_id,
        capacity,
        number,
        flags,
        hash_seed,
        hash_check,
        hash_kind,
        region_slots,
        inline_key,
        directory_bits,
        record_variant,
        reserved_a,
        max_segment_bytes,
        max_entries,
        created,
    })
}

fn roster_header() -> Vec<Field> {
    fields!(RosterHeader {
        magic,
        version,
        crc,
        cache_id,
        roster_id,
        generation,
        reserved,
    })
}

fn changing_words() -> Vec<Field> {
    let size = |name: &str| match name {
        "counters" | "intent_counters" => size_of_val(&Counters::default().to_words()),
        "intent_body" => 24,
        "boot_id" => 16,
        "settings" | "settings_copy" => settings::WORDS * 8,
        "shards" => index::SHARDS * index::SHARD_WORDS * 8,
        "redo_copy" => index::REDO_COPY_WORDS * 8,
        _ => 8,
    };
    let constants = word_constants(include_str!("../index.rs"));
    // The text has the same constants as the compiled code.
    assert!(constants.contains(&("lock".to_owned(), index::word::LOCK)));
    constants
        .iter()
        .map(|(name, word)| field(name, word * 8, size(name)))
        .collect()
}

fn counters() -> Vec<Field> {
    let numbered = Counters::from_words([0, 1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(numbered.to_words(), [0, 1, 2, 3, 4, 5, 6, 7]);
    let Counters {
        occupied,
        deleted,
        high_water,
        hole_head,
        roster_len,
        free_region,
        regions,
        live,
    } = numbered;
    [
        ("occupied", occupied),
        ("deleted", deleted),
        ("high_water", high_water),
        ("hole_head", hole_head),
        ("roster_len", roster_len),
        ("free_region", free_region),
        ("regions", regions),
        ("live", live),
    ]
    .map(|(name, word)| field(name, word as usize * 8, 8))
    .to_vec()
}

/// Finds the words of settings by the one that each value changes.
fn settings() -> Vec<Field> {
    let zero = Settings::default();
    let named = |name: &str, set: Settings| {
        let (before, after) = (zero.to_words(), set.to_words());
        let changed = before.iter().zip(after).position(|(old, new)| *old != new);
        field(name, changed.unwrap() * 8, 8)
    };
    #[rustfmt::skip]
    let fields = vec![
        named("max_bytes", Settings { max_bytes: 1, ..zero }),
        named("max_entries", Settings { max_entries: 1, ..zero }),
        named("time_to_live", Settings { time_to_live: 1, ..zero }),
        named("time_to_idle", Settings { time_to_idle: 1, ..zero }),
        named("stale_for", Settings { stale_for: 1, ..zero }),
        named("stale_on_error", Settings { stale_on_error: 1, ..zero }),
        named("policy", Settings { jitter: 1, ..zero }),
        field("check", (settings::WORDS - 1) * 8, 8),
    ];
    fields
}

fn statistics() -> Vec<Field> {
    let counters = [
        ("hits", Counter::Hits),
        ("stale_hits", Counter::StaleHits),
        ("negative_hits", Counter::NegativeHits),
        ("misses", Counter::Misses),
        ("insertions", Counter::Insertions),
        ("replaced", Counter::Replaced),
        ("removed", Counter::Removed),
        ("evicted_size", Counter::EvictedSize),
        ("evicted_number", Counter::EvictedNumber),
        ("expired", Counter::Expired),
        ("invalidated", Counter::Invalidated),
    ];
    assert_eq!(counters.len(), index::STATISTICS);
    counters
        .map(|(name, counter)| field(name, counter as usize * 8, 8))
        .to_vec()
}

fn directory_entry() -> Vec<Field> {
    vec![
        bytes("region", 0, DirectoryEntry::new((1 << 24) - 1, 0).0),
        bytes("incarnation", 0, DirectoryEntry::new(0, MAX_INCARNATION).0),
    ]
}

/// Finds the parts of a region by the bytes that a store to each part changes.
fn region(geometry: &Geometry) -> Vec<Field> {
    let layout = RegionLayout::new(geometry);
    assert_eq!(layout.region_words() * 8, geometry.region_bytes());
    let slots = geometry.region_slots;
    let last = slots - 1;
    let first_and_last = |store: &dyn Fn(&Region<'_>, u32)| {
        let first = stored(layout, |region| store(region, 0));
        (
            first.start,
            stored(layout, |region| store(region, last)).end - first.start,
        )
    };
    let (controls_at, controls) = first_and_last(&|region, slot| region.set_control(slot, 0xff));
    let link = Link(u64::MAX);
    let (links_at, links) = first_and_last(&|region, slot| region.slot(slot).set_link(link));
    let (bodies_at, bodies) = first_and_last(&|region, slot| fill_body(region, slot));
    assert_eq!(bodies, slots as usize * geometry.body_bytes());
    let marks_at = controls_at + controls;
    vec![
        field("header", 0, region::HEADER_BYTES),
        field("controls", controls_at, controls),
        field("marks", marks_at, links_at - marks_at),
        field("links", links_at, links),
        field("bodies", bodies_at, geometry.region_bytes() - bodies_at),
    ]
}

/// Sets all bytes of a slot's body.
fn fill_body(region: &Region<'_>, slot: u32) {
    let slot = region.slot(slot);
    slot.set_identity(SlotIdentity::from_word(u64::MAX));
    slot.set_deadline(Some(u64::MAX));
}

/// The bytes of an empty region that a store changes, rounded up to whole words.
fn stored(layout: RegionLayout, store: impl FnOnce(&Region<'_>)) -> Range<usize> {
    let words: Vec<Word> = (0..layout.region_words()).map(|_| Word::new(0)).collect();
    store(&Region::new(&words, layout, 0));
    let bytes: Vec<u8> = words
        .iter()
        .flat_map(|word| load(word).to_le_bytes())
        .collect();
    let set = |byte: &u8| *byte != 0;
    let end = bytes.iter().rposition(set).unwrap() + 1;
    bytes.iter().position(set).unwrap()..end.next_multiple_of(8)
}

fn region_header() -> Vec<Field> {
    let constants = word_constants(include_str!("../region.rs"));
    let places = ["stamp", "shape", "counts", "next_free"];
    assert!(
        constants.iter().map(|(name, _)| name).eq(places),
        "a word without a row"
    );
    use region::word::{COUNTS, NEXT_FREE, SHAPE, STAMP};
    let states = [
        RegionStateWord::building(0).0,
        RegionStateWord::live(0).0,
        RegionStateWord::free(0).0,
    ];
    assert_eq!(states, [1, 2, 3]);
    // Readers take the whole byte for the state, and the lowest byte for the depth.
    assert!(!RegionStateWord(RegionStateWord::live(0).0 | 0x80).is_live());
    let all = RegionShape::from_word(u64::MAX);
    let (depth, prefix) = (
        RegionShape { prefix: 0, ..all },
        RegionShape { depth: 0, ..all },
    );
    let count = |occupied, deleted| SlotCounts { occupied, deleted }.to_word();
    vec![
        bytes("state", STAMP, 0xff),
        bytes(
            "incarnation",
            STAMP,
            RegionStateWord(u64::MAX).incarnation() << 8,
        ),
        bytes("prefix", SHAPE, prefix.to_word()),
        bytes("depth", SHAPE, depth.to_word()),
        bytes("occupied", COUNTS, count(u32::MAX, 0)),
        bytes("deleted", COUNTS, count(0, u32::MAX)),
        field("next_free", NEXT_FREE * 8, 8),
    ]
}

fn slot_body(geometry: &Geometry) -> Vec<Field> {
    let constants = word_constants(include_str!("../slot.rs"));
    let places = ["identity", "deadline"];
    assert!(
        constants.iter().map(|(name, _)| name).eq(places),
        "a word without a row"
    );
    use slot::word::{DEADLINE, IDENTITY};
    let identity = |position, units, hash| {
        SlotIdentity {
            position,
            units,
            hash,
        }
        .to_word()
    };
    let deadline_bytes = geometry.body_bytes() - DEADLINE * 8;
    vec![
        bytes("position", IDENTITY, identity(u32::MAX, 0, 0)),
        bytes("units", IDENTITY, identity(0, u16::MAX, 0)),
        bytes("hash", IDENTITY, identity(0, 0, u16::MAX)),
        field("deadline", DEADLINE * 8, deadline_bytes),
    ]
}

fn record(key_len: u16, value_len: u32) -> Structure {
    let header = |value_len, mtime, key_len, life, traits| {
        record::RecordHeader {
            variant: record::Variant::Expiring,
            value_len,
            mtime,
            key_len,
            kind: record::Kind::Deletion,
            life: Life(life),
            traits: Traits(traits),
        }
        .to_words()
    };
    let kind = record::Kind::Deletion;
    let zero = header(0, 0, 0, 0, 0);
    let full = header(u32::MAX, u64::MAX, u16::MAX, 0, 0);
    let (life, traits) = (
        header(0, 0, 0, u32::MAX, 0)[2] ^ zero[2],
        header(0, 0, 0, 0, u8::MAX)[2] ^ zero[2],
    );
    let whole = record::RecordHeader {
        variant: record::Variant::Versioned,
        value_len,
        mtime: 0,
        key_len,
        kind,
        life: Life::NONE,
        traits: Traits::NONE,
    };
    for bit in (0..32).chain(56..64) {
        let words = [full[0], full[1], full[2] | 1 << bit];
        assert_eq!(
            record::RecordHeader::from_words(record::Variant::Versioned, words),
            None,
            "unused bit {bit}"
        );
    }
    let words = [full[0], full[1], full[2] | 1 << 63];
    let read = record::RecordHeader::from_words(record::Variant::Expiring, words);
    assert_eq!(read, None, "the unused trait");
    let key_at = record::HEADER_BYTES;
    let value_at = key_at + usize::from(key_len);
    let end = value_at + value_len as usize;
    assert_eq!(whole.content_bytes(), end as u64);
    let fields = vec![
        field("sum", 0, record::SUM_BYTES),
        bytes("value_len", 0, full[0]),
        bytes("mtime", 1, full[1]),
        bytes("life", 2, life),
        bytes("key_len", 2, full[2] ^ zero[2]),
        // Kinds are small numbers in a byte of their own.
        field("kind", 2 * 8 + zero[2].trailing_zeros() as usize / 8, 1),
        bytes("traits", 2, traits),
        field("key", key_at, usize::from(key_len)),
        field("value", value_at, value_len as usize),
        field("padding", end, whole.stored_bytes() as usize - end),
    ];
    structure("Record", 0, whole.stored_bytes(), fields)
}

fn numbered_record(key_len: u16) -> Structure {
    let variant = record::Variant::Numbered;
    let header = |mtime, key_len, kind| {
        record::RecordHeader {
            variant,
            value_len: 0,
            mtime,
            key_len,
            kind,
            life: Life::NONE,
            traits: Traits::NONE,
        }
        .to_words()
    };
    let kind = record::Kind::Reservation;
    let (zero, full) = (header(0, 0, kind), header(u32::MAX.into(), u16::MAX, kind));
    for bit in 24..32 {
        let words = [full[0], full[1] | 1 << bit, full[2]];
        assert_eq!(
            record::RecordHeader::from_words(variant, words),
            None,
            "unused bit {bit}"
        );
    }
    let whole = record::RecordHeader::from_words(variant, header(7, key_len, kind)).unwrap();
    let key_at = variant.header_bytes();
    let end = key_at + usize::from(key_len);
    assert_eq!(whole.content_bytes(), end as u64);
    let fields = vec![
        field("sum", 0, record::SUM_BYTES),
        bytes("number", 0, full[0]),
        bytes("key_len", 1, full[1] ^ zero[1]),
        field("kind", 8 + zero[1].trailing_zeros() as usize / 8, 1),
        field("key", key_at, usize::from(key_len)),
        field("padding", end, whole.stored_bytes() as usize - end),
    ];
    structure("Numbered record", 0, whole.stored_bytes(), fields)
}

/// The intents: name, kind on disk, fields of the body.
pub(super) fn intents() -> [(&'static str, u64, Vec<Field>); 4] {
    let after = Counters::default();
    let insert = |slot, position, link| Redo::Insert {
        slot,
        position,
        link,
        after,
    };
    let delete = |slot, position, next_free| Redo::Delete {
        slot,
        position,
        vacant: Link::NEVER,
        next_free,
        after,
    };
    let replace = |old, low| Redo::Replace {
        old,
        low,
        high: None,
        after,
    };
    let overwrite = |place, version| Redo::Overwrite {
        place: HeapAddr::from_word(place),
        version,
        units: 1,
        after,
    };
    let no_link = Link::NEVER;
    [
        (
            "insert",
            armed(insert(0, 0, no_link)).0,
            vec![
                in_body("slot", insert(u32::MAX, 0, no_link)),
                in_body("position", insert(0, u32::MAX, no_link)),
                in_body("link", insert(0, 0, Link(u64::MAX))),
            ],
        ),
        (
            "delete",
            armed(delete(0, 0, 0)).0,
            vec![
                in_body("slot", delete(u32::MAX, 0, 0)),
                in_body("position", delete(0, u32::MAX, 0)),
                vacant_in_body(),
                in_body("next_hole", delete(0, 0, u32::MAX)),
            ],
        ),
        (
            "replace",
            armed(replace(0, 0)).0,
            vec![
                in_body("old", replace(u32::MAX, 0)),
                in_body("low", replace(0, u32::MAX)),
                high_in_body(),
            ],
        ),
        (
            "overwrite",
            armed(overwrite(0, 0)).0,
            overwrite_body(overwrite),
        ),
    ]
}

/// Returns kind and body of a redo record, read from the header page.
fn armed(intent: Redo) -> (u64, [u64; 3]) {
    let page: Vec<Word> = (0..WORDS).map(|_| Word::new(0)).collect();
    Header::new(&page)
        .unwrap()
        .entry_words()
        .commit_redo(intent);
    let body = std::array::from_fn(|at| load(&page[index::word::INTENT_BODY + at]));
    // The other bits are a check.
    (load(&page[index::word::INTENT]) & 0xff, body)
}

/// The one field of a body that is not zero.
fn in_body(name: &str, intent: Redo) -> Field {
    let (_, body) = armed(intent);
    let mut set = (0..).zip(body).filter(|(_, word)| *word != 0);
    let (at, word) = set.next().unwrap();
    assert!(set.next().is_none(), "{name} fills one word");
    bytes(name, at, word)
}

/// A vacant link is a whole word, of which only the lowest bit is ever set.
fn vacant_in_body() -> Field {
    let intent = Redo::Delete {
        slot: 0,
        position: 0,
        vacant: Link::DELETED,
        next_free: 0,
        after: Counters::default(),
    };
    assert_eq!(armed(intent).1, [0, 1, 0]);
    field("vacant", 8, 8)
}

/// The words of an overwrite: no copy has no words at all.
fn overwrite_body(overwrite: impl Fn(u64, u64) -> Redo) -> Vec<Field> {
    let place = (1 << 48) - 1;
    assert_eq!(armed(overwrite(place, u64::MAX)).1, [place, u64::MAX, 1]);
    vec![
        field("place", 0, 8),
        field("version", 8, 8),
        field("units", 16, 8),
    ]
}

/// The upper region plus one is a whole word: the last region's number must not overflow.
fn high_in_body() -> Field {
    let intent = Redo::Replace {
        old: 0,
        low: 0,
        high: Some(u32::MAX),
        after: Counters::default(),
    };
    assert_eq!(armed(intent).1, [0, 1 << 32, 0]);
    field("high", 8, 8)
}

fn flags(lock: LockKind, append_only: bool) -> u64 {
    let geometry = Geometry {
        append_only,
        ..crate::format::tests::geometry(crate::format::tests::SIZES[0])
    };
    u64::from(IndexHeader::flags_for(lock, &geometry))
}

fn in_place_flags() -> u64 {
    let geometry = Geometry {
        in_place: true,
        ..crate::format::tests::geometry(crate::format::tests::SIZES[0])
    };
    u64::from(IndexHeader::flags_for(LockKind::Flock, &geometry))
}

fn expiring_flags() -> u64 {
    let geometry = Geometry {
        variant: record::Variant::Expiring,
        ..crate::format::tests::geometry(crate::format::tests::SIZES[0])
    };
    u64::from(IndexHeader::flags_for(LockKind::Flock, &geometry))
}

/// The parts of an extension, by the bytes that each changes in one that has all.
fn extension() -> Structure {
    let bytes = |extension: Extension| {
        let mut bytes = Vec::new();
        extension.append_to(&mut bytes);
        bytes
    };
    let zero = Extension {
        stale_for: Some(Span(0)),
        cost: Some(Span(0)),
        tag: Some(0),
        namespace: Some(0),
    };
    let ones = Span(u32::MAX);
    let part = |name: &str, extension: Extension| {
        let bytes = bytes(extension);
        let at = bytes.iter().position(|&byte| byte != 0).unwrap();
        field(name, at, bytes.iter().filter(|&&byte| byte == 0xff).count())
    };
    let fields = vec![
        part(
            "stale_for",
            Extension {
                stale_for: Some(ones),
                ..zero
            },
        ),
        part(
            "cost",
            Extension {
                cost: Some(ones),
                ..zero
            },
        ),
        part(
            "tag",
            Extension {
                tag: Some(u64::MAX),
                ..zero
            },
        ),
        part(
            "namespace",
            Extension {
                namespace: Some(u64::MAX),
                ..zero
            },
        ),
    ];
    structure("Extension", 0, bytes(zero).len() as u64, fields)
}

/// The key of a group's entry, and the value of a deadline's.
fn internal_entries() -> [Structure; 2] {
    let key = internal::group_key([0xff; 16], 0);
    let purpose = key.iter().position(|&byte| byte == b'g').unwrap();
    let deadline = internal::deadline_key([0xff; 16], b"k").unwrap();
    assert_eq!(deadline[purpose..], *b"dk");
    let key = vec![
        field("cache_id", 0, purpose),
        field("purpose", purpose, 1),
        field("group", purpose + 1, key.len() - purpose - 1),
    ];
    let stored = StoredDeadline {
        version: u64::MAX,
        deadline: Some(0),
    };
    let version = stored.to_bytes().iter().filter(|&&byte| byte != 0).count();
    let value = vec![
        field("version", 0, version),
        field("deadline", version, StoredDeadline::BYTES - version),
    ];
    assert_eq!(stored.to_bytes()[..version], [0xff; 8]);
    [
        structure("Internal entries", 0, 25, key),
        structure(
            "Value of a deadline",
            0,
            StoredDeadline::BYTES as u64,
            value,
        ),
    ]
}

fn traits() -> Vec<Bits> {
    [
        ("negative", Traits::NEGATIVE),
        ("stale_for", Traits::STALE_FOR),
        ("cost", Traits::COST),
        ("tag", Traits::TAG),
        ("namespace", Traits::NAMESPACE),
        ("internal", Traits::INTERNAL),
    ]
    .map(|(name, trait_)| bits(name, trait_.0.into()))
    .to_vec()
}

/// The parts of a span, by the durations that have them.
fn span() -> Vec<Bits> {
    let packed = |duration| u64::from(Span::new(duration).0);
    let mantissa = packed((1 << 27) - 1);
    vec![
        bits("mantissa", mantissa),
        bits("exponent", packed(u64::MAX) ^ mantissa),
    ]
}

/// The parts of a life, by the deadlines that have them.
fn life() -> Vec<Bits> {
    let version = 1 << 60;
    let written = version / 1_000_000;
    let after = |difference: u64| u64::from(Life::new(version, written + difference).0);
    let mantissa = after((1 << 27) - 1);
    // The longest difference has all bits of both.
    let exponent = after(Life::LONGEST) ^ mantissa;
    let before = u64::from(Life::new(version, written - 1).0) ^ after(1);
    vec![
        bits("mantissa", mantissa),
        bits("exponent", exponent),
        bits("before", before),
    ]
}

fn heap_home() -> Vec<Bits> {
    // Its bits are those that change it.
    let home = (0..64)
        .map(|bit| 1_u64 << bit)
        .filter(|bit| HeapHome::from_word(1 ^ bit).home != HeapLocation::NextToIndex)
        .sum();
    for home in [
        HeapLocation::Unknown,
        HeapLocation::NextToIndex,
        HeapLocation::Elsewhere,
    ] {
        let whole_from = 7;
        let both = HeapHome { home, whole_from };
        assert_eq!(HeapHome::from_word(both.to_word()), both);
    }
    let whole_from = HeapHome {
        home: HeapLocation::Unknown,
        whole_from: u16::MAX,
    };
    vec![bits("home", home), bits("whole_from", whole_from.to_word())]
}

fn link(place: u64, is_gone: bool, tag: u16) -> u64 {
    let link = Link::new(HeapAddr::from_word(place), tag);
    link.with_gone(is_gone).0
}

/// Every word that has a table of bits: its title, its bits, the fields.
pub(super) fn words() -> Vec<(&'static str, u64, Vec<Bits>)> {
    let place = |segment, unit| HeapAddr { segment, unit }.to_word();
    // Where ones do not fit, the difference to a link without them shows the field.
    let base = link(2, false, 0);
    let superseded = HeaderStateWord(0).with_superseded(true);
    assert!(superseded.superseded() && HeaderStateWord(u64::MAX).depth() == 0xff);
    let (hole, slot) = (Position::Free(0), Position::Slot((1 << 31) - 1));
    let segment = |number: u16| u64::from(number) << 32;
    vec![
        (
            "Flags",
            32,
            vec![
                bits("locked_by_word", flags(LockKind::Word, false)),
                bits("append_only", flags(LockKind::Flock, true)),
                bits("expiring", expiring_flags()),
                bits("in_place", in_place_flags()),
            ],
        ),
        (
            "Poll word",
            64,
            vec![
                bits("depth", u64::from(HeaderStateWord(u64::MAX).depth())),
                bits("superseded", superseded.0),
            ],
        ),
        ("Heap home", 64, heap_home()),
        ("Life", 32, life()),
        ("Traits", 8, traits()),
        ("Span", 32, span()),
        (
            "The lock",
            64,
            vec![
                bits("owner", LockWord::FREE.owned_by(OWNER_IDS - 1).0),
                bits("awaited", LockWord::FREE.awaited().0),
                bits("next", LockWord::FREE.with_next(u32::MAX).0),
            ],
        ),
        (
            "Place",
            64,
            vec![
                bits("unit", place(0, u32::MAX)),
                bits("segment", place(u16::MAX, 0)),
            ],
        ),
        (
            "Link",
            64,
            vec![
                bits("unit", link(u64::from(u32::MAX), false, 0)),
                bits("segment", link(segment(u16::MAX) | 2, false, 0) ^ base),
                bits("gone", link(2, true, 0) ^ base),
                bits("tag", link(2, false, 0x7fff) ^ base),
            ],
        ),
        (
            "Roster entry",
            32,
            vec![
                bits("value", u64::from(slot.to_disk())),
                bits("hole", u64::from(hole.to_disk())),
            ],
        ),
    ]
}
