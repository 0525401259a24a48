//! Checks of the source and of the published package that do not run the engine.

use std::fs;

use crate::run::{Result, cargo, output, program, run, run_cargo, succeeds};

/// The packages besides the published one, each with its own lock file and target directory.
const OTHERS: [&str; 3] = ["fuzz", "benches/compare", "xtask"];

const SUPPORTED: [&str; 4] = [
    "aarch64-unknown-linux-gnu",
    "x86_64-unknown-linux-musl",
    "aarch64-apple-darwin",
    "x86_64-unknown-freebsd",
];
const REFUSED: [&str; 2] = ["x86_64-pc-windows-gnu", "i686-unknown-linux-gnu"];

pub(crate) fn loom(arguments: &[String]) -> Result {
    let mut tests = cargo("test --release --lib --target-dir target/loom loom_ --");
    run(tests.env("RUSTFLAGS", "--cfg loom").args(arguments))
}

pub(crate) fn lint() -> Result {
    run_cargo("fmt --check")?;
    for package in OTHERS {
        run_cargo(&format!("fmt --check --manifest-path {package}/Cargo.toml"))?;
    }
    run_cargo("clippy --all-targets --all-features -- -D warnings")?;
    let own = "clippy --manifest-path xtask/Cargo.toml --target-dir target/xtask -- -D warnings";
    run_cargo(own)
}

/// Tests and checks the adapters of `crates/`, with results in a directory of their own.
pub(crate) fn adapters() -> Result {
    let which = "--workspace --all-features --manifest-path crates/Cargo.toml";
    let dir = "--target-dir target/crates";
    run_cargo(&format!("test {which} {dir}"))?;
    let mut foreign = program("crates/mmapcache-cached/tests/foreign.sh", "");
    run(foreign.env("CARGO_TARGET_DIR", "target/crates"))?;
    run_cargo("fmt --check --all --manifest-path crates/Cargo.toml")?;
    run_cargo(&format!(
        "clippy --all-targets {which} {dir} -- -D warnings"
    ))?;
    let mut doc = cargo(&format!("doc --no-deps {which} {dir}"));
    run(doc.env("RUSTDOCFLAGS", "-D warnings"))
}

/// The tests of the Python package of `crates/`.
const PYTHON_TESTS: &str = "crates/mmapcache-python/tests";

/// Builds the Python package, runs its tests and checks its sources, in an environment and with build
/// results under `target/python`.
pub(crate) fn python(arguments: &[String]) -> Result {
    run(program(&format!("{PYTHON_TESTS}/run"), "").args(arguments))?;
    run(&mut program(&format!("{PYTHON_TESTS}/lint"), ""))
}

/// Runs the tests of the named other packages, or of all, against the Python package that
/// [`python`] has built.
pub(crate) fn python_foreign(suites: &[String]) -> Result {
    run(program(&format!("{PYTHON_TESTS}/foreign/all"), "").args(suites))
}

pub(crate) fn docs() -> Result {
    let doc = "doc --no-deps --all-features";
    run(cargo(doc).env("RUSTDOCFLAGS", "-D warnings"))?;
    let docs_rs = format!("+nightly {doc} --target-dir target/docsrs");
    run(cargo(&docs_rs).env("RUSTDOCFLAGS", "--cfg docsrs -D warnings"))
}

pub(crate) fn platforms() -> Result {
    run(program("rustup", "target add")
        .args(SUPPORTED)
        .args(REFUSED))?;
    // All in one run of cargo, which then keeps every core busy.
    let targets = SUPPORTED
        .map(|target| format!("--target {target}"))
        .join(" ");
    for what in ["--lib", "--lib --bins --all-features"] {
        let mut check = cargo(&format!("check --quiet {what} {targets}"));
        // A warning on one system only is not seen by clippy.
        run(check.env("RUSTFLAGS", "-D warnings"))?;
    }
    for target in REFUSED {
        for features in ["--no-default-features", "--all-features"] {
            refused(target, features)?;
        }
    }
    Ok(())
}

