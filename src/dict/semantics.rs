//! What the operations of a dictionary mean, once for all storages: conditions, policies, results.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use crate::codec::CodecError;
use crate::dict::conditional::{Condition, ETag, Outcome, Retrieve};
use crate::dict::error::{DictError, Result};
use crate::dict::item_key::ItemKey;
use crate::dict::store::{Backend, Lookup, Session};
use crate::dict::stored::StoredValue;
use crate::dict::value::Value;
use crate::engine::Update;

/// When a conditional operation proceeds, and whether it returns the value of an unchanged item.
#[derive(Clone, Copy)]
pub(super) struct Precondition {
    pub(super) condition: Condition,
    pub(super) expected: Option<ETag>,
    pub(super) retrieve: Retrieve,
}

impl Precondition {
    fn holds(self, actual: Option<ETag>) -> bool {
        self.condition.holds(self.expected, actual)
    }

    fn wants_value(self, actual: Option<ETag>) -> bool {
        self.retrieve.wants(self.expected, actual)
    }

    /// Returns the result of an operation that leaves the item unchanged.
    fn unchanged<V: Value>(self, key: &ItemKey, seen: Seen) -> Result<Outcome<V>> {
        let satisfied = self.holds(seen.etag);
        let Some(etag) = seen.etag else {
            return Ok(Outcome::Absent { satisfied });
        };
        let value = seen.value.map(|value| decode(key, &value)).transpose()?;
        Ok(Outcome::Unchanged {
            satisfied,
            etag,
            value,
        })
    }
}

/// What a conditional operation does if its condition holds.
pub(super) struct ConditionalUpdate<V> {
    pub(super) update: Update<V>,
    /// Leaves an item unchanged that exists.
    pub(super) only_if_absent: bool,
}

impl<V> ConditionalUpdate<V> {
    /// Returns whether an item with this ETag is left unchanged.
    fn leaves(&self, precondition: Precondition, actual: Option<ETag>) -> bool {
        let is_kept = match self.update {
            Update::Put(_) => self.only_if_absent && actual.is_some(),
            Update::Keep => true,
            Update::Delete => actual.is_none(),
        };
        is_kept || !precondition.holds(actual)
    }
}

/// The state of an item: its ETag, and its value if that was wanted.
struct Seen {
    etag: Option<ETag>,
    value: Option<StoredValue>,
}

/// Looks up an item, and reads its value if `is_wanted` of its ETag.
fn look_up(
    lookup: &(impl Lookup + ?Sized),
    key: &ItemKey,
    is_wanted: impl Fn(Option<ETag>) -> bool,
) -> Result<Seen> {
    let etag = lookup.etag(key)?;
    if etag.is_none() || !is_wanted(etag) {
        return Ok(Seen { etag, value: None });
    }
    // The item may have been written again since then.
    Ok(match lookup.load(key)? {
        Some((etag, value)) => Seen {
            etag: Some(etag),
            value: is_wanted(Some(etag)).then_some(value),
        },
        None => Seen {
            etag: None,
            value: None,
        },
    })
}

pub(super) fn encode<V: Value>(key: &ItemKey, value: &V) -> Result<Vec<u8>> {
    let format = key.format();
    format.encode(value).map_err(|source| DictError::Encode {
        key: key.to_dict_key(),
        format,
        type_name: std::any::type_name::<V>(),
        source,
    })
}

pub(super) fn decode<V: Value>(key: &ItemKey, value: &StoredValue) -> Result<V> {
    let format = key.format();
    let decoded = value.decode(format);
    decoded.map_err(|source| decode_error::<V>(key, source))
}

pub(super) fn decode_error<V>(key: &ItemKey, source: CodecError) -> DictError {
    DictError::Decode {
        key: key.to_dict_key(),
        format: key.format(),
        type_name: std::any::type_name::<V>(),
        source,
    }
}

/// Encodes the value of an update, if it has one.
fn encode_update<V: Value>(key: &ItemKey, update: &Update<V>) -> Result<Update<Vec<u8>>> {
    Ok(match update {
        Update::Put(value) => Update::Put(encode(key, value)?),
        Update::Keep => Update::Keep,
        Update::Delete => Update::Delete,
    })
}

/// Returns an error if the storage is append-only.
pub(super) fn check_mutable(store: &impl Backend, key: Option<&ItemKey>) -> Result<()> {
    if store.is_append_only() {
        return Err(DictError::AppendOnly {
            key: key.map(ItemKey::to_dict_key),
        });
    }
    Ok(())
}

/// Reads an item that a condition is about.
pub(super) fn get_if<V: Value>(
    store: &impl Backend,
    key: &ItemKey,
    precondition: Precondition,
) -> Result<Outcome<V>> {
    let seen = look_up(store, key, |actual| precondition.wants_value(actual))?;
    precondition.unchanged(key, seen)
}

