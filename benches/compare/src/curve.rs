//! Curves over the number of entries, over the size of values, and over the number of writers, as
//! hand-written SVG.
//!
//! May call `report` for results, `series` for sizes, `stores` and `workload` for names.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use crate::plan::Size;
use crate::report::{Results, USUAL, shown};
use crate::series::{BY_ENTRIES, BY_VALUE};
use crate::store::Result;
use crate::stores::{self, ALL, LIMIT};
use crate::workload::writers::{WRITERS, named};

const GROWTH: &[(&str, &str)] = &[
    ("get", "get of a key that is there, independent keys"),
    (
        "get_dependent",
        "get of a key that is there, the next key depends",
    ),
    ("miss", "get of a key that is not"),
    ("list", "list all items, per entry"),
    ("put", "put of a new key, one by one"),
];
const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 420.0;
/// The corners of the area with the curves.
const LEFT: f64 = 64.0;
const RIGHT: f64 = 520.0;
const TOP: f64 = 48.0;
const BOTTOM: f64 = 380.0;
const ROW: f64 = 17.0;
/// Of the stores that are not ours, in their order.
const COLOURS: [&str; 12] = [
    "#4f7cac", "#2a9d8f", "#8a5fbf", "#b08900", "#c06c84", "#355070", "#6a994e", "#7f5539",
    "#0096c7", "#9d4edd", "#606c38", "#e07a5f",
];

/// One store's figures at some places of the horizontal axis.
struct Curve {
    store: &'static str,
    points: Vec<(f64, f64)>,
}

/// Writes a file for each picture over sizes that has figures. Returns the lines of Markdown that show
/// them.
pub(crate) fn draw(results: &Results<'_>, dir: &Path) -> Result<String> {
    let mut markdown = String::new();
    let mut picture = |file: &str, title: &str, axis: &Axis| -> Result<()> {
        markdown.push_str(&draw_one(results, dir, (file, title), axis)?);
        Ok(())
    };
    for (figure, title) in GROWTH {
        let entries = |size: &Size| size.entries as f64;
        let axis = Axis::of_sizes("entries", BY_ENTRIES, entries, figure);
        let title = format!("{title}, nanoseconds");
        picture(&format!("growth_{figure}"), &title, &axis)?;
    }
    let length = |size: &Size| size.value as f64;
    let axis = Axis::of_sizes("bytes of a value", BY_VALUE, length, "get");
    picture(
        "values_get",
        "get over the size of values, nanoseconds",
        &axis,
    )?;
    Ok(markdown)
}

/// As [`draw`], for pictures over the number of writers.
pub(crate) fn draw_writers(results: &Results<'_>, dir: &Path) -> Result<String> {
    let mut markdown = String::new();
    for how in ["processes", "threads"] {
        let file = format!("writers_{how}");
        let title = format!("{how} overwrite at once, nanoseconds for each overwrite of all");
        let axis = Axis::of_writers(how);
        markdown.push_str(&draw_one(results, dir, (&file, &title), &axis)?);
    }
    Ok(markdown)
}

/// Writes a picture, unless no store has figures at two places: one makes no curve. Returns the line
/// of Markdown that shows it.
fn draw_one(
    results: &Results<'_>,
    dir: &Path,
    (file, title): (&str, &str),
    axis: &Axis,
) -> Result<String> {
    let curves = curves(results, axis);
    if !curves.iter().any(|curve| curve.points.len() > 1) {
        return Ok(String::new());
    }
    fs::create_dir_all(dir)?;
    fs::write(dir.join(format!("{file}.svg")), svg(title, axis, &curves))?;
    Ok(format!("![{title}](benchmarks/{file}.svg)\n\n"))
}

/// What the horizontal axis shows.
struct Axis {
    title: &'static str,
    places: Vec<Place>,
}

/// A number on the horizontal axis, and the figure that is shown above it.
struct Place {
    number: f64,
    size: Size,
    figure: String,
}

impl Axis {
    fn of_sizes(
        title: &'static str,
        sizes: &[Size],
        number: impl Fn(&Size) -> f64,
        figure: &str,
    ) -> Self {
        let place = |size: &Size| Place {
            number: number(size),
            size: *size,
            figure: figure.to_owned(),
        };
        let places = sizes.iter().map(place).collect();
        Self { title, places }
    }

    fn of_writers(how: &'static str) -> Self {
        let place = |count: u64| Place {
            number: count as f64,
            size: USUAL,
            figure: named(how, count, ""),
        };
        Self {
            title: how,
            places: WRITERS.into_iter().map(place).collect(),
        }
    }

