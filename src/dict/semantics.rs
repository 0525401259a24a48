//! What a dictionary's operations mean, once for every storage.
//!
//! Knows conditions, policies and results; where the bytes lie, the store knows.

use crate::dict::Dict;
use crate::dict::condition::{Condition, Retrieve};
use crate::dict::error::{DictError, Result};
use crate::dict::etag::{ETag, ETagState};
use crate::dict::format::{Format, Value};
use crate::dict::key::DictKey;
use crate::dict::outcome::{Conditional, Outcome, Tagged};
use crate::dict::params::Params;
use crate::dict::prefix::Prefix;
use crate::dict::retries::Retries;
use crate::dict::segments::Segments;
use crate::dict::store::{Lookup, Place, Session, Store, Stored};
use crate::dict::view::{View, look};
use crate::dict::write::Write;

/// A dictionary that is a view of a store.
pub trait OnStore<V: Value>: Clone {
    type Store: Store;

    fn view(&self) -> &View<Self::Store, V>;

    /// The same dictionary with another view.
    fn with_view(&self, view: View<Self::Store, V>) -> Self;
}

/// When a conditional operation goes ahead, and whether it hands out what it leaves.
#[derive(Clone, Copy)]
struct Test {
    condition: Condition,
    expected: ETagState,
    retrieve: Retrieve,
}

impl Test {
    fn holds(self, actual: ETagState) -> bool {
        self.condition.holds(self.expected, actual)
    }

    fn wants(self, actual: ETagState) -> bool {
        self.retrieve.wants(self.expected, actual)
    }

    /// The result where the item is left as it was seen.
    fn left<V: Value>(
        self,
        at: &Place,
        (actual, stored): (ETagState, Option<impl Stored>),
    ) -> Result<Conditional<V>> {
        let satisfied = self.holds(actual);
        let ETagState::Tag(etag) = actual else {
            let outcome = Outcome::Absent;
            return Ok(Conditional { satisfied, outcome });
        };
        let value = stored.map(|stored| stored.decode(at)).transpose()?;
        let outcome = Outcome::Unchanged { etag, value };
        Ok(Conditional { satisfied, outcome })
    }
}

/// What is to be done if the test is satisfied.
struct Change<V> {
    write: Write<V>,
    /// An item that is there stays as it is.
    only_absent: bool,
}

impl<V> Change<V> {
    /// Whether an item with this tag is left as it is.
    fn leaves(&self, test: Test, actual: ETagState) -> bool {
        let is_kept = match self.write {
            Write::Value(_) => self.only_absent && actual != ETagState::Absent,
            Write::KeepCurrent => true,
            Write::DeleteCurrent => actual == ETagState::Absent,
        };
        is_kept || !test.holds(actual)
    }
}

impl<S: Store, V: Value> View<S, V> {
    fn read(&self, at: &Place, test: Test) -> Result<Conditional<V>> {
        test.left(at, look(&self.store, at, |actual| test.wants(actual))?)
    }

    /// Looks first without the lock: what is to stay as it is needs none.
    fn change(&self, at: &Place, test: Test, change: Change<V>) -> Result<Conditional<V>> {
        let wanted = |actual| change.leaves(test, actual) && test.wants(actual);
        let seen = look(&self.store, at, wanted)?;
        if change.leaves(test, seen.0) {
            return test.left(at, seen);
        }
        let encoded = change.write.try_map(|value| Self::encode(at, value))?;
        let mut session = self.store.begin()?;
        let seen = look(&session, at, wanted)?;
        if change.leaves(test, seen.0) {
            session.finish()?;
            return test.left(at, seen);
        }
        if seen.0 != ETagState::Absent {
            self.may_change(at)?;
        }
        let etag = apply(&mut session, at, &encoded)?;
        session.finish()?;
        Ok(Conditional {
            satisfied: true,
            outcome: changed(change.write, seen.0, etag),
        })
    }

    /// Runs the closure once, with the item as it stays until it is written.
    fn transform_in_session<E: From<DictError>>(
        &self,
        at: &Place,
        transformer: &mut impl FnMut(Option<V>) -> Result<Write<V>, E>,
    ) -> Result<Option<Tagged<V>>, E> {
        let session = self.store.begin()?;
        let current = session.load(at)?;
        let value = current.as_ref().map(|(_, stored)| stored.decode(at));
        let write = transformer(value.transpose()?)?;
        let encoded = write.try_map(|value| Self::encode(at, value))?;
        Ok(self.write_through(session, at, current, (write, encoded))?)
    }

