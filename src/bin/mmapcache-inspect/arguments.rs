//! The command line.
//!
//! Knows every command's name and options, and which file carries it out.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{CommandFactory, Parser, Subcommand};

use crate::failure::Failure;
use crate::site::Site;
use crate::verdict::Verdict;
use crate::{
    compact, completions, copy, delete, demo, export, get, headers, heap, histogram, import, key,
    labels, list, man, map, metrics, progress, put, record, repair, report, slot, stats, verify,
    watch,
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
    /// Show progress after so many milliseconds, for tests
    #[arg(
        long,
        global = true,
        hide = true,
        value_name = "MS",
        default_value_t = 1000
    )]
    progress_after: u64,
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
        /// The cache: the path of its index
        cache: PathBuf,
        /// How searches go, the heap by segment, and how much of each file is in memory
        #[arg(long)]
        full: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// The keys, escaped so that they can be pasted between single quotes
    ///
    /// Needs less than 1 MiB of memory, however many entries there are, unless it sorts: then it
    /// keeps each key and some 60 bytes beside it (84 MiB for a million keys of 28 bytes), or of no
    /// more entries than `--limit` says.
    #[command(after_help = "Example: mmapcache-inspect list cache --sort size --limit 10 --long")]
    List(list::Arguments),
    /// The labels of a cache that gives them ids, by their ids
    ///
    /// Needs less than 1 MiB of memory, however many labels there are.
    #[command(after_help = "Example: mmapcache-inspect labels labels --prefix r/ --limit 10")]
    Labels(labels::Arguments),
    /// The value of a key, byte for byte
    #[command(after_help = "Example: mmapcache-inspect get cache 'key \\x01'")]
    Get {
        /// The cache: the path of its index
        cache: PathBuf,
        /// As text in which `\xNN` is a byte and `\\` a backslash, or `hex:` and hex digits
        key: OsString,
        /// Print JSON: key, value, version
        #[arg(long)]
        json: bool,
    },
    /// Put a value under a key, in place of what is there
    ///
    /// Refused where the cache is append-only and has the key, or holds labels. Needs memory for the
    /// value.
    #[command(after_help = "Example: mmapcache-inspect put cache 'key \\x01' 'a value'")]
    Put(put::Arguments),
    /// Delete keys, all of them under one lock
    ///
    /// The exit code is 1 where one of them was not there. Refused where the cache is append-only, or
    /// holds labels.
    #[command(after_help = "Example: mmapcache-inspect delete cache stale hex:ff01")]
    Delete(delete::Arguments),
    /// Give the room of dead records back to the disk
    ///
    /// Writes clean up as they go, so nobody needs this; it goes further, and writers wait for it
    /// while readers go on. Needs less than 1 MiB of memory, however large the cache is.
    #[command(after_help = "Example: mmapcache-inspect compact cache")]
    Compact(compact::Arguments),
    /// Copy a cache as it is at one moment, while others go on writing to it
    ///
    /// Everything that was acknowledged before is in the copy, with its version; it is clean, synced
    /// and can be written to. Nobody is locked out, and nothing of the original is touched. A copy
    /// that is interrupted leaves no cache at DESTINATION, only files whose names end in `.new`,
    /// which the next copy there removes. The exit code is 1 where some of the original was damaged
    /// and is not in the copy. Needs less than 1 MiB of memory, however large the cache is.
    #[command(after_help = "Example: mmapcache-inspect copy cache backup")]
    Copy(copy::Arguments),
    /// Check every entry, record and counter
    ///
    /// Takes no lock and changes nothing; it can be interrupted. Needs less than 1 MiB of
    /// memory, however large the cache is.
    #[command(after_help = "Example: mmapcache-inspect verify cache --level slots")]
    Verify(verify::Arguments),
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
    /// exit code is 1 where something was lost. Needs less than 1 MiB of memory, however large the
    /// cache is.
    #[command(after_help = "Example: mmapcache-inspect repair cache --keep")]
    Repair {
        /// The cache: the path of its index
        cache: PathBuf,
        #[command(flatten)]
        request: repair::Request,
    },
    /// Store files under their paths, lines of JSON, or another cache's entries; creates the cache if
    /// there is none
    ///
    /// A line is an object with "key" or "key_base64", and "value" or "value_base64". Of a tree the
    /// regular files are taken, and no symbolic link in it is followed. What cannot be read, or is
    /// too large for the cache, is reported and skipped; the exit code is then 2. Needs
    /// memory for 256 entries, or 4 MiB of them and one more, however many there are.
    #[command(after_help = "Example: mmapcache-inspect import cache --from-cache other")]
    Import(import::Arguments),
    /// Print all entries as lines of JSON, which `import` reads back byte for byte
    ///
    /// Needs less than 1 MiB of memory beside the largest value, however many there are; with
    /// `--to-cache` that of 256 entries, or 4 MiB of them and one more.
    #[command(after_help = "Example: mmapcache-inspect export cache --dir files")]
    Export(export::Arguments),
    /// One page on a cache: what is in it, how it is filled, and what is wrong with it
    ///
    /// The page is a file of HTML that needs neither network nor script. Of a cache that cannot be
    /// opened it shows what can still be read, and why. Reads headers and index once, not the heap;
    /// takes no lock. Needs 2.4 MB of memory at a million entries: 2 MB, 16 bytes for each region of
    /// the index, and some 450 for each segment of the heap.
    #[command(after_help = "Example: mmapcache-inspect report docs --html docs.html")]
    Report(report::Arguments),
    /// What a cache is doing: changes in a second, growth, cleaning, who writes
    ///
    /// Drawn in place on a terminal, else a line for each interval; ctrl-c ends it. Reads the header
    /// alone, by its totals; takes no lock. Goes on when the cache is rebuilt; ends with exit code 1
    /// when it is gone. Needs 0.4 MB of memory, and some 450 bytes for each segment of the heap.
    #[command(after_help = "Example: mmapcache-inspect watch docs --interval 500ms --count 3")]
    Watch(watch::Arguments),
    /// The numbers of one cache or several, once, for Prometheus
    ///
    /// In the text format 0.0.4, each number with the label `cache`. A cache that cannot be opened
    /// has `mmapcache_up 0`, and the others go on; the exit code is then 1 for damage, 2 for anything
    /// else. Takes no lock. Needs 0.4 MB of memory, and some 450 bytes for each segment of a heap.
    #[command(after_help = "Example: mmapcache-inspect metrics docs --output docs.prom")]
    Metrics(metrics::Arguments),
    /// Fill a cache from real files, read it back in one process while another writes, and check
    /// everything
    #[command(after_help = "Example: mmapcache-inspect demo tree")]
    Demo(demo::Arguments),
    /// Print a script by which a shell completes this program's command lines
    #[command(after_help = "Example: mmapcache-inspect completions bash > completions.bash")]
    Completions(completions::Arguments),
    /// Print a manual page, or write all of them into a directory
    #[command(after_help = "Example: mmapcache-inspect man --dir man1")]
    Man(man::Arguments),
    #[command(hide = true)]
    DemoRead(demo::read::Arguments),
    #[command(hide = true)]
    DemoWrite(demo::write::Arguments),
}