/// Changes an item if a condition holds.
///
/// Looks the item up first without the lock: an item that is left unchanged needs none.
pub(super) fn set_if<V: Value>(
    store: &impl Backend,
    key: &ItemKey,
    precondition: Precondition,
    change: ConditionalUpdate<V>,
) -> Result<Outcome<V>> {
    let is_wanted =
        |actual| change.leaves(precondition, actual) && precondition.wants_value(actual);
    let seen = look_up(store, key, is_wanted)?;
    if change.leaves(precondition, seen.etag) {
        return precondition.unchanged(key, seen);
    }
    let encoded = encode_update(key, &change.update)?;
    let mut session = store.begin()?;
    let seen = look_up(&*session, key, is_wanted)?;
    if change.leaves(precondition, seen.etag) {
        session.finish()?;
        return precondition.unchanged(key, seen);
    }
    if seen.etag.is_some() {
        check_mutable(store, Some(key))?;
    }
    let etag = apply(&mut *session, key, &encoded)?;
    session.finish()?;
    Ok(match (change.update, etag, seen.etag) {
        (Update::Put(value), Some(etag), before) => Outcome::Written {
            before,
            etag,
            value,
        },
        (_, _, Some(before)) => Outcome::Deleted { before },
        (_, _, None) => Outcome::Absent { satisfied: true },
    })
}

/// Runs the closure of an update once, while no other writer can change the item.
pub(super) fn update_in_session<V: Value, E: From<DictError>>(
    store: &impl Backend,
    key: &ItemKey,
    decide: &mut impl FnMut(Option<V>) -> Result<Update<V>, E>,
) -> Result<Option<(V, ETag)>, E> {
    let session = store.begin()?;
    let current = session.load(key)?;
    let value = current.as_ref().map(|(_, value)| decode(key, value));
    let update = decide(value.transpose()?)?;
    let encoded = encode_update(key, &update)?;
    Ok(finish_update(
        store,
        session,
        key,
        current,
        (update, encoded),
    )?)
}

/// Runs the closure of an update without the lock, and again if the item was written during that.
pub(super) fn update_with_retries<V: Value, E: From<DictError>>(
    store: &impl Backend,
    key: &ItemKey,
    retries: Option<u32>,
    decide: &mut impl FnMut(Option<V>) -> Result<Update<V>, E>,
) -> Result<Option<(V, ETag)>, E> {
    let mut attempts = 0;
    loop {
        let current = store.load(key)?;
        let value = current.as_ref().map(|(_, value)| decode(key, value));
        let update = decide(value.transpose()?)?;
        // The caller's code, which includes the code that encodes a value, runs without the lock.
        let encoded = encode_update(key, &update)?;
        let session = store.begin()?;
        let seen = current.as_ref().map(|&(etag, _)| etag);
        if session.etag(key)? == seen {
            return Ok(finish_update(
                store,
                session,
                key,
                current,
                (update, encoded),
            )?);
        }
        drop(session);
        attempts += 1;
        if retries.is_some_and(|retries| attempts > retries) {
            let key = key.to_dict_key();
            return Err(DictError::Conflict { key, attempts }.into());
        }
        std::thread::sleep(pause(attempts));
    }
}

/// Returns how long to sleep before another attempt. Random, so that two updates that met do not meet
/// again, and longer after each attempt, less than 6 ms.
fn pause(attempts: u32) -> Duration {
    let random = RandomState::new().hash_one(attempts);
    let longest = 20u64 << attempts.min(8);
    Duration::from_micros(random % longest)
}

/// Applies what the closure of an update decided about the item that it was given.
fn finish_update<V: Value>(
    store: &impl Backend,
    mut session: Box<dyn Session + '_>,
    key: &ItemKey,
    current: Option<(ETag, StoredValue)>,
    (update, encoded): (Update<V>, Update<Vec<u8>>),
) -> Result<Option<(V, ETag)>> {
    if current.is_some() && !matches!(update, Update::Keep) {
        check_mutable(store, Some(key))?;
    }
    // An absent item needs no deletion, which an append-only storage would refuse.
    let etag = if current.is_none() && matches!(update, Update::Delete) {
        None
    } else {
        apply(&mut *session, key, &encoded)?
    };
    session.finish()?;
    match (update, etag) {
        (Update::Put(value), Some(etag)) => Ok(Some((value, etag))),
        (Update::Keep, _) => {
            let kept = current.map(|(etag, value)| Ok((decode(key, &value)?, etag)));
            kept.transpose()
        }
        _ => Ok(None),
    }
}

/// Deletes an item, and returns whether it existed.
pub(super) fn remove(store: &impl Backend, key: &ItemKey) -> Result<bool> {
    check_mutable(store, Some(key))?;
    let mut session = store.begin()?;
    let existed = session.delete(key)?;
    session.finish()?;
    Ok(existed)
}

/// Applies an update, and returns the ETag of a new value.
fn apply(
    session: &mut (impl Session + ?Sized),
    key: &ItemKey,
    update: &Update<Vec<u8>>,
) -> Result<Option<ETag>> {
    Ok(match update {
        Update::Put(encoded) => Some(session.put(key, encoded)?),
        Update::Keep => None,
        Update::Delete => {
            session.delete(key)?;
            None
        }
    })
}
