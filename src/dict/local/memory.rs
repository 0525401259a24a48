//! The storage of dictionaries in memory: a tree behind a lock, and the next ETag.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use crate::codec::Format;
use crate::dict::conditional::ETag;
use crate::dict::error::{DictError, Result};
use crate::dict::item_key::{ItemKey, Scope};
use crate::dict::key::DictKey;
use crate::dict::local::options::LocalOptions;
use crate::dict::local::tree::Node;
use crate::dict::local::turns::Turns;
use crate::dict::sample::random_key_of;
use crate::dict::semantics;
use crate::dict::store::{Backend, Listing, Lookup, Session};
use crate::dict::stored::{MemoryValue, StoredValue};
use crate::dict::value::Value;
use crate::engine::Version;
use crate::lock::{Abandoned, ForkSafeReadGuard, ForkSafeRwLock, ForkSafeWriteGuard, PerProcess};

/// Items that a listing copies each time it takes the lock.
const LISTED_AT_ONCE: usize = 64;

/// The storage of a [`LocalDict`](crate::dict::LocalDict), which its clones share.
#[derive(Clone)]
pub struct Local(Arc<Shared>);

struct Shared {
    tree: ForkSafeRwLock<Tree>,
    turns: PerProcess<Turns>,
    append_only: bool,
    prune_interval: Option<u32>,
}

#[derive(Debug)]
struct Tree {
    root: Node<Arc<MemoryValue>>,
    /// The last ETag, as a version.
    last: u64,
    /// Deletions since empty nodes were last removed.
    deletions: u32,
}

/// Exclusive access to the tree.
#[derive(Debug)]
pub(in crate::dict) struct LocalSession<'a> {
    tree: ForkSafeWriteGuard<'a, Tree>,
    prune_interval: Option<u32>,
    /// Values that the session took out of the tree. Dropped after the lock is released, because the
    /// `Drop` of a value may use the dictionary. The fields of a struct are dropped in their order.
    removed: Vec<Arc<MemoryValue>>,
}

impl fmt::Debug for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Local")
    }
}

impl Local {
    pub(in crate::dict) fn new(options: &LocalOptions) -> Self {
        let tree = Tree {
            root: Node::default(),
            last: 0,
            deletions: 0,
        };
        Self(Arc::new(Shared {
            tree: ForkSafeRwLock::new(tree),
            turns: PerProcess::new(),
            append_only: options.append_only,
            prune_interval: options.prune_interval,
        }))
    }

    pub(super) fn nodes(&self) -> usize {
        self.read().map_or(0, |tree| tree.root.nodes())
    }

    /// Returns an item's decoded value, the same instance for all callers.
    pub(super) fn shared<V: Value>(&self, key: &ItemKey) -> Result<Option<Arc<V>>> {
        let value = self.value(key)?;
        let shared = value.map(|value| value.shared(key.format()));
        shared
            .transpose()
            .map_err(|source| semantics::decode_error::<V>(key, source))
    }

    /// Returns an item's value.
    pub(in crate::dict) fn value(&self, key: &ItemKey) -> Result<Option<Arc<MemoryValue>>> {
        Ok(self.read()?.get(key).cloned())
    }

    /// Keeps a value that another storage gave its ETag, unless a newer one is kept already.
    pub(in crate::dict) fn keep(
        &self,
        key: &ItemKey,
        etag: ETag,
        encoded: &[u8],
    ) -> Arc<MemoryValue> {
        let value = Arc::new(MemoryValue::new(etag, encoded));
        let Ok(mut session) = self.lock() else {
            return value;
        };
        match session.tree.get(key) {
            // Another thread read it at the same time, and was first.
            Some(kept) if kept.etag == etag => return Arc::clone(kept),
            Some(kept) if kept.etag > etag => {}
            _ => {
                let shared = Arc::clone(&value);
                let before = session.tree.root.insert(key.format(), key.path(), shared);
                session.removed.extend(before);
            }
        }
        value
    }

    /// Drops the value of an item, and the nodes that are empty after that.
    pub(in crate::dict) fn forget(&self, key: &ItemKey) {
        let is_kept = self.read().is_ok_and(|tree| tree.get(key).is_some());
        if is_kept && let Ok(mut session) = self.lock() {
            let removed = session.tree.root.take(key.format(), key.path());
            session.removed.extend(removed);
        }
    }

    /// Drops all values.
    pub(in crate::dict) fn forget_all(&self) {
        if let Ok(mut tree) = self.0.tree.write() {
            let all = std::mem::take(&mut tree.root);
            drop(tree);
            drop(all);
        }
    }

    /// Counts the values in all formats.
    pub(in crate::dict) fn count(&self) -> u64 {
        let Ok(tree) = self.read() else {
            return 0;
        };
        Format::ALL
            .into_iter()
            .map(|format| tree.root.count(format))
            .sum()
    }

