//! The table of goals, and what is measured for it.

use super::{Choice, Group, series, table, table_of};
use crate::figures::{Figure, Figures};
use crate::plan::Size;
use crate::report::{Results, USUAL};
use crate::run::Record;

fn figures(name: &str, number: f64) -> Figures {
    Figures([(name.to_owned(), Figure::Number(number))].into())
}

fn record(store: &str, round: u32, figures: Figures, limit: Figures) -> Record {
    Record {
        store: store.to_owned(),
        size: USUAL,
        round,
        figures,
        limit,
        error: None,
    }
}

fn miss(round: u32, own: f64, limit: f64) -> Record {
    record(
        "mmapcache",
        round,
        figures("miss", own),
        figures("miss", limit),
    )
}

fn row<'a>(table: &'a str, what: &str) -> &'a str {
    let found = table.lines().find(|line| line.contains(what));
    found.expect("the row")
}

#[test]
fn goal_is_met_missed_or_unmeasured() {
    let records = [
        miss(1, 60.0, 50.0),
        miss(2, 60.0, 20.0),
        miss(3, 60.0, 25.0),
    ];
    let missed = table(&Results(&records));
    let limit = row(&missed, "| miss, 1 M | at most 1.5 x hashbrown");
    assert!(
        limit.ends_with("| 2.40 | 1.20 to 3.00 | **no** |"),
        "{limit}"
    );
    let records = [miss(1, 60.0, 50.0)];
    let met = table(&Results(&records));
    assert!(met.contains("| 1.20 |  | yes |"), "{met}");
    assert_eq!(met.matches("yes").count(), 1);
    assert!(!met.contains("**no**"));
}

// The machine's speed drifts: a ratio is one of figures of the same round.
#[test]
fn rivals_are_compared_within_rounds() {
    let list =
        |store, round, number| record(store, round, figures("list", number), Figures::default());
    let records = [
        list("mmapcache", 1, 40.0),
        list("kyoto", 1, 40.0),
        list("mmapcache", 2, 90.0),
        list("kyoto", 2, 60.0),
        list("mmapcache", 3, 44.0),
        list("kyoto", 3, 80.0),
    ];
    let table = table(&Results(&records));
    let own = row(&table, "list all, 1 M");
    // The ratio of the medians is 0.73.
    assert!(own.ends_with("| 1.00 | 0.55 to 1.50 | yes |"), "{own}");
}

#[test]
fn scaling_is_met_from_below() {
    let scaling = |one, two| {
        let mut all = figures("threads_1", one);
        all.0.extend(figures("threads_2", two).0);
        let records = [record("mmapcache", 1, all, Figures::default())];
        let table = table(&Results(&records));
        row(&table, "2 threads read").to_owned()
    };
    assert!(scaling(400.0, 200.0).ends_with("| 2.00 |  | yes |"));
    assert!(scaling(400.0, 250.0).ends_with("| 1.60 |  | **no** |"));
}

// Who may not drop the page cache reads why there is no figure.
#[test]
fn missing_goal_says_why() {
    let refused = Figure::Refused("needs root".to_owned());
    let cold = Figures([("cold_us".to_owned(), refused)].into());
    let records = [record("mmapcache", 1, cold, Figures::default())];
    let table = table(&Results(&records));
    let own = row(&table, "cold get, 1 M: time");
    assert!(own.ends_with("| not measured: needs root |  |  |"), "{own}");
    assert_eq!(super::measured(&Results(&records)).lines().count(), 2);
}

