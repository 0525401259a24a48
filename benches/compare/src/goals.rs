//! The goals for the cache beside its rivals, and whether it reached them in this run.

use std::fmt::Write;

use crate::plan::Size;
use crate::report::{Results, USUAL, shown};
use crate::stores::LIMIT;

const SINGLE: &str = "mmapcache";
const WRITER: &str = "mmapcache-writer";
const EXCLUSIVE: &str = "mmapcache-exclusive";
const SOAK: Size = Size {
    entries: 10_000_000,
    value: 100,
};

/// At most this many times another store's figure.
struct AtMost {
    what: &'static str,
    store: &'static str,
    figure: &'static str,
    times: f64,
    rival: &'static str,
    rivals_figure: &'static str,
}

/// The same figure of both stores, unless another one is named.
const fn at_most(
    what: &'static str,
    (store, figure): (&'static str, &'static str),
    times: f64,
    rival: &'static str,
) -> AtMost {
    AtMost {
        what,
        store,
        figure,
        times,
        rival,
        rivals_figure: figure,
    }
}

const RATIOS: &[AtMost] = &[
    at_most(
        "hit, the next key depends",
        (SINGLE, "get_dependent"),
        1.1,
        LIMIT,
    ),
    at_most("hit, independent keys", (SINGLE, "get"), 1.5, LIMIT),
    at_most("hit, independent keys", (SINGLE, "get"), 0.5, "tdb"),
    at_most("hit, independent keys", (SINGLE, "get"), 0.3, "lmdb"),
    AtMost {
        what: "hit, 16 keys in a call, beside single gets",
        store: SINGLE,
        figure: "get_16",
        times: 0.7,
        rival: LIMIT,
        rivals_figure: "get",
    },
    at_most("miss", (SINGLE, "miss"), 2.0, LIMIT),
    at_most("miss", (SINGLE, "miss"), 0.6, "candystore"),
    at_most("put new, in a `Writer`", (WRITER, "put"), 1.0, LIMIT),
    at_most("put new, exclusive", (EXCLUSIVE, "put"), 1.0, LIMIT),
    at_most("put new, in a `Writer`", (WRITER, "put"), 0.9, "kyoto"),
    at_most("put new, exclusive", (EXCLUSIVE, "put"), 0.9, "kyoto"),
    at_most("put new, a lock each", (SINGLE, "put"), 0.45, "tdb"),
    at_most("put new, a lock each", (SINGLE, "put"), 0.25, "lmdb"),
    at_most("overwrite, a lock each", (SINGLE, "overwrite"), 0.5, "tdb"),
    at_most("delete, a lock each", (SINGLE, "delete"), 0.5, "tkrzw"),
    at_most("list, borrowed buffers", (SINGLE, "list"), 1.25, "kyoto"),
    at_most("list, borrowed buffers", (SINGLE, "list"), 0.8, "lmdb"),
    at_most("reopen to first get", (SINGLE, "reopen_us"), 1.5, "lmdb"),
    at_most(
        "bytes on disk over the growth",
        (SINGLE, "disk_growth"),
        1.25,
        "lmdb",
    ),
];

/// Returns a row of the table, or `None` if it was not measured.
struct Row {
    what: String,
    goal: String,
    measured: Option<(String, bool)>,
}

pub(crate) fn table(results: &Results<'_>) -> String {
    let mut rows: Vec<_> = RATIOS.iter().map(|goal| ratio(results, goal)).collect();
    rows.extend(scaling(results));
    rows.extend(beside(results));
    rows.extend(longest(results));
    let mut text = "| what | goal | measured | met |\n|---|---|--:|---|\n".to_owned();
    for row in rows {
        let (measured, met) = match row.measured {
            Some((measured, true)) => (measured, "yes"),
            Some((measured, false)) => (measured, "**no**"),
            None => ("not measured".to_owned(), ""),
        };
        let _ = writeln!(text, "| {} | {} | {measured} | {met} |", row.what, row.goal);
    }
    text
}

fn ratio(results: &Results<'_>, goal: &AtMost) -> Row {
    let measured = if goal.rival == LIMIT {
        // In the same round, because the machine's speed drifts.
        results.ratio(USUAL, goal.store, goal.figure, goal.rivals_figure)
    } else {
        let number = |store, figure| results.number(USUAL, store, figure);
        number(goal.store, goal.figure)
            .zip(number(goal.rival, goal.rivals_figure))
            .map(|(own, rival)| own / rival)
    };
    Row {
        what: goal.what.to_owned(),
        goal: format!("at most {} x {}", goal.times, goal.rival),
        measured: measured.map(|ratio| (format!("{ratio:.2}"), ratio <= goal.times)),
    }
}