impl Arguments {
    /// Carries the command out.
    pub(crate) fn run(self) -> Result<Verdict, Failure> {
        progress::after(Duration::from_millis(self.progress_after));
        let heap = self.heap_path;
        let at = |cache: &PathBuf| Site {
            cache: cache.clone(),
            heap: heap.clone(),
        };
        match &self.command {
            Command::Stats { cache, full, json } => stats::run(&at(cache), *full, *json),
            Command::List(arguments) => list::run(&at(&arguments.cache), arguments),
            Command::Labels(arguments) => labels::run(&at(&arguments.cache), arguments),
            Command::Get { cache, key, json } => {
                get::run(&at(cache), &key::asked(key, "key")?, *json)
            }
            Command::Put(arguments) => put::run(&at(&arguments.cache), arguments),
            Command::Delete(arguments) => delete::run(&at(&arguments.cache), arguments),
            Command::Compact(arguments) => compact::run(&at(&arguments.cache), arguments),
            Command::Copy(arguments) => copy::run(&at(&arguments.cache), arguments),
            Command::Verify(arguments) => verify::run(&at(&arguments.cache), arguments),
            Command::Repair { cache, request } => repair::run(&at(cache), request),
            Command::Import(arguments) => import::run(&at(&arguments.cache), arguments),
            Command::Export(arguments) => export::run(&at(&arguments.cache), arguments),
            Command::Completions(arguments) => completions::run(Self::command(), arguments),
            Command::Man(arguments) => man::run(Self::command(), arguments),
            Command::Slot(arguments) => slot::run(&at(&arguments.cache), arguments),
            Command::Record(arguments) => record::run(&at(&arguments.cache), arguments),
            Command::Heap(arguments) => heap::run(&at(&arguments.cache), arguments),
            Command::Header(arguments) => headers::run(&at(&arguments.cache), arguments),
            Command::Histogram(arguments) => histogram::run(&at(&arguments.cache), arguments),
            Command::Map(arguments) => map::run(&at(&arguments.cache), arguments),
            Command::Report(arguments) => report::run(arguments, heap),
            Command::Watch(arguments) => watch::run(arguments, heap),
            Command::Metrics(arguments) => metrics::run(arguments, heap),
            Command::Demo(arguments) => demo::run(arguments, heap),
            Command::DemoRead(arguments) => demo::read::run(arguments, heap),
            Command::DemoWrite(arguments) => demo::write::run(arguments, heap),
        }
    }
}
