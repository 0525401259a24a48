//! The options of one insertion: its deadline, and what else is stored with the entry.
//!
//! May call `cache::settings`, `engine::write::put` and `os::random`.

use std::borrow::Cow;
use std::cell::RefCell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::cache::settings::millis;
use crate::engine::write::put::Terms;
use crate::format::extension::{Extension, Span};
use crate::format::internal::{self, GroupKind};
use crate::format::life::Life;
use crate::format::record::Traits;
use crate::format::settings::Settings;
use crate::os::random::Rng;

thread_local! {
    static RANDOM: RefCell<Rng> = RefCell::new(Rng::new());
}

/// How long an entry lives, and the groups that it belongs to.
///
/// Without a choice it lives as the cache says
/// ([`CacheBuilder::time_to_live`](crate::CacheBuilder::time_to_live) and
/// [`time_to_idle`](crate::CacheBuilder::time_to_idle)), and if that says nothing, until it is removed;
/// and it belongs to no group.
///
/// What is stored beside the deadline counts with the value for limits of size: 4 bytes each for
/// [`stale_for`](Self::stale_for) and [`cost`](Self::cost), 8 each for [`tag`](Self::tag) and
/// [`namespace`](Self::namespace).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InsertOptions {
    deadline: Deadline,
    extension: Extension,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Deadline {
    /// As the cache says.
    #[default]
    Default,
    Never,
    After(Duration),
    /// In milliseconds since the Unix epoch.
    At(u64),
    /// That of an entry that is there.
    Kept {
        deadline: Option<u64>,
        is_idle: bool,
    },
}

impl InsertOptions {
    /// Returns options that leave the life of the entry to the cache.
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives the entry no deadline, whatever the cache says.
    #[must_use]
    pub fn no_expiry(mut self) -> Self {
        self.deadline = Deadline::Never;
        self
    }

