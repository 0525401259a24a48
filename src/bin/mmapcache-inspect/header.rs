//! `header`: every field of the headers of all files, with its offset.

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use mmapcache::inspect::{Field, FieldValue, FileHeader};
use mmapcache::{Corruption, Problem};
use serde_json::{Map, Value, json};

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
    let anatomy = location.open_files()?;
    let overview = anatomy.overview();
    let (mut out, terminal) = (Output::new(), Terminal::new());
    let mut wrong = !overview.implausible.is_empty();
    let mut shown_problems = Vec::new();
    if arguments.json {
        out.line("{\"files\":[")?;
    }
    for (number, file) in overview.files.iter().enumerate() {
        let mut shown = anatomy.header(file)?;
        wrong |= shown.fields.iter().any(|field| field.doubt.is_some());
        if arguments.doubtful {
            shown.fields.retain(|field| field.doubt.is_some());
        }
        if arguments.json {
            let comma = if number > 0 { "," } else { "" };
            let mut value = value(&shown);
            json_number::stringify_large(&mut value);
            out.line(&format!("{comma}{value}"))?;
        } else if !(shown.fields.is_empty() && arguments.doubtful) {
            out.line(&text(&shown, terminal))?;
            if shown.path == overview.path {
                shown_problems.extend(shown.fields.iter().filter_map(|field| field.doubt));
            }
        }
    }
    let mut implausible = verify::problem_values(&overview.implausible);
    json_number::stringify_large(&mut implausible);
    if arguments.json {
        out.line(&format!("],\"implausible\":{implausible}}}"))?;
    } else {
        // The remaining problems: those of whole files, and further ones of the same field.
        let unmarked = |fault: &&Problem| !shown_problems.contains(&fault.what);
        for fault in overview.implausible.iter().filter(unmarked) {
            out.line(&terminal.styled(terminal::ERROR, &verify::problem_line(fault)))?;
        }
    }
    out.end()?;
    Ok(ExitStatus::problems_if(wrong))
}

fn text(header: &FileHeader, terminal: Terminal) -> String {
    let path = key::show(header.path.as_os_str().as_bytes());
    let mut grid = Grid::new();
    grid.section(&format!("{}: {path}", header_fields::role(header.role)));
    if header.fields.is_empty() {
        grid.row("empty; it has no header", "", "");
    }
    for field in &header.fields {
        let label = format!("{:>4}  {}", field.at, field.name);
        let doubt = field.doubt.map_or("", Corruption::as_str);
        let note = terminal.styled(terminal::ERROR, doubt);
        grid.row(&label, shown(field), note);
    }
    grid.left_text() + "\n"
}

/// Returns the value of a field as text.
fn shown(field: &Field) -> String {
    match &field.value {
        None => "-".to_owned(),
        Some(FieldValue::Number(number)) => units::count(*number),
        Some(FieldValue::Id(id)) => format!("0x{id:0width$x}", width = field.len as usize * 2),
        Some(FieldValue::Time(time)) => time.map_or("never".to_owned(), timestamp::format),
        Some(FieldValue::Place(at)) => heap_address::format(*at),
        Some(FieldValue::Bytes(bytes)) if field.name == "magic" => bytes.escape_ascii().to_string(),
        Some(FieldValue::Bytes(bytes)) => units::hex(bytes),
        Some(FieldValue::Unused(true)) => format!("{} zeros", units::count(field.len.into())),
        Some(FieldValue::Unused(false)) => format!("{} bytes", units::count(field.len.into())),
        Some(_) => "?".to_owned(),
    }
}

fn value(header: &FileHeader) -> Value {
    let fields: Vec<Value> = header
        .fields
        .iter()
        .map(|field| {
            let value = match &field.value {
                None => Value::Null,
                // File systems use all 64 bits.
                Some(FieldValue::Number(id)) if matches!(field.name, "inode" | "device") => {
                    json_number::string(*id)
                }
                Some(FieldValue::Number(number)) => (*number).into(),
                Some(FieldValue::Time(time)) => time
                    .map(|at| json_number::string(timestamp::to_nanos(at)))
                    .into(),
                Some(FieldValue::Unused(zero)) => {
                    let mut object = Map::new();
                    object.insert("zero".to_owned(), (*zero).into());
                    object.into()
                }
                Some(_) => shown(field).into(),
            };
            json!({
                "name": field.name,
                "at": field.at,
                "len": field.len,
                "value": value,
                "doubt": field.doubt.map(Corruption::as_str),
            })
        })
        .collect();
    json!({
        "path": header.path.to_string_lossy(),
        "role": header_fields::role(header.role),
        "fields": fields,
    })
}
