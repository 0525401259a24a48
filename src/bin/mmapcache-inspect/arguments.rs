//! The command line: all commands, their options, and the files that run them.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{CommandFactory, Parser, Subcommand};

use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use crate::location::Location;
use crate::{
    compact, completions, copy, delete, demo, evict, expire, export, get, header, heap, histogram,
    import, invalidate, key, labels, list, man, map, metrics, progress, put, record, repair,
    report, slot, stats, upgrade, verify, watch,
};

/// Reads, checks, fills and backs up caches of mmapcache
///
/// Commands that only read lock, repair and create nothing. Exit codes: 0 success, 1 damage was found
/// or the key is absent, 2 something could not be done.
#[derive(Debug, Parser)]
#[command(name = "mmapcache-inspect", version)]
pub(crate) struct Arguments {
    /// The path of the first heap segment, if the heap is not beside the index
    #[arg(long, global = true, value_name = "PATH")]
    heap_path: Option<PathBuf>,
    /// Show progress after this many milliseconds, for tests
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
    /// Show statistics; for a cache that cannot be opened, the reason and what can still be read
    ///
    /// Reads only the headers. `--full` also reads the index, which has 160 MB for a million entries.
    /// It needs memory for two pieces of 1 MiB of the index, and 16 bytes for each region: 2.4 MiB at
    /// a million entries. Of a `Cache` it reads 10,000 entries too, for their ages and deadlines.
    #[command(after_help = "Example: mmapcache-inspect stats thumbnails --full")]
    Stats {
        /// The cache: the path of its index
        cache: PathBuf,
        /// Add lengths of searches, the heap by segment, and how much of each file is in memory
        #[arg(long)]
        full: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// List the keys, escaped so that they can be pasted between single quotes
    ///
    /// Needs less than 1 MiB of memory for any number of entries. Sorting keeps each key and about 60
    /// bytes more (84 MiB for a million keys of 28 bytes), of at most `--limit` entries. Of a `Cache`,
    /// `--long`, `--json` and `--expired` read the record of each entry.
    #[command(after_help = "Example: mmapcache-inspect list cache --sort size --limit 10 --long")]
    List(list::Arguments),
    /// List the labels of an id cache, in the order of their ids
    ///
    /// Needs less than 1 MiB of memory for any number of labels.
    #[command(after_help = "Example: mmapcache-inspect labels labels --prefix r/ --limit 10")]
    Labels(labels::Arguments),
    /// Print the value of a key, byte for byte
    ///
    /// Of a `Cache` also an expired one. The exit code is 1 for a key that is known not to exist.
    #[command(after_help = "Example: mmapcache-inspect get cache 'key \\x01'")]
    Get {
        /// The cache: the path of its index
        cache: PathBuf,
        /// Text in which `\xNN` is a byte and `\\` a backslash, or `hex:` and hexadecimal digits
        key: OsString,
        /// Print JSON: key, value, version
        #[arg(long)]
        json: bool,
    },
    /// Store a value under a key, or replace the value
    ///
    /// Fails if the cache is append-only and has the key, or holds labels. Needs memory for the
    /// value.
    #[command(after_help = "Example: mmapcache-inspect put cache 'key \\x01' 'a value'")]
    Put(put::Arguments),
    /// Delete keys, all of them under one lock
    ///
    /// The exit code is 1 if one of them was absent, or expired in a `Cache`. Fails if the cache is append-only or holds
    /// labels.
    #[command(after_help = "Example: mmapcache-inspect delete cache stale hex:ff01")]
    Delete(delete::Arguments),
    /// Remove the expired entries of a `Cache`
    ///
    /// They are absent to every reader already, and take room. Reads the index and the record of each
    /// entry, and takes the lock for 1,024 removals at a time. Entries without a deadline stay. Needs
    /// less than 1 MiB of memory, and the keys of the removals at a time.
    #[command(after_help = "Example: mmapcache-inspect expire pages")]
    Expire(expire::Arguments),
    /// Evict entries of a `Cache` until its files are small enough
    ///
    /// Those that were not used go first, as when an insertion makes room. The index does not become
    /// smaller: the exit code is 1 if the files take more afterwards. Later insertions fill the cache
    /// again, up to its own limit. Needs the lock for the whole time; readers do not wait.
    #[command(after_help = "Example: mmapcache-inspect evict pages --to 64MiB")]
    Evict(evict::Arguments),
    /// Invalidate all entries of a `Cache` with a tag, or in a namespace
    ///
    /// They are absent to every reader from then on. Stores one small entry, whatever their number, so it
    /// cannot say how many they are, and succeeds for a tag that no entry has.
    #[command(after_help = "Example: mmapcache-inspect invalidate pages user:alice")]
    Invalidate(invalidate::Arguments),
    /// Return the space of dead records to the file system
    ///
    /// Writes clean the heap as they go, so this command is rarely needed. It reclaims more; writers
    /// wait for it, readers do not. Needs less than 1 MiB of memory for any size of cache.
    #[command(after_help = "Example: mmapcache-inspect compact cache")]
    Compact(compact::Arguments),
    /// Copy a cache as it is at one moment, while other processes write to it
    ///
    /// Every write acknowledged before is in the copy, with its version; the copy is clean and synced,
    /// and can be written to. The copy locks out no writer and changes nothing in the original. An
    /// interrupted copy leaves no cache at DESTINATION, only files whose names end in `.new`, which
    /// the next copy to that path removes. The exit code is 1 if a part of the original was damaged
    /// and is not in the copy. Needs less than 1 MiB of memory for any size of cache.
    #[command(after_help = "Example: mmapcache-inspect copy cache backup")]
    Copy(copy::Arguments),
    /// Check every entry, record and counter
    ///
    /// Takes no lock and changes nothing, and can be interrupted. Needs less than 1 MiB of memory for
    /// any size of cache.
    #[command(after_help = "Example: mmapcache-inspect verify cache --level slots")]
    Verify(verify::Arguments),
    Slot(slot::Arguments),
    Record(record::Arguments),
    Heap(heap::Arguments),
    Header(header::Arguments),
    Histogram(histogram::Arguments),
    Map(map::Arguments),
    /// Repair a cache that cannot be opened or is not clean, if necessary from its heap alone
    ///
    /// Restores every record that verifies; deleted keys stay deleted. Replaces the damaged files only
    /// when the new ones are complete; an interrupted repair has changed nothing. The exit code is 1
    /// if something was lost. Needs less than 1 MiB of memory for any size of cache.
    #[command(after_help = "Example: mmapcache-inspect repair cache --keep")]
    Repair {
        /// The cache: the path of its index
        cache: PathBuf,
        #[command(flatten)]
        request: repair::Request,
    },
    Upgrade(upgrade::Arguments),
    /// Store files under their paths, lines of JSON, or the entries of another cache; create the cache
    /// if it does not exist
    ///
    /// A line is an object with "key" or "key_base64", and "value" or "value_base64". If the first one also
    /// has "expires_at_ms", as `export` writes it of a `Cache`, a cache that does not exist becomes a
    /// `Cache`; it gets deadlines, negative entries and groups again. What expired since is skipped. A
    /// cache of the other type refuses lines with a deadline or a group. Of a directory
    /// tree, imports the regular files and follows no symbolic link. Reports and skips what cannot be
    /// read or is too large for the cache; the exit code is then 2. Needs memory for 256 entries, or
    /// for 4 MiB of entries and one more.
    #[command(after_help = "Example: mmapcache-inspect import cache --from-cache other")]
    Import(import::Arguments),
    /// Print all entries as lines of JSON, which `import` reads back byte for byte
    ///
    /// Of a `Cache` each line has the deadline in milliseconds since 1970, null for none
    /// ("expires_at_ms"), the milliseconds left, and if there are some a negative mark, the time for which
    /// it may be stale, and hashes of its tag and namespace: their names are not in the files. Expired
    /// entries are left out; `--dir` writes values only.
    ///
    /// Needs less than 1 MiB of memory and that of the largest value; with `--to-cache` that of 256
    /// entries, or of 4 MiB of entries and one more.
    #[command(after_help = "Example: mmapcache-inspect export cache --dir files")]
    Export(export::Arguments),
    /// Write one page about a cache: its contents, how full it is, and its problems
    ///
    /// The page is an HTML file that needs neither network nor script. For a cache that cannot be
    /// opened it shows the reason and what can still be read. Reads headers and index once, not the
    /// heap; takes no lock. Needs 2.4 MB of memory at a million entries: 2 MB, 16 bytes for each
    /// region of the index, and about 450 for each segment of the heap.
    #[command(after_help = "Example: mmapcache-inspect report docs --html docs.html")]
    Report(report::Arguments),
    /// Watch a cache: changes per second, growth, cleaning, the writer
    ///
    /// Redraws on a terminal, otherwise prints a line for each interval; ctrl-c ends it. Reads only
    /// the counters of the header; takes no lock. Continues when the cache is rebuilt; ends with exit
    /// code 1 when it is removed. Needs 0.4 MB of memory, and about 450 bytes for each segment of the
    /// heap.
    #[command(after_help = "Example: mmapcache-inspect watch docs --interval 500ms --count 3")]
    Watch(watch::Arguments),
    /// Print metrics of one or more caches for Prometheus
    ///
    /// In the text format 0.0.4, each sample with the label `cache`. A cache that cannot be opened
    /// has `mmapcache_up 0`, and the other caches are still shown; the exit code is then 1 for damage,
    /// 2 for any other error. Takes no lock. Needs 0.4 MB of memory, and about 450 bytes for each
    /// segment of a heap.
    #[command(after_help = "Example: mmapcache-inspect metrics docs --output docs.prom")]
    Metrics(metrics::Arguments),
    /// Fill a cache from real files, read it in one process while another writes, and check everything
    #[command(after_help = "Example: mmapcache-inspect demo tree")]
    Demo(demo::Arguments),
    /// Print a script with which a shell completes the command lines of this program
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
    /// Runs the command.
    pub(crate) fn run(self) -> Result<ExitStatus, Failure> {
        progress::after(Duration::from_millis(self.progress_after));
        let heap = self.heap_path;
        let at = |cache: &PathBuf| Location {
            cache: cache.clone(),
            heap: heap.clone(),
        };
        match &self.command {
            Command::Stats { cache, full, json } => stats::run(&at(cache), *full, *json),
            Command::List(arguments) => list::run(&at(&arguments.cache), arguments),
            Command::Labels(arguments) => labels::run(&at(&arguments.cache), arguments),
            Command::Get { cache, key, json } => {
                get::run(&at(cache), &key::parse_argument(key, "key")?, *json)
            }
            Command::Put(arguments) => put::run(&at(&arguments.cache), arguments),
            Command::Delete(arguments) => delete::run(&at(&arguments.cache), arguments),
            Command::Expire(arguments) => expire::run(&at(&arguments.cache), arguments),
            Command::Evict(arguments) => evict::run(&at(&arguments.cache), arguments),
            Command::Invalidate(arguments) => invalidate::run(&at(&arguments.cache), arguments),
            Command::Compact(arguments) => compact::run(&at(&arguments.cache), arguments),
            Command::Copy(arguments) => copy::run(&at(&arguments.cache), arguments),
            Command::Verify(arguments) => verify::run(&at(&arguments.cache), arguments),
            Command::Repair { cache, request } => repair::run(&at(cache), request),
            Command::Upgrade(arguments) => upgrade::run(&at(&arguments.cache), arguments),
            Command::Import(arguments) => import::run(&at(&arguments.cache), arguments),
            Command::Export(arguments) => export::run(&at(&arguments.cache), arguments),
            Command::Completions(arguments) => completions::run(Self::command(), arguments),
            Command::Man(arguments) => man::run(Self::command(), arguments),
            Command::Slot(arguments) => slot::run(&at(&arguments.cache), arguments),
            Command::Record(arguments) => record::run(&at(&arguments.cache), arguments),
            Command::Heap(arguments) => heap::run(&at(&arguments.cache), arguments),
            Command::Header(arguments) => header::run(&at(&arguments.cache), arguments),
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
