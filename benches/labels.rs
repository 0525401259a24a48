//! Measures `Labels` beside what a program would intern strings with in memory: `lasso`, a map and
//! a list under one lock, and the same without the lock.
//!
//! `cargo bench --bench labels` takes a minute, and `-- --entries 10000000 --dir DIR` several,
//! where DIR is on a real disk. Each store runs in its own process.

use std::collections::HashMap;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Instant;

use lasso::{Key as _, Spur, ThreadedRodeo};
use mmapcache::{LabelId, Labels};

const STORES: [&str; 4] = ["labels", "lasso", "dict", "map"];
/// Lookups of each thread in a round; the best round counts.
const LOOKUPS: u64 = 500_000;
const ROUNDS: usize = 5;

/// Mixes a number's bits: pseudorandom, but reproducible.
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A label of 20 bytes.
struct Label([u8; 20]);

impl Label {
    fn new(number: u64) -> Self {
        let mut bytes = *b"r/t-0000000000000000";
        // The whole number is encoded: no two numbers have the same label.
        let mut rest = mix(number);
        for byte in &mut bytes[4..] {
            *byte = b"0123456789abcdef"[(rest & 15) as usize];
            rest >>= 4;
        }
        Self(bytes)
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.0).expect("ASCII")
    }
}

/// A store that interns strings.
trait Store: Sync {
    fn get_or_intern(&self, label: &str) -> u32;
    fn resolve(&self, id: u32, label: &mut Vec<u8>);
}

impl Store for Labels {
    fn get_or_intern(&self, label: &str) -> u32 {
        Labels::get_or_intern(self, label).expect("room").number()
    }

    fn resolve(&self, id: u32, label: &mut Vec<u8>) {
        let found = self.resolve_into(LabelId::new(id), label);
        assert!(found.expect("readable files"));
    }
}

impl Store for ThreadedRodeo {
    fn get_or_intern(&self, label: &str) -> u32 {
        ThreadedRodeo::get_or_intern(self, label).into_usize() as u32
    }

    fn resolve(&self, id: u32, label: &mut Vec<u8>) {
        let key = Spur::try_from_usize(id as usize).expect("a key");
        label.clear();
        label.extend_from_slice(self.resolve(&key).as_bytes());
    }
}

/// A map and a list.
#[derive(Default)]
struct Dict {
    ids: HashMap<Box<str>, u32>,
    labels: Vec<Box<str>>,
}

impl Dict {
    fn get_or_intern(&mut self, label: &str) -> u32 {
        if let Some(&id) = self.ids.get(label) {
            return id;
        }
        let id = self.labels.len() as u32;
        self.labels.push(label.into());
        self.ids.insert(label.into(), id);
        id
    }
}

impl Store for Mutex<Dict> {
    fn get_or_intern(&self, label: &str) -> u32 {
        self.lock().expect("no panic").get_or_intern(label)
    }

    fn resolve(&self, id: u32, label: &mut Vec<u8>) {
        label.clear();
        label.extend_from_slice(self.lock().expect("no panic").labels[id as usize].as_bytes());
    }
}

/// The map and the list once nothing is inserted any more.
struct Frozen(Dict);

impl Store for Frozen {
    fn get_or_intern(&self, label: &str) -> u32 {
        self.0.ids[label]
    }

    fn resolve(&self, id: u32, label: &mut Vec<u8>) {
        label.clear();
        label.extend_from_slice(self.0.labels[id as usize].as_bytes());
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let after = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1).cloned()
    };
    let dir = after("--dir").map_or_else(std::env::temp_dir, PathBuf::from);
    let entries: u64 = after("--entries").map_or(100_000, |text| text.parse().expect("a number"));
    if let Some(store) = after("--store") {
        return measure(&store, entries, &dir);
    }
    println!("\n{entries} labels of 20 bytes, nanoseconds per operation; MiB\n");
    println!(
        "| store | insert | existing | by id | existing, 2 threads | by id, 2 threads | restart \
         | private | resident | disk, bytes a label |"
    );
    println!("|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|");
    for store in STORES {
        let program = std::env::current_exe().expect("this program");
        let mut child = Command::new(program);
        child.args(["--store", store, "--entries", &entries.to_string(), "--dir"]);
        assert!(child.arg(&dir).status().expect("a process").success());
    }
}