    /// Sets the life of the entry, from the insertion on. Replaces [`expires_at`](Self::expires_at).
    /// [`CacheBuilder::jitter`](crate::CacheBuilder::jitter) may shorten it.
    ///
    /// Rounded down to a millisecond, and to 1/2^26 of lives above 37 hours. Zero is expired at once.
    /// Longer than 139 years, `Duration::MAX` for example, is no deadline.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.deadline = Deadline::After(ttl);
        self
    }

    /// Sets the moment from which on the entry is expired. Replaces [`ttl`](Self::ttl). A moment in the
    /// past is expired at once.
    #[must_use]
    pub fn expires_at(mut self, at: SystemTime) -> Self {
        let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.deadline = Deadline::At(millis(since));
        self
    }

    /// Sets how long after its deadline the value is still served, as stale: by
    /// [`get`](crate::Cache::get) as if it were fresh, by [`entry`](crate::Cache::entry) with
    /// [`is_stale`](crate::CacheEntry::is_stale). Replaces the default of the cache; zero serves nothing
    /// stale. Has no effect without a deadline, and on negative entries.
    ///
    /// Rounded down as [`ttl`](Self::ttl). `Duration::MAX` is for ever.
    #[must_use]
    pub fn stale_for(mut self, stale_for: Duration) -> Self {
        self.extension.stale_for = Some(Span::new(millis(stale_for)));
        self
    }

    /// Sets the tag of the entry, by which
    /// [`invalidate_tag`](crate::Cache::invalidate_tag) ends its life. Replaces an earlier one.
    ///
    /// Only a hash of the name is stored, of 64 bits: two tags with the same hash are invalidated
    /// together.
    #[must_use]
    pub fn tag(mut self, tag: impl AsRef<[u8]>) -> Self {
        self.extension.tag = Some(internal::group_hash(GroupKind::Tag, tag.as_ref()));
        self
    }

    /// Sets the namespace of the entry, by which
    /// [`invalidate_namespace`](crate::Cache::invalidate_namespace) ends its life. Independent of the
    /// key and of the [tag](Self::tag), otherwise the same.
    #[must_use]
    pub fn namespace(mut self, namespace: impl AsRef<[u8]>) -> Self {
        let hash = internal::group_hash(GroupKind::Namespace, namespace.as_ref());
        self.extension.namespace = Some(hash);
        self
    }

    /// Sets the tag by the hash that another entry [has](crate::CacheEntry::tag_hash), for tools that copy
    /// entries and do not know the names. The hash of a name is the same in every cache.
    #[must_use]
    pub fn tag_hash(mut self, hash: u64) -> Self {
        self.extension.tag = Some(hash);
        self
    }

    /// Sets the namespace by its hash, as [`tag_hash`](Self::tag_hash).
    #[must_use]
    pub fn namespace_hash(mut self, hash: u64) -> Self {
        self.extension.namespace = Some(hash);
        self
    }

    /// Stores with the entry what its value took to compute; see
    /// [`CacheEntry::cost`](crate::CacheEntry::cost). Rounded down to a microsecond, and to 1/2^26 of it
    /// above 2 minutes.
    #[must_use]
    pub fn cost(mut self, cost: Duration) -> Self {
        let micros = u64::try_from(cost.as_micros()).unwrap_or(u64::MAX);
        self.extension.cost = Some(Span::new(micros));
        self
    }

    /// Returns the options of an entry that is there; the deadline is in milliseconds since the Unix epoch.
    pub(super) fn kept(deadline: Option<u64>, is_idle: bool, extension: Extension) -> Self {
        let deadline = Deadline::Kept { deadline, is_idle };
        Self {
            deadline,
            extension,
        }
    }

    /// Returns what is stored with the entry, if it is inserted now, under the defaults of the cache.
    pub(super) fn terms(&self, settings: &Settings) -> Terms {
        let (deadline, traits) = match self.deadline {
            Deadline::Default => default_deadline(settings),
            Deadline::Never => (None, Traits::NONE),
            Deadline::After(ttl) => (after(millis(ttl), settings.jitter), Traits::NONE),
            Deadline::At(at) => (within_reach(at), Traits::NONE),
            Deadline::Kept { deadline, is_idle } => {
                let traits = if is_idle { Traits::IDLE } else { Traits::NONE };
                (deadline, traits)
            }
        };
        Terms {
            deadline,
            traits: traits.with(self.extension.traits()),
            ..Terms::PLAIN
        }
    }

    /// Returns the deadline of an entry that is touched now: not shortened at random, for it is asked for
    /// by name.
    pub(super) fn deadline(&self) -> Option<u64> {
        self.terms(&Settings::default()).deadline
    }

    /// Returns the bytes that are stored for a value: the extension after it.
    pub(super) fn stored<'v>(&self, value: &'v [u8]) -> Cow<'v, [u8]> {
        if self.extension == Extension::default() {
            return Cow::Borrowed(value);
        }
        let bytes = self.extension.traits().extension_bytes() as usize;
        let mut stored = Vec::with_capacity(value.len() + bytes);
        stored.extend_from_slice(value);
        self.extension.append_to(&mut stored);
        Cow::Owned(stored)
    }

    pub(super) fn extension(&self) -> &Extension {
        &self.extension
    }
}

/// Returns the deadline of an entry that is given no life. Under a time to idle it is not random: uses
/// renew it at times of their own.
fn default_deadline(settings: &Settings) -> (Option<u64>, Traits) {
    match (settings.time_to_live, settings.time_to_idle) {
        (0, 0) => (None, Traits::NONE),
        (life, 0) => (after(life, settings.jitter), Traits::NONE),
        (0, idle) => (after(idle, 0), Traits::IDLE),
        (life, idle) => (after(life.min(idle), 0), Traits::IDLE),
    }
}

/// Returns a deadline; `None` if it is so late that no record can store it.
fn within_reach(deadline: u64) -> Option<u64> {
    let left = deadline.saturating_sub(super::now());
    (left <= Life::LONGEST).then_some(deadline)
}

/// Returns the end of a life that begins now; `None` if no record can store it.
fn after(life: u64, jitter: u8) -> Option<u64> {
    (life <= Life::LONGEST).then(|| super::now().saturating_add(shortened(life, jitter)))
}

/// Returns a life that is shorter by a random share of at most `percent`.
fn shortened(life: u64, percent: u8) -> u64 {
    let most = (u128::from(life) * u128::from(percent.min(100)) / 100) as u64;
    if most == 0 {
        return life;
    }
    life - RANDOM.with_borrow_mut(|random| random.below(most + 1))
}
