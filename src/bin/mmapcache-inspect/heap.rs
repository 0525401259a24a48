//! `heap`: lists the records of the heap in the order of their addresses.

use std::path::PathBuf;

use mmapcache::inspect::{CacheFiles, Record};
use serde_json::json;

use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use crate::location::Location;
use crate::output::{self, Output};
use crate::progress::{self, Progress};
use crate::terminal::{self, Terminal};
use crate::{heap_address, json_line, key, record, units};

/// List the records of the heap, dead ones included, in the order of their addresses
///
/// A line has address, kind, time or number, length of the value, and key. Verifies the checksum of
/// every record; the exit code is 1 if bytes are not a record. Needs memory for one key, 0.4 MiB at a
/// million entries; maps one segment at a time.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: mmapcache-inspect heap thumbnails 0 --limit 100")]
pub(crate) struct Arguments {
    /// The cache: the path of its index
    pub(crate) cache: PathBuf,
    /// Only the segment with this number
    segment: Option<u16>,
    /// Stop after this many records
    #[arg(long)]
    limit: Option<u64>,
    /// Only damaged bytes: those that are not a record where one should be
    #[arg(long)]
    damage: bool,
    /// Print a line of JSON for each record
    #[arg(long)]
    json: bool,
}

/// A listing in progress.
struct Lister<'a> {
    arguments: &'a Arguments,
    numbered: bool,
    out: Output,
    terminal: Terminal,
    left: u64,
    damage: bool,
    progress: Option<Progress>,
    /// Bytes of the segments that were read, and of all of them.
    read: u64,
    all: u64,
}

pub(crate) fn run(location: &Location, arguments: &Arguments) -> Result<ExitStatus, Failure> {
    let cache_files = location.open_files()?;
    let mut lister = Lister {
        arguments,
        numbered: cache_files.is_id_cache()?,
        out: Output::new(),
        terminal: Terminal::new(),
        left: arguments.limit.unwrap_or(u64::MAX),
        damage: false,
        // Damage is rare, so the bar is suspended for its lines.
        progress: match arguments.damage {
            true => Some(progress::of_bytes("reading the heap")),
            false => progress::of_printing("reading the heap: bytes", 0),
        },
        read: 0,
        all: 0,
    };
    let all = cache_files.segments();
    if let Some(number) = arguments.segment
        && !all.contains(&number)
    {
        let (first, last) = (all.first().copied(), all.last().copied());
        let (first, last) = (first.unwrap_or_default(), last.unwrap_or_default());
        output::warn(&format!(
            "there is no segment {number}; the first is {first}, the last {last}: see `map`"
        ));
        return Ok(ExitStatus::Problems);
    }
    let wanted = |number: &&u16| arguments.segment.is_none_or(|wanted| wanted == **number);
    for file in cache_files.files() {
        if file.segment().is_some_and(|number| wanted(&&number)) {
            lister.all = lister.all.saturating_add(file.len);
        }
    }
    for &number in all.iter().filter(wanted) {
        if lister.left > 0 {
            lister.segment(&cache_files, number)?;
        }
    }
    lister.out.end()?;
    Ok(ExitStatus::problems_if(lister.damage))
}

impl Lister<'_> {
    fn segment(&mut self, cache_files: &CacheFiles, number: u16) -> Result<(), Failure> {
        let (mut end, mut shown) = (0, Ok(()));
        let before = self.read;
        let complete = cache_files.scan_segment(number, |record| {
            end = record.end;
            self.read = before.saturating_add(end);
            if let Some(progress) = &self.progress {
                progress.set(self.read, self.all);
            }
            shown = self.item(&record);
            shown.is_ok() && self.left > 0
        })?;
        shown?;
        match complete {
            Some(true) => {}
            Some(false) if self.left == 0 => {}
            Some(false) => output::warn(&format!("segment {number}: gave up after byte {end}")),
            None => {
                self.damage = true;
                output::warn(&format!("segment {number} is missing or too short"));
            }
        }
        Ok(())
    }

    fn item(&mut self, record: &Record) -> Result<(), Failure> {
        if !record.is_valid() {
            self.left -= 1;
            self.damage = true;
            let bytes = record.end.saturating_sub(record.address.at);
            return self.damaged_bytes(&heap_address::format(record.address), bytes);
        }
        if self.arguments.damage {
            return Ok(());
        }
        self.left -= 1;
        self.record(record)
    }

    fn record(&mut self, record: &Record) -> Result<(), Failure> {
        let kind = record.kind().unwrap_or("unknown");
        let address = heap_address::format(record.address);
        if self.arguments.json {
            let bytes = record.end - record.address.at;
            let (version, len) = (record.version, record.value_len);
            return self.out.with(|out| {
                write!(
                    out,
                    "{{\"place\":\"{address}\",\"kind\":\"{kind}\",\"bytes\":{bytes},"
                )?;
                write!(out, "\"version\":\"{version}\",\"value_len\":{len},")?;
                json_line::write_field(out, "key", &record.key)?;
                out.write_all(b"}\n")
            });
        }
        let version = record::version(record.version, self.numbered);
        let value = units::bytes(record.value_len.into());
        let key = key::show(&record.key);
        let line = format!("{address:>14}  {kind:<8}  {version:>23}  {value:>10}  {key}");
        let style = match kind {
            "entry" => Default::default(),
            _ => terminal::DIM,
        };
        self.out.line(&self.terminal.styled(style, &line))
    }

    fn damaged_bytes(&mut self, address: &str, bytes: u64) -> Result<(), Failure> {
        if self.arguments.json {
            let line = json!({ "place": address, "kind": "damage", "bytes": bytes });
            return self.out.json_line(line);
        }
        let size = units::bytes(bytes);
        let line = format!("{address:>14}  DAMAGE    {:>23}  {size:>10}  no record", "");
        let line = self.terminal.styled(terminal::ERROR, &line);
        let mut shown = Ok(());
        progress::around(|| shown = self.out.line(&line).and_then(|()| self.out.flush()));
        shown
    }
}