    fn read(&self) -> Result<ForkSafeReadGuard<'_, Tree>> {
        self.0.tree.read().map_err(|Abandoned| DictError::Forked)
    }

    pub(in crate::dict) fn lock(&self) -> Result<LocalSession<'_>> {
        Ok(LocalSession {
            tree: self.0.tree.write().map_err(|Abandoned| DictError::Forked)?,
            prune_interval: self.0.prune_interval,
            removed: Vec::new(),
        })
    }

    /// Copies some items of a scope, those after a key.
    fn some_after(
        &self,
        scope: &Scope,
        after: Option<&DictKey>,
    ) -> Result<Vec<(DictKey, Arc<MemoryValue>)>> {
        let mut some = Vec::with_capacity(LISTED_AT_ONCE);
        let tree = self.read()?;
        if let Some(node) = tree.root.at(scope.prefix_parts()) {
            let mut path = String::new();
            let after = after.map(DictKey::as_str);
            node.walk(scope.format, after, &mut path, &mut |key, value| {
                some.push((DictKey::from_checked(key), Arc::clone(value)));
                some.len() < LISTED_AT_ONCE
            });
        }
        Ok(some)
    }

    fn items(&self, scope: Scope) -> impl Iterator<Item = Result<(DictKey, Arc<MemoryValue>)>> {
        let mut some = Vec::new().into_iter();
        let mut last: Option<DictKey> = None;
        let mut has_failed = false;
        std::iter::from_fn(move || {
            if some.len() == 0 && !has_failed {
                match self.some_after(&scope, last.as_ref()) {
                    Ok(more) => some = more.into_iter(),
                    Err(error) => {
                        has_failed = true;
                        return Some(Err(error));
                    }
                }
            }
            let (key, value) = some.next()?;
            last = Some(key.clone());
            Some(Ok((key, value)))
        })
    }
}

impl Tree {
    fn get(&self, key: &ItemKey) -> Option<&Arc<MemoryValue>> {
        self.root.get(key.format(), key.path())
    }
}

impl LocalSession<'_> {
    /// Counts a deletion, and removes empty nodes if it is time to.
    fn count_deletion(&mut self) {
        let Some(interval) = self.prune_interval else {
            return;
        };
        self.tree.deletions += 1;
        if self.tree.deletions >= interval {
            self.tree.deletions = 0;
            self.tree.root.prune();
        }
    }
}

fn loaded(value: Option<&Arc<MemoryValue>>) -> Option<(ETag, StoredValue)> {
    value.map(|value| (value.etag, StoredValue::InMemory(Arc::clone(value))))
}

impl Lookup for Local {
    fn etag(&self, key: &ItemKey) -> Result<Option<ETag>> {
        Ok(self.read()?.get(key).map(|value| value.etag))
    }

    fn load(&self, key: &ItemKey) -> Result<Option<(ETag, StoredValue)>> {
        Ok(loaded(self.read()?.get(key)))
    }
}

impl Lookup for LocalSession<'_> {
    fn etag(&self, key: &ItemKey) -> Result<Option<ETag>> {
        Ok(self.tree.get(key).map(|value| value.etag))
    }

    fn load(&self, key: &ItemKey) -> Result<Option<(ETag, StoredValue)>> {
        Ok(loaded(self.tree.get(key)))
    }
}

impl Session for LocalSession<'_> {
    fn put(&mut self, key: &ItemKey, encoded: &[u8]) -> Result<ETag> {
        self.tree.last = Version::next(self.tree.last);
        let etag = ETag::new(Version::from_nanos(self.tree.last));
        let value = Arc::new(MemoryValue::new(etag, encoded));
        let before = self.tree.root.insert(key.format(), key.path(), value);
        debug_assert!(before.as_ref().is_none_or(|before| before.etag < etag));
        self.removed.extend(before);
        Ok(etag)
    }

    fn delete(&mut self, key: &ItemKey) -> Result<bool> {
        let Some(value) = self.tree.root.remove(key.format(), key.path()) else {
            return Ok(false);
        };
        self.removed.push(value);
        self.count_deletion();
        Ok(true)
    }

    fn finish(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

impl Backend for Local {
    fn kind(&self) -> &'static str {
        "LocalDict"
    }

    fn is_append_only(&self) -> bool {
        self.0.append_only
    }

    fn prune_interval(&self) -> Option<u32> {
        self.0.prune_interval
    }

    fn begin(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new(self.lock()?))
    }

    fn updates_in_session(&self) -> bool {
        false
    }

    fn take_turn(&self, key: &ItemKey, update: &mut dyn FnMut()) {
        let mut hasher = DefaultHasher::new();
        key.as_bytes().hash(&mut hasher);
        self.0.turns.run(hasher.finish(), update);
    }

    fn put(&self, key: &ItemKey, encoded: &[u8]) -> Result<Option<ETag>> {
        let mut session = self.lock()?;
        if self.0.append_only && session.tree.get(key).is_some() {
            return Ok(None);
        }
        session.put(key, encoded).map(Some)
    }

    fn keys(&self, scope: Scope) -> Listing<'_, (DictKey, ETag)> {
        let items = self.items(scope);
        Box::new(items.map(|item| item.map(|(key, value)| (key, value.etag))))
    }

    fn entries(&self, scope: Scope) -> Listing<'_, (DictKey, ETag, StoredValue)> {
        let items = self.items(scope);
        Box::new(
            items.map(|item| {
                item.map(|(key, value)| (key, value.etag, StoredValue::InMemory(value)))
            }),
        )
    }

    fn len(&self, scope: &Scope) -> Result<u64> {
        let tree = self.read()?;
        Ok(tree
            .root
            .at(scope.prefix_parts())
            .map_or(0, |node| node.count(scope.format)))
    }

    fn clear(&self, scope: &Scope) -> Result<()> {
        let mut session = self.lock()?;
        let LocalSession { tree, removed, .. } = &mut session;
        tree.root.clear(scope.format, scope.prefix_parts(), removed);
        session.count_deletion();
        Ok(())
    }

    fn random_key(&self, scope: &Scope) -> Result<Option<DictKey>> {
        random_key_of(self.keys(scope.clone()))
    }
}
