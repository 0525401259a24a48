//! Measures a `Cache`: hits, insertions that evict, misses of recorded traces, the bound under load,
//! and the invalidation of a tag.
//!
//! `cargo bench --bench cache -- COMMAND`; without a command, prints what there is.
//! `docs/benchmarks.md` has the results.

mod cache {
    pub(crate) mod hits;
    pub(crate) mod insertions;
    pub(crate) mod keys;
    pub(crate) mod replay;
    pub(crate) mod storm;
    pub(crate) mod tags;
}

use std::process::ExitCode;

const USAGE: &str = "\
hits                     a hit, beside MmapCache::get
insertions               an insertion that evicts, beside a put and a delete
tags                     the invalidation of a tag of a million entries
storm [SECONDS]          the bytes of the files while four processes insert
replay FILE KEY [SIZE]   misses of a trace: comma-separated text, the columns of key and size";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| a != "--bench")
        .collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["hits"] => cache::hits::measure(),
        ["insertions"] => cache::insertions::measure(),
        ["tags"] => cache::tags::measure(),
        ["storm"] => cache::storm::measure(60),
        ["storm", seconds] => cache::storm::measure(seconds.parse().expect("seconds")),
        ["storm-writer", path, seed] => cache::storm::write(path, seed),
        ["replay", file, ref columns @ ..] => cache::replay::measure(file, columns),
        _ => {
            println!("{USAGE}");
            // `cargo test --benches` runs it without a command.
            return ExitCode::SUCCESS;
        }
    }
    ExitCode::SUCCESS
}
