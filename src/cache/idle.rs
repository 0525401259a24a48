//! Lookups renew the deadlines of entries under a time to idle: the cache's, or that of one call.
//!
//! May call its siblings, `engine` and everything below it.

use std::time::Duration;

use crate::cache::found::Found;
use crate::cache::{Cache, settings, touch};
use crate::engine::Writer;
use crate::error::{ErrorKind, Result};
use crate::format::life::Life;
use crate::format::settings::Settings;
use crate::os::clock::unix_millis;

const NS_PER_MS: u64 = 1_000_000;

/// Renews the deadline of an entry that a lookup found, if it is due and no other writer is at work. The
/// lookup has its result already: errors are only logged.
pub(super) fn renew(cache: &Cache, key: &[u8], found: &Found) {
    let renewed = settings::read(cache.cache.handle())
        .and_then(|settings| try_renew(cache, key, found, &settings));
    log_failure(renewed);
}

/// As [`renew`], for a lookup that brings a time to idle of its own.
pub(super) fn prolong(cache: &Cache, key: &[u8], found: &Found, ttl: Duration) {
    let settings = Settings {
        time_to_idle: settings::millis(ttl).min(Life::LONGEST),
        ..Settings::default()
    };
    log_failure(try_renew(cache, key, found, &settings));
}

fn log_failure(renewed: Result<()>) {
    match renewed {
        Err(error) if !matches!(error.kind(), ErrorKind::Locked { .. }) => {
            log::debug!("{error}: a deadline is not renewed");
        }
        _ => {}
    }
}

fn try_renew(cache: &Cache, key: &[u8], seen: &Found, settings: &Settings) -> Result<()> {
    let handle = cache.cache.handle();
    if handle.options.read_only {
        return Ok(());
    }
    if renewed(seen.version, seen.deadline, settings, unix_millis()).is_none() {
        return Ok(());
    }
    cache
        .cache
        .write_within(Some(Duration::ZERO), None, |writer| {
            renew_found(cache, writer, key, seen.version, settings)
        })
}

/// As [`renew`], for a lookup of a batch, which has the lock.
#[cold]
pub(super) fn renew_in_batch(cache: &Cache, writer: &mut Writer<'_>, key: &[u8], seen: &Found) {
    let renewed = settings::read(cache.cache.handle())
        .and_then(|settings| renew_found(cache, writer, key, seen.version, &settings));
    log_failure(renewed);
}

/// Renews the deadline of an entry under the lock, if it still has this version and it is time for that.
fn renew_found(
    cache: &Cache,
    writer: &mut Writer<'_>,
    key: &[u8],
    version: u64,
    settings: &Settings,
) -> Result<()> {
    let found = cache.find_served(key)?;
    let Some(found) = found.filter(|found| found.version == version) else {
        return Ok(());
    };
    let Some(deadline) = renewed(found.version, found.deadline, settings, unix_millis()) else {
        return Ok(());
    };
    let (handle, traits) = (cache.cache.handle(), found.traits);
    touch::set(writer, handle, key, found, (Some(deadline), traits))
}

/// Returns the deadline that a use at `now` gives an entry; `None` if it was renewed a moment ago.
fn renewed(version: u64, deadline: Option<u64>, settings: &Settings, now: u64) -> Option<u64> {
    let (idle, deadline) = (settings.time_to_idle, deadline?);
    if idle == 0 {
        return None;
    }
    let wanted = now.saturating_add(idle);
    // A touch keeps the version, so it says when the entry was inserted.
    let end = match settings.time_to_live {
        0 => u64::MAX,
        life => (version / NS_PER_MS).saturating_add(life),
    };
    let is_due = wanted.saturating_sub(deadline) >= idle.div_ceil(10);
    Some(wanted.min(end)).filter(|&renewed| is_due && renewed > deadline)
}

#[cfg(test)]
mod tests {
    use super::*;

    const INSERTED: u64 = 1_790_000_000_000;

    fn renewed_at(now: u64, deadline: u64, time_to_live: u64) -> Option<u64> {
        let settings = Settings {
            time_to_idle: 1_000,
            time_to_live,
            ..Settings::default()
        };
        let (version, deadline) = (INSERTED * NS_PER_MS, INSERTED + deadline);
        renewed(version, Some(deadline), &settings, INSERTED + now).map(|at| at - INSERTED)
    }

    #[test]
    fn renewals_are_a_tenth_apart() {
        assert_eq!(renewed_at(99, 1_000, 0), None);
        assert_eq!(renewed_at(100, 1_000, 0), Some(1_100));
        assert_eq!(renewed_at(900, 1_000, 0), Some(1_900));
    }

    #[test]
    fn renewals_end_with_the_life() {
        assert_eq!(renewed_at(900, 1_000, 1_500), Some(1_500));
        assert_eq!(renewed_at(1_400, 1_500, 1_500), None);
        assert_eq!(renewed_at(400, 500, 500), None);
    }
}
