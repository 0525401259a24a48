//! `import`: stores files of a tree, lines of JSON, labels, or the entries of another cache.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::batch::Batch;
use crate::cache_file_names::CacheFileNames;
use crate::either_cache::EitherCache;
use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use crate::import_counts::ImportCounts;
use crate::import_labels;
use crate::location::Location;
use crate::output::{self, Output};
use crate::portable_entry::PortableEntry;
use crate::tree::{self, Selection, Tree, TreeItem};
use crate::{copy_entries, progress};

/// The longest line: six characters of JSON for each byte, and room for key and punctuation.
const LINE_FACTOR: u64 = 6;
const LINE_EXTRA: u64 = 1 << 20;
/// The longest segment of a cache that does not exist yet.
const NEW_SEGMENT: u64 = 1 << 30;

/// The source of an import.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The cache: the path of its index
    pub(crate) cache: PathBuf,
    /// A directory, or a file of lines; `-` for standard input
    #[arg(required_unless_present = "from_cache")]
    source: Option<PathBuf>,
    /// Store the entries of another cache, with new versions (`copy` keeps them)
    #[arg(long, value_name = "OTHER", conflicts_with = "source")]
    from_cache: Option<PathBuf>,
    /// Intern each line as a label; the cache is an id cache
    #[arg(long, conflicts_with = "from_cache", requires = "source")]
    labels: bool,
    /// Print the counts as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(location: &Location, arguments: &Arguments) -> Result<ExitStatus, Failure> {
    let began = Instant::now();
    let source = arguments.source.as_deref().unwrap_or(Path::new("-"));
    if arguments.labels {
        return labels(location, source, arguments.json);
    }
    let counts = if let Some(other) = &arguments.from_cache {
        let other = Location {
            cache: other.clone(),
            heap: None,
        };
        copy_entries::run(&other, location)?
    } else if source == Path::new("-") {
        lines(location, &mut io::stdin().lock(), "standard input")?
    } else if is_dir(source)? {
        from_tree(
            &EitherCache::open_or_create(location, false)?,
            location,
            source,
            &Selection::all(),
        )?
    } else {
        let file = File::open(source).map_err(Failure::file(source, "open the file"))?;
        let name = source.display().to_string();
        lines(location, &mut BufReader::new(file), &name)?
    };
    let time = began.elapsed();
    let mut out = Output::new();
    if arguments.json {
        out.json(&counts.json(time))?;
    } else {
        out.line(&counts.text(time))?;
    }
    out.end()?;
    Ok(counts.exit_status())
}

fn labels(location: &Location, source: &Path, json: bool) -> Result<ExitStatus, Failure> {
    if source == Path::new("-") {
        return import_labels::run(location, &mut io::stdin().lock(), json);
    }
    let file = File::open(source).map_err(Failure::file(source, "open the file"))?;
    import_labels::run(location, &mut BufReader::new(file), json)
}

fn is_dir(source: &Path) -> Result<bool, Failure> {
    let meta = std::fs::metadata(source).map_err(Failure::file(source, "read its metadata"))?;
    Ok(meta.is_dir())
}

/// Returns the longest possible value: it must fit into a segment, and its length into 32 bits.
fn value_limit(location: &Location) -> Result<u64, Failure> {
    let cache_files = location.read_headers()?;
    let segment = cache_files
        .header()
        .map_or(0, |header| header.max_segment_bytes);
    Ok(segment.min(u32::MAX.into()))
}

/// Imports the files of a tree. The key is the path from the root.
pub(crate) fn from_tree(
    cache: &EitherCache,
    location: &Location,
    root: &Path,
    selection: &Selection,
) -> Result<ImportCounts, Failure> {
    let limit = value_limit(location)?;
    let names = CacheFileNames::new(cache.path(), location);
    let mut batch = Batch::new(cache)?;
    let mut tree = Tree::new(root, selection, names)?;
    let progress = progress::of_unknown("importing: files");
    for step in tree.by_ref() {
        progress.step();
        let found = match step {
            Ok(TreeItem::File(found)) => found,
            Ok(TreeItem::Skipped) => {
                batch.counts.passed += 1;
                continue;
            }
            Err(failure) => {
                batch.unreadable(&failure);
                continue;
            }
        };
        // Compare the length first, to read no file that cannot be stored.
        let read = if found.len > limit {
            Ok(None)
        } else {
            tree::read(&found.path, limit)
        };
        match read {
            Ok(Some(value)) => batch.push(PortableEntry::plain(found.key, value))?,
            Ok(None) => {
                batch.counts.unfit += 1;
                output::warn(&format!(
                    "{}: skipped: longer than a segment of this cache, {limit} bytes",
                    found.path.display()
                ));
            }
            Err(failure) => batch.unreadable(&failure),
        }
    }
    batch.counts.cut = tree.cut;
    batch.end()
}

/// Imports lines of JSON. The first one decides on the type of a cache that does not exist.
fn lines(
    location: &Location,
    source: &mut dyn BufRead,
    name: &str,
) -> Result<ImportCounts, Failure> {
    let limit = match location.cache.exists() {
        true => value_limit(location)?,
        false => NEW_SEGMENT,
    };
    let limit = limit.saturating_mul(LINE_FACTOR).saturating_add(LINE_EXTRA);
    let mut source = Lines {
        source,
        name,
        limit,
        number: 0,
        line: Vec::new(),
    };
    let mut next = source.next()?;
    let is_expiring = matches!(&next, Some(Ok(entry)) if entry.terms.is_some());
    let cache = EitherCache::open_or_create(location, is_expiring)?;
    let mut batch = Batch::new(&cache)?;
    let progress = progress::of_unknown("importing: lines");
    while let Some(found) = next {
        progress.step();
        match found {
            Ok(entry) => batch.push(entry)?,
            Err(what) => batch.unreadable(&Failure::Request(what)),
        }
        next = source.next()?;
    }
    batch.end()
}

/// Lines of a source, and how far they are read.
struct Lines<'a> {
    source: &'a mut dyn BufRead,
    name: &'a str,
    limit: u64,
    number: u64,
    line: Vec<u8>,
}

impl Lines<'_> {
    /// Returns the entry of the next line that is not blank, or what is wrong with it.
    fn next(&mut self) -> Result<Option<Result<PortableEntry, String>>, Failure> {
        loop {
            self.number += 1;
            let whole = read_line(self.source, &mut self.line, self.limit)
                .map_err(Failure::file(Path::new(self.name), "read the lines"))?;
            if self.line.is_empty() && whole {
                return Ok(None);
            }
            if whole && self.line.trim_ascii().is_empty() {
                continue;
            }
            let parsed = match whole {
                true => crate::json_line::parse(&self.line),
                false => Err("longer than any entry of this cache".to_owned()),
            };
            let place = (self.name, self.number);
            let parsed = parsed.map_err(|what| {
                let (name, number) = place;
                format!("{name}: line {number}: skipped: {what}")
            });
            return Ok(Some(parsed));
        }
    }
}

/// Reads a line including its end, or nothing at the end of the source. Returns false if the line is
/// too long; then it skips the line.
fn read_line(source: &mut dyn BufRead, line: &mut Vec<u8>, limit: u64) -> io::Result<bool> {
    line.clear();
    Read::take(&mut *source, limit).read_until(b'\n', line)?;
    if line.ends_with(b"\n") || (line.len() as u64) < limit {
        return Ok(true);
    }
    line.clear();
    source.skip_until(b'\n')?;
    Ok(false)
}
