//! What a computing call needs of a cache: to look its key up, and to store what was computed.
//!
//! May call `cache`, whose lookups and changes it uses, and what that may call.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use crate::cache::compute::{Shared, Since, Store};
use crate::cache::flights::Flights;
use crate::cache::found::Found;
use crate::cache::{Cache, InsertOptions, groups, idle, insertion};
use crate::engine::Version;
use crate::engine::handle::Handle;
use crate::engine::write::put::Terms;
use crate::error::Result;
use crate::format::freshness::Freshness;
use crate::format::record::Traits;

impl Store for Cache {
    fn handle(&self) -> &Handle {
        self.cache.handle()
    }

    fn flights(&self) -> &Arc<Flights<Shared>> {
        &self.flights
    }

    fn find_readable(&self, key: &[u8]) -> Result<Option<Found>> {
        self.check_key(key)?;
        let found = self.find_undamaged(key)?;
        if let Some(found) = &found
            && found.traits.is_idle()
            && found.is_served()
        {
            self.renew(key, found);
        }
        Ok(found)
    }

    fn prolong(&self, key: &[u8], found: &Found, ttl: Duration) {
        if found.freshness == Freshness::Fresh {
            idle::prolong(self, key, found, ttl);
            self.report_removals();
        }
    }

    fn begin(&self) -> Result<Version> {
        self.last_version()
    }

    fn store_unless_newer(
        &self,
        key: &[u8],
        value: Option<&[u8]>,
        options: &InsertOptions,
        since: Since,
    ) -> Result<Option<Found>> {
        let stored = value.map_or(Cow::Borrowed(&[][..]), |value| options.stored(value));
        self.check_put(key, &stored)?;
        self.change_key(key, |writer| {
            if let Some(found) = self.find_served(key)?
                && Some(found.version) != since.seen
            {
                return Ok(Some(found));
            }
            let groups = options.extension();
            if !groups::are_older(
                writer,
                self.cache.handle(),
                &self.groups,
                groups,
                since.begun,
            )? {
                return Ok(None);
            }
            let terms = insertion::terms(writer, options)?;
            let terms = match value {
                Some(_) => terms,
                None => Terms {
                    traits: Traits::NEGATIVE,
                    ..terms
                },
            };
            insertion::put(self, writer, key, &stored, terms).map(|_| None)
        })
    }
}
