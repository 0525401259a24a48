//! `list`: lists the keys, optionally with values.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ffi::OsString;
use std::path::PathBuf;

use clap::ValueEnum;
use mmapcache::iter::KeyInfo;
use mmapcache::{Cache, CacheEntry, MmapCache, Version};
use serde_json::{Map, Value};

use crate::entry_state::EntryState;
use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use crate::location::Location;
use crate::output::{self, Output};
use crate::progress::{self, Progress};
use crate::{cache_figures, json_line, json_number, key, timestamp, units, write_options};

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
    /// Add the size of the value and the time of the last write before the key; or the id of a label.
    /// Of a `Cache`, add whether the entry is fresh, and for how long
    #[arg(long)]
    long: bool,
    /// Only expired entries, which take room and are absent to readers; of a `Cache`
    #[arg(long)]
    expired: bool,
    /// Print a line of JSON for each entry, with size and time; of a `Cache` also with its state
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
    /// The same cache, if its entries have deadlines.
    expiring: Option<Cache>,
    /// What the keys of the cache itself begin with, if it has such entries.
    internal: Option<[u8; 16]>,
    /// Whether versions are ids, not times.
    numbered: bool,
    out: Output,
    damage: bool,
}

pub(crate) fn run(location: &Location, arguments: &Arguments) -> Result<ExitStatus, Failure> {
    let prefix = key::parse_argument(&arguments.prefix, "prefix")?;
    let cache = location.open_read_only()?;
    let cache_files = location.read_headers()?;
    let is_expiring = cache_figures::is_cache(&cache_files);
    if arguments.expired && !is_expiring {
        let path = location.cache.display();
        let what = format!("{path}: has no deadlines: list it without --expired");
        return Err(Failure::Request(what));
    }
    let header = cache_files.header().filter(|_| is_expiring);
    let expiring = is_expiring.then(|| location.open_cache_read_only());
    let mut lister = Lister {
        cache: &cache,
        arguments,
        prefix,
        expiring: expiring.transpose()?,
        internal: header.map(|header| header.cache_id),
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

    /// Returns whether a key is asked for.
    fn is_wanted(&self, key: &[u8]) -> bool {
        let is_internal = |id: &[u8; 16]| key.starts_with(id);
        key.starts_with(&self.prefix) && !self.internal.as_ref().is_some_and(is_internal)
    }

    /// Returns an entry of a `Cache`, if more than its key is shown or asked for; `None` also for one that
    /// was removed since.
    fn stored(&mut self, key: &[u8]) -> Result<Option<CacheEntry>, Failure> {
        let Arguments {
            long,
            json,
            expired,
            values,
            ..
        } = *self.arguments;
        let is_needed = long || json || expired || values;
        let cache = self.expiring.as_ref().filter(|_| is_needed);
        let Some(found) = cache.map(|cache| cache.stored_entry(key)) else {
            return Ok(None);
        };
        Ok(self.valid(found)?.flatten())
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
                && self.is_wanted(listed.key)
                && self.show(listed.key, listed.value_len, listed.version, None)?
            {
                left -= 1;
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
                && self.is_wanted(&key)
            {
                let value = Some(entry.value());
                if self.show(&key, entry.len() as u64, entry.version(), value)? {
                    left -= 1;
                }
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
            if !self.is_wanted(listed.key) {
                continue;
            }
            // The limit is that of entries that will be shown.
            if self.arguments.expired && !self.is_expired(listed.key)? {
                continue;
            }
            kept.push(of(&listed));
            if kept.len() as u64 > limit {
                kept.pop();
            }
        }
        Ok(kept.into_sorted_vec())
    }

    fn is_expired(&mut self, key: &[u8]) -> Result<bool, Failure> {
        Ok(self.stored(key)?.is_some_and(|entry| entry.is_expired()))
    }

    /// Prints an entry, unless only others are asked for. Returns whether it did.
    fn show(
        &mut self,
        key: &[u8],
        value_len: u64,
        version: Version,
        value: Option<&[u8]>,
    ) -> Result<bool, Failure> {
        let stored = self.stored(key)?;
        let state = stored.as_ref().map(EntryState::of);
        // The engine's value has what a `Cache` stores after its own.
        let value_len = state.map_or(value_len, |state| state.value_len);
        let value = value.map(|value| stored.as_ref().map_or(value, CacheEntry::value));
        if self.arguments.expired && !state.is_some_and(|state| state.is_expired) {
            return Ok(false);
        }
        match self.arguments.json {
            true => self.show_json(key, value_len, version, value, state)?,
            false => self.show_line(key, value_len, version, value, state)?,
        }
        Ok(true)
    }

    fn show_json(
        &mut self,
        key: &[u8],
        value_len: u64,
        version: Version,
        value: Option<&[u8]>,
        state: Option<EntryState>,
    ) -> Result<(), Failure> {
        let mut object = Map::new();
        json_line::insert(&mut object, "key", key);
        if let Some(value) = value {
            json_line::insert(&mut object, "value", value);
        }
        object.insert("size".to_owned(), value_len.into());
        if let Some(id) = self.id(version) {
            object.insert("id".to_owned(), id.into());
        } else {
            let time = timestamp::format(version.to_system_time());
            object.insert("time".to_owned(), time.into());
            object.insert(
                "version".to_owned(),
                json_number::string(version.as_nanos()),
            );
        }
        if let Some(state) = state {
            state.insert(&mut object);
        }
        self.out.json_line(Value::Object(object))
    }

    fn id(&self, version: Version) -> Option<u64> {
        self.numbered.then(|| version.as_nanos().saturating_sub(1))
    }

    fn show_line(
        &mut self,
        key: &[u8],
        value_len: u64,
        version: Version,
        value: Option<&[u8]>,
        state: Option<EntryState>,
    ) -> Result<(), Failure> {
        let time = || timestamp::format(version.to_system_time());
        let mut line = match (self.arguments.long, self.id(version)) {
            (false, _) => String::new(),
            (true, Some(id)) => format!("{id:>10}  "),
            (true, None) => format!("{:>10}  {}  ", units::bytes(value_len), time()),
        };
        if let Some(state) = state.filter(|_| self.arguments.long) {
            line.push_str(&format!("{:<22}  ", state.text()));
        }
        line.push_str(&key::show(key));
        if let Some(value) = value {
            line.push('\t');
            line.push_str(&key::show(value));
        }
        self.out.line(&line)
    }
}