    fn x(&self, number: f64) -> f64 {
        let ends = self.places.first().zip(self.places.last());
        let (least, most) = ends.map_or((1.0, 1.0), |(first, last)| (first.number, last.number));
        LEFT + (RIGHT - LEFT) * part(number, least, most)
    }
}

/// Returns where a number lies between two others on a logarithmic scale.
fn part(number: f64, least: f64, most: f64) -> f64 {
    (number / least).ln() / (most / least).ln().max(f64::MIN_POSITIVE)
}

fn curves(results: &Results<'_>, axis: &Axis) -> Vec<Curve> {
    let points = |store: &str| {
        let point = |place: &Place| {
            let found = results.number(place.size, store, &place.figure)?;
            Some((place.number, found))
        };
        axis.places.iter().filter_map(point).collect::<Vec<_>>()
    };
    let mut curves: Vec<_> = ALL
        .iter()
        .map(|&(store, _)| Curve {
            store,
            points: points(store),
        })
        .filter(|curve| !curve.points.is_empty())
        .collect();
    // The names beside the curves are in the order in which these end.
    let last = |curve: &Curve| curve.points.last().map_or(0.0, |point| point.1);
    curves.sort_by(|a, b| last(b).total_cmp(&last(a)));
    curves
}

/// Both scales are logarithmic, because the stores differ by a hundred times.
fn svg(title: &str, axis: &Axis, curves: &[Curve]) -> String {
    let all = || curves.iter().flat_map(|curve| &curve.points);
    let least = all().map(|point| point.1).fold(f64::INFINITY, f64::min) * 0.9;
    let most = all().map(|point| point.1).fold(0.0, f64::max) * 1.1;
    let y = |number: f64| BOTTOM - (BOTTOM - TOP) * part(number, least, most);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>\n\
         <text x=\"12\" y=\"24\" font-size=\"15\" font-weight=\"bold\">{title} \
         (lower is better)</text>\n"
    );
    for number in ticks(least, most) {
        let (at, label) = (y(number), shown(number));
        let _ = writeln!(
            text,
            "<line x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{RIGHT}\" y2=\"{at:.1}\" stroke=\"#e4e4e4\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
            LEFT - 6.0,
            at + 4.0,
        );
    }
    for place in &axis.places {
        let at = axis.x(place.number);
        let _ = writeln!(
            text,
            "<line x1=\"{at:.1}\" y1=\"{TOP}\" x2=\"{at:.1}\" y2=\"{BOTTOM}\" stroke=\"#e4e4e4\"/>\
             <text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            BOTTOM + 16.0,
            short(place.number),
        );
    }
    let _ = writeln!(
        text,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
        f64::midpoint(LEFT, RIGHT),
        BOTTOM + 34.0,
        axis.title,
    );
    for (row, curve) in (0_u32..).zip(curves) {
        let points: Vec<_> = curve
            .points
            .iter()
            .map(|&(place, number)| (axis.x(place), y(number)))
            .collect();
        text.push_str(&line(curve.store, &points, TOP + ROW * f64::from(row)));
    }
    text.push_str("</svg>\n");
    text
}

/// A curve, its points, and its name beside the area.
fn line(store: &str, points: &[(f64, f64)], name_at: f64) -> String {
    let (colour, width) = match store {
        LIMIT => ("#202124", 2.0),
        "mmapcache" => ("#c2410c", 3.0),
        own if own.starts_with("mmapcache") => ("#f0a070", 1.5),
        _ => {
            let others = ALL
                .iter()
                .filter(|(name, _)| !name.starts_with("mmapcache"));
            let at = others.map(|(name, _)| *name).position(|name| name == store);
            (COLOURS[at.unwrap_or_default() % COLOURS.len()], 1.5)
        }
    };
    let path: Vec<_> = points
        .iter()
        .map(|(x, y)| format!("{x:.1},{y:.1}"))
        .collect();
    let mut text = format!(
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{width}\"/>",
        path.join(" ")
    );
    for (x, y) in points {
        let _ = write!(
            text,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.5\" fill=\"{colour}\"/>"
        );
    }
    let name = stores::title(store).replace(['*', '`'], "");
    let _ = writeln!(
        text,
        "<line x1=\"{}\" y1=\"{name_at}\" x2=\"{}\" y2=\"{name_at}\" stroke=\"{colour}\" stroke-width=\"{width}\"/>\
         <text x=\"{}\" y=\"{}\">{name}</text>",
        RIGHT + 14.0,
        RIGHT + 32.0,
        RIGHT + 38.0,
        name_at + 4.0,
    );
    text
}

