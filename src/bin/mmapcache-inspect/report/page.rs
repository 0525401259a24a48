//! A report as one HTML page that needs no network and no script.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use mmapcache::Corruption;
use mmapcache::inspect::CacheFile;

use super::bars::{Bars, Occupancy};
use super::findings::{Findings, Judgement, State};
use super::markup::Markup;
use super::{MARK, bars, chart, figures};
use crate::header_fields::{self, Fields};
use crate::{output, timestamp, units};

/// The most files that get a row.
const FILES: usize = 60;

/// Returns the page.
pub(super) fn html(found: &Findings) -> String {
    let mut page = Markup::default();
    let path = path_text(found.cache_files.path());
    head(&mut page, &path);
    title(&mut page, found, &path);
    verdict(&mut page, &found.judge());
    numbers(&mut page, found);
    match &found.scan {
        Ok(scan) => {
            let map = Occupancy::new(&scan.index.regions);
            occupancy(&mut page, &map);
            page.raw("<div class=\"charts\">");
            for bars in bars::all(scan) {
                columns(&mut page, &bars);
            }
        }
        Err(failure) => {
            page.raw("<section class=\"card\"><h2>Charts</h2><p>There are no charts: ");
            page.text(&output::chain(failure))
                .raw("</p></section><div class=\"charts\">");
        }
    }
    files(&mut page, found.cache_files.files());
    page.raw("</div>");
    fields(
        &mut page,
        "Header: constant fields",
        header_fields::sealed(&found.cache_files),
    );
    fields(
        &mut page,
        "Header: changing fields",
        header_fields::changing(&found.cache_files),
    );
    page.raw("<footer><p>Made by mmapcache-inspect ")
        .raw(env!("CARGO_PKG_VERSION"));
    page.raw(" from the headers and the index alone, without a lock.</p></footer>");
    page.raw("</main></body></html>\n");
    page.end()
}

