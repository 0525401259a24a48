//! `get`: the value of one key, byte for byte.

use serde_json::{Map, Value};

use crate::failure::Failure;
use crate::output::{self, Output};
use crate::site::Site;
use crate::verdict::Verdict;
use crate::{exact, json_line, key};

pub(crate) fn run(site: &Site, wanted: &[u8], json: bool) -> Result<Verdict, Failure> {
    let cache = site.look()?;
    // The strict form: a damaged entry is an error here, not a miss.
    let Some(entry) = cache.entry(wanted)? else {
        output::remark(&format!(
            "{}: no entry under the key {}",
            cache.path().display(),
            key::show(wanted)
        ));
        return Ok(Verdict::Wrong);
    };
    let mut out = Output::new();
    if json {
        let mut object = Map::new();
        json_line::insert(&mut object, "key", wanted);
        json_line::insert(&mut object, "value", entry.value());
        object.insert(
            "version".to_owned(),
            exact::wide(entry.version().as_nanos()),
        );
        out.json(&Value::Object(object))?;
    } else {
        out.with(|out| out.write_all(entry.value()))?;
    }
    out.end()?;
    Ok(Verdict::Fine)
}
