//! `header`: every field of the headers of all files, with its place.

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use mmapcache::inspect::{Field, FieldValue, FileHeader};
use mmapcache::{Corruption, Problem};
use serde_json::{Map, Value, json};

use crate::failure::Failure;
use crate::grid::Grid;
use crate::output::Output;
use crate::paint::{self, Paint};
use crate::site::Site;
use crate::verdict::Verdict;
use crate::{exact, header, key, moment, place, units, verify};

/// Every field of the headers of all files, with its place, and whether it can be true
///
/// The files may be damaged, missing or another version's: what is there is shown. The exit code is
/// 1 where something cannot be true. Needs memory for one header and for the names of the files: 0.4
/// MiB at a million entries.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: mmapcache-inspect header thumbnails --doubtful")]
pub(crate) struct Arguments {
    /// The cache: the path of its index
    pub(crate) cache: PathBuf,
    /// Only what cannot be true
    #[arg(long)]
    doubtful: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(site: &Site, arguments: &Arguments) -> Result<Verdict, Failure> {
    let anatomy = site.anatomy()?;
    let overview = anatomy.overview();
    let (mut out, paint) = (Output::new(), Paint::new());
    let mut wrong = !overview.implausible.is_empty();
    let mut said = Vec::new();
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
            exact::settle(&mut value);
            out.line(&format!("{comma}{value}"))?;
        } else if !(shown.fields.is_empty() && arguments.doubtful) {
            out.line(&text(&shown, paint))?;
            if shown.path == overview.path {
                said.extend(shown.fields.iter().filter_map(|field| field.doubt));
            }
        }
    }
    let mut implausible = verify::fault_values(&overview.implausible);
    exact::settle(&mut implausible);
    if arguments.json {
        out.line(&format!("],\"implausible\":{implausible}}}"))?;
    } else {
        // What stands behind no field: of whole files, or a second one of the same field.
        let unsaid = |fault: &&Problem| !said.contains(&fault.what);
        for fault in overview.implausible.iter().filter(unsaid) {
            out.line(&paint.text(paint::WRONG, &verify::fault_line(fault)))?;
        }
    }
    out.end()?;
    Ok(Verdict::wrong_if(wrong))
}

fn text(header: &FileHeader, paint: Paint) -> String {
    let path = key::show(header.path.as_os_str().as_bytes());
    let mut grid = Grid::new();
    grid.section(&format!("{}: {path}", header::role(header.role)));
    if header.fields.is_empty() {
        grid.row("empty, and has no header", "", "");
    }
    for field in &header.fields {
        let label = format!("{:>4}  {}", field.at, field.name);
        let doubt = field.doubt.map_or("", Corruption::as_str);
        let note = paint.text(paint::WRONG, doubt);
        grid.row(&label, shown(field), note);
    }
    grid.left_text() + "\n"
}

/// A field's value for people.
fn shown(field: &Field) -> String {
    match &field.value {
        None => "-".to_owned(),
        Some(FieldValue::Number(number)) => units::count(*number),
        Some(FieldValue::Id(id)) => format!("0x{id:0width$x}", width = field.len as usize * 2),
        Some(FieldValue::Time(time)) => time.map_or("never".to_owned(), moment::show),
        Some(FieldValue::Place(at)) => place::show(*at),
        Some(FieldValue::Bytes(bytes)) if field.name == "magic" => bytes.escape_ascii().to_string(),
        Some(FieldValue::Bytes(bytes)) => hex(bytes),
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
                // Whatever the file system takes for one.
                Some(FieldValue::Number(id)) if matches!(field.name, "inode" | "device") => {
                    exact::wide(*id)
                }
                Some(FieldValue::Number(number)) => (*number).into(),
                Some(FieldValue::Time(time)) => {
                    time.map(|at| exact::wide(moment::nanos(at))).into()
                }
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
        "role": header::role(header.role),
        "fields": fields,
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
