//! `get`: prints the value of a key, byte for byte.

use mmapcache::CacheEntry;
use serde_json::{Map, Value};

use crate::either_cache::EitherCache;
use crate::entry_state::EntryState;
use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use crate::location::Location;
use crate::output::{self, Output};
use crate::{json_line, json_number, key};

pub(crate) fn run(location: &Location, wanted: &[u8], json: bool) -> Result<ExitStatus, Failure> {
    let cache = EitherCache::open_read_only(location)?;
    // Unlike `get`, these report a damaged entry as an error.
    let found = match &cache {
        EitherCache::Engine(cache) => {
            let entry = cache.entry(wanted)?;
            entry.map(|entry| (entry.version(), None, entry.into_value()))
        }
        EitherCache::Expiring(cache) => {
            let entry = cache.stored_entry(wanted)?;
            let state = |entry: &CacheEntry| Some(EntryState::of(entry));
            entry.map(|entry| (entry.version(), state(&entry), entry.into_value()))
        }
    };
    let Some((version, state, value)) = found else {
        output::warn(&format!(
            "{}: no entry under the key {}",
            cache.path().display(),
            key::show(wanted)
        ));
        return Ok(ExitStatus::Problems);
    };
    let is_negative = state.is_some_and(|state| state.is_negative);
    let mut out = Output::new();
    if json {
        let mut object = Map::new();
        json_line::insert(&mut object, "key", wanted);
        json_line::insert(&mut object, "value", &value);
        object.insert(
            "version".to_owned(),
            json_number::string(version.as_nanos()),
        );
        if let Some(state) = state {
            state.insert(&mut object);
        }
        out.json(&Value::Object(object))?;
    } else if is_negative {
        let what = "the key is known not to exist, and has no value";
        output::warn(&format!("{}: {what}", key::show(wanted)));
    } else {
        out.with(|out| out.write_all(&value))?;
    }
    out.end()?;
    Ok(ExitStatus::problems_if(is_negative))
}
