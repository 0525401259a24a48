//! `list`: the keys, and the values where they are asked for.

use crate::failure::Failure;
use crate::output::{self, Output};
use crate::site::Site;
use crate::verdict::Verdict;
use crate::{json_line, key};

/// What to list, and how.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) limit: Option<u64>,
    pub(crate) prefix: Vec<u8>,
    pub(crate) values: bool,
    pub(crate) json: bool,
}

/// A listing under way.
struct Lister<'a> {
    request: &'a Request,
    out: Output,
    left: u64,
    damage: bool,
}

pub(crate) fn run(site: &Site, request: &Request) -> Result<Verdict, Failure> {
    let cache = site.look()?;
    let mut lister = Lister {
        request,
        out: Output::new(),
        left: request.limit.unwrap_or(u64::MAX),
        damage: false,
    };
    if request.values {
        let mut items = cache.items()?;
        while lister.left > 0
            && let Some(item) = items.next_borrowed()
        {
            lister.take(item.map(|(key, value)| (key, Some(value))))?;
        }
    } else {
        let mut keys = cache.keys()?;
        while lister.left > 0
            && let Some(found) = keys.next()
        {
            match found {
                Ok(key) => lister.take(Ok((&key, None)))?,
                Err(error) => lister.take(Err(error))?,
            }
        }
    }
    lister.out.end()?;
    Ok(Verdict::wrong_if(lister.damage))
}

impl Lister<'_> {
    fn take(&mut self, item: mmapcache::Result<(&[u8], Option<&[u8]>)>) -> Result<(), Failure> {
        let (key, value) = match item {
            Ok(item) => item,
            Err(error) if error.is_corruption() => {
                self.damage = true;
                output::complain(&error);
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        if !key.starts_with(&self.request.prefix) {
            return Ok(());
        }
        self.left -= 1;
        if self.request.json {
            return self.out.with(|out| json_line::write(out, key, value));
        }
        let mut line = key::show(key);
        if let Some(value) = value {
            line.push('\t');
            line.push_str(&key::show(value));
        }
        self.out.line(&line)
    }
}
