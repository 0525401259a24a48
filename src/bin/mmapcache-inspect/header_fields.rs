//! The fields of an index header by name: as JSON, and as rows for a cache that cannot be opened.

use mmapcache::Corruption;
use mmapcache::inspect::{Changing, Companion, HeapPlace, Overview, PendingChange, Role, Sealed};
use serde_json::{Map, Value, json};

use crate::{json_number, timestamp, units};

/// Names and values, in the order of display.
pub(crate) type Fields = Vec<(&'static str, Value)>;

/// Returns the fields that never change; `None` if the file ends before them.
pub(crate) fn sealed(overview: &Overview) -> Option<Fields> {
    overview.sealed.as_ref().map(sealed_fields)
}

/// Returns the fields that writers change; `None` if the file ends before or within them.
pub(crate) fn changing(overview: &Overview) -> Option<Fields> {
    overview.changing.as_ref().map(changing_fields)
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

fn sealed_fields(header: &Sealed) -> Fields {
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
        ("region_slots", header.region_slots.into()),
        ("inline_key_bytes", header.inline_key_bytes.into()),
        ("directory_bits", header.directory_bits.into()),
        ("record_variant", header.record_variant.into()),
        ("max_segment_bytes", header.max_segment_bytes.into()),
        ("max_entries", header.max_entries.into()),
        ("created", timestamp::format(header.created).into()),
    ]
}

fn changing_fields(header: &Changing) -> Fields {
    let time = |moment: Option<_>| Value::from(moment.map(timestamp::format));
    vec![
        ("depth", header.depth.into()),
        ("superseded", header.superseded.into()),
        ("occupied", header.occupied.into()),
        ("deleted", header.deleted.into()),
        ("high_water_mark", header.high_water_mark.into()),
        ("first_hole", header.first_hole.into()),
        ("roster_len", header.roster_len.into()),
        ("first_free_region", header.first_free_region.into()),
        ("regions", header.regions.into()),
        ("live_bytes", header.live_bytes.into()),
        ("live_after", header.live_after.into()),
        ("reserved", place(header.reserved)),
        ("tail", place(header.tail)),
        ("heap_base", header.heap_base.into()),
        ("oldest_segment", header.oldest_segment.into()),
        ("cleaned", header.cleaned.map_or(Value::Null, place)),
        ("cleaning_met_damage", header.cleaning_met_damage.into()),
        ("pending", header.pending.map(pending).into()),
        ("changes", header.changes.into()),
        ("last_write", time(header.last_write)),
        ("boot", format!("{:032x}", header.boot).into()),
        ("inode", json_number::string(header.inode)),
        ("dirty", header.dirty.into()),
        ("flushed", header.flushed.into()),
        ("synced", place(header.synced)),
        ("sync_failed", header.sync_failed.into()),
        ("renames_pending", header.renames_pending.into()),
        ("next_incarnation", header.next_incarnation.into()),
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
pub(crate) fn files(files: &[Companion]) -> Value {
    files
        .iter()
        .map(|file| {
            json!({
                "path": file.path.to_string_lossy(),
                "role": role(file.role),
                "staged": file.staged,
                "len": file.len,
                "allocated": file.allocated,
                "capacity": file.capacity,
                "fault": file.fault.map(Corruption::as_str),
            })
        })
        .collect()
}

/// Returns the part of a file in the cache, in one or two words.
pub(crate) fn role(role: Role) -> String {
    match role {
        Role::Index => "index".to_owned(),
        Role::Roster => "roster".to_owned(),
        Role::Lock => "lock".to_owned(),
        Role::Segment(number) => format!("segment {number}"),
        _ => "other".to_owned(),
    }
}

fn pending(change: PendingChange) -> &'static str {
    match change {
        PendingChange::Insert => "insert",
        PendingChange::Delete => "delete",
        PendingChange::Replace => "replace",
        _ => "unknown",
    }
}

fn place(place: HeapPlace) -> Value {
    format!("segment {} byte {}", place.segment, place.at).into()
}

/// Returns an id with all its digits. Ids are compared, and a JSON parser must not round them.
fn id(number: u64) -> Value {
    format!("{number:016x}").into()
}
