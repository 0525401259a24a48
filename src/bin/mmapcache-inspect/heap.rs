//! `heap`: lists the records of the heap in the order of their addresses.

use std::path::PathBuf;

use mmapcache::inspect::{Anatomy, Role, Stretch, Walked};
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
    walked: u64,
    all: u64,
}

pub(crate) fn run(location: &Location, arguments: &Arguments) -> Result<ExitStatus, Failure> {
    let anatomy = location.open_files()?;
    let mut lister = Lister {
        arguments,
        numbered: anatomy.layout()?.numbered,
        out: Output::new(),
        terminal: Terminal::new(),
        left: arguments.limit.unwrap_or(u64::MAX),
        damage: false,
        // Damage is rare, so the bar is suspended for its lines.
        progress: match arguments.damage {
            true => Some(progress::of_bytes("reading the heap")),
            false => progress::of_printing("reading the heap: bytes", 0),
        },
        walked: 0,
        all: 0,
    };
    let all = anatomy.segments();
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
    for file in &anatomy.overview().files {
        if matches!(file.role, Role::Segment(number) if wanted(&&number)) {
            lister.all = lister.all.saturating_add(file.len);
        }
    }
    for &number in all.iter().filter(wanted) {
        if lister.left > 0 {
            lister.segment(&anatomy, number)?;
        }
    }
    lister.out.end()?;
    Ok(ExitStatus::problems_if(lister.damage))
}

impl Lister<'_> {
    fn segment(&mut self, anatomy: &Anatomy, number: u16) -> Result<(), Failure> {
        let Some(segment) = anatomy.segment(number)? else {
            self.damage = true;
            output::warn(&format!("segment {number} is missing or too short"));
            return Ok(());
        };
        let mut records = segment.records();
        while self.left > 0
            && let Some(found) = records.next()
        {
            if let Some(progress) = &self.progress {
                progress.set(self.walked.saturating_add(records.at()), self.all);
            }
            match found? {
                Stretch::Record(_) if self.arguments.damage => {}
                Stretch::Record(walked) => {
                    self.left -= 1;
                    self.record(&walked)?;
                }
                Stretch::Damage { from, bytes } => {
                    self.left -= 1;
                    self.damage = true;
                    self.stretch(&heap_address::format(from), bytes)?;
                }
                _ => {}
            }
        }
        self.walked = self.walked.saturating_add(records.at());
        if records.gave_up() {
            let at = records.at();
            output::warn(&format!("segment {number}: gave up before byte {at}"));
        }
        Ok(())
    }

    fn record(&mut self, walked: &Walked) -> Result<(), Failure> {
        let kind = record::kind(walked.kind);
        let shown = heap_address::format(walked.place);
        if self.arguments.json {
            let (version, bytes, len) = (walked.version, walked.bytes, walked.value_len);
            return self.out.with(|out| {
                write!(
                    out,
                    "{{\"place\":\"{shown}\",\"kind\":\"{kind}\",\"bytes\":{bytes},"
                )?;
                write!(out, "\"version\":\"{version}\",\"value_len\":{len},")?;
                // The rest of the line is the object of the key without its first brace.
                let mut rest = Vec::new();
                json_line::write(&mut rest, &walked.key, None)?;
                out.write_all(&rest[1..])
            });
        }
        let version = record::version(walked.version, self.numbered);
        let value = units::bytes(walked.value_len.into());
        let key = key::show(&walked.key);
        let line = format!("{shown:>14}  {kind:<8}  {version:>23}  {value:>10}  {key}");
        let live = matches!(walked.kind, mmapcache::inspect::RecordKind::Entry);
        let style = if live {
            Default::default()
        } else {
            terminal::DIM
        };
        self.out.line(&self.terminal.styled(style, &line))
    }

    fn stretch(&mut self, from: &str, bytes: u64) -> Result<(), Failure> {
        if self.arguments.json {
            let line = json!({ "place": from, "kind": "damage", "bytes": bytes });
            return self.out.json_line(line);
        }
        let size = units::bytes(bytes);
        let line = format!("{from:>14}  DAMAGE    {:>23}  {size:>10}  no record", "");
        let line = self.terminal.styled(terminal::ERROR, &line);
        let mut shown = Ok(());
        progress::around(|| shown = self.out.line(&line).and_then(|()| self.out.flush()));
        shown
    }
}