fn measure(store: &str, entries: u64, dir: &Path) {
    let scratch = tempfile::tempdir_in(dir).expect("a directory");
    let path = scratch.path().join("labels");
    let list = scratch.path().join("list");
    match store {
        "labels" => {
            let open = || Labels::open(&path).expect("a cache");
            let restart = || {
                let start = Instant::now();
                assert!(open().contains(Label::new(7).text()).expect("readable"));
                start.elapsed().as_secs_f64() * 1e3
            };
            let labels = open();
            let insert = time(entries, || {
                for first in (0..entries).step_by(1_000) {
                    let batch = (first..entries.min(first + 1_000)).map(|i| Label::new(i).0);
                    labels.get_or_intern_many(batch).expect("room");
                }
            });
            let disk = labels.disk_usage().expect("readable").total() as f64 / entries as f64;
            report(store, entries, &labels, insert, restart, Some(disk));
        }
        "lasso" => {
            let fill = || {
                let rodeo: ThreadedRodeo = ThreadedRodeo::new();
                fill_from(&list, |label| {
                    rodeo.get_or_intern(label);
                });
                rodeo
            };
            write_list(&list, entries);
            let rodeo = ThreadedRodeo::new();
            let insert = insert_all(entries, |label| {
                rodeo.get_or_intern(label);
            });
            report(store, entries, &rodeo, insert, || restart_of(fill), None);
        }
        _ => {
            let fill = || {
                let mut dict = Dict::default();
                fill_from(&list, |label| {
                    dict.get_or_intern(label);
                });
                dict
            };
            write_list(&list, entries);
            let mut dict = Dict::default();
            let insert = insert_all(entries, |label| {
                dict.get_or_intern(label);
            });
            let restart = || restart_of(fill);
            if store == "dict" {
                report(store, entries, &Mutex::new(dict), insert, restart, None);
            } else {
                report(store, entries, &Frozen(dict), insert, restart, None);
            }
        }
    }
}

/// Returns the nanoseconds per operation of `count` operations.
fn time(count: u64, run: impl FnOnce()) -> f64 {
    let start = Instant::now();
    run();
    start.elapsed().as_nanos() as f64 / count as f64
}

fn insert_all(entries: u64, mut insert: impl FnMut(&str)) -> f64 {
    time(entries, || {
        for number in 0..entries {
            insert(Label::new(number).text());
        }
    })
}

/// Writes the labels as a program without a store would keep them: one per line.
fn write_list(path: &Path, entries: u64) {
    use std::io::Write as _;
    let file = std::fs::File::create(path).expect("a file");
    let mut file = std::io::BufWriter::new(file);
    for number in 0..entries {
        writeln!(file, "{}", Label::new(number).text()).expect("room");
    }
    file.flush().expect("room");
}

fn fill_from(path: &Path, mut insert: impl FnMut(&str)) {
    let text = std::fs::read_to_string(path).expect("the list");
    text.lines().for_each(&mut insert);
}

/// Returns the milliseconds until all labels are read again.
fn restart_of<T>(fill: impl FnOnce() -> T) -> f64 {
    let start = Instant::now();
    black_box(fill());
    start.elapsed().as_secs_f64() * 1e3
}

fn report(
    name: &str,
    entries: u64,
    store: &impl Store,
    insert: f64,
    restart: impl FnOnce() -> f64,
    disk: Option<f64>,
) {
    let existing = |salt| {
        for number in 0..LOOKUPS {
            let number = mix(number ^ salt) % entries;
            assert_eq!(
                u64::from(store.get_or_intern(Label::new(number).text())),
                number
            );
        }
    };
    let by_id = |salt| {
        let mut label = Vec::new();
        for number in 0..LOOKUPS {
            let number = mix(number ^ salt) % entries;
            store.resolve(number as u32, &mut label);
            assert_eq!(label[..], Label::new(number).0);
        }
    };
    let figures = [
        best(1, &existing),
        best(1, &by_id),
        best(2, &existing),
        best(2, &by_id),
    ]
    .map(|figure| format!("{figure:.0}"));
    let (private, resident) = memory();
    let restart = restart();
    let disk = disk.map_or_else(|| "-".to_owned(), |bytes| format!("{bytes:.1}"));
    println!(
        "| {name} | {insert:.0} | {} | {restart:.2} ms | {private} | {resident} | {disk} |",
        figures.join(" | ")
    );
}

/// Returns the nanoseconds of wall time per lookup of one of `threads` threads, in the best round.
fn best(threads: u64, run: &(impl Fn(u64) + Sync)) -> f64 {
    let round = |round| {
        time(LOOKUPS, || {
            std::thread::scope(|scope| {
                for thread in 0..threads {
                    scope.spawn(move || run(round * 16 + thread));
                }
            });
        })
    };
    (0..ROUNDS as u64).map(round).fold(f64::MAX, f64::min)
}

/// Returns this process's private and resident memory in MiB.
fn memory() -> (u64, u64) {
    let text = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap_or_default();
    let of = |names: &[&str]| {
        let lines = text.lines().filter_map(|line| line.split_once(':'));
        lines
            .filter(|(name, _)| names.contains(name))
            .filter_map(|(_, rest)| rest.trim().strip_suffix(" kB")?.parse::<u64>().ok())
            .sum::<u64>()
            / 1024
    };
    (of(&["Anonymous"]), of(&["Rss"]))
}
