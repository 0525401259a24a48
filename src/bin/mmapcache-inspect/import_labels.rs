//! `import --labels`: interns each line as a label.

use std::io::{BufRead, Read};
use std::path::Path;

use mmapcache::Labels;
use serde_json::json;

use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use crate::location::Location;
use crate::output::{self, Output};
use crate::{progress, units};

/// The number of lines that are interned under one lock.
const AT_ONCE: usize = 256;
/// The longest label and the end of its line.
const LONGEST: u64 = 65_536;

/// Interns each line of a text, without its end. Skips empty lines and lines that are too long.
pub(crate) fn run(
    location: &Location,
    lines: &mut dyn BufRead,
    json: bool,
) -> Result<ExitStatus, Failure> {
    let opened = Labels::open_with(&location.cache, &location.options());
    let labels = opened.map_err(|error| location.explain(error))?;
    let before = labels.len();
    let (mut read, mut skipped) = (0u64, 0u64);
    let mut batch = Vec::with_capacity(AT_ONCE);
    let progress = progress::of_unknown("importing: labels");
    while let Some(line) = next(lines)? {
        progress.step();
        match line {
            Some(line) => {
                read += 1;
                batch.push(line);
            }
            None => skipped += 1,
        }
        if batch.len() == AT_ONCE {
            labels.get_or_intern_many(&batch)?;
            batch.clear();
        }
    }
    labels.get_or_intern_many(&batch)?;
    drop(progress);
    let new = labels.len().saturating_sub(before);
    let dropped = labels
        .last_recovery()
        .map_or(0, |recovery| recovery.dropped);
    let mut out = Output::new();
    if json {
        out.json(&json!({ "lines": read, "skipped": skipped, "new": new, "dropped": dropped }))?;
    } else {
        let (read, new) = (units::count(read), units::count(new));
        out.line(&format!("{read} lines, {new} new labels"))?;
    }
    out.end()?;
    if skipped > 0 {
        let skipped = units::count(skipped);
        output::warn(&format!(
            "{skipped} lines skipped: a label has 1 to 65,535 bytes"
        ));
        return Ok(ExitStatus::Incomplete);
    }
    if dropped > 0 {
        let dropped = units::count(dropped);
        output::warn(&format!(
            "labels dropped because their records are damaged or missing: {dropped}"
        ));
    }
    Ok(ExitStatus::problems_if(dropped > 0))
}

/// Reads the next line. Returns `Some(None)` for a line that cannot be a label, and `None` at the end.
fn next(lines: &mut dyn BufRead) -> Result<Option<Option<Vec<u8>>>, Failure> {
    let failed = |error| Failure::file(Path::new("the lines"), "read them")(error);
    let mut line = Vec::new();
    let read = lines
        .take(LONGEST)
        .read_until(b'\n', &mut line)
        .map_err(failed)?;
    if read == 0 {
        return Ok(None);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
    } else if read as u64 == LONGEST {
        lines.skip_until(b'\n').map_err(failed)?;
        return Ok(Some(None));
    }
    Ok(Some((!line.is_empty()).then_some(line)))
}