/// Returns how much more work two readers do than one.
fn speedup(results: &Results<'_>, store: &str, who: &str) -> Option<f64> {
    let number = |count| results.number(USUAL, store, &format!("{who}_{count}"));
    Some(number(1)? / number(2)?)
}

fn scaling(results: &Results<'_>) -> Vec<Row> {
    let limit = speedup(results, LIMIT, "threads");
    let mut rows = Vec::new();
    for who in ["threads", "processes"] {
        let own = speedup(results, SINGLE, who);
        rows.push(Row {
            what: format!("2 {who} read, times one"),
            goal: "at least 1.8".to_owned(),
            measured: own.map(|own| (format!("{own:.2}"), own >= 1.8)),
        });
        rows.push(Row {
            what: format!("2 {who} read, times one"),
            goal: "at least the map's 2 threads".to_owned(),
            measured: own
                .zip(limit)
                .map(|(own, limit)| (format!("{own:.2} to {limit:.2}"), own >= limit)),
        });
    }
    rows
}

fn beside(results: &Results<'_>) -> Vec<Row> {
    let number = |store, figure| results.number(USUAL, store, figure);
    let kept = |store| Some(number(store, "beside_alone")? / number(store, "beside_read")?);
    let ahead = |figure| {
        let (own, rival) = (number(SINGLE, figure)?, number("tdb", figure)?);
        Some((
            format!("{} to {} ns", shown(own), shown(rival)),
            own < rival,
        ))
    };
    let own = kept(SINGLE);
    vec![
        Row {
            what: "a reader's speed beside a writing process".to_owned(),
            goal: "at least 0.8 of alone".to_owned(),
            measured: own.map(|own| (format!("{own:.2}"), own >= 0.8)),
        },
        Row {
            what: "get beside a writing process".to_owned(),
            goal: "ahead of tdb".to_owned(),
            measured: ahead("beside_read"),
        },
        Row {
            what: "overwrite beside a reading process".to_owned(),
            goal: "ahead of tdb".to_owned(),
            measured: ahead("beside_write"),
        },
    ]
}

/// At ten million entries if they were measured, otherwise at a million.
fn longest(results: &Results<'_>) -> Vec<Row> {
    let size = [SOAK, USUAL]
        .into_iter()
        .find(|&size| results.number(size, SINGLE, "latency_put_max").is_some())
        .unwrap_or(SOAK);
    let mut rows = Vec::new();
    for (what, operation) in [("put", "loaded"), ("overwrite", "overwritten and cleaned")] {
        for (percentile, name, most) in [
            ("max", "longest put", 10.0),
            ("99.99", "99.99 % of puts", 1.0),
        ] {
            let figure = format!("latency_{what}_{percentile}");
            let measured = results.number(size, SINGLE, &figure).map(|nanoseconds| {
                let milliseconds = nanoseconds / 1e6;
                (format!("{} ms", shown(milliseconds)), milliseconds <= most)
            });
            rows.push(Row {
                what: format!(
                    "{name} while {} million are {operation}",
                    size.entries / 1_000_000
                ),
                goal: format!("at most {most} ms"),
                measured,
            });
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::{SINGLE, table};
    use crate::figures::{Figure, Figures};
    use crate::report::{Results, USUAL};
    use crate::run::Record;

    fn miss(store: &str, own: f64, limit: f64) -> Record {
        let figures = |number| Figures([("miss".to_owned(), Figure::Number(number))].into());
        Record {
            store: store.to_owned(),
            size: USUAL,
            figures: figures(own),
            limit: figures(limit),
            error: None,
        }
    }

    #[test]
    fn goal_is_met_missed_or_unmeasured() {
        let records = [
            miss(SINGLE, 60.0, 40.0),
            miss(SINGLE, 60.0, 20.0),
            miss(SINGLE, 60.0, 25.0),
            miss("candystore", 70.0, 25.0),
        ];
        let table = table(&Results(&records));
        let row = |goal: &str| table.lines().find(|line| line.contains(goal));
        let limit = row("| miss | at most 2 x hashbrown").expect("the row");
        assert!(limit.ends_with("| 2.40 | **no** |"), "{limit}");
        let rival = row("| miss | at most 0.6 x candystore").expect("the row");
        assert!(rival.ends_with("| 0.86 | **no** |"), "{rival}");
        let records = [miss(SINGLE, 60.0, 40.0)];
        let table = super::table(&Results(&records));
        assert!(table.contains("| 1.50 | yes |"), "{table}");
        assert_eq!(table.matches("yes").count(), 1);
        assert!(!table.contains("**no**"));
    }
}
