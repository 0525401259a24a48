//! Builds the fuzz targets and runs them one after the other, until one finds something.
//!
//! A run adds inputs to `fuzz/corpus`, and writes findings to `fuzz/artifacts`.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use crate::run::{Result, cargo, output, program, run};

/// The targets, each with the longest input in bytes.
const TARGETS: [(&str, u32); 5] = [
    ("operations", 4096),
    ("options", 512),
    ("record", 4096),
    ("directory_and_roster", 256),
    ("damaged", 256),
];

/// As `cargo fuzz build --sanitizer none` builds, which takes a minute to install itself. All unsafe
/// code is about mapped files, which no sanitizer follows, and without one inputs are tried three
/// times as often.
const RUSTFLAGS: &str = "--cfg fuzzing -Cdebug-assertions -Ccodegen-units=1 -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares \
    -Cllvm-args=-simplifycfg-branch-fold-threshold=0 \
    -Cllvm-args=-sanitizer-coverage-stack-depth";

/// A huge allocation that corruption causes fails, and is a finding.
const LARGEST_HEAP_KIB: u32 = 256 * 1024;

pub(crate) fn fuzz(arguments: &[String]) -> Result {
    let (seconds, names) = match arguments {
        [] => (1_800, arguments),
        [seconds, names @ ..] => {
            let seconds = seconds.parse::<u32>();
            (seconds.map_err(|error| format!("seconds: {error}"))?, names)
        }
    };
    let known = |name: &String| TARGETS.iter().any(|(target, _)| target == name);
    if let Some(name) = names.iter().find(|name| !known(name)) {
        let all = TARGETS.map(|(target, _)| target).join(", ");
        return Err(format!("there is no fuzz target `{name}`, but {all}"));
    }
    let host = output(&mut program("rustc", "--print host-tuple"))?;
    let host = host.trim();
    // With a target named, build scripts and macros are built without these flags.
    let build = format!("build --release --manifest-path fuzz/Cargo.toml --target {host}");
    run(cargo(&build).env("RUSTFLAGS", RUSTFLAGS))?;
    for (target, longest) in TARGETS {
        if names.is_empty() || names.iter().any(|name| name == target) {
            println!("\n== {target}, {seconds} seconds");
            let built = Path::new("fuzz/target")
                .join(host)
                .join("release")
                .join(target);
            run_target(target, &built, seconds, longest)?;
        }
    }
    Ok(())
}

fn run_target(target: &str, built: &Path, seconds: u32, longest: u32) -> Result {
    let (corpus, artifacts) = (
        format!("fuzz/corpus/{target}"),
        format!("fuzz/artifacts/{target}"),
    );
    let failed = |error: std::io::Error| format!("{target}: {error}");
    fs::create_dir_all(&corpus).map_err(failed)?;
    fs::create_dir_all(&artifacts).map_err(failed)?;
    let log = format!("{artifacts}/log");
    let file = File::create(&log).map_err(failed)?;
    let status = Command::new("sh")
        .args([
            "-c",
            &format!("ulimit -d {LARGEST_HEAP_KIB} && exec \"$0\" \"$@\""),
        ])
        .arg(built)
        .args([
            "-len_control=0",
            "-timeout=20",
            "-rss_limit_mb=1024",
            "-print_final_stats=1",
        ])
        .args([
            format!("-max_total_time={seconds}"),
            format!("-max_len={longest}"),
        ])
        .args([
            format!("-artifact_prefix={artifacts}/"),
            corpus,
            format!("fuzz/seeds/{target}"),
        ])
        .stdout(file.try_clone().map_err(failed)?)
        .stderr(file)
        .status()
        .map_err(failed)?;
    // A finding's message may contain any bytes of its input.
    let said = String::from_utf8_lossy(&fs::read(&log).map_err(failed)?).into_owned();
    let is_progress = |line: &&str| line.starts_with('#');
    if !status.success() {
        let lines: Vec<_> = said.lines().filter(|line| !is_progress(line)).collect();
        println!("{}", lines[lines.len().saturating_sub(60)..].join("\n"));
        return Err(format!(
            "{target} has found something: docs/fuzzing.md says how to go on"
        ));
    }
    let is_result =
        |line: &&str| (is_progress(line) && line.contains("DONE")) || line.starts_with("stat::");
    said.lines()
        .filter(is_result)
        .for_each(|line| println!("{line}"));
    Ok(())
}
