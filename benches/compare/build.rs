//! Compiles the shims of the stores written in C++, and links the system's libraries: only those
//! whose features are on. Tells the program which compiler built it.

fn main() {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = std::process::Command::new(rustc).arg("--version").output();
    let version = version.map_or_else(|_| "rustc".into(), |output| output.stdout);
    let version = String::from_utf8_lossy(&version);
    // Without the commit and its date.
    let version: Vec<_> = version.split_whitespace().take(2).collect();
    println!("cargo::rustc-env=RUSTC_VERSION={}", version.join(" "));
    let on = |feature: &str| std::env::var_os(format!("CARGO_FEATURE_{feature}")).is_some();
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
