//! Runs long tests and measurements.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::run::{Result, cargo, program, run};

/// The test files whose ignored tests are long ones, and `lib` for those of the library. In other
/// files, ignored tests write files of the repository, or need a machine without other work.
const SOAKS: [&str; 10] = [
    "lib",
    "soak",
    "kills",
    "stress",
    "short_lived",
    "labels",
    "copy",
    "damage",
    "listings",
    "disk_full",
];

pub(crate) fn soak(names: &[String]) -> Result {
    let unknown = names.iter().find(|name| !SOAKS.contains(&name.as_str()));
    if let Some(name) = unknown {
        return Err(format!(
            "there is no soak `{name}`, but {}",
            SOAKS.join(", ")
        ));
    }
    let asked = |name: &&&str| names.is_empty() || names.iter().any(|asked| asked == **name);
    for name in SOAKS.iter().filter(asked) {
        let target = match *name {
            "lib" => "--lib".to_owned(),
            file => format!("--test {file}"),
        };
        // One after the other: they measure times and fill disks.
        let how = "--ignored --nocapture --test-threads=1";
        run(&mut cargo(&format!(
            "test --release --all-features {target} -- {how}"
        )))?;
    }
    Ok(())
}

pub(crate) fn bench(arguments: &[String]) -> Result {
    let (name, arguments) = match arguments {
        [] => ("ratio", arguments),
        [name, rest @ ..] => (name.as_str(), rest),
    };
    match name {
        "dict" => beside_persidict(arguments),
        "inspect" => run(program("python3", "benches/inspect/measure.py").args(arguments)),
        _ => run(cargo(&format!("bench --bench {name} --")).args(arguments)),
    }
}

/// Installs a Python package for one measurement only, in a directory of `target`. Returns the
/// interpreter that has it.
fn python_with(package: &str, version: &str) -> Result<PathBuf> {
    let venv = Path::new("target").join(package);
    run(program("python3", "-m venv --clear").arg(&venv))?;
    let pip = format!("install --quiet --disable-pip-version-check {package}=={version}");
    run(Command::new(venv.join("bin/pip")).args(pip.split(' ')))?;
    Ok(venv.join("bin/python"))
}

/// Measures dictionaries beside the Python package persidict.
fn beside_persidict(arguments: &[String]) -> Result {
    let python = python_with("persidict", "0.309.0")?;
    let mut bench = cargo("bench --features dict --bench dict -- --persidict");
    run(bench.arg(python).args(arguments))
}

/// The stores that the goals for reading name.
const READING: &str = "kyoto,lmdb,tdb";
/// Those that the goals for writing name.
const WRITING: &str = "kyoto,lmdb,tdb,tkrzw";

pub(crate) fn compare(arguments: &[String]) -> Result {
    let manifest = "run --release --manifest-path benches/compare/Cargo.toml";
    match arguments.first().map(String::as_str) {
        Some("caches") => caches(manifest, arguments),
        Some("goals") => {
            let rivals = match arguments.get(1).map(String::as_str) {
                Some("writing") => WRITING,
                _ => READING,
            };
            let goals = format!("{manifest} --features {rivals} -- --goals");
            run(cargo(&goals).args(&arguments[1..]))
        }
        _ => run(cargo(manifest).args(arguments)),
    }
}

fn caches(manifest: &str, arguments: &[String]) -> Result {
    let python = python_with("diskcache", "5.6.3")?;
    let features = "--no-default-features --features diskcache,foyer,sqlite --";
    let mut caches = cargo(&format!("{manifest} {features}"));
    run(caches.env("DISKCACHE_PYTHON", python).args(arguments))
}
