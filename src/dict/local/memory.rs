//! The tree that dictionaries in memory share.
//!
//! Knows who may look at it when, and which tag comes next.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use crate::dict::error::{DictError, Result};
use crate::dict::etag::ETag;
use crate::dict::format::Format;
use crate::dict::key::DictKey;
use crate::dict::sample;
use crate::dict::store::{Lookup, Place, Scope, Session, Store};
use crate::engine::Version;

use crate::lock::{Lost, PerProcess, Read, SharedLock, Written};

use crate::dict::local::held::Held;
use crate::dict::local::options::LocalOptions;
use crate::dict::local::tree::Node;
use crate::dict::local::turns::Turns;

/// Items that a listing takes with it for one hold of the lock.
const LISTED_AT_ONCE: usize = 64;

/// A tree that dictionaries share.
#[derive(Clone)]
pub struct Memory(Arc<Shared>);

struct Shared {
    tree: SharedLock<Tree>,
    turns: PerProcess<Turns>,
    append_only: bool,
    prune_interval: Option<u32>,
}

#[derive(Debug)]
struct Tree {
    root: Node<Arc<Held>>,
    /// The last tag that was given, as a version.
    last: u64,
    /// Deletions since empty nodes were last removed.
    deletions: u32,
}

/// Sole access to the tree. What it took out goes when it has left: values may do anything as they
/// go, and ask for the tree as well.
#[derive(Debug)]
pub struct Locked<'a> {
    tree: Written<'a, Tree>,
    prune_interval: Option<u32>,
    removed: Vec<Arc<Held>>,
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Memory")
    }
}

impl Memory {
    pub(in crate::dict) fn new(options: &LocalOptions) -> Self {
        let tree = Tree {
            root: Node::default(),
            last: 0,
            deletions: 0,
        };
        Self(Arc::new(Shared {
            tree: SharedLock::new(tree),
            turns: PerProcess::new(),
            append_only: options.append_only,
            prune_interval: options.prune_interval,
        }))
    }

    pub(super) fn nodes(&self) -> usize {
        self.read().map_or(0, |tree| tree.root.nodes())
    }

    /// Holds a value that has its tag from elsewhere, unless a newer one is held.
    pub(in crate::dict) fn hold(&self, at: &Place, etag: ETag, encoded: &[u8]) -> Arc<Held> {
        let held = Arc::new(Held::new(etag, encoded));
        let Ok(mut locked) = self.lock() else {
            return held;
        };
        let known = locked.tree.root.get(at.format, at.key.as_str());
        match known {
            // Who has read it at the same time was first.
            Some(known) if known.etag == etag => return Arc::clone(known),
            Some(known) if known.etag > etag => {}
            _ => {
                let shared = Arc::clone(&held);
                let root = &mut locked.tree.root;
                let before = root.insert(at.format, at.key.as_str(), shared);
                locked.removed.extend(before);
            }
        }
        held
    }

    /// Lets go of what is held of an item.
    pub(in crate::dict) fn forget(&self, at: &Place) {
        let is_held = self.read().is_ok_and(|tree| tree.get(at).is_some());
        if is_held && let Ok(mut locked) = self.lock() {
            let removed = locked.tree.root.take(at.format, at.key.as_str());
            locked.removed.extend(removed);
        }
    }

    /// Lets go of everything.
    pub(in crate::dict) fn forget_all(&self) {
        if let Ok(mut tree) = self.0.tree.write() {
            let all = std::mem::take(&mut tree.root);
            drop(tree);
            drop(all);
        }
    }

    /// Items in all formats.
    pub(in crate::dict) fn count(&self) -> u64 {
        let Ok(tree) = self.read() else {
            return 0;
        };
        Format::ALL
            .into_iter()
            .map(|format| tree.root.count(format))
            .sum()
    }

    fn read(&self) -> Result<Read<'_, Tree>> {
        self.0.tree.read().map_err(|Lost| DictError::Forked)
    }

    pub(super) fn lock(&self) -> Result<Locked<'_>> {
        Ok(Locked {
            tree: self.0.tree.write().map_err(|Lost| DictError::Forked)?,
            prune_interval: self.0.prune_interval,
            removed: Vec::new(),
        })
    }

    /// Some items of a scope behind a key.
    fn some(&self, scope: &Scope, behind: Option<&DictKey>) -> Result<Vec<(DictKey, Arc<Held>)>> {
        let mut some = Vec::with_capacity(LISTED_AT_ONCE);
        let tree = self.read()?;
        if let Some(node) = tree.root.at(&scope.within) {
            let mut path = String::new();
            let behind = behind.map(DictKey::as_str);
            node.walk(scope.format, behind, &mut path, &mut |key, held| {
                some.push((DictKey::trusted(key), Arc::clone(held)));
                some.len() < LISTED_AT_ONCE
            });
        }
        Ok(some)
    }

    fn items(&self, scope: Scope) -> impl Iterator<Item = Result<(DictKey, Arc<Held>)>> {
        let mut some = Vec::new().into_iter();
        let mut behind: Option<DictKey> = None;
        let mut is_over = false;
        std::iter::from_fn(move || {
            if some.len() == 0 && !is_over {
                match self.some(&scope, behind.as_ref()) {
                    Ok(more) => some = more.into_iter(),
                    Err(error) => {
                        is_over = true;
                        return Some(Err(error));
                    }
                }
            }
            let (key, held) = some.next()?;
            behind = Some(key.clone());
            Some(Ok((key, held)))
        })
    }
}

