//! Labels shared by threads and processes, some of which are killed while they intern.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use mmapcache::{LabelId, Labels, Options};

const THREADS: u64 = 8;
const PROCESSES: u64 = 4;

fn text(number: u64) -> String {
    format!("label number {number}")
}

/// Mixes a number's bits: pseudorandom, but reproducible.
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Starts this program again with only the test `child`.
fn start(path: &Path, task: &str, seed: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture"])
        .env("LABELS_PATH", path)
        .env("LABELS_TASK", task)
        .env("LABELS_SEED", seed.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Not a test: the entry point of the child processes.
#[test]
fn child() {
    let Ok(path) = std::env::var("LABELS_PATH") else {
        return;
    };
    let seed: u64 = std::env::var("LABELS_SEED").unwrap().parse().unwrap();
    let labels = Labels::open(&path).unwrap();
    match &*std::env::var("LABELS_TASK").unwrap() {
        "overlap" => {
            for (number, id) in insert_overlapping(&labels, seed, 3_000) {
                println!("id {number} {id}");
            }
        }
        // Runs until it is killed.
        _ => {
            for number in (seed * 1_000_000).. {
                // Other processes intern most of these, too.
                let number = number % 1_000_000 / 2 + (number % 3) * 10_000_000;
                let id = labels.get_or_intern(text(number)).unwrap();
                println!("id {number} {id}");
            }
        }
    }
}

/// Interns labels that others intern at the same time, in another order.
fn insert_overlapping(labels: &Labels, seed: u64, count: u64) -> BTreeMap<u64, LabelId> {
    (0..count)
        .map(|at| {
            let number = mix(at ^ (seed << 32)) % count;
            (number, labels.get_or_intern(text(number)).unwrap())
        })
        .collect()
}

/// Returns what a child printed until it ended.
fn said(child: &mut Child) -> impl Iterator<Item = (u64, LabelId)> {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lines.map_while(Result::ok).filter_map(|line| {
        let (number, id) = line.strip_prefix("id ")?.split_once(' ')?;
        Some((number.parse().ok()?, LabelId::new(id.parse().ok()?)))
    })
}

/// Asserts that every id has one label, every label one id, and that no id is left out.
fn assert_dense(labels: &Labels, known: &BTreeMap<u64, LabelId>) {
    let mut ids: Vec<_> = known.values().map(|id| u64::from(id.number())).collect();
    ids.sort_unstable();
    assert_eq!(ids, (0..known.len() as u64).collect::<Vec<_>>());
    assert_eq!(labels.len(), known.len() as u64);
    for (&number, &id) in known {
        assert_eq!(labels.get(text(number)).unwrap(), Some(id));
        assert_eq!(labels.resolve_str(id).unwrap(), Some(text(number)));
    }
    let report = labels.verify().run().unwrap();
    assert!(report.is_clean(), "{:?}", report.problems);
}

fn learn(known: &mut BTreeMap<u64, LabelId>, number: u64, id: LabelId) {
    let before = *known.entry(number).or_insert(id);
    assert_eq!(before, id, "label {number} has two ids");
}

// Threads that insert the same labels at the same time are given the same ids.
#[test]
fn threads_get_equal_ids() {
    let dir = tempfile::tempdir().unwrap();
    let labels = Labels::open(dir.path().join("labels")).unwrap();
    let mut known = BTreeMap::new();
    std::thread::scope(|scope| {
        let labels = &labels;
        let threads: Vec<_> = (0..THREADS)
            .map(|seed| scope.spawn(move || insert_overlapping(labels, seed, 3_000)))
            .collect();
        for thread in threads {
            for (number, id) in thread.join().unwrap() {
                learn(&mut known, number, id);
            }
        }
    });
    assert_dense(&labels, &known);
}

// Processes that insert the same labels at the same time are given the same ids.
#[test]
fn processes_get_equal_ids() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("labels");
    let mut children: Vec<_> = (0..PROCESSES)
        .map(|seed| start(&path, "overlap", seed))
        .collect();
    let mut known = BTreeMap::new();
    for child in &mut children {
        for (number, id) in said(child) {
            learn(&mut known, number, id);
        }
        assert!(child.wait().unwrap().success());
    }
    assert!(known.len() > 2_000, "{} labels", known.len());
    assert_dense(&Labels::open(&path).unwrap(), &known);
}

/// Kills processes while they intern; the ids that they printed must stay valid.
fn kill_while_they_insert(rounds: u64) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("labels");
    let mut options = Options::new();
    options.region_slots(16).max_segment_bytes(64 * 1024);
    drop(Labels::open_with(&path, &options).unwrap());
    let mut known = BTreeMap::new();
    for round in 0..rounds {
        let mut pair = [
            start(&path, "endless", round),
            start(&path, "endless", round + 1),
        ];
        std::thread::sleep(std::time::Duration::from_millis(8 + mix(round) % 25));
        for child in &mut pair {
            child.kill().unwrap();
            // A kill within a line leaves a part of it, which could be parsed as another number.
            let mut lines: Vec<_> = said(child).collect();
            lines.pop();
            for (number, id) in lines {
                learn(&mut known, number, id);
            }
            child.wait().unwrap();
        }
        let labels = Labels::open(&path).unwrap();
        for (&number, &id) in &known {
            assert_eq!(labels.get(text(number)).unwrap(), Some(id), "round {round}");
            assert_eq!(labels.resolve_str(id).unwrap(), Some(text(number)));
        }
    }
    let labels = Labels::open(&path).unwrap();
    assert!(labels.verify().run().unwrap().is_clean());
    let ids: Vec<_> = labels
        .iter()
        .unwrap()
        .map(|it| it.unwrap().0.number())
        .collect();
    assert_eq!(
        ids,
        (0..ids.len() as u32).collect::<Vec<_>>(),
        "a kill leaves no hole"
    );
    assert!(known.len() > 100, "{} labels are no test", known.len());
}

#[test]
fn ids_survive_a_kill() {
    kill_while_they_insert(12);
}

/// `cargo test --release --test labels -- --ignored`: a minute.
#[test]
#[ignore = "a soak: 300 rounds"]
fn ids_survive_300_kills() {
    kill_while_they_insert(300);
}
