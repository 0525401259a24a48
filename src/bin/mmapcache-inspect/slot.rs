//! `slot`: everything in one slot of the index, and its problems.

use std::ffi::OsString;
use std::path::PathBuf;

use mmapcache::Problem;
use mmapcache::inspect::{CacheFiles, Record, Slot};
use serde_json::{Value, json};

use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use crate::grid::Grid;
use crate::location::Location;
use crate::output::{self, Output};
use crate::{heap_address, key, record, units, verify};

/// Print one slot of the index: its contents, the linked record, and problems
///
/// Also decodes damaged files. Needs memory for one region of the index, at most a MiB, and for one
/// key: 0.4 MiB at a million entries.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: mmapcache-inspect slot thumbnails --key photos/cat.jpg")]
pub(crate) struct Arguments {
    /// The cache: the path of its index
    pub(crate) cache: PathBuf,
    /// The slot's number in the index
    #[arg(required_unless_present = "key")]
    number: Option<u32>,
    /// Instead, the slots that a search for this key examines; written as for `get`
    #[arg(long, conflicts_with = "number")]
    key: Option<OsString>,
    /// Print a line of JSON for each slot
    #[arg(long)]
    json: bool,
}

/// A slot and its record.
struct SlotReport {
    slot: Slot,
    record: Option<Record>,
    doubts: Vec<Problem>,
}

pub(crate) fn run(location: &Location, arguments: &Arguments) -> Result<ExitStatus, Failure> {
    let cache_files = location.open_files()?;
    let numbers = match (&arguments.number, &arguments.key) {
        (Some(number), _) => vec![*number],
        (None, Some(key)) => cache_files.find_slots(&key::parse_argument(key, "key")?)?,
        (None, None) => Vec::new(),
    };
    let mut out = Output::new();
    let (mut found, mut wrong) = (0, false);
    for number in numbers {
        let Some(slot) = cache_files.slot(number)? else {
            let all = units::count(cache_files.slot_count()?.into());
            output::warn(&format!(
                "there is no slot {number}; the index has {all}, from 0"
            ));
            return Ok(ExitStatus::Problems);
        };
        let shown = SlotReport::new(&cache_files, slot)?;
        wrong |= !shown.doubts.is_empty();
        if arguments.json {
            out.json_line(shown.value())?;
        } else {
            let gap = if found > 0 { "\n" } else { "" };
            out.line(&format!("{gap}{}", shown.text()))?;
        }
        found += 1;
    }
    out.end()?;
    if found == 0 {
        output::warn("a search for this key finds no slot with its hash");
    }
    Ok(ExitStatus::problems_if(wrong || found == 0))
}

impl SlotReport {
    fn new(cache_files: &CacheFiles, slot: Slot) -> Result<Self, Failure> {
        let place = slot.address.filter(|_| slot.is_entry());
        let record = place.map(|place| cache_files.record(place)).transpose()?;
        let record = record.flatten();
        let mut doubts = slot.problems.clone();
        if let Some(record) = &record {
            doubts.extend(slot.differences(record, cache_files.path()));
            doubts.extend(record.problems.iter().cloned());
        }
        Ok(Self {
            slot,
            record,
            doubts,
        })
    }

    fn text(&self) -> String {
        let slot = &self.slot;
        let mut grid = Grid::new();
        grid.section(&format!("slot {}: {}", slot.number, self.summary()));
        let at = |at: u64| format!("byte {at}");
        let within = format!("slot {} of it; it is {}", slot.index, slot.region_state());
        grid.row("region", slot.region.to_string(), within);
        let control = format!("0x{:02x}", slot.control);
        let note = format!("{}; {}", slot.state(), at(slot.control_at));
        grid.row("control byte", control, note);
        let link = slot.address.map_or("none".to_owned(), heap_address::format);
        let raw = format!("0x{:016x}; {}", slot.link, at(slot.link_at));
        grid.row("links to record", link, raw);
        let probe = slot
            .probe
            .map_or("no".to_owned(), |groups| format!("in group {groups}"));
        grid.row("found by a search", probe, "1 is the first group");
        grid.row("roster position", slot.position.to_string(), self.roster());
        let hash = format!("0x{:04x}", slot.stored_hash);
        let bits = format!(
            "tag 0x{:04x}, directory 0x{:05x}",
            slot.tag, slot.directory_bits
        );
        grid.row("hash", hash, bits);
        let size = u64::from(slot.units) * 8;
        grid.row(
            "record size",
            units::bytes(size),
            "524,280 bytes stand for more, too",
        );
        if let Some(deadline) = slot.deadline_ms {
            grid.row("deadline", deadline.to_string(), "ms; the record decides");
        }
        if let Some(record) = &self.record {
            record::rows(&mut grid, record);
        }
        let mut text = grid.left_text();
        for fault in &self.doubts {
            text.push_str(&format!("\n  {}", verify::problem_line(fault)));
        }
        text
    }

    /// Returns a summary in a few words.
    fn summary(&self) -> &'static str {
        match (self.doubts.is_empty(), self.slot.is_entry()) {
            (false, _) => "WRONG",
            (true, true) => "an entry",
            (true, false) => "no entry; its other fields are old",
        }
    }

    fn roster(&self) -> String {
        match self.slot.roster_slot() {
            Some(number) if number == self.slot.number => "which leads back here".to_owned(),
            Some(number) => format!("which leads to slot {number}"),
            None if self.slot.is_position_free() => "which is free".to_owned(),
            None => "which cannot be read".to_owned(),
        }
    }

    fn value(&self) -> Value {
        let slot = &self.slot;
        json!({
            "number": slot.number,
            "region": slot.region,
            "index": slot.index,
            "region_state": slot.region_state(),
            "is_entry": slot.is_entry(),
            "state": slot.state(),
            "control": slot.control,
            "control_at": slot.control_at,
            "link": format!("{:016x}", slot.link),
            "link_at": slot.link_at,
            "body_at": slot.body_at,
            "place": slot.address.map(heap_address::format),
            "probe": slot.probe,
            "position": slot.position,
            "roster_slot": slot.roster_slot(),
            "units": slot.units,
            "stored_hash": slot.stored_hash,
            "tag": slot.tag,
            "directory_bits": slot.directory_bits,
            "deadline_ms": slot.deadline_ms,
            "record": self.record.as_ref().map(record::value),
            "doubts": verify::problem_values(&self.doubts),
        })
    }
}
