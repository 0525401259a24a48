//! The numbers in the charts of a report.

use mmapcache::inspect::RegionScan;
use serde_json::{Map, Value, json};

use crate::index_scan::{Scan, SegmentUse};
use crate::units;
use crate::value_histogram::ValueHistogram;

/// The most columns of a chart.
const COLUMNS: usize = 40;
/// The fewest columns of a histogram.
const FEWEST: usize = 6;
/// The most columns of probe lengths; the last one counts all longer ones.
const PROBES: usize = 12;

/// The unit of numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Count,
    Bytes,
    Seconds,
}

/// A column chart. The parts of a column are stacked.
#[derive(Debug)]
pub(super) struct Bars {
    /// The name in anchors of the page and in JSON.
    pub(super) id: &'static str,
    pub(super) title: &'static str,
    /// A description.
    pub(super) about: String,
    /// The label of the horizontal axis, and its unit.
    pub(super) across: (&'static str, Unit),
    /// The label of the vertical axis, and its unit.
    pub(super) up: (&'static str, Unit),
    /// The parts of each column, from below: label and class.
    pub(super) parts: &'static [(&'static str, &'static str)],
    pub(super) columns: Vec<Column>,
}

/// The counts between two bounds, both included.
#[derive(Debug)]
pub(super) struct Column {
    pub(super) from: u64,
    /// `None` if there is no upper bound.
    pub(super) to: Option<u64>,
    pub(super) parts: Vec<u64>,
}

impl Unit {
    /// Returns a number in full.
    pub(super) fn show(self, number: u64) -> String {
        match self {
            Self::Count => units::count(number),
            Self::Bytes => units::bytes(number),
            Self::Seconds => units::span(number),
        }
    }

    /// Returns a number in few characters, for an axis.
    pub(super) fn short(self, number: u64) -> String {
        match self {
            Self::Count => short_count(number),
            Self::Bytes => units::bytes(number).replace(".0 ", " "),
            Self::Seconds => short_span(number),
        }
    }
}

fn short_count(number: u64) -> String {
    const UNITS: [(&str, f64); 4] = [("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)];
    let scaled = number as f64;
    match UNITS.into_iter().find(|(_, size)| scaled >= *size) {
        Some((name, size)) if number >= 10_000 => {
            format!("{:.1} {name}", scaled / size).replace(".0 ", " ")
        }
        _ => units::count(number),
    }
}

/// Returns a duration, rounded to a whole number of its largest unit.
fn short_span(seconds: u64) -> String {
    const UNITS: [(&str, u64); 4] = [("a", 31_557_600), ("d", 86_400), ("h", 3_600), ("min", 60)];
    let unit = UNITS
        .into_iter()
        .find(|(_, length)| seconds * 10 >= length * 9);
    match unit {
        Some((name, length)) => format!("{:.0} {name}", seconds as f64 / length as f64),
        None => format!("{seconds} s"),
    }
}

impl Column {
    pub(super) fn sum(&self) -> u64 {
        self.parts
            .iter()
            .fold(0, |sum, part| sum.saturating_add(*part))
    }
}

impl Bars {
    /// Returns the range of a column.
    pub(super) fn name(&self, column: &Column) -> String {
        let unit = self.across.1;
        match column.to {
            None => format!("{} or more", unit.show(column.from)),
            Some(to) if to == column.from => unit.show(to),
            Some(u64::MAX) => format!("{} or more", unit.show(column.from)),
            Some(to) => format!("{} to {}", unit.show(column.from), unit.show(to)),
        }
    }

    pub(super) fn highest(&self) -> u64 {
        self.columns.iter().map(Column::sum).max().unwrap_or(0)
    }

    pub(super) fn value(&self) -> Value {
        let columns = self.columns.iter().map(|column| {
            let mut object = Map::new();
            object.insert("from".to_owned(), column.from.into());
            object.insert("to".to_owned(), column.to.into());
            for ((_, name), part) in self.parts.iter().zip(&column.parts) {
                object.insert((*name).to_owned(), (*part).into());
            }
            Value::Object(object)
        });
        columns.collect()
    }
}

const ENTRIES: &[(&str, &str)] = &[("entries", "entries")];

/// Returns all charts except the map of the regions.
pub(super) fn all(scan: &Scan) -> Vec<Bars> {
    let (keys, values) = (&scan.key_bytes, &scan.value_bytes);
    let bytes = |name| (name, Unit::Bytes);
    let age = ("time since the entry was written", Unit::Seconds);
    vec![
        probes(scan),
        distribution(
            "key_bytes",
            "Key sizes",
            sizes(keys),
            bytes("bytes of the key"),
            keys,
        ),
        distribution(
            "value_bytes",
            "Value sizes",
            sizes(values),
            bytes("bytes of the value"),
            values,
        ),
        distribution("ages", "Ages", ages(&scan.ages), age, &scan.ages),
        heap(&scan.segments),
    ]
}

fn distribution(
    id: &'static str,
    title: &'static str,
    about: String,
    across: (&'static str, Unit),
    histogram: &ValueHistogram,
) -> Bars {
    Bars {
        id,
        title,
        about,
        across,
        up: ("entries", Unit::Count),
        parts: ENTRIES,
        columns: buckets(histogram),
    }
}

fn probes(scan: &Scan) -> Bars {
    let (head, tail) = scan
        .index
        .entries_by_groups
        .split_at(scan.index.entries_by_groups.len().min(PROBES - 1));
    let mut columns: Vec<Column> = (1..)
        .zip(head)
        .map(|(groups, &count)| column(groups, Some(groups), vec![count]))
        .collect();
    if !tail.is_empty() {
        let last = (tail.len() == 1).then_some(PROBES as u64);
        columns.push(column(PROBES as u64, last, vec![tail.iter().sum()]));
    }
    Bars {
        id: "probes",
        title: "Probe lengths",
        about: format!(
            "Groups of eight slots that a search probes: {:.2} on average for a present key, {:.2} \
             for an absent one.",
            scan.index.hit_groups(),
            scan.index.miss_groups
        ),
        across: ("probed groups", Unit::Count),
        up: ("entries", Unit::Count),
        parts: ENTRIES,
        columns,
    }
}

fn column(from: u64, to: Option<u64>, parts: Vec<u64>) -> Column {
    Column { from, to, parts }
}

fn sizes(histogram: &ValueHistogram) -> String {
    if histogram.count() == 0 {
        return "None.".to_owned();
    }
    format!(
        "From {} to {}, {} on average; half of them have {} or less.",
        units::bytes(histogram.min),
        units::bytes(histogram.max),
        units::bytes(histogram.mean() as u64),
        units::bytes(histogram.quantile(0.5)),
    )
}

fn ages(histogram: &ValueHistogram) -> String {
    if histogram.count() == 0 {
        return "None.".to_owned();
    }
    format!(
        "From {} to {}; half of them are {} old or younger.",
        units::span(histogram.min),
        units::span(histogram.max),
        units::span(histogram.quantile(0.5)),
    )
}

/// Returns the buckets from the first to the last that is not empty, and empty neighbours up to
/// [`FEWEST`].
fn buckets(histogram: &ValueHistogram) -> Vec<Column> {
    let counted = |count: &u64| *count > 0;
    let first = histogram.buckets.iter().position(counted);
    let last = histogram.buckets.iter().rposition(counted);
    let (Some(mut first), Some(mut last)) = (first, last) else {
        return Vec::new();
    };
    while last - first + 1 < FEWEST {
        first = first.saturating_sub(1);
        last = (last + 1).min(histogram.buckets.len() - 1);
    }
    let all = (first..=last).map(|bucket| {
        let (low, high) = ValueHistogram::bounds(bucket);
        column(low, Some(high), vec![histogram.buckets[bucket]])
    });
    all.collect()
}

fn heap(segments: &[SegmentUse]) -> Bars {
    let per_column = segments.len().div_ceil(COLUMNS).max(1);
    let columns = segments.chunks(per_column).map(|some| {
        let sum = |of: fn(&SegmentUse) -> u64| some.iter().map(of).fold(0_u64, u64::saturating_add);
        let bound = |segment: Option<&SegmentUse>| segment.map_or(0, |one| one.number.into());
        column(
            bound(some.first()),
            Some(bound(some.last())),
            vec![sum(|one| one.live_bytes), sum(|one| one.dead_bytes)],
        )
    });
    Bars {
        id: "segments",
        title: "The heap",
        about:
            "Live bytes belong to entries; cleaning reclaims dead ones, the oldest segment first."
                .to_owned(),
        across: ("number of the segment", Unit::Count),
        up: ("bytes", Unit::Bytes),
        parts: &[("live", "live"), ("dead", "dead")],
        columns: columns.collect(),
    }
}

/// The map of the regions of the index.
#[derive(Debug)]
pub(super) struct Occupancy {
    pub(super) per_cell: usize,
    pub(super) cells: Vec<Cell>,
}

/// One or more neighbouring regions.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cell {
    pub(super) first: u32,
    pub(super) last: u32,
    /// Slots of the live ones.
    pub(super) slots: u64,
    pub(super) occupied: u64,
    pub(super) deleted: u64,
    pub(super) implausible: u64,
    /// Regions that are not in use.
    pub(super) idle: u64,
}

impl Occupancy {
    /// The most cells, so that the page stays below 300 KB.
    const CELLS: usize = 720;

    pub(super) fn new(regions: &[RegionScan]) -> Self {
        let per_cell = regions.len().div_ceil(Self::CELLS).max(1);
        Self {
            per_cell,
            cells: regions.chunks(per_cell).map(Cell::new).collect(),
        }
    }

    pub(super) fn value(&self) -> Value {
        let cells = self.cells.iter().map(|cell| {
            json!({
                "first": cell.first,
                "last": cell.last,
                "slots": cell.slots,
                "occupied": cell.occupied,
                "deleted": cell.deleted,
                "free": cell.free(),
                "implausible": cell.implausible,
                "idle_regions": cell.idle,
            })
        });
        json!({ "regions_per_cell": self.per_cell, "cells": cells.collect::<Value>() })
    }
}

impl Cell {
    fn new(regions: &[RegionScan]) -> Self {
        let number = |region: Option<&RegionScan>| region.map_or(0, |region| region.number);
        let mut cell = Self {
            first: number(regions.first()),
            last: number(regions.last()),
            ..Self::default()
        };
        for region in regions {
            if region.is_live() {
                cell.slots += u64::from(region.slots);
                cell.occupied += u64::from(region.occupied);
                cell.deleted += u64::from(region.deleted);
                cell.implausible += u64::from(region.invalid);
            } else {
                cell.idle += 1;
            }
        }
        cell
    }

    /// Returns the number of empty slots.
    pub(super) fn free(&self) -> u64 {
        self.slots
            .saturating_sub(self.occupied + self.deleted + self.implausible)
    }

    pub(super) fn name(&self) -> String {
        match self.first == self.last {
            true => units::count(self.first.into()),
            false => format!(
                "{} to {}",
                units::count(self.first.into()),
                units::count(self.last.into())
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axis_numbers_are_short() {
        let count = |number| Unit::Count.short(number);
        assert_eq!([0, 999, 9_999].map(count), ["0", "999", "9,999"]);
        assert_eq!(
            [10_000, 12_500, 2_500_000].map(count),
            ["10 k", "12.5 k", "2.5 M"]
        );
        let bytes = |number| Unit::Bytes.short(number);
        assert_eq!([512, 1024, 1536].map(bytes), ["512 B", "1 KiB", "1.5 KiB"]);
        let seconds = |number| Unit::Seconds.short(number);
        assert_eq!(
            [1, 64, 4096, 1 << 17].map(seconds),
            ["1 s", "1 min", "1 h", "2 d"]
        );
        assert_eq!(seconds(u64::MAX >> 8), "2283367368 a");
    }

    #[test]
    fn histogram_spans_first_to_last_value() {
        let mut histogram = ValueHistogram::default();
        assert!(buckets(&histogram).is_empty());
        [4, 5, 200]
            .into_iter()
            .for_each(|value| histogram.add(value));
        let bounds: Vec<_> = buckets(&histogram)
            .iter()
            .map(|column| (column.from, column.to, column.sum()))
            .collect();
        assert_eq!((bounds.len(), bounds[0]), (6, (4, Some(7), 2)));
        assert_eq!(bounds[5], (128, Some(255), 1));
    }

    #[test]
    fn few_buckets_get_empty_neighbours() {
        for value in [0, 1, 1000, u64::MAX] {
            let mut histogram = ValueHistogram::default();
            histogram.add(value);
            let columns = buckets(&histogram);
            assert!((6..=7).contains(&columns.len()), "{columns:?}");
            assert_eq!(columns.iter().map(Column::sum).sum::<u64>(), 1);
        }
    }
}
