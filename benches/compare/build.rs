//! Compiles the shims of the stores written in C++, and links the system's libraries, for the
//! features that are on. Passes the compiler's version and those of the stores to the program.

use std::process::Command;

/// Stores that cargo builds: the package in `Cargo.lock`, and its feature.
const CRATES: [(&str, &str); 8] = [
    ("hashbrown", ""),
    ("heed", "LMDB"),
    ("lmdb-master-sys", "LMDB"),
    ("candystore", "CANDYSTORE"),
    ("redb", "REDB"),
    ("fjall", "FJALL"),
    ("foyer", "FOYER"),
    ("libsqlite3-sys", "SQLITE"),
];
/// Stores that are libraries of the system: the feature and the Debian package.
const LIBRARIES: [(&str, &str); 5] = [
    ("TDB", "libtdb-dev"),
    ("KYOTO", "libkyotocabinet-dev"),
    ("TKRZW", "libtkrzw-dev"),
    ("GDBM", "libgdbm-dev"),
    ("ROCKSDB", "librocksdb-dev"),
];

fn on(feature: &str) -> bool {
    feature.is_empty() || std::env::var_os(format!("CARGO_FEATURE_{feature}")).is_some()
}

/// Returns the newest version of a package in the lock file.
fn locked<'a>(lock: &'a str, package: &str) -> Option<&'a str> {
    let name = format!("name = \"{package}\"\nversion = \"");
    let versions = lock.match_indices(&name).map(|(at, _)| {
        let rest = &lock[at + name.len()..];
        rest.split('"').next().unwrap_or_default()
    });
    versions.max_by_key(|version| {
        let numbers = version
            .split(['.', '+', '-'])
            .map(|part| part.parse().unwrap_or(0_u64));
        numbers.take(3).collect::<Vec<_>>()
    })
}

fn installed(package: &str) -> Option<String> {
    let query = ["-W", "-f", "${Version}", package];
    let output = Command::new("dpkg-query").args(query).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !text.is_empty()).then_some(text)
}

fn versions() -> String {
    println!("cargo::rerun-if-changed=Cargo.lock");
    let lock = std::fs::read_to_string("Cargo.lock").unwrap_or_default();
    let mut all = vec![format!(
        "mmapcache {}",
        locked(&lock, "mmapcache").unwrap_or("?")
    )];
    for (package, _) in CRATES.iter().filter(|(_, feature)| on(feature)) {
        all.push(format!(
            "{package} {}",
            locked(&lock, package).unwrap_or("?")
        ));
    }
    for (_, package) in LIBRARIES.iter().filter(|(feature, _)| on(feature)) {
        let version = installed(package).unwrap_or_else(|| "?".to_owned());
        all.push(format!("{package} {version}"));
    }
    all.join(", ")
}

fn main() {
    println!("cargo::rustc-env=VERSIONS={}", versions());
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = Command::new(rustc).arg("--version").output();
    let version = version.map_or_else(|_| "rustc".into(), |output| output.stdout);
    let version = String::from_utf8_lossy(&version);
    // Without commit and date.
    let version: Vec<_> = version.split_whitespace().take(2).collect();
    println!("cargo::rustc-env=RUSTC_VERSION={}", version.join(" "));
    for (feature, source) in [("KYOTO", "kyoto"), ("TKRZW", "tkrzw")] {
        if on(feature) {
            let path = format!("src/shims/{source}.cc");
            println!("cargo::rerun-if-changed={path}");
            cc::Build::new()
                .cpp(true)
                .std("c++17")
                .opt_level(3)
                .warnings(false)
                .file(path)
                .compile(&format!("{source}_shim"));
        }
    }
    for (feature, library) in [
        ("GDBM", "gdbm"),
        ("KYOTO", "kyotocabinet"),
        ("ROCKSDB", "rocksdb"),
        ("TDB", "tdb"),
        ("TKRZW", "tkrzw"),
    ] {
        if on(feature) {
            println!("cargo::rustc-link-lib={library}");
        }
    }
}
