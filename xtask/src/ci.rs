//! What CI runs on a change, step by step.

use std::time::{Duration, Instant};

use crate::checks;
use crate::fuzz;
use crate::run::{Result, cargo, run_cargo, succeeds};

type Step = fn() -> Result;

const STEPS: [(&str, Step); 13] = [
    ("the README's command", || run_cargo("test --all-features")),
    ("engine in release", || {
        run_cargo("test --release --lib --features inspect")
    }),
    ("interleavings under loom", || checks::loom(&[])),
    ("formatting and clippy", checks::lint),
    ("adapters of crates/", checks::adapters),
    ("Python package", python),
    ("features alone", checks::features),
    ("documentation", checks::docs),
    ("platforms", checks::platforms),
    ("package, minimum Rust version", checks::msrv),
    ("benchmarks build", benchmarks),
    ("fuzz targets, ten seconds each", fuzz_briefly),
    ("licences and sources", licences),
];

pub(crate) fn ci() -> Result {
    let mut times = Vec::new();
    for (name, step) in STEPS {
        println!("\n== {name}");
        let start = Instant::now();
        step()?;
        times.push((name, start.elapsed()));
    }
    println!("\n== time of each step, in seconds");
    for (name, time) in &times {
        println!("{:>6} {name}", time.as_secs());
    }
    let total: Duration = times.iter().map(|(_, time)| time).sum();
    println!("{:>6} in all\nall steps passed", total.as_secs());
    Ok(())
}

/// Links the benchmarks in the test profile, whose dependencies the tests have built. Clippy has
/// checked them; the profile of benchmarks itself would cost minutes of link-time optimisation.
fn benchmarks() -> Result {
    run_cargo("test --all-features --benches --no-run")?;
    // In the same target directory: most dependencies of the comparison are already checked.
    let rivals = "--manifest-path benches/compare/Cargo.toml --target-dir target";
    run_cargo(&format!("check --locked --all-targets {rivals}"))
}

fn fuzz_briefly() -> Result {
    fuzz::fuzz(&["10".to_owned()])
}

/// cargo-deny takes minutes to build, and its advisories come from a forge that a CI machine need
/// not reach: if it is not installed, only the forge's workflow runs it.
fn licences() -> Result {
    if succeeds(&mut cargo("deny --version")) {
        return run_cargo("deny check bans licenses sources");
    }
    println!("not run: cargo-deny is not installed");
    Ok(())
}

/// With the tests of diskcache and Salt; those of the web frameworks take minutes more.
fn python() -> Result {
    checks::python(&[])?;
    checks::python_foreign(&["diskcache", "salt"].map(str::to_owned))
}
