//! The command line.
//!
//! Knows every command's name and options, and which file carries it out.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::failure::Failure;
use crate::site::Site;
use crate::verdict::Verdict;
use crate::{
    demo, export, get, headers, heap, histogram, import, key, list, map, metrics, record, repair,
    report, slot, stats, verify, watch,
};

/// Looks into mmapcache's caches, checks them, fills and empties them.
///
/// Commands that only look never lock, mend or create anything. Exit codes: 0 all is well, 1 damage
/// was found or the key is absent, 2 something could not be done.
#[derive(Debug, Parser)]
#[command(name = "mmapcache-inspect", version)]
pub(crate) struct Arguments {
    /// Where the heap's segments stand, if not beside the index
    #[arg(long, global = true, value_name = "PATH")]
    heap_path: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// How a cache is doing; of one that cannot be opened, what can still be read, and why
    ///
    /// Shown at once, from the headers alone; with `--full` after a pass over the index, of 160 MB
    /// for a million entries. That needs memory for a MiB of the index, twice, and 16 bytes for each
    /// region: 2.4 MiB at a million entries.
    #[command(after_help = "Example: mmapcache-inspect stats thumbnails --full")]
    Stats {
        cache: PathBuf,
        /// How searches go, the heap by segment, and how much of each file is in memory
        #[arg(long)]
        full: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// The keys, escaped so that they can be pasted between single quotes
    List {
        cache: PathBuf,
        /// Stop after so many entries
        #[arg(long)]
        limit: Option<u64>,
        /// Only keys that start like this; written as for `get`
        #[arg(long, default_value = "", hide_default_value = true)]
        prefix: OsString,
        /// The values as well, behind a tab
        #[arg(long)]
        values: bool,
        /// Print a line of JSON for each entry
        #[arg(long)]
        json: bool,
    },
    /// The value of a key, byte for byte
    Get {
        cache: PathBuf,
        /// As text in which `\xNN` is a byte and `\\` a backslash, or `hex:` and hex digits
        key: OsString,
        /// Print JSON: key, value, version
        #[arg(long)]
        json: bool,
    },
    /// Check every entry, record and counter
    Verify {
        cache: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    Slot(slot::Arguments),
    Record(record::Arguments),
    Heap(heap::Arguments),
    Header(headers::Arguments),
    Histogram(histogram::Arguments),
    Map(map::Arguments),
    /// Make a cache whole that cannot be opened or is not clean, from its heap alone if need be
    ///
    /// Everything that verifies comes back, deletions stay deleted. The damaged files are replaced
    /// only when the new ones are complete; a repair that is interrupted has changed nothing. The
    /// exit code is 1 where something was lost.
    Repair {
        cache: PathBuf,
        #[command(flatten)]
        request: repair::Request,
    },
    /// Store files under their paths, or lines of JSON; creates the cache if there is none
    ///
    /// A line is an object with "key" or "key_base64", and "value" or "value_base64". Of a tree the
    /// regular files are taken, and no symbolic link in it is followed. What cannot be read, or is
    /// too large for the cache, is reported and skipped; the exit code is then 2.
    Import {
        cache: PathBuf,
        /// A directory; or a file of lines, `-` for standard input
        source: PathBuf,
        /// Print the counts as JSON
        #[arg(long)]
        json: bool,
    },
    /// Print all entries as lines of JSON, which `import` reads back byte for byte
    Export {
        cache: PathBuf,
        /// Write each value to a file in this new or empty directory, at the path that is its key.
        /// Keys that are no safe relative path are reported and left out; the exit code is then 2
        #[arg(long)]
        dir: Option<PathBuf>,
    },
    /// One page on a cache: what is in it, how it is filled, and what is wrong with it
    ///
    /// The page is a file of HTML that needs neither network nor script. Of a cache that cannot be
    /// opened it shows what can still be read, and why. Reads headers and index once, not the heap;
    /// takes no lock. Needs 2.4 MB of memory at a million entries: 2 MB, 16 bytes for each region of
    /// the index, and some 450 for each segment of the heap.
    ///
    /// Example: `mmapcache-inspect report /var/tmp/docs --html docs.html`
    Report(report::Arguments),
    /// What a cache is doing: changes in a second, growth, cleaning, who writes
    ///
    /// Drawn in place on a terminal, else a line for each interval; ctrl-c ends it. Reads the header
    /// alone, by its totals; takes no lock. Goes on when the cache is rebuilt; ends with exit code 1
    /// when it is gone. Needs 0.4 MB of memory, and some 450 bytes for each segment of the heap.
    ///
    /// Example: `mmapcache-inspect watch /var/tmp/docs --interval 500ms`
    Watch(watch::Arguments),
    /// The numbers of one cache or several, once, for Prometheus
    ///
    /// In the text format 0.0.4, each number with the label `cache`. A cache that cannot be opened
    /// has `mmapcache_up 0`, and the others go on; the exit code is then 1 for damage, 2 for anything
    /// else. Takes no lock. Needs 0.4 MB of memory, and some 450 bytes for each segment of a heap.
    ///
    /// Example: `mmapcache-inspect metrics /var/tmp/docs --output /var/lib/node_exporter/docs.prom`
    Metrics(metrics::Arguments),
    /// Fill a cache from real files, read it back in one process while another writes, and check
    /// everything
    Demo(demo::Arguments),
    #[command(hide = true)]
    DemoRead(demo::read::Arguments),
    #[command(hide = true)]
    DemoWrite(demo::write::Arguments),
}

impl Arguments {
    /// Carries the command out.
    pub(crate) fn run(self) -> Result<Verdict, Failure> {
        let heap = self.heap_path;
        let at = |cache| Site {
            cache,
            heap: heap.clone(),
        };
        match self.command {
            Command::Stats { cache, full, json } => stats::run(&at(cache), full, json),
            Command::List {
                cache,
                limit,
                prefix,
                values,
                json,
            } => {
                let request = list::Request {
                    limit,
                    prefix: key::of_argument(&prefix)?,
                    values,
                    json,
                };
                list::run(&at(cache), &request)
            }
            Command::Get { cache, key, json } => {
                get::run(&at(cache), &key::of_argument(&key)?, json)
            }
            Command::Verify { cache, json } => verify::run(&at(cache), json),
            Command::Repair { cache, request } => repair::run(&at(cache), &request),
            Command::Slot(arguments) => slot::run(&at(arguments.cache.clone()), &arguments),
            Command::Record(arguments) => record::run(&at(arguments.cache.clone()), &arguments),
            Command::Heap(arguments) => heap::run(&at(arguments.cache.clone()), &arguments),
            Command::Header(arguments) => headers::run(&at(arguments.cache.clone()), &arguments),
            Command::Histogram(arguments) => {
                histogram::run(&at(arguments.cache.clone()), &arguments)
            }
            Command::Map(arguments) => map::run(&at(arguments.cache.clone()), &arguments),
            Command::Import {
                cache,
                source,
                json,
            } => import::run(&at(cache), &source, json),
            Command::Export { cache, dir } => export::run(&at(cache), dir.as_deref()),
            Command::Report(arguments) => report::run(&arguments, heap),
            Command::Watch(arguments) => watch::run(&arguments, heap),
            Command::Metrics(arguments) => metrics::run(&arguments, heap),
            Command::Demo(arguments) => demo::run(arguments, heap),
            Command::DemoRead(arguments) => demo::read::run(&arguments, heap),
            Command::DemoWrite(arguments) => demo::write::run(&arguments, heap),
        }
    }
}