fn head(page: &mut Markup, path: &str) {
    page.raw("<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n")
        .raw(MARK);
    page.raw("\n<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; ");
    page.raw("style-src 'unsafe-inline'; img-src data:\">\n");
    page.raw("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
    page.raw("<meta name=\"color-scheme\" content=\"light dark\">\n<title>")
        .text(path);
    page.raw(" \u{2013} cache report</title>\n<link rel=\"icon\" href=\"data:,\">\n<style>");
    page.raw(include_str!("page.css"))
        .raw("</style></head>\n<body><main>");
}

fn title(page: &mut Markup, found: &Findings, path: &str) {
    let (dir, name) = match path.rsplit_once('/') {
        Some((dir, name)) if !name.is_empty() => (dir, name),
        _ => ("", path),
    };
    page.raw("<header><p class=\"kind\">Cache report</p><h1>")
        .text(name)
        .raw("</h1>");
    page.raw("<p class=\"place\">")
        .text(dir)
        .raw(if dir.is_empty() { "" } else { "/" });
    page.text(name)
        .raw("</p><p class=\"moment\">")
        .text(&timestamp::format(found.taken));
    page.raw("</p></header>");
}

fn verdict(page: &mut Markup, judgement: &Judgement) {
    page.raw(match judgement.state {
        State::Fine => {
            "<section class=\"verdict fine\"><span class=\"sign\" aria-hidden=\"true\">\u{2713}"
        }
        State::Notable => {
            "<section class=\"verdict notable\"><span class=\"sign\" aria-hidden=\"true\">!"
        }
        State::Wrong => {
            "<section class=\"verdict wrong\"><span class=\"sign\" aria-hidden=\"true\">\u{2715}"
        }
    });
    page.element("</span><div><h2>", judgement.headline, "</h2>");
    if judgement.remarks.len() == 1 {
        page.element("<p>", &judgement.remarks[0], "</p>");
    } else if !judgement.remarks.is_empty() {
        page.raw("<ul>");
        for remark in &judgement.remarks {
            page.element("<li>", remark, "</li>");
        }
        page.raw("</ul>");
    }
    page.raw("</div></section>");
}

fn numbers(page: &mut Markup, found: &Findings) {
    if found.refused.is_some() {
        page.raw("<p class=\"caution\">What the files contain, perhaps with errors:</p>");
    }
    page.raw("<dl class=\"figures\">");
    for figure in figures::all(found) {
        page.element("<div><dt>", figure.label, "</dt>")
            .element("<dd>", &figure.value, "</dd>");
        page.element("<dd class=\"note\">", &figure.note, "</dd></div>");
    }
    page.raw("</dl>");
}

fn occupancy(page: &mut Markup, map: &Occupancy) {
    page.raw("<section class=\"card\" id=\"occupancy\"><h2 id=\"occupancy-title\">Occupancy</h2>");
    if map.cells.is_empty() {
        page.raw("<p class=\"about\">There is no region yet.</p></section>");
        return;
    }
    page.raw(
        "<p class=\"about\" id=\"occupancy-desc\">Regions of the index, from the first to the last; each square is ",
    );
    match map.per_cell {
        1 => page.raw("one region"),
        many => page.text(&units::count(many as u64)).raw(" regions"),
    };
    page.raw(", filled by the share of slots in use.</p>");
    legend(
        page,
        &[
            ("entries", "occupied"),
            ("deleted", "deleted, still probed by searches"),
            ("free", "free"),
            ("idle", "not in use"),
            ("implausible", "invalid"),
        ],
    );
    chart::map(page, map);
    let heads = [
        "region",
        "slots",
        "occupied",
        "deleted",
        "free",
        "invalid",
        "not in use",
    ];
    table(page, &heads, |page| {
        for cell in &map.cells {
            page.element("<tr><th scope=\"row\">", &cell.name(), "");
            for number in [
                cell.slots,
                cell.occupied,
                cell.deleted,
                cell.free(),
                cell.implausible,
                cell.idle,
            ] {
                page.element("<td>", &number.to_string(), "");
            }
        }
    });
    page.raw("</section>");
}

fn columns(page: &mut Markup, bars: &Bars) {
    page.raw("<section class=\"card\" id=\"")
        .raw(bars.id)
        .raw("\"><h2>")
        .text(bars.title);
    page.raw("</h2><p class=\"about\">");
    if bars.highest() == 0 {
        page.raw("There is nothing to draw.</p></section>");
        return;
    }
    page.text(&bars.about).raw("</p>");
    if bars.parts.len() > 1 {
        legend(page, bars.parts);
    }
    chart::columns(page, bars);
    let heads: Vec<&str> = [bars.across.0]
        .into_iter()
        .chain(bars.parts.iter().map(|(name, _)| *name))
        .collect();
    table(page, &heads, |page| {
        for column in &bars.columns {
            page.element("<tr><th scope=\"row\">", &bars.name(column), "</th>");
            for &part in &column.parts {
                page.element("<td>", &bars.up.1.show(part), "</td>");
            }
        }
    });
    page.raw("</section>");
}

/// Adds a legend of classes and labels.
fn legend(page: &mut Markup, parts: &[(&'static str, &'static str)]) {
    page.raw("<ul class=\"legend\">");
    for (class, name) in parts {
        page.raw("<li><svg viewBox=\"0 0 10 10\" aria-hidden=\"true\"><path class=\"")
            .raw(class);
        page.raw("\" d=\"M0 0h10v10H0z\"/></svg>")
            .raw(name)
            .raw("</li>");
    }
    page.raw("</ul>");
}

/// Adds a table that is initially closed.
fn table(page: &mut Markup, heads: &[&str], rows: impl FnOnce(&mut Markup)) {
    page.raw("<details><summary>Numbers</summary><div class=\"scroll\" tabindex=\"0\"><table><thead><tr>");
    for head in heads {
        page.element("<th scope=\"col\">", head, "</th>");
    }
    page.raw("</tr></thead><tbody>\n");
    rows(page);
    page.raw("</tbody></table></div></details>");
}

fn files(page: &mut Markup, files: &[CacheFile]) {
    page.raw("<section class=\"card\" id=\"files\"><h2>Files</h2>");
    page.raw("<div class=\"scroll\" tabindex=\"0\"><table><thead><tr><th scope=\"col\">file</th>");
    page.raw(
        "<th scope=\"col\">length</th><th scope=\"col\">on the disk</th></tr></thead><tbody>\n",
    );
    let mut row = |name: &str, note: Option<&str>, bytes: [u64; 2]| {
        page.element("<tr><th scope=\"row\">", name, "");
        if let Some(note) = note {
            page.element("<span class=\"odd\">", note, "</span>");
        }
        page.raw("</th>");
        for bytes in bytes {
            page.element("<td>", &units::bytes(bytes), "</td>");
        }
        page.raw("</tr>\n");
    };
    for file in files.iter().take(FILES) {
        let staged = file.staged.then_some("under a temporary name");
        let note = file.problem.map(Corruption::as_str).or(staged);
        row(
            &header_fields::file_name(file),
            note,
            [file.len, file.allocated],
        );
    }
    if let Some(rest) = files.get(FILES..).filter(|rest| !rest.is_empty()) {
        let sum = |of: fn(&CacheFile) -> u64| rest.iter().map(of).fold(0_u64, u64::saturating_add);
        let name = format!("{} more", units::count(rest.len() as u64));
        row(
            &name,
            None,
            [sum(|file| file.len), sum(|file| file.allocated)],
        );
    }
    page.raw("</tbody></table></div></section>");
}

fn fields(page: &mut Markup, title: &str, fields: Option<Fields>) {
    let Some(fields) = fields else {
        return;
    };
    page.raw("<details class=\"card\"><summary>")
        .text(title)
        .raw("</summary>");
    page.raw("<div class=\"scroll\" tabindex=\"0\"><table class=\"fields\"><tbody>\n");
    for (name, value) in fields {
        page.element("<tr><th scope=\"row\">", &name.replace('_', " "), "</th>");
        page.element("<td>", &header_fields::text(value), "</td></tr>\n");
    }
    page.raw("</tbody></table></div></details>");
}

/// Returns a path as text, with invalid UTF-8 as `\xNN`.
fn path_text(path: &Path) -> String {
    let mut text = String::new();
    for chunk in path.as_os_str().as_bytes().utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}