/// Asserts that compiling for a target gives one error of this crate, which says why.
fn refused(target: &str, features: &str) -> Result {
    let mut check = cargo(&format!("check --quiet --lib {features} --target {target}"));
    let checked = check
        .output()
        .map_err(|error| format!("{target}: {error}"))?;
    if checked.status.success() {
        return Err(format!(
            "{target} compiles, which the README says it does not"
        ));
    }
    let said = String::from_utf8_lossy(&checked.stderr);
    let errors: Vec<_> = said
        .lines()
        .filter(|line| line.starts_with("error"))
        // Cargo's own line comes after the error.
        .filter(|line| !line.starts_with("error: could not compile `mmapcache`"))
        .collect();
    match errors[..] {
        [one] if one.starts_with("error: mmapcache needs a 64-bit little-endian Unix") => Ok(()),
        _ => Err(format!(
            "{target} {features}: not the one error, but {errors:#?}"
        )),
    }
}

/// The `rust-version` of Cargo.toml.
fn minimum_rust() -> Result<String> {
    let manifest = fs::read_to_string("Cargo.toml").map_err(|error| error.to_string())?;
    let version = manifest
        .lines()
        .find_map(|line| line.strip_prefix("rust-version = \""));
    let version = version.and_then(|rest| rest.strip_suffix('"'));
    version
        .map(str::to_owned)
        .ok_or_else(|| "Cargo.toml has no rust-version".to_owned())
}

/// Installs the minimum Rust version if it is missing, and returns its name.
fn minimum_toolchain() -> Result<String> {
    let version = minimum_rust()?;
    if !succeeds(&mut program("rustc", &format!("+{version} --version"))) {
        run(&mut program(
            "rustup",
            &format!("toolchain install {version} --profile minimal"),
        ))?;
    }
    Ok(version)
}

/// Checks the library and the program, as they are published, with the minimum Rust version.
fn check_published(features: &str) -> Result {
    let version = minimum_toolchain()?;
    let root = std::env::current_dir().map_err(|error| error.to_string())?;
    let mut check = cargo(&format!(
        "+{version} check --locked --lib --bins {features}"
    ));
    check.arg("--target-dir").arg(root.join("target"));
    // Warnings of an old compiler do not matter.
    run(check
        .env("RUSTFLAGS", "--cap-lints allow")
        .current_dir(published()?))
}

pub(crate) fn msrv() -> Result {
    package()?;
    check_published("--no-default-features")?;
    check_published("--all-features")
}

/// Checks with each dependency at the lowest version that Cargo.toml allows.
pub(crate) fn minimal_versions() -> Result {
    package()?;
    run(cargo("+nightly update -Z direct-minimal-versions").current_dir(published()?))?;
    check_published("--all-features")
}

/// Checks that each feature builds alone, and that without features the engine builds no package
/// that only a feature needs.
pub(crate) fn features() -> Result {
    run_cargo("check --lib --no-default-features")?;
    for feature in ["intern", "dict", "serde", "inspect"] {
        run_cargo(&format!(
            "check --lib --no-default-features --features {feature}"
        ))?;
    }
    run_cargo("check --bins --no-default-features --features cli")?;
    let tree = output(&mut cargo(
        "tree --edges normal --no-default-features --prefix none",
    ))?;
    let names: Vec<&str> = tree
        .lines()
        .filter_map(|line| line.split(' ').next())
        .collect();
    if !names.contains(&"mmapcache") {
        return Err("`cargo tree` does not show the package".to_owned());
    }
    let unwanted = [
        "hashbrown",
        "hashlink",
        "triomphe",
        "serde",
        "serde_json",
        "rmp-serde",
        "clap",
    ];
    match names.iter().find(|name| unwanted.contains(name)) {
        Some(name) => Err(format!(
            "without features the engine must not build `{name}`"
        )),
        None => Ok(()),
    }
}

pub(crate) fn deny() -> Result {
    run_cargo("deny check")
}

/// Packs the package that would be published, and unpacks it.
pub(crate) fn package() -> Result {
    let dir = published()?;
    run(program("rm", "-rf").arg(&dir))?;
    run_cargo("package --allow-dirty --no-verify --quiet --target-dir target")?;
    run(program("tar", "-C target/package -xzf").arg(format!("{dir}.crate")))?;
    let files = output(&mut cargo("package --allow-dirty --list"))?;
    let size = |file| fs::metadata(format!("{dir}/{file}")).map_or(0, |meta| meta.len());
    let bytes: u64 = files.lines().map(size).sum();
    println!("{} files, {} KiB", files.lines().count(), bytes / 1024);
    Ok(())
}

/// The directory that the published package is unpacked to.
fn published() -> Result<String> {
    let id = output(&mut cargo("pkgid --offline"))?;
    let version = id.trim().rsplit(['#', '@']).next().unwrap_or_default();
    Ok(format!("target/package/mmapcache-{version}"))
}
