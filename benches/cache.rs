//! Measures a `Cache`: hits, insertions that evict, computations, memory, misses of recorded traces,
//! the bound under load, and the invalidation of a tag.
//!
//! `cargo bench --bench cache -- COMMAND`; without a command, prints what there is.
//! `docs/benchmarks.md` has the results.

mod cache {
    pub(crate) mod computations;
    pub(crate) mod hits;
    pub(crate) mod insertions;
    pub(crate) mod keys;
    pub(crate) mod memory;
    pub(crate) mod refusals;
    pub(crate) mod replay;
    pub(crate) mod storm;
    pub(crate) mod tags;
    pub(crate) mod tasks;
}

use std::process::ExitCode;

const USAGE: &str = "\
hits                     a hit, beside MmapCache::get
insertions               an insertion that evicts, beside a put and a delete
computations             a hit of get_or_insert_with, beside get; 8 processes that want the same keys
memory [ENTRIES]         memory of a process that caches 10 million entries, beside MmapCache
tags                     the invalidation of a tag of a million entries
refusals                 an insertion that is refused, because the cache is full and evicts nothing
tasks                    a hit in a task of tokio, called directly and by spawn_blocking
storm [SECONDS]          the bytes of the files while four processes insert
replay FILE KEY [SIZE]   misses of a trace: comma-separated text below a header, the columns of key
                         and size, from 0

The files lie where TMPDIR says.";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| a != "--bench")
        .collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments[..] {
        // `cargo test --benches` runs it without a command.
        [] => {
            println!("{USAGE}");
            Ok(())
        }
        ["replay", file, ref columns @ ..] => cache::replay::measure(file, columns),
        [command, ref numbers @ ..] => run(command, numbers),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("{reason}");
            ExitCode::FAILURE
        }
    }
}

/// Runs any other command, or says why not.
fn run(command: &str, arguments: &[&str]) -> Result<(), String> {
    let number = |text: &str| {
        let number = text.parse::<u64>();
        number.map_err(|_| format!("`{text}` is no number\n\n{USAGE}"))
    };
    match (command, arguments) {
        ("hits", []) => cache::hits::measure(),
        ("insertions", []) => cache::insertions::measure(),
        ("computations", []) => cache::computations::measure(),
        ("memory", []) => cache::memory::measure(10_000_000),
        ("memory", [entries]) => cache::memory::measure(number(entries)?.max(1)),
        ("tags", []) => cache::tags::measure(),
        ("refusals", []) => cache::refusals::measure(),
        ("tasks", []) => cache::tasks::measure(),
        ("storm", []) => cache::storm::measure(60),
        ("storm", [seconds]) => cache::storm::measure(number(seconds)?),
        // The roles of this program's own processes.
        ("storm-writer", [path, seed]) => cache::storm::write(path, seed),
        ("memory-of", [kind, does, entries, path]) => {
            cache::memory::of(kind, does, number(entries)?, path);
        }
        ("computations-of", [order, process, path]) => {
            cache::computations::call(order, number(process)?, path);
        }
        _ => return Err(format!("there is no such command\n\n{USAGE}")),
    }
    Ok(())
}
