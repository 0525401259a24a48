//! The tree of segments, with a bucket of items for each format at each node.
//!
//! Knows places, not what is held there, nor who may look.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::dict::format::Format;
use crate::dict::prefix::{Prefix, SEPARATOR};

/// Everything below one sequence of segments. Keys have no more than some hundred segments, so
/// walking down by recursion is safe.
#[derive(Debug)]
pub(super) struct Node<T> {
    children: BTreeMap<Box<str>, Self>,
    /// No bucket is empty.
    buckets: BTreeMap<Format, BTreeMap<Box<str>, T>>,
}

impl<T> Default for Node<T> {
    fn default() -> Self {
        Self {
            children: BTreeMap::new(),
            buckets: BTreeMap::new(),
        }
    }
}

impl<T> Node<T> {
    /// The node at the end of some segments, if there is one.
    pub(super) fn at(&self, segments: &Prefix) -> Option<&Self> {
        let mut segments = segments.segments();
        segments.try_fold(self, |node, segment| node.children.get(segment))
    }

    /// The item of a key.
    pub(super) fn get(&self, format: Format, key: &str) -> Option<&T> {
        let (mut parents, leaf) = split(key);
        let node = parents.try_fold(self, |node, segment| node.children.get(segment))?;
        node.buckets.get(&format)?.get(leaf)
    }

    /// Puts an item; the one that was there.
    pub(super) fn insert(&mut self, format: Format, key: &str, item: T) -> Option<T> {
        let (parents, leaf) = split(key);
        let node = parents.fold(self, Self::child);
        let bucket = node.buckets.entry(format).or_default();
        match bucket.get_mut(leaf) {
            Some(held) => Some(std::mem::replace(held, item)),
            None => bucket.insert(leaf.into(), item),
        }
    }

    fn child(&mut self, segment: &str) -> &mut Self {
        // Looked up twice, so that a name is only made for a new node.
        if !self.children.contains_key(segment) {
            self.children.insert(segment.into(), Self::default());
        }
        let child = self.children.get_mut(segment);
        child.expect("it was there, or is now")
    }

    /// Takes an item away. Nodes stay, even if they are empty now.
    pub(super) fn remove(&mut self, format: Format, key: &str) -> Option<T> {
        let (mut parents, leaf) = split(key);
        let node = parents.try_fold(self, |node, segment| node.children.get_mut(segment))?;
        let bucket = node.buckets.get_mut(&format)?;
        let item = bucket.remove(leaf)?;
        if bucket.is_empty() {
            node.buckets.remove(&format);
        }
        Some(item)
    }

    /// Takes an item away, and the nodes that are empty without it.
    pub(super) fn take(&mut self, format: Format, key: &str) -> Option<T> {
        let Some((segment, rest)) = key.split_once(SEPARATOR) else {
            return self.remove(format, key);
        };
        let child = self.children.get_mut(segment)?;
        let item = child.take(format, rest);
        if child.is_empty() {
            self.children.remove(segment);
        }
        item
    }

    fn is_empty(&self) -> bool {
        self.children.is_empty() && self.buckets.is_empty()
    }

    /// Takes all items of a format below some segments away. Nodes stay.
    pub(super) fn clear(&mut self, format: Format, within: &Prefix, removed: &mut Vec<T>) {
        let mut segments = within.segments();
        let node = segments.try_fold(self, |node, segment| node.children.get_mut(segment));
        if let Some(node) = node {
            node.empty(format, removed);
        }
    }

    fn empty(&mut self, format: Format, removed: &mut Vec<T>) {
        removed.extend(
            self.buckets
                .remove(&format)
                .into_iter()
                .flat_map(BTreeMap::into_values),
        );
        for child in self.children.values_mut() {
            child.empty(format, removed);
        }
    }

    /// Removes the nodes without items below this one; whether this is one itself.
    pub(super) fn prune(&mut self) -> bool {
        self.children.retain(|_, child| !child.prune());
        self.is_empty()
    }

    /// Items of a format.
    pub(super) fn count(&self, format: Format) -> u64 {
        let here = self
            .buckets
            .get(&format)
            .map_or(0, |bucket| bucket.len() as u64);
        here + self
            .children
            .values()
            .map(|child| child.count(format))
            .sum::<u64>()
    }

    /// This node and all below it.
    pub(super) fn nodes(&self) -> usize {
        1 + self.children.values().map(Self::nodes).sum::<usize>()
    }

    /// Calls `each` with the items behind a key, until it has enough: those of a node first, by
    /// their names, then those of its children. `path` holds the segments down to this node.
    pub(super) fn walk(
        &self,
        format: Format,
        behind: Option<&str>,
        path: &mut String,
        each: &mut impl FnMut(&str, &T) -> bool,
    ) -> bool {
        if let Some(within) = behind.and_then(|key| key.split_once(SEPARATOR)) {
            return self.walk_children(format, Some(within), path, each);
        }
        let first = behind.map_or(Bound::Unbounded, Bound::Excluded);
        if let Some(bucket) = self.buckets.get(&format) {
            for (name, item) in bucket.range::<str, _>((first, Bound::Unbounded)) {
                if !descend(path, name, |path| each(path, item)) {
                    return false;
                }
            }
        }
        self.walk_children(format, None, path, each)
    }

    fn walk_children(
        &self,
        format: Format,
        behind: Option<(&str, &str)>,
        path: &mut String,
        each: &mut impl FnMut(&str, &T) -> bool,
    ) -> bool {
        let first = behind.map_or(Bound::Unbounded, |(child, _)| Bound::Included(child));
        for (name, child) in self.children.range::<str, _>((first, Bound::Unbounded)) {
            let behind = behind
                .filter(|&(first, _)| *first == **name)
                .map(|(_, rest)| rest);
            if !descend(path, name, |path| child.walk(format, behind, path, each)) {
                return false;
            }
        }
        true
    }
}

/// Goes down one segment, and up again.
fn descend<R>(path: &mut String, segment: &str, go: impl FnOnce(&mut String) -> R) -> R {
    let len = path.len();
    if len != 0 {
        path.push(SEPARATOR);
    }
    path.push_str(segment);
    let result = go(path);
    path.truncate(len);
    result
}

/// The segments in front of a key's last, and that.
fn split(key: &str) -> (impl Iterator<Item = &str>, &str) {
    let (parents, leaf) = key
        .rsplit_once(SEPARATOR)
        .map_or((None, key), |(parents, leaf)| (Some(parents), leaf));
    (
        parents
            .into_iter()
            .flat_map(|parents| parents.split(SEPARATOR)),
        leaf,
    )
}
