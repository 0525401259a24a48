//! `import --labels`: each line becomes a label.

use std::io::{BufRead, Read};
use std::path::Path;

use mmapcache::Labels;
use serde_json::json;

use crate::failure::Failure;
use crate::output::{self, Output};
use crate::site::Site;
use crate::verdict::Verdict;
use crate::{progress, units};

/// Lines that are interned under one lock.
const AT_ONCE: usize = 256;
/// The longest label, and its line's end.
const LONGEST: u64 = 65_536;

/// Interns each line of a text, without its end. Empty lines and those that are too long are skipped.
pub(crate) fn run(site: &Site, lines: &mut dyn BufRead, json: bool) -> Result<Verdict, Failure> {
    let opened = Labels::open_with(&site.cache, &site.options());
    let labels = opened.map_err(|error| site.explain(error))?;
    let before = labels.len();
    let (mut taken, mut skipped) = (0u64, 0u64);
    let mut batch = Vec::with_capacity(AT_ONCE);
    let progress = progress::of_unknown("importing: labels");
    while let Some(line) = next(lines)? {
        progress.step();
        match line {
            Some(line) => {
                taken += 1;
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
        out.json(&json!({ "lines": taken, "skipped": skipped, "new": new, "dropped": dropped }))?;
    } else {
        let (taken, new) = (units::count(taken), units::count(new));
        out.line(&format!("{taken} lines, {new} new labels"))?;
    }
    out.end()?;
    if skipped > 0 {
        let skipped = units::count(skipped);
        output::remark(&format!(
            "{skipped} lines skipped: a label has 1 to 65,535 bytes"
        ));
        return Ok(Verdict::Incomplete);
    }
    if dropped > 0 {
        let dropped = units::count(dropped);
        output::remark(&format!(
            "labels given up, because their records are damaged or gone: {dropped}"
        ));
    }
    Ok(Verdict::wrong_if(dropped > 0))
}

/// The next line; an inner none for one that is no label. None at the end.
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
