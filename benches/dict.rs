//! Measures the dictionaries beside those of the Python package persidict, and beside a plain map:
//! the same work for each, in turn within one run, as tables of medians and ratios.
//!
//! `cargo xtask bench dict` installs persidict for the run, and takes about four minutes. `cargo
//! bench --features dict --bench dict` measures only ours, unless it gets `--persidict PYTHON`, a
//! Python that has the package.

#[path = "dict/clock.rs"]
mod clock;
#[path = "dict/maps.rs"]
mod maps;
#[path = "dict/ours.rs"]
mod ours;
#[path = "dict/rival.rs"]
mod rival;
#[path = "dict/table.rs"]
mod table;
#[path = "dict/work.rs"]
mod work;

use std::path::{Path, PathBuf};
use std::process::Command;

use mmapcache::dict::{CachedDict, Format, LocalDict, MmapDict};
use mmapcache::{Durability, Options};
use rival::Rival;
use table::{Goal, Rounds};
use work::{Item, Work};

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let after = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1)
    };
    let number = |name, default| after(name).map_or(default, |it| it.parse().expect("a number"));
    let (entries, rounds) = (number("--entries", 5_000), number("--rounds", 7));
    let parent = after("--dir").map_or_else(|| env!("CARGO_TARGET_TMPDIR").into(), PathBuf::from);
    let scratch = tempfile::tempdir_in(parent).expect("a directory");
    let dir = scratch.path();

    let work = Work::new(entries);
    let mut rival = after("--persidict").map(|python| Rival::start(python, dir, entries, &work));
    let mut measured = Rounds::default();
    for _ in 0..rounds {
        if let Some(rival) = &mut rival {
            measured.add("FileDirDict", rival.run("FileDirDict"));
            measured.add("persidict's LocalDict", rival.run("LocalDict"));
        }
        measure(&mut measured, dir, &work);
    }

    let rival = rival
        .as_ref()
        .map_or("without persidict", |rival| &rival.name);
    let disk = file_system(dir);
    println!("\n{rival}; {entries} entries, {rounds} rounds, in turns, on {disk}");
    report(&measured);
}

/// Returns the directory's file system: on `tmpfs`, nothing is ever synced.
fn file_system(dir: &Path) -> String {
    let df = Command::new("df").arg("--output=fstype").arg(dir).output();
    let table = df.map_or_else(|_| Vec::new(), |df| df.stdout);
    let table = String::from_utf8_lossy(&table);
    table.lines().nth(1).unwrap_or("an unknown disk").to_owned()
}

/// Runs a round of each of ours.
fn measure(measured: &mut Rounds, dir: &Path, work: &Work) {
    let files = |format, durability| {
        let scratch = tempfile::tempdir_in(dir).expect("a directory");
        let mut options = Options::new();
        options.durability(durability);
        let path = scratch.path().join("dict");
        let dict = MmapDict::open_with(path, format, &options).expect("room");
        (scratch, dict)
    };
    for (name, format, durability) in [
        ("MmapDict", Format::Json, Durability::Process),
        (
            "MmapDict, MessagePack",
            Format::MessagePack,
            Durability::Process,
        ),
        ("MmapDict, synced", Format::Json, Durability::Sync),
    ] {
        let (_scratch, dict) = files(format, durability);
        measured.add(name, ours::measure(&dict, work));
    }
    let (_scratch, dict) = files(Format::Json, Durability::Process);
    measured.add("CachedDict", ours::measure(&CachedDict::new(dict), work));
    measured.add("LocalDict", ours::measure(&LocalDict::new(), work));
    measured.add("BTreeMap", maps::measure::<Item>(work));
    measured.add("BTreeMap of JSON", maps::measure::<Vec<u8>>(work));
}

fn report(measured: &Rounds) {
    let than = "FileDirDict";
    let ours = ["MmapDict", "MmapDict, MessagePack", "MmapDict, synced"];
    measured.print(than, &ours);
    measured.print("persidict's LocalDict", &["LocalDict"]);
    measured.print("BTreeMap", &["LocalDict", "BTreeMap of JSON"]);
    measured.print("MmapDict", &["CachedDict", "LocalDict"]);
    if measured.has(than) {
        println!("\n{than} syncs what it writes, and no deletions; `synced` syncs both.");
        for (name, writes) in [("MmapDict", 200.0), ("MmapDict, synced", 1.0)] {
            let reads = 50.0;
            let goal = Goal {
                than,
                reads,
                writes,
            };
            measured.print_goal(name, &goal);
        }
    }
}
