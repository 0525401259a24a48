//! Small runs of every cache that was compiled in.

use std::path::Path;

use super::table::{Row, render};
use super::work::Load;
use super::{ALL, OURS, measured};
use crate::figures::{Figure, Figures};

const SMALL: Load = Load {
    value: 1_000,
    bound: 4 << 20,
    count: 5_000,
};

fn measure(name: &str, dir: &Path) -> Figures {
    measured(name, &SMALL, dir).unwrap_or_else(|error| panic!("{name}: {error:?}"))
}

// Each cache evicts, keeps its bound, and still has its newest entries: otherwise times of hits are
// those of misses.
#[test]
fn caches_keep_bound_and_newest_entries() {
    for (name, ..) in ALL {
        let dir = tempfile::tempdir().expect("a directory");
        let figures = measure(name, dir.path());
        let number = |figure: &str| figures.number(figure).expect("a figure");
        assert!(
            number("insert") > 0.0 && number("get") > 0.0,
            "{name}: {figures:?}"
        );
        assert!(number("hits") > 0.999, "{name}: {figures:?}");
        // SQLite's log takes 4 MiB besides. All that was inserted would take 13 MiB.
        let files = number("disk");
        let most = SMALL.bound + (5 << 20);
        assert!(files <= most as f64, "{name} takes {files} bytes");
    }
}

#[test]
fn ratios_refer_to_the_same_round() {
    let row = |name, round, insert| {
        let figures = [("insert".to_owned(), Figure::Number(insert))];
        Row {
            name,
            value: 100,
            round,
            figures: Figures(figures.into_iter().collect()),
        }
    };
    let other = ALL[ALL.len() - 1].0;
    if other == OURS {
        return;
    }
    // The machine was half as fast in the second round.
    let rows = [
        row(OURS, 1, 100.0),
        row(other, 1, 300.0),
        row(OURS, 2, 200.0),
        row(other, 2, 600.0),
    ];
    let text = render(&rows);
    assert!(text.contains("| 450 (3.00) |"), "{text}");
}