// Each goal's figures are measured at its size, the limit's around the store.
#[cfg(all(
    feature = "kyoto",
    feature = "lmdb",
    feature = "tdb",
    feature = "tkrzw"
))]
#[test]
fn goals_measure_what_they_compare() {
    let groups = [Group::Reading, Group::Writing]
        .map(|group| (group, series(Choice::Group(group)).expect("known stores")));
    for goal in super::ALL {
        let all = groups.iter().find(|(group, _)| *group == goal.group);
        let (_, all) = all.expect("one of the two");
        for of in goal.figures() {
            let gives = |series: &super::Series| {
                series.size == goal.size
                    && series.workload == [super::workload_of(of.figure)]
                    && (series.figures.is_empty()
                        || series.figures.iter().any(|figure| figure == of.figure))
                    && match of.store {
                        super::LIMIT => series.limit,
                        store => series.stores.iter().any(|other| other == store),
                    }
            };
            assert!(all.iter().any(gives), "{} of {}", of.figure, of.store);
        }
    }
    let writes = |series: &super::Series| series.workload == [crate::plan::Workload::Load];
    let [(_, reading), (_, writing)] = &groups;
    assert!(!reading.iter().any(writes) && writing.iter().any(writes));
}

// One process is compared with several, and each number of them with TDB.
#[cfg(feature = "tdb")]
#[test]
fn writers_are_measured_with_those_they_are_compared_with() {
    use crate::plan::Workload;
    let all = series(Choice::Named(&["writers".to_owned()])).expect("a goal");
    assert_eq!(all.len(), 1);
    assert_eq!(all[0].workload, [Workload::Writers]);
    assert_eq!(all[0].stores, ["mmapcache", "tdb"]);
    for count in [1, 2, 4, 8] {
        let figure = format!("writers_processes_{count}");
        assert!(all[0].figures.contains(&figure), "{figure}");
    }
    let others = series(Choice::Group(Group::Reading)).expect("known stores");
    let writes = |series: &super::Series| series.workload.contains(&Workload::Writers);
    assert!(!others.iter().any(writes), "it is no goal for reading");
}

// Twice as many overwrites in all are half the time of each.
#[test]
fn several_writers_are_compared_with_one() {
    let processes = |two: f64, four: f64| {
        let mut all = figures("writers_processes_1", 400.0);
        all.0.extend(figures("writers_processes_2", two).0);
        all.0.extend(figures("writers_processes_4", four).0);
        let records = [record("mmapcache", 1, all, Figures::default())];
        table(&Results(&records))
    };
    let met = processes(250.0, 400.0);
    let two = row(&met, "2 processes overwrite, times one");
    assert!(two.ends_with("| 1.60 |  | yes |"), "{two}");
    let four = row(&met, "4 processes overwrite | at most 1 x one");
    assert!(four.ends_with("| 1.00 |  | yes |"), "{four}");
    let missed = processes(320.0, 420.0);
    let two = row(&missed, "2 processes overwrite, times one");
    assert!(two.ends_with("| 1.25 |  | **no** |"), "{two}");
    let four = row(&missed, "4 processes overwrite | at most 1 x one");
    assert!(four.ends_with("| 1.05 |  | **no** |"), "{four}");
}

// The longest wait is in nanoseconds, its goal in milliseconds.
#[test]
fn waits_of_writers_have_goals() {
    let longest = figures("writers_threads_8_longest", 60e6);
    let table = table(&Results(&[record(
        "mmapcache",
        1,
        longest,
        Figures::default(),
    )]));
    let own = row(&table, "longest overwrite of 8 threads");
    assert!(own.ends_with("| 60 ms |  | **no** |"), "{own}");
}

#[test]
fn one_goal_measures_its_own() {
    let all = series(Choice::Named(&["miss-10m".to_owned()])).expect("a goal");
    assert_eq!(all.len(), 1);
    assert_eq!(
        all[0].size,
        Size {
            entries: 10_000_000,
            value: 100
        }
    );
    assert_eq!(all[0].figures, ["miss"]);
    assert_eq!(all[0].stores, ["mmapcache"]);
    assert!(series(Choice::Named(&["absent".to_owned()])).is_err());
    let table = table_of(&Results(&[]), Choice::Named(&["miss-10m".to_owned()])).expect("a goal");
    assert_eq!(table.lines().count(), 3, "{table}");
}