    /// Runs the closure beside the storage, and again where the item was written meanwhile.
    fn transform_beside<E: From<DictError>>(
        &self,
        at: &Place,
        retries: Retries,
        transformer: &mut impl FnMut(Option<V>) -> Result<Write<V>, E>,
    ) -> Result<Option<Tagged<V>>, E> {
        let mut attempts = 0;
        loop {
            let current = self.store.load(at)?;
            let value = current.as_ref().map(|(_, stored)| stored.decode(at));
            let write = transformer(value.transpose()?)?;
            // What belongs to the caller, as all that encodes, runs without the lock.
            let encoded = write.try_map(|value| Self::encode(at, value))?;
            let session = self.store.begin()?;
            let seen = current.as_ref().map(|&(etag, _)| etag);
            if session.etag(at)? == seen {
                return Ok(self.write_through(session, at, current, (write, encoded))?);
            }
            drop(session);
            attempts += 1;
            if !retries.allow(attempts) {
                let key = at.key.clone();
                return Err(DictError::Conflict { key, attempts }.into());
            }
            std::thread::sleep(Retries::pause(attempts));
        }
    }

    /// What a transformation's answer makes of the item that it was given.
    fn write_through(
        &self,
        mut session: S::Session<'_>,
        at: &Place,
        current: Option<(ETag, S::Stored)>,
        (write, encoded): (Write<V>, Write<Vec<u8>>),
    ) -> Result<Option<Tagged<V>>> {
        if current.is_some() && !matches!(write, Write::KeepCurrent) {
            self.may_change(at)?;
        }
        // What is absent stays so without a deletion, which a policy would refuse.
        let etag = if current.is_none() && matches!(write, Write::DeleteCurrent) {
            None
        } else {
            apply(&mut session, at, &encoded)?
        };
        session.finish()?;
        match (write, etag) {
            (Write::Value(value), Some(etag)) => Ok(Some(Tagged { value, etag })),
            (Write::KeepCurrent, _) => {
                let tagged = current.map(|(etag, stored)| {
                    let value = stored.decode(at)?;
                    Ok(Tagged { value, etag })
                });
                tagged.transpose()
            }
            _ => Ok(None),
        }
    }

    /// Deletes an item, if it is there.
    fn delete(&self, at: &Place) -> Result<bool> {
        self.may_change(at)?;
        let mut session = self.store.begin()?;
        let was_there = session.delete(at)?;
        session.finish()?;
        Ok(was_there)
    }
}

/// Writes what is to be written; the tag of a new value.
fn apply(session: &mut impl Session, at: &Place, write: &Write<Vec<u8>>) -> Result<Option<ETag>> {
    Ok(match write {
        Write::Value(encoded) => Some(session.put(at, encoded)?),
        Write::KeepCurrent => None,
        Write::DeleteCurrent => {
            session.delete(at)?;
            None
        }
    })
}

fn changed<V>(write: Write<V>, before: ETagState, etag: Option<ETag>) -> Outcome<V> {
    match (write, etag, before) {
        (Write::Value(value), Some(etag), before) => Outcome::Written {
            before,
            etag,
            value,
        },
        (_, _, ETagState::Tag(before)) => Outcome::Deleted { before },
        (_, _, ETagState::Absent) => Outcome::Absent,
    }
}

impl<V: Value, D: OnStore<V>> Dict<V> for D {
    fn params(&self) -> Params {
        let (store, scope) = (&self.view().store, &self.view().scope);
        Params {
            kind: D::Store::NAME,
            append_only: store.is_append_only(),
            format: scope.format,
            path: store.path().map(Into::into),
            prefix: scope.within.clone(),
            prune_interval: store.prune_interval(),
        }
    }

    fn format(&self) -> Format {
        self.view().scope.format
    }

    fn prefix(&self) -> &Prefix {
        &self.view().scope.within
    }

    fn is_append_only(&self) -> bool {
        self.view().store.is_append_only()
    }

    fn get_if(
        &self,
        key: impl Segments,
        condition: Condition,
        expected: impl Into<ETagState>,
        retrieve: Retrieve,
    ) -> Result<Conditional<V>> {
        let view = self.view();
        let expected = expected.into();
        let test = Test {
            condition,
            expected,
            retrieve,
        };
        view.read(&view.place(key)?, test)
    }

