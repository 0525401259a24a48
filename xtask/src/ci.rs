//! What CI runs on a change, step by step.

use std::time::{Duration, Instant};

use crate::checks;
use crate::fuzz;
use crate::run::{Result, cargo, run, succeeds};

type Step = fn() -> Result;

const STEPS: [(&str, Step); 12] = [
    ("tests (the README's command)", || {
        run(&mut cargo("test --all-features"))
    }),
    ("tests of the engine in release", || {
        run(&mut cargo("test --release --lib"))
    }),
    ("interleavings of writers and readers, under loom", || {
        checks::loom(&[])
    }),
    ("formatting and clippy", checks::lint),
    ("documentation, here and as docs.rs makes it", checks::docs),
    (
        "platforms: what compiles, and the one error elsewhere",
        checks::platforms,
    ),
    ("the minimum Rust version", checks::msrv),
    ("benchmarks build", benchmarks),
    ("fuzz targets, ten seconds each", || {
        fuzz::fuzz(&["10".to_owned()])
    }),
    ("the library without features", || {
        run(&mut cargo("check --no-default-features"))
    }),
    ("the published package", checks::package),
    ("licences and sources of dependencies", licences),
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
    run(&mut cargo("test --all-features --benches --no-run"))?;
    let rivals = "check --locked --all-targets --manifest-path benches/compare/Cargo.toml";
    run(&mut cargo(rivals))
}

/// cargo-deny takes minutes to build, and its advisories come from a forge that a machine for CI
/// need not reach: where it is not installed, the workflow of the forge runs it alone.
fn licences() -> Result {
    if succeeds(&mut cargo("deny --version")) {
        return run(&mut cargo("deny check bans licenses sources"));
    }
    println!("not run: cargo-deny is not installed");
    Ok(())
}
