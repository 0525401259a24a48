//! Draws charts as SVG.

use super::bars::{Bars, Cell, Column, Occupancy, Unit};
use super::markup::Markup;
use crate::units;

/// The size of a column chart. A unit is a pixel on a phone.
const WIDTH: f64 = 360.0;
const HEIGHT: f64 = 214.0;
/// The area inside the axes.
const LEFT: f64 = 52.0;
const RIGHT: f64 = 350.0;
const TOP: f64 = 24.0;
const BOTTOM: f64 = 172.0;
/// The maximum width of a column.
const WIDEST: f64 = 48.0;
/// The most labels below the columns.
const LABELS: usize = 6;

/// Adds a column chart.
pub(super) fn columns(page: &mut Markup, bars: &Bars) {
    page.raw("<svg viewBox=\"0 0 ")
        .number(WIDTH)
        .raw(" ")
        .number(HEIGHT);
    page.raw("\" role=\"img\" aria-labelledby=\"");
    page.raw(bars.id)
        .raw("-title ")
        .raw(bars.id)
        .raw("-desc\"><title id=\"");
    page.raw(bars.id)
        .raw("-title\">")
        .text(bars.title)
        .raw("</title><desc id=\"");
    page.raw(bars.id)
        .raw("-desc\">")
        .text(&describe(bars))
        .raw("</desc>");
    let ticks = ticks(bars.highest(), bars.up.1);
    let top = ticks.last().copied().unwrap_or(1).max(1);
    scale(page, bars, &ticks);
    let width = (RIGHT - LEFT) / bars.columns.len().max(1) as f64;
    let width = width.min(WIDEST);
    for (place, column) in bars.columns.iter().enumerate() {
        stack(page, bars, column, LEFT + place as f64 * width, width, top);
    }
    labels(page, bars, width);
    page.raw("<path class=\"axis\" d=\"M")
        .number(LEFT)
        .raw(" ")
        .number(BOTTOM);
    page.raw("H").number(RIGHT).raw("\"/></svg>");
}

fn describe(bars: &Bars) -> String {
    format!(
        "{} Columns: {}; height: {}.",
        bars.about, bars.across.0, bars.up.0
    )
}

/// Adds horizontal lines at round numbers, and the label of the axis.
fn scale(page: &mut Markup, bars: &Bars, ticks: &[u64]) {
    let top = ticks.last().copied().unwrap_or(1).max(1);
    page.raw("<text class=\"what\" x=\"2\" y=\"11\">")
        .text(bars.up.0)
        .raw("</text>");
    for &tick in ticks {
        let y = height(tick, top);
        if tick > 0 {
            page.raw("<path class=\"grid\" d=\"M")
                .number(LEFT)
                .raw(" ")
                .number(y);
            page.raw("H").number(RIGHT).raw("\"/>");
        }
        page.raw("<text class=\"tick\" text-anchor=\"end\" x=\"46\" y=\"")
            .number(y + 3.5);
        page.raw("\">").text(&bars.up.1.short(tick)).raw("</text>");
    }
}

fn height(value: u64, top: u64) -> f64 {
    BOTTOM - (BOTTOM - TOP) * (value as f64 / top as f64)
}

/// Adds a column with stacked parts. A part above 0 is at least a pixel high.
fn stack(page: &mut Markup, bars: &Bars, column: &Column, left: f64, width: f64, top: u64) {
    let gap = (width * 0.18).min(4.0);
    page.raw("<g><title>")
        .text(&hint(bars, column))
        .raw("</title>");
    let mut below = BOTTOM;
    for ((_, class), &part) in bars.parts.iter().zip(&column.parts) {
        if part == 0 {
            continue;
        }
        let tall = (BOTTOM - height(part, top)).max(1.0);
        page.raw("<rect class=\"")
            .raw(class)
            .raw("\" x=\"")
            .number(left + gap / 2.0);
        page.raw("\" y=\"")
            .number(below - tall)
            .raw("\" width=\"")
            .number(width - gap);
        page.raw("\" height=\"").number(tall).raw("\"/>");
        below -= tall;
    }
    page.raw("</g>");
}

/// Returns the tooltip of a column.
fn hint(bars: &Bars, column: &Column) -> String {
    let parts = bars.parts.iter().zip(&column.parts);
    let parts: Vec<String> = parts
        .map(|((name, _), &part)| match bars.up.1 {
            Unit::Bytes => format!("{} {name}", units::bytes(part)),
            unit => format!("{} {name}", unit.show(part)),
        })
        .collect();
    format!("{}: {}", bars.name(column), parts.join(", "))
}

