//! `list`: lists the keys, optionally with values.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ffi::OsString;
use std::path::PathBuf;

use clap::ValueEnum;
use mmapcache::iter::KeyInfo;
use mmapcache::{MmapCache, Version};
use serde_json::{Map, Value};

use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use crate::location::Location;
use crate::output::{self, Output};
use crate::progress::{self, Progress};
use crate::{json_line, json_number, key, timestamp, units, write_options};

/// The entries to list, and the form.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The cache: the path of its index
    pub(crate) cache: PathBuf,
    /// Stop after this many entries
    #[arg(long)]
    limit: Option<u64>,
    /// Only keys that start with this prefix; written as for `get`
    #[arg(long, default_value = "", hide_default_value = true)]
    prefix: OsString,
    /// The order; without it, that of the roster
    #[arg(long, value_enum)]
    sort: Option<Order>,
    /// Reverse the order
    #[arg(long, requires = "sort")]
    reverse: bool,
    /// Add the value after a tab
    #[arg(long)]
    values: bool,
    /// Add the size of the value and the time of the last write before the key; or the id of a label
    #[arg(long)]
    long: bool,
    /// Print a line of JSON for each entry, with size and time
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Order {
    /// By the bytes of the key, the lowest first
    Key,
    /// By the size of the value, the largest first
    Size,
    /// By the time of the last write, the newest first
    Age,
}

/// An entry in sort order.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct SortedEntry {
    /// Compared first; the lowest is listed first.
    rank: u64,
    key: Box<[u8]>,
    value_len: u64,
    version: Version,
}

/// A listing in progress.
struct Lister<'a> {
    cache: &'a MmapCache,
    arguments: &'a Arguments,
    prefix: Vec<u8>,
    /// Whether versions are ids, not times.
    numbered: bool,
    out: Output,
    damage: bool,
}

pub(crate) fn run(location: &Location, arguments: &Arguments) -> Result<ExitStatus, Failure> {
    let prefix = key::parse_argument(&arguments.prefix, "prefix")?;
    let cache = location.open_read_only()?;
    let mut lister = Lister {
        cache: &cache,
        arguments,
        prefix,
        numbered: write_options::has_labels(location)?,
        out: Output::new(),
        damage: false,
    };
    match arguments.sort {
        Some(order) => lister.list_sorted(order)?,
        None if arguments.values => lister.list_values()?,
        None => lister.list_keys()?,
    }
    lister.out.end()?;
    Ok(ExitStatus::problems_if(lister.damage))
}

impl SortedEntry {
    fn new(listed: &KeyInfo<'_>, order: Order) -> Self {
        let rank = match order {
            Order::Key => 0,
            Order::Size => u64::MAX - listed.value_len,
            Order::Age => u64::MAX - listed.version.as_nanos(),
        };
        Self {
            rank,
            key: listed.key.into(),
            value_len: listed.value_len,
            version: listed.version,
        }
    }
}

impl Lister<'_> {
    fn limit(&self) -> u64 {
        self.arguments.limit.unwrap_or(u64::MAX)
    }

    /// Returns what was found. Reports damage on standard error, and returns `None` for it.
    fn valid<T>(&mut self, found: mmapcache::Result<T>) -> Result<Option<T>, Failure> {
        match found {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.is_corruption() => {
                self.damage = true;
                output::report_error(&error);
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn list_keys(&mut self) -> Result<(), Failure> {
        let mut keys = self.cache.keys()?;
        let mut left = self.limit();
        let progress = progress::of_printing("listing entries", self.cache.len());
        while left > 0
            && let Some(found) = keys.next_key_info()
        {
            progress.iter().for_each(Progress::step);
            if let Some(listed) = self.valid(found)?
                && listed.key.starts_with(&self.prefix)
            {
                left -= 1;
                self.show(listed.key, listed.value_len, listed.version, None)?;
            }
        }
        Ok(())
    }

    fn list_values(&mut self) -> Result<(), Failure> {
        let mut left = self.limit();
        let progress = progress::of_printing("listing entries", self.cache.len());
        for found in self.cache.entries()? {
            progress.iter().for_each(Progress::step);
            if left == 0 {
                break;
            }
            if let Some((key, entry)) = self.valid(found)?
                && key.starts_with(&self.prefix)
            {
                left -= 1;
                let value = Some(entry.value());
                self.show(&key, entry.len() as u64, entry.version(), value)?;
            }
        }
        Ok(())
    }

    fn list_sorted(&mut self, order: Order) -> Result<(), Failure> {
        let kept = if self.arguments.reverse {
            let first = self.sorted_entries(|listed| Reverse(SortedEntry::new(listed, order)))?;
            first.into_iter().map(|Reverse(kept)| kept).collect()
        } else {
            self.sorted_entries(|listed| SortedEntry::new(listed, order))?
        };
        let progress = progress::of_printing("listing entries", kept.len() as u64);
        for SortedEntry {
            key,
            value_len,
            version,
            ..
        } in kept
        {
            progress.iter().for_each(Progress::step);
            if !self.arguments.values {
                self.show(&key, value_len, version, None)?;
                continue;
            }
            let found = self.cache.entry(&key);
            // The entry may have been deleted or changed since.
            if let Some(Some(entry)) = self.valid(found)? {
                let value = Some(entry.value());
                self.show(&key, entry.len() as u64, entry.version(), value)?;
            }
        }
        Ok(())
    }

    /// Returns the entries in order, up to the limit. Never keeps more than that.
    fn sorted_entries<T: Ord>(
        &mut self,
        of: impl Fn(&KeyInfo<'_>) -> T,
    ) -> Result<Vec<T>, Failure> {
        let limit = self.limit();
        let mut keys = self.cache.keys()?;
        let mut kept = BinaryHeap::new();
        let progress = progress::of_count("sorting entries", self.cache.len());
        while let Some(found) = keys.next_key_info() {
            progress.step();
            let Some(listed) = self.valid(found)? else {
                continue;
            };
            if !listed.key.starts_with(&self.prefix) {
                continue;
            }
            kept.push(of(&listed));
            if kept.len() as u64 > limit {
                kept.pop();
            }
        }
        Ok(kept.into_sorted_vec())
    }

    fn show(
        &mut self,
        key: &[u8],
        value_len: u64,
        version: Version,
        value: Option<&[u8]>,
    ) -> Result<(), Failure> {
        let id = self.numbered.then(|| version.as_nanos().saturating_sub(1));
        let time = || timestamp::format(version.to_system_time());
        if self.arguments.json {
            let mut object = Map::new();
            json_line::insert(&mut object, "key", key);
            if let Some(value) = value {
                json_line::insert(&mut object, "value", value);
            }
            object.insert("size".to_owned(), value_len.into());
            if let Some(id) = id {
                object.insert("id".to_owned(), id.into());
            } else {
                object.insert("time".to_owned(), time().into());
                object.insert(
                    "version".to_owned(),
                    json_number::string(version.as_nanos()),
                );
            }
            return self.out.json_line(Value::Object(object));
        }
        let mut line = match (self.arguments.long, id) {
            (false, _) => String::new(),
            (true, Some(id)) => format!("{id:>10}  "),
            (true, None) => format!("{:>10}  {}  ", units::bytes(value_len), time()),
        };
        line.push_str(&key::show(key));
        if let Some(value) = value {
            line.push('\t');
            line.push_str(&key::show(value));
        }
        self.out.line(&line)
    }
}