    fn get_with_etag(&self, key: impl Segments) -> Result<Option<Tagged<V>>> {
        let view = self.view();
        let at = view.place(key)?;
        let loaded = view.store.load(&at)?.map(|(etag, stored)| {
            let value = stored.decode(&at)?;
            Ok(Tagged { value, etag })
        });
        loaded.transpose()
    }

    fn etag(&self, key: impl Segments) -> Result<Option<ETag>> {
        let view = self.view();
        view.store.etag(&view.place(key)?)
    }

    fn insert(&self, key: impl Segments, value: V) -> Result<ETag> {
        let view = self.view();
        let at = view.place(key)?;
        let encoded = View::<D::Store, V>::encode(&at, &value)?;
        match view.store.put(&at, &encoded)? {
            Some(etag) => Ok(etag),
            None => Err(DictError::MutationPolicy {
                policy: crate::dict::Policy::AppendOnly,
                key: Some(at.key),
            }),
        }
    }

    fn discard(&self, key: impl Segments) -> Result<bool> {
        let view = self.view();
        view.delete(&view.place(key)?)
    }

    fn set_if(
        &self,
        key: impl Segments,
        write: Write<V>,
        condition: Condition,
        expected: impl Into<ETagState>,
        retrieve: Retrieve,
    ) -> Result<Conditional<V>> {
        let view = self.view();
        let expected = expected.into();
        let test = Test {
            condition,
            expected,
            retrieve,
        };
        let only_absent = false;
        view.change(&view.place(key)?, test, Change { write, only_absent })
    }

    fn setdefault_if(
        &self,
        key: impl Segments,
        default: V,
        condition: Condition,
        expected: impl Into<ETagState>,
        retrieve: Retrieve,
    ) -> Result<Conditional<V>> {
        let view = self.view();
        let expected = expected.into();
        let test = Test {
            condition,
            expected,
            retrieve,
        };
        let change = Change {
            write: Write::Value(default),
            only_absent: true,
        };
        view.change(&view.place(key)?, test, change)
    }

    fn discard_if(
        &self,
        key: impl Segments,
        condition: Condition,
        expected: impl Into<ETagState>,
    ) -> Result<Conditional<V>> {
        let (write, retrieve) = (Write::DeleteCurrent, Retrieve::Never);
        self.set_if(key, write, condition, expected, retrieve)
    }

    fn try_transform<E: From<DictError>>(
        &self,
        key: impl Segments,
        retries: Retries,
        mut transformer: impl FnMut(Option<V>) -> Result<Write<V>, E>,
    ) -> Result<Option<Tagged<V>>, E> {
        let view = self.view();
        let at = view.place(key)?;
        if D::Store::TRANSFORMS_IN_SESSION {
            view.transform_in_session(&at, &mut transformer)
        } else {
            let store = &view.store;
            store.in_turn(&at, || {
                view.transform_beside(&at, retries, &mut transformer)
            })
        }
    }

    fn len(&self) -> Result<u64> {
        let view = self.view();
        view.store.len(&view.scope)
    }

    fn clear(&self) -> Result<()> {
        let view = self.view();
        view.refuse_if_append_only(None)?;
        view.store.clear(&view.scope)
    }

    fn random_key(&self) -> Result<Option<DictKey>> {
        let view = self.view();
        view.store.random(&view.scope)
    }

    fn any_key(&self) -> Result<Option<DictKey>> {
        let view = self.view();
        view.store.any(&view.scope)
    }

    fn keys_and_etags(&self) -> impl Iterator<Item = Result<(DictKey, ETag)>> {
        let view = self.view();
        view.store.keys(view.scope.clone())
    }

    fn entries(&self) -> impl Iterator<Item = Result<(DictKey, Tagged<V>)>> {
        let view = self.view();
        view.store.entries(view.scope.clone()).map(|entry| {
            let (key, etag, stored) = entry?;
            let value = stored.decode(&view.scope.place(&key)?)?;
            Ok((key, Tagged { value, etag }))
        })
    }

    fn subdict(&self, prefix: impl Segments) -> Result<Self> {
        Ok(self.with_view(self.view().below(prefix)?))
    }
}