impl Tree {
    fn get(&self, at: &Place) -> Option<&Arc<Held>> {
        self.root.get(at.format, at.key.as_str())
    }
}

impl Locked<'_> {
    /// Counts a deletion, and removes empty nodes where enough of them have come together.
    fn has_deleted(&mut self) {
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

impl Lookup for Memory {
    type Stored = Arc<Held>;

    fn etag(&self, at: &Place) -> Result<Option<ETag>> {
        Ok(self.read()?.get(at).map(|held| held.etag))
    }

    fn load(&self, at: &Place) -> Result<Option<(ETag, Arc<Held>)>> {
        let held = self.read()?.get(at).cloned();
        Ok(held.map(|held| (held.etag, held)))
    }
}

impl Lookup for Locked<'_> {
    type Stored = Arc<Held>;

    fn etag(&self, at: &Place) -> Result<Option<ETag>> {
        Ok(self.tree.get(at).map(|held| held.etag))
    }

    fn load(&self, at: &Place) -> Result<Option<(ETag, Arc<Held>)>> {
        let held = self.tree.get(at).cloned();
        Ok(held.map(|held| (held.etag, held)))
    }
}

impl Session for Locked<'_> {
    fn put(&mut self, at: &Place, encoded: &[u8]) -> Result<ETag> {
        self.tree.last = Version::next(self.tree.last);
        let etag = ETag::new(Version::from_nanos(self.tree.last));
        let held = Arc::new(Held::new(etag, encoded));
        let before = self.tree.root.insert(at.format, at.key.as_str(), held);
        self.removed.extend(before);
        Ok(etag)
    }

    fn delete(&mut self, at: &Place) -> Result<bool> {
        let Some(held) = self.tree.root.remove(at.format, at.key.as_str()) else {
            return Ok(false);
        };
        self.removed.push(held);
        self.has_deleted();
        Ok(true)
    }

    fn finish(self) -> Result<()> {
        Ok(())
    }
}

impl Store for Memory {
    type Session<'a> = Locked<'a>;

    const TRANSFORMS_IN_SESSION: bool = false;
    const NAME: &'static str = "LocalDict";

    fn is_append_only(&self) -> bool {
        self.0.append_only
    }

    fn prune_interval(&self) -> Option<u32> {
        self.0.prune_interval
    }

    fn begin(&self) -> Result<Locked<'_>> {
        self.lock()
    }

    fn in_turn<R>(&self, at: &Place, transform: impl FnOnce() -> R) -> R {
        let mut hasher = DefaultHasher::new();
        at.key.hash(&mut hasher);
        self.0.turns.run(hasher.finish(), transform)
    }

    fn put(&self, at: &Place, encoded: &[u8]) -> Result<Option<ETag>> {
        let mut locked = self.lock()?;
        if self.0.append_only && locked.tree.get(at).is_some() {
            return Ok(None);
        }
        locked.put(at, encoded).map(Some)
    }

    fn keys(&self, scope: Scope) -> impl Iterator<Item = Result<(DictKey, ETag)>> {
        self.items(scope)
            .map(|item| item.map(|(key, held)| (key, held.etag)))
    }

    fn entries(&self, scope: Scope) -> impl Iterator<Item = Result<(DictKey, ETag, Arc<Held>)>> {
        self.items(scope)
            .map(|item| item.map(|(key, held)| (key, held.etag, held)))
    }

    fn len(&self, scope: &Scope) -> Result<u64> {
        let tree = self.read()?;
        Ok(tree
            .root
            .at(&scope.within)
            .map_or(0, |node| node.count(scope.format)))
    }

    fn clear(&self, scope: &Scope) -> Result<()> {
        let mut locked = self.lock()?;
        let Locked { tree, removed, .. } = &mut locked;
        tree.root.clear(scope.format, &scope.within, removed);
        locked.has_deleted();
        Ok(())
    }

    fn random(&self, scope: &Scope) -> Result<Option<DictKey>> {
        sample::of(self.keys(scope.clone()))
    }
}
