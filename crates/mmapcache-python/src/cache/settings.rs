//! The limits and defaults of a cache, as keyword arguments.

use std::time::Duration;

use mmapcache::{CacheBuilder, Eviction};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::keywords::{Keywords, extract};
use crate::seconds::Seconds;

/// Limits and defaults to set; those that are not given keep their stored values, `None` takes one away.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Settings {
    max_bytes: Option<Option<u64>>,
    max_entries: Option<Option<u64>>,
    time_to_live: Option<Option<Duration>>,
    time_to_idle: Option<Option<Duration>>,
    jitter: Option<f64>,
    stale_while_revalidate: Option<Option<Duration>>,
    stale_if_error: Option<Option<Duration>>,
    eviction: Option<Eviction>,
}

impl Settings {
    pub(super) fn take(keywords: &Keywords<'_>) -> PyResult<Self> {
        Ok(Self {
            max_bytes: limit(keywords, "max_bytes")?,
            max_entries: limit(keywords, "max_entries")?,
            time_to_live: time(keywords, "time_to_live")?,
            time_to_idle: time(keywords, "time_to_idle")?,
            jitter: limit(keywords, "jitter")?.map(Option::unwrap_or_default),
            stale_while_revalidate: time(keywords, "stale_while_revalidate")?,
            stale_if_error: time(keywords, "stale_if_error")?,
            eviction: eviction(keywords)?,
        })
    }

    pub(super) fn apply(&self, mut builder: CacheBuilder) -> CacheBuilder {
        if let Some(bytes) = self.max_bytes {
            builder = builder.max_bytes(bytes);
        }
        if let Some(entries) = self.max_entries {
            builder = builder.max_entries(entries);
        }
        if let Some(life) = self.time_to_live {
            builder = builder.time_to_live(life);
        }
        if let Some(idle) = self.time_to_idle {
            builder = builder.time_to_idle(idle);
        }
        if let Some(share) = self.jitter {
            builder = builder.jitter(share);
        }
        if let Some(time) = self.stale_while_revalidate {
            builder = builder.stale_while_revalidate(time);
        }
        if let Some(time) = self.stale_if_error {
            builder = builder.stale_if_error(time);
        }
        if let Some(eviction) = self.eviction {
            builder = builder.eviction(eviction);
        }
        builder
    }
}

fn limit<'py, T: FromPyObjectOwned<'py>>(
    keywords: &Keywords<'py>,
    name: &str,
) -> PyResult<Option<Option<T>>> {
    let given = keywords.take_any(name)?;
    given
        .map(|value| match value.is_none() {
            true => Ok(None),
            false => extract(&value, name).map(Some),
        })
        .transpose()
}

fn time(keywords: &Keywords<'_>, name: &str) -> PyResult<Option<Option<Duration>>> {
    let given = limit::<Seconds>(keywords, name)?;
    Ok(given.map(|time| time.map(|Seconds(time)| time)))
}

fn eviction(keywords: &Keywords<'_>) -> PyResult<Option<Eviction>> {
    let Some(name) = keywords.take::<String>("eviction")? else {
        return Ok(None);
    };
    match &name[..] {
        "clock" => Ok(Some(Eviction::Clock)),
        "fifo" => Ok(Some(Eviction::Fifo)),
        "none" => Ok(Some(Eviction::None)),
        _ => Err(PyValueError::new_err(format!(
            "eviction {name:?}; it is \"clock\", \"fifo\" or \"none\""
        ))),
    }
}
