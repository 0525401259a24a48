//! `get`: prints the value of a key, byte for byte.

use serde_json::{Map, Value};

use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use crate::location::Location;
use crate::output::{self, Output};
use crate::{json_line, json_number, key};

pub(crate) fn run(location: &Location, wanted: &[u8], json: bool) -> Result<ExitStatus, Failure> {
    let cache = location.open_read_only()?;
    // Unlike `get`, this reports a damaged entry as an error.
    let Some(entry) = cache.entry(wanted)? else {
        output::warn(&format!(
            "{}: no entry under the key {}",
            cache.path().display(),
            key::show(wanted)
        ));
        return Ok(ExitStatus::Problems);
    };
    let mut out = Output::new();
    if json {
        let mut object = Map::new();
        json_line::insert(&mut object, "key", wanted);
        json_line::insert(&mut object, "value", entry.value());
        object.insert(
            "version".to_owned(),
            json_number::string(entry.version().as_nanos()),
        );
        out.json(&Value::Object(object))?;
    } else {
        out.with(|out| out.write_all(entry.value()))?;
    }
    out.end()?;
    Ok(ExitStatus::Success)
}
