//! The fields of an index header by name: as JSON, and as rows for a cache that cannot be opened.

use mmapcache::Corruption;
use mmapcache::inspect::{CacheFile, CacheFiles, HeapAddress, IndexHeader, IndexState};
use serde_json::{Map, Value, json};

use crate::{json_number, timestamp, units};

/// Names and values, in the order of display.
pub(crate) type Fields = Vec<(&'static str, Value)>;

/// Returns the fields that never change; `None` if the file ends before them.
pub(crate) fn sealed(cache_files: &CacheFiles) -> Option<Fields> {
    cache_files.header().map(sealed_fields)
}

/// Returns the fields that writers change; `None` if the file ends before or within them.
pub(crate) fn changing(cache_files: &CacheFiles) -> Option<Fields> {
    cache_files.state().map(changing_fields)
}

/// Returns fields as a JSON object, or null.
pub(crate) fn object(fields: Option<Fields>) -> Value {
    match fields {
        None => Value::Null,
        Some(fields) => fields
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect::<Map<_, _>>()
            .into(),
    }
}

fn sealed_fields(header: &IndexHeader) -> Fields {
    vec![
        ("magic", header.magic.escape_ascii().to_string().into()),
        ("magic_ok", header.magic_ok.into()),
        ("version", header.version.into()),
        ("version_ok", header.version_ok.into()),
        ("checksum_ok", header.checksum_ok.into()),
        ("cache_id", units::hex(&header.cache_id).into()),
        ("generation", header.generation.into()),
        ("heap_id", id(header.heap_id)),
        ("roster_id", id(header.roster_id)),
        ("hash_kind", header.hash_kind.into()),
        ("hash_seed", id(header.hash_seed)),
        ("hash_check", id(header.hash_check)),
        ("flags", header.flags.into()),
        ("append_only", header.append_only.into()),
        ("in_place", header.in_place.into()),
        ("region_slots", header.region_slots.into()),
        ("directory_bits", header.directory_bits.into()),
        ("record_variant", header.record_variant.into()),
        ("max_segment_bytes", header.max_segment_bytes.into()),
        ("max_entries", header.max_entries.into()),
        ("created", timestamp::format(header.created).into()),
    ]
}

fn changing_fields(header: &IndexState) -> Fields {
    let time = |moment: Option<_>| Value::from(moment.map(timestamp::format));
    vec![
        ("depth", header.depth.into()),
        ("superseded", header.superseded.into()),
        ("occupied", header.occupied.into()),
        ("deleted", header.deleted.into()),
        ("high_water_mark", header.high_water_mark.into()),
        ("first_hole", header.first_free_position.into()),
        ("roster_len", header.roster_len.into()),
        ("first_free_region", header.first_free_region.into()),
        ("regions", header.regions.into()),
        ("live_bytes", header.live_bytes.into()),
        ("live_after", header.live_after.into()),
        ("reserved", address(header.reserved)),
        ("tail", address(header.tail)),
        ("heap_base", header.heap_base.into()),
        ("oldest_segment", header.oldest_segment.into()),
        ("cleaned", header.cleaned.map_or(Value::Null, address)),
        ("cleaning_met_damage", header.cleaning_found_damage.into()),
        ("pending", header.pending().into()),
        ("changes", header.changes.into()),
        ("last_write", time(header.last_write)),
        ("boot", format!("{:032x}", header.boot).into()),
        ("inode", json_number::string(header.inode)),
        ("dirty", header.dirty.into()),
        ("flushed", header.flushed.into()),
        ("synced", address(header.synced)),
        ("frozen", header.frozen.map(address).into()),
        ("sync_failed", header.sync_failed.into()),
        ("renames_pending", header.renames_pending.into()),
        ("next_incarnation", header.next_region_tag.into()),
        ("compacted", time(header.compacted)),
        ("puts", header.puts.into()),
        ("overwrites", header.overwrites.into()),
        ("deletes", header.deletes.into()),
        ("dropped", header.dropped.into()),
        ("writer", header.writer.into()),
    ]
}

/// Returns the value of a field as text.
pub(crate) fn text(value: Value) -> String {
    match value {
        Value::String(text) => text,
        Value::Null => "none".to_owned(),
        other => other.to_string(),
    }
}

/// Returns the files of a cache as JSON.
pub(crate) fn files(files: &[CacheFile]) -> Value {
    files
        .iter()
        .map(|file| {
            json!({
                "path": file.path.to_string_lossy(),
                "role": file_name(file),
                "staged": file.staged,
                "len": file.len,
                "allocated": file.allocated,
                "capacity": file.capacity,
                "fault": file.problem.map(Corruption::as_str),
            })
        })
        .collect()
}

/// Returns the kind of a file and the number of a segment.
pub(crate) fn file_name(file: &CacheFile) -> String {
    match file.segment() {
        Some(number) => format!("segment {number}"),
        None => file.kind().to_owned(),
    }
}

fn address(address: HeapAddress) -> Value {
    format!("segment {} byte {}", address.segment, address.at).into()
}

/// Returns an id with all its digits. Ids are compared, and a JSON parser must not round them.
fn id(number: u64) -> Value {
    format!("{number:016x}").into()
}
