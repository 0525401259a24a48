//! `header`: every field of the headers of all files, with its offset.

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use mmapcache::inspect::{CacheFile, Field};
use mmapcache::{Corruption, Problem};
use serde_json::{Value, json};

use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use crate::grid::Grid;
use crate::location::Location;
use crate::output::Output;
use crate::terminal::{self, Terminal};
use crate::{header_fields, heap_address, json_number, key, timestamp, units, verify};

/// Print every field of the headers of all files, with its offset, and mark invalid values
///
/// Also works for damaged or missing files. The exit code is 1 if a value is invalid. Needs memory for
/// one header and for the names of the files: 0.4 MiB at a million entries.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: mmapcache-inspect header thumbnails --doubtful")]
pub(crate) struct Arguments {
    /// The cache: the path of its index
    pub(crate) cache: PathBuf,
    /// Only fields with invalid values
    #[arg(long)]
    doubtful: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(location: &Location, arguments: &Arguments) -> Result<ExitStatus, Failure> {
    let cache_files = location.open_files()?;
    let cache_files = cache_files;
    let (mut out, terminal) = (Output::new(), Terminal::new());
    let mut wrong = !cache_files.problems().is_empty();
    let mut shown_problems = Vec::new();
    if arguments.json {
        out.line("{\"files\":[")?;
    }
    for (number, file) in cache_files.files().iter().enumerate() {
        let mut fields = cache_files.fields(file)?;
        wrong |= fields.iter().any(|field| field.problem.is_some());
        if arguments.doubtful {
            fields.retain(|field| field.problem.is_some());
        }
        if arguments.json {
            let comma = if number > 0 { "," } else { "" };
            let mut value = value(file, &fields);
            json_number::stringify_large(&mut value);
            out.line(&format!("{comma}{value}"))?;
        } else if !(fields.is_empty() && arguments.doubtful) {
            out.line(&text(file, &fields, terminal))?;
            if file.path == cache_files.path() {
                shown_problems.extend(fields.iter().filter_map(|field| field.problem));
            }
        }
    }
    let mut implausible = verify::problem_values(cache_files.problems());
    json_number::stringify_large(&mut implausible);
    if arguments.json {
        out.line(&format!("],\"implausible\":{implausible}}}"))?;
    } else {
        // The remaining problems: those of whole files, and further ones of the same field.
        let unmarked = |fault: &&Problem| !shown_problems.contains(&fault.what);
        for fault in cache_files.problems().iter().filter(unmarked) {
            out.line(&terminal.styled(terminal::ERROR, &verify::problem_line(fault)))?;
        }
    }
    out.end()?;
    Ok(ExitStatus::problems_if(wrong))
}

/// Bytes of a field that are shown at most.
const LONGEST: usize = 64;

fn text(file: &CacheFile, fields: &[Field], terminal: Terminal) -> String {
    let path = key::show(file.path.as_os_str().as_bytes());
    let mut grid = Grid::new();
    grid.section(&format!("{}: {path}", header_fields::file_name(file)));
    if fields.is_empty() {
        grid.row("empty; it has no header", "", "");
    }
    for field in fields {
        let label = format!("{:>4}  {}", field.at, field.name);
        let problem = field.problem.map_or("", Corruption::as_str);
        let note = terminal.styled(terminal::ERROR, problem);
        let text = field_text(field).unwrap_or_else(|| "-".to_owned());
        grid.row(&label, text, note);
    }
    grid.left_text() + "\n"
}

/// Returns the value of a field as text; `None` if the file ends before the end of the field.
fn field_text(field: &Field) -> Option<String> {
    let (number, bytes) = (field.number()?, field.bytes.as_ref()?);
    let len = units::count(field.len.into());
    Some(match field.kind() {
        "number" => units::count(number),
        "id" => format!("0x{number:0width$x}", width = field.len as usize * 2),
        "time" if number == 0 => "never".to_owned(),
        "time" => timestamp::format_nanos(number),
        "address" => heap_address::format(field.address()?),
        "unused" if field.is_zero() => format!("{len} zeros"),
        "unused" => format!("{len} bytes"),
        _ if field.name == "magic" => bytes.escape_ascii().to_string(),
        // Statistics, which `stats` shows.
        _ if bytes.len() > LONGEST => match field.is_zero() {
            true => format!("{len} zeros"),
            false => format!("{len} bytes"),
        },
        _ => units::hex(bytes),
    })
}

/// Returns the value of a field as JSON.
fn field_value(field: &Field) -> Value {
    let Some(number) = field.number() else {
        return Value::Null;
    };
    match field.kind() {
        // File systems use all 64 bits.
        "number" if matches!(field.name, "inode" | "device") => json_number::string(number),
        "number" => number.into(),
        "time" if number == 0 => Value::Null,
        "time" => json_number::string(number),
        "unused" => json!({ "zero": field.is_zero() }),
        _ => field_text(field).into(),
    }
}

fn value(file: &CacheFile, fields: &[Field]) -> Value {
    let fields = fields.iter().map(|field| {
        json!({
            "name": field.name,
            "at": field.at,
            "len": field.len,
            "value": field_value(field),
            "doubt": field.problem.map(Corruption::as_str),
        })
    });
    json!({
        "path": file.path.to_string_lossy(),
        "role": header_fields::file_name(file),
        "fields": fields.collect::<Value>(),
    })
}
