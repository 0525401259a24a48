//! `list`: the keys, and the values where they are asked for.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ffi::OsString;
use std::path::PathBuf;

use clap::ValueEnum;
use mmapcache::iter::KeyInfo;
use mmapcache::{MmapCache, Version};
use serde_json::{Map, Value};

use crate::failure::Failure;
use crate::output::{self, Output};
use crate::progress::{self, Progress};
use crate::site::Site;
use crate::verdict::Verdict;
use crate::{change, exact, json_line, key, moment, units};

/// What to list, and how.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The cache: the path of its index
    pub(crate) cache: PathBuf,
    /// Stop after so many entries
    #[arg(long)]
    limit: Option<u64>,
    /// Only keys that start like this; written as for `get`
    #[arg(long, default_value = "", hide_default_value = true)]
    prefix: OsString,
    /// In which order; without it, in none that means anything
    #[arg(long, value_enum)]
    sort: Option<Order>,
    /// The other way round
    #[arg(long, requires = "sort")]
    reverse: bool,
    /// The values as well, behind a tab
    #[arg(long)]
    values: bool,
    /// Before each key the size of its value, and when it was put; or a label's id
    #[arg(long)]
    long: bool,
    /// Print a line of JSON for each entry, with size and time
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Order {
    /// By its bytes, the lowest first
    Key,
    /// The largest value first
    Size,
    /// The one that was put last first
    Age,
}

/// An entry that is kept until its turn comes.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Kept {
    /// By which it is compared first, so that the lowest comes first.
    rank: u64,
    key: Box<[u8]>,
    value_len: u64,
    version: Version,
}

/// A listing under way.
struct Lister<'a> {
    cache: &'a MmapCache,
    arguments: &'a Arguments,
    prefix: Vec<u8>,
    /// Whether versions are ids, of labels, and no times.
    numbered: bool,
    out: Output,
    damage: bool,
}

pub(crate) fn run(site: &Site, arguments: &Arguments) -> Result<Verdict, Failure> {
    let prefix = key::asked(&arguments.prefix, "prefix")?;
    let cache = site.look()?;
    let mut lister = Lister {
        cache: &cache,
        arguments,
        prefix,
        numbered: change::has_labels(site)?,
        out: Output::new(),
        damage: false,
    };
    match arguments.sort {
        Some(order) => lister.sorted(order)?,
        None if arguments.values => lister.with_values()?,
        None => lister.keys_alone()?,
    }
    lister.out.end()?;
    Ok(Verdict::wrong_if(lister.damage))
}

impl Kept {
    fn of(listed: &KeyInfo<'_>, order: Order) -> Self {
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

    /// What was found; none, after a word on standard error, where it is damaged.
    fn sound<T>(&mut self, found: mmapcache::Result<T>) -> Result<Option<T>, Failure> {
        match found {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.is_corruption() => {
                self.damage = true;
                output::complain(&error);
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn keys_alone(&mut self) -> Result<(), Failure> {
        let mut keys = self.cache.keys()?;
        let mut left = self.limit();
        let progress = progress::of_printing("listing entries", self.cache.len());
        while left > 0
            && let Some(found) = keys.next_key_info()
        {
            progress.iter().for_each(Progress::step);
            if let Some(listed) = self.sound(found)?
                && listed.key.starts_with(&self.prefix)
            {
                left -= 1;
                self.show(listed.key, listed.value_len, listed.version, None)?;
            }
        }
        Ok(())
    }

    fn with_values(&mut self) -> Result<(), Failure> {
        let mut left = self.limit();
        let progress = progress::of_printing("listing entries", self.cache.len());
        for found in self.cache.entries()? {
            progress.iter().for_each(Progress::step);
            if left == 0 {
                break;
            }
            if let Some((key, entry)) = self.sound(found)?
                && key.starts_with(&self.prefix)
            {
                left -= 1;
                let value = Some(entry.value());
                self.show(&key, entry.len() as u64, entry.version(), value)?;
            }
        }
        Ok(())
    }

    fn sorted(&mut self, order: Order) -> Result<(), Failure> {
        let kept = if self.arguments.reverse {
            let first = self.first(|listed| Reverse(Kept::of(listed, order)))?;
            first.into_iter().map(|Reverse(kept)| kept).collect()
        } else {
            self.first(|listed| Kept::of(listed, order))?
        };
        let progress = progress::of_printing("listing entries", kept.len() as u64);
        for Kept {
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
            // It may have gone since, or have another value.
            if let Some(Some(entry)) = self.sound(found)? {
                let value = Some(entry.value());
                self.show(&key, entry.len() as u64, entry.version(), value)?;
            }
        }
        Ok(())
    }

    /// The lowest entries in their order: all, or so many that no more than the limit is ever kept.
    fn first<T: Ord>(&mut self, of: impl Fn(&KeyInfo<'_>) -> T) -> Result<Vec<T>, Failure> {
        let limit = self.limit();
        let mut keys = self.cache.keys()?;
        let mut kept = BinaryHeap::new();
        let progress = progress::of_count("sorting entries", self.cache.len());
        while let Some(found) = keys.next_key_info() {
            progress.step();
            let Some(listed) = self.sound(found)? else {
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
        let time = || moment::show(version.to_system_time());
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
                object.insert("version".to_owned(), exact::wide(version.as_nanos()));
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
