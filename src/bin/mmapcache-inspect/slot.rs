//! `slot`: one slot of the index, everything in it and what is wrong with it.

use std::ffi::OsString;
use std::path::PathBuf;

use mmapcache::Problem;
use mmapcache::inspect::{Anatomy, Record, RegionState, RosterEntry, Slot, SlotState};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::grid::Grid;
use crate::output::{self, Output};
use crate::site::Site;
use crate::verdict::Verdict;
use crate::{exact, json_line, key, place, record, units, verify};

/// One slot of the index: what it holds, what it links to, and what is wrong with it
///
/// Decodes damaged files too. Needs memory for one region of the index, at most a MiB, and for one
/// key: 0.4 MiB at a million entries.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: mmapcache-inspect slot thumbnails --key photos/cat.jpg")]
pub(crate) struct Arguments {
    /// The cache: the path of its index
    pub(crate) cache: PathBuf,
    /// The slot's number in the index
    #[arg(required_unless_present = "key")]
    number: Option<u32>,
    /// Instead, the slots in which a search for this key looks; written as for `get`
    #[arg(long, conflicts_with = "number")]
    key: Option<OsString>,
    /// Print a line of JSON for each slot
    #[arg(long)]
    json: bool,
}

/// A slot, and what it links to.
struct Found {
    slot: Slot,
    record: Option<Record>,
    doubts: Vec<Problem>,
}

pub(crate) fn run(site: &Site, arguments: &Arguments) -> Result<Verdict, Failure> {
    let anatomy = site.anatomy()?;
    let numbers = match (&arguments.number, &arguments.key) {
        (Some(number), _) => vec![*number],
        (None, Some(key)) => anatomy.slots_of(&key::of_argument(key)?)?,
        (None, None) => Vec::new(),
    };
    let mut out = Output::new();
    let (mut found, mut wrong) = (0, false);
    for number in numbers {
        let Some(slot) = anatomy.slot(number)? else {
            let all = units::count(anatomy.slots()?.into());
            output::remark(&format!(
                "there is no slot {number}; the index has {all}, from 0"
            ));
            return Ok(Verdict::Wrong);
        };
        let shown = Found::new(&anatomy, slot)?;
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
        output::remark("no slot in which a search looks has the hash of this key");
    }
    Ok(Verdict::wrong_if(wrong || found == 0))
}

impl Found {
    fn new(anatomy: &Anatomy, slot: Slot) -> Result<Self, Failure> {
        let place = slot.place.filter(|_| slot.is_entry());
        let record = place.map(|place| anatomy.record(place)).transpose()?;
        let record = record.flatten();
        let mut doubts = slot.doubts.clone();
        if let Some(record) = &record {
            doubts.extend(slot.differences(record, &anatomy.overview().path));
            doubts.extend(record.doubts.iter().cloned());
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
        grid.section(&format!("slot {}: {}", slot.number, self.holds()));
        let at = |at: u64| format!("byte {at}");
        let within = format!(
            "slot {} of it; it is {}",
            slot.index,
            region(slot.region_state)
        );
        grid.row("region", slot.region.to_string(), within);
        let control = format!("0x{:02x}", slot.control);
        let note = format!("{}; {}", state(slot.state), at(slot.control_at));
        grid.row("control byte", control, note);
        let link = slot.place.map_or("none".to_owned(), place::show);
        let raw = format!("0x{:016x}; {}", slot.link, at(slot.link_at));
        grid.row("links to record", link, raw);
        let probe = slot
            .probe
            .map_or("no".to_owned(), |groups| format!("in group {groups}"));
        grid.row("found by a search", probe, "1 is where it begins");
        grid.row("roster position", slot.position.to_string(), self.roster());
        let shown = key::show(&slot.key);
        let whole = slot.key.len() == usize::from(slot.key_len);
        let note = if whole {
            "all of it"
        } else {
            "its beginning, as the slot repeats it"
        };
        grid.row("key", shown, note);
        let length = units::count(slot.key_len.into());
        grid.row("key length", length, at(slot.body_at + 4));
        let hash = format!("0x{:04x}", slot.stored_hash);
        let bits = format!(
            "tag 0x{:04x}, directory 0x{:05x}",
            slot.tag, slot.directory_bits
        );
        grid.row("hash", hash, bits);
        let numbered = self.record.as_ref().is_some_and(|record| record.numbered);
        let written = record::version(slot.version, numbered);
        let pair = if slot.second_pair {
            "the second pair"
        } else {
            "the first pair"
        };
        grid.row("version", written, pair);
        grid.row("value length", units::bytes(slot.value_len.into()), "");
        if let Some(record) = &self.record {
            record::rows(&mut grid, record);
        }
        let mut text = grid.left_text();
        for fault in &self.doubts {
            text.push_str(&format!("\n  {}", verify::fault_line(fault)));
        }
        text
    }

    /// The verdict in a few words.
    fn holds(&self) -> &'static str {
        match (self.doubts.is_empty(), self.slot.is_entry()) {
            (false, _) => "WRONG",
            (true, true) => "an entry",
            (true, false) => "no entry; what else it says is left over",
        }
    }

    fn roster(&self) -> String {
        match self.slot.roster {
            Some(RosterEntry::Slot(number)) if number == self.slot.number => {
                "which leads back here".to_owned()
            }
            Some(RosterEntry::Slot(number)) => format!("which leads to slot {number}"),
            Some(RosterEntry::Hole(_)) => "which is a hole".to_owned(),
            _ => "which cannot be read".to_owned(),
        }
    }

    fn value(&self) -> Value {
        let slot = &self.slot;
        let mut value = json!({
            "number": slot.number,
            "region": slot.region,
            "index": slot.index,
            "region_state": region(slot.region_state),
            "is_entry": slot.is_entry(),
            "state": state(slot.state),
            "control": slot.control,
            "control_at": slot.control_at,
            "link": format!("{:016x}", slot.link),
            "link_at": slot.link_at,
            "body_at": slot.body_at,
            "place": slot.place.map(place::show),
            "second_pair": slot.second_pair,
            "probe": slot.probe,
            "position": slot.position,
            "roster_slot": match slot.roster {
                Some(RosterEntry::Slot(number)) => Some(number),
                _ => None,
            },
            "key_len": slot.key_len,
            "stored_hash": slot.stored_hash,
            "tag": slot.tag,
            "directory_bits": slot.directory_bits,
            "version": exact::wide(slot.version),
            "value_len": slot.value_len,
            "record": self.record.as_ref().map(record::value),
            "doubts": verify::fault_values(&self.doubts),
        });
        if let Some(object) = value.as_object_mut() {
            json_line::insert(object, "inline_key", &slot.key);
        }
        value
    }
}

fn state(state: SlotState) -> &'static str {
    match state {
        SlotState::Empty => "empty",
        SlotState::Deleted => "deleted",
        SlotState::Full => "full",
        _ => "unknown",
    }
}

/// What a region is, in a word.
pub(crate) fn region(state: RegionState) -> &'static str {
    match state {
        RegionState::Unused => "unused",
        RegionState::Building => "being built",
        RegionState::Live => "live",
        RegionState::Free => "free",
        _ => "unknown",
    }
}
