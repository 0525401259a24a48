//! Lookups renew the deadlines of entries under a time to idle.
//!
//! May call its siblings, `engine` and everything below it.

use std::time::Duration;

use crate::cache::settings;
use crate::engine::handle::Handle;
use crate::engine::read::lookup::{self, Answer, EntryTerms};
use crate::engine::write::put::Terms;
use crate::error::{ErrorKind, Result};
use crate::format::settings::Settings;
use crate::mmap_cache::MmapCache;
use crate::os::clock::unix_millis;

const NS_PER_MS: u64 = 1_000_000;

/// Renews the deadline of a fresh entry that a lookup found, if it is due and no other writer is at
/// work. The lookup has its result already: errors are only logged.
pub(super) fn renew(cache: &MmapCache, key: &[u8], found: &EntryTerms) {
    match try_renew(cache, key, found) {
        Err(error) if !matches!(error.kind(), ErrorKind::Locked { .. }) => {
            log::debug!("{error}: a deadline is not renewed");
        }
        _ => {}
    }
}

fn try_renew(cache: &MmapCache, key: &[u8], found: &EntryTerms) -> Result<()> {
    let handle = cache.handle();
    if handle.options.read_only {
        return Ok(());
    }
    let settings = settings::read(handle)?;
    if renewed(found, &settings, unix_millis()).is_none() {
        return Ok(());
    }
    cache.write_within(Some(Duration::ZERO), |writer| {
        let mut value = Vec::new();
        let Some(found) = unchanged(handle, key, found, &mut value)? else {
            return Ok(());
        };
        let Some(deadline) = renewed(&found, &settings, unix_millis()) else {
            return Ok(());
        };
        let terms = Terms {
            version: Some(found.version),
            deadline: Some(deadline),
            traits: found.traits,
        };
        writer.put_with(key, &value, terms).map(drop)
    })
}

/// Reads the entry again, if it is fresh and has the same version. The lock is held.
fn unchanged(
    handle: &Handle,
    key: &[u8],
    seen: &EntryTerms,
    value: &mut Vec<u8>,
) -> Result<Option<EntryTerms>> {
    Ok(match lookup::read_terms(handle, key, value)? {
        Answer::Found(terms) if terms.version == seen.version && terms.is_fresh() => Some(terms),
        _ => None,
    })
}

/// Returns the deadline that a use at `now` gives an entry; `None` if the entry is not renewed, or was
/// a moment ago.
fn renewed(found: &EntryTerms, settings: &Settings, now: u64) -> Option<u64> {
    let idle = settings.time_to_idle;
    if !found.traits.is_idle() || idle == 0 {
        return None;
    }
    let deadline = found.life.deadline(found.version)?;
    let wanted = now.saturating_add(idle);
    // A touch keeps the version, so it says when the entry was inserted.
    let end = match settings.time_to_live {
        0 => u64::MAX,
        life => (found.version / NS_PER_MS).saturating_add(life),
    };
    let is_due = wanted.saturating_sub(deadline) >= idle.div_ceil(10);
    Some(wanted.min(end)).filter(|&renewed| is_due && renewed > deadline)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::life::Life;
    use crate::format::record::Traits;

    const INSERTED: u64 = 1_790_000_000_000;

    fn renewed_at(now: u64, deadline: u64, time_to_live: u64) -> Option<u64> {
        let version = INSERTED * NS_PER_MS;
        let found = EntryTerms {
            version,
            life: Life::new(version, INSERTED + deadline),
            traits: Traits::IDLE,
        };
        let settings = Settings {
            time_to_idle: 1_000,
            time_to_live,
            ..Settings::default()
        };
        renewed(&found, &settings, INSERTED + now).map(|at| at - INSERTED)
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