/// Adds the lower bounds of some columns, and the label of the axis. A bound is below the left edge of
/// a column that covers a range, otherwise below its middle.
fn labels(page: &mut Markup, bars: &Bars, width: f64) {
    let every = bars.columns.len().div_ceil(LABELS).max(1);
    let within = match bars.across.1 {
        Unit::Count => 0.5,
        Unit::Bytes | Unit::Seconds => 0.0,
    };
    for (place, column) in bars.columns.iter().enumerate().step_by(every) {
        let x = LEFT + (place as f64 + within) * width;
        page.raw("<text class=\"tick\" text-anchor=\"middle\" x=\"")
            .number(x);
        page.raw("\" y=\"").number(BOTTOM + 15.0).raw("\">");
        page.text(&bars.across.1.short(column.from));
        page.raw(if column.to.is_none() {
            "+</text>"
        } else {
            "</text>"
        });
    }
    page.raw("<text class=\"what\" text-anchor=\"middle\" x=\"")
        .number((LEFT + RIGHT) / 2.0);
    page.raw("\" y=\"")
        .number(HEIGHT - 8.0)
        .raw("\">")
        .text(bars.across.0)
        .raw("</text>");
}

/// Returns at most five round numbers, from 0 to the highest value or a little more.
fn ticks(highest: u64, unit: Unit) -> Vec<u64> {
    let steps: fn(u32) -> Option<u64> = match unit {
        Unit::Bytes => |step| 1_u64.checked_shl(step).filter(|&step| step != 0),
        _ => |step| {
            10_u64
                .checked_pow(step / 3)
                .and_then(|ten| ten.checked_mul([1, 2, 5][step as usize % 3]))
        },
    };
    let fits = |step: &u64| highest.div_ceil(*step) <= 4;
    let step = (0..).map_while(steps).find(fits).unwrap_or(u64::MAX / 4);
    (0..=highest.div_ceil(step).max(1))
        .map(|tick| step.saturating_mul(tick))
        .collect()
}

/// Adds a map of the regions: a square for each cell, filled from below. The squares are in strips,
/// which wrap at the width of the screen.
pub(super) fn map(page: &mut Markup, map: &Occupancy) {
    /// The squares in a strip, the side of a square, and the distance between two.
    const STRIP: usize = 20;
    const SIDE: f64 = 14.0;
    const STEP: f64 = 16.0;
    page.raw("<div class=\"map\" role=\"img\" aria-labelledby=\"occupancy-title\" ");
    page.raw("aria-describedby=\"occupancy-desc\">\n");
    for strip in map.cells.chunks(STRIP) {
        page.raw("<svg viewBox=\"0 0 318 16\">");
        for (place, cell) in strip.iter().enumerate() {
            square(page, cell, place as f64 * STEP, SIDE);
        }
        page.raw("</svg>\n");
    }
    page.raw("</div>");
}

fn square(page: &mut Markup, cell: &Cell, x: f64, side: f64) {
    page.raw("<g><title>")
        .text(&cell_hint(cell))
        .raw("</title>");
    let class = if cell.slots == 0 { "idle" } else { "free" };
    block(page, class, x, 0.0, side, side);
    let mut below = side;
    let parts = [
        ("entries", cell.occupied),
        ("deleted", cell.deleted),
        ("implausible", cell.implausible),
    ];
    for (class, part) in parts {
        let tall = (side * part as f64 / cell.slots.max(1) as f64).round();
        // A part above 0 is at least a pixel high, unless the square is already full.
        let tall = if part > 0 {
            tall.max(1.0).min(below)
        } else {
            0.0
        };
        if tall > 0.0 {
            below -= tall;
            block(page, class, x, below, side, tall);
        }
    }
    page.raw("</g>");
}

fn block(page: &mut Markup, class: &'static str, x: f64, y: f64, width: f64, height: f64) {
    page.raw("<path class=\"")
        .raw(class)
        .raw("\" d=\"M")
        .number(x)
        .raw(" ")
        .number(y);
    page.raw("h")
        .number(width)
        .raw("v")
        .number(height)
        .raw("h")
        .number(-width)
        .raw("z\"/>");
}

fn cell_hint(cell: &Cell) -> String {
    let name = cell.name();
    if cell.slots == 0 {
        return format!("region {name}: not in use");
    }
    let mut hint = format!(
        "region {name}: {} occupied, {} deleted, {} free",
        units::count(cell.occupied),
        units::count(cell.deleted),
        units::count(cell.free())
    );
    if cell.implausible > 0 {
        hint.push_str(&format!(", {} invalid", units::count(cell.implausible)));
    }
    hint
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_reach_maximum() {
        assert_eq!(ticks(0, Unit::Count), [0, 1]);
        assert_eq!(ticks(7, Unit::Count), [0, 2, 4, 6, 8]);
        assert_eq!(ticks(130_000, Unit::Count), [0, 50_000, 100_000, 150_000]);
        assert_eq!(ticks(5 << 20, Unit::Bytes), [0, 2 << 20, 4 << 20, 6 << 20]);
        for highest in (0..64).map(|bit| (1_u64 << bit) + 1).chain([u64::MAX]) {
            for unit in [Unit::Count, Unit::Bytes] {
                let ticks = ticks(highest, unit);
                assert!((2..=6).contains(&ticks.len()), "{highest}: {ticks:?}");
                assert!(
                    *ticks.last().unwrap() >= highest.min(u64::MAX - 3),
                    "{highest}: {ticks:?}"
                );
            }
        }
    }
}