/// Returns 1, 2 and 5 times the powers of ten between two numbers.
fn ticks(least: f64, most: f64) -> Vec<f64> {
    let powers = (-2..12).map(|power| 10_f64.powi(power));
    let all = powers.flat_map(|power| [power, 2.0 * power, 5.0 * power]);
    all.filter(|number| (least..=most).contains(number))
        .collect()
}

/// Formats a number of entries or bytes for an axis.
fn short(number: f64) -> String {
    let kib = 1024.0;
    match number {
        n if n >= kib * kib && n % (kib * kib) == 0.0 => format!("{} MiB", n / kib / kib),
        n if n >= kib && n % kib == 0.0 => format!("{} KiB", n / kib),
        n if n >= 1e6 => format!("{} M", n / 1e6),
        n if n >= 1e3 => format!("{} k", n / 1e3),
        n => n.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::{BY_ENTRIES, draw, draw_writers, short, ticks};
    use crate::figures::{Figure, Figures};
    use crate::report::Results;
    use crate::run::Record;

    fn record(store: &str, entries: u64, number: f64) -> Record {
        let size = BY_ENTRIES.iter().find(|size| size.entries == entries);
        Record {
            store: store.to_owned(),
            size: *size.expect("a size of the curves"),
            round: 1,
            figures: Figures([("get".to_owned(), Figure::Number(number))].into()),
            limit: Figures::default(),
            error: None,
        }
    }

    // A store has a line, and the Markdown shows no picture that was not written.
    #[test]
    fn curves_are_drawn_and_shown() {
        let records = [
            record("mmapcache", 10_000, 60.0),
            record("mmapcache", 10_000_000, 900.0),
            record("lmdb", 10_000, 230.0),
            record("lmdb", 1_000_000, 800.0),
        ];
        let dir = tempfile::tempdir().expect("a directory");
        let markdown = draw(&Results(&records), dir.path()).expect("pictures");
        assert_eq!(markdown.matches("![").count(), 1, "{markdown}");
        assert!(markdown.contains("(benchmarks/growth_get.svg)"));
        let text = std::fs::read_to_string(dir.path().join("growth_get.svg")).expect("a picture");
        assert_eq!(text.matches("<polyline").count(), 2);
        // The slowest is at the top, and the least at the bottom: the axis ends with them.
        assert!(text.contains("points=\"64.0,"), "{text}");
        assert!(text.contains(" 520.0,"), "{text}");
        let files = std::fs::read_dir(dir.path()).expect("the directory");
        assert_eq!(files.count(), 1);
    }

    // Each number of writers has a figure of its own, at the usual size.
    #[test]
    fn writers_have_a_curve() {
        let figures = [(1, 900.0), (2, 1_900.0), (8, 2_600.0)].map(|(count, number)| {
            let name = format!("writers_processes_{count}");
            (name, Figure::Number(number))
        });
        let mut own = record("mmapcache", 1_000_000, 0.0);
        own.figures = Figures(figures.into());
        let dir = tempfile::tempdir().expect("a directory");
        let markdown = draw_writers(&Results(&[own]), dir.path()).expect("a picture");
        assert!(markdown.contains("(benchmarks/writers_processes.svg)"));
        assert!(!markdown.contains("writers_threads"), "{markdown}");
        let path = dir.path().join("writers_processes.svg");
        let text = std::fs::read_to_string(path).expect("a picture");
        assert_eq!(text.matches("<circle").count(), 3);
        assert!(text.contains(">processes</text>"), "{text}");
    }

    #[test]
    fn single_point_is_no_curve() {
        let dir = tempfile::tempdir().expect("a directory");
        let records = [record("mmapcache", 10_000, 60.0)];
        let markdown = draw(&Results(&records), dir.path()).expect("no picture");
        assert_eq!(markdown, "");
    }

    #[test]
    fn axes_have_round_numbers() {
        assert_eq!(ticks(8.0, 60.0), [10.0, 20.0, 50.0]);
        let texts = [16.0, 100.0, 1024.0, 262_144.0, 4_194_304.0, 1e4, 1e7].map(short);
        let wanted = ["16", "100", "1 KiB", "256 KiB", "4 MiB", "10 k", "10 M"];
        assert_eq!(texts, wanted);
    }
}
