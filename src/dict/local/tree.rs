//! The tree of key parts, with a bucket of items for each format at each node.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::codec::Format;
use crate::dict::key::SEPARATOR;

/// Everything below one sequence of parts. Keys have at most 255 parts, so recursion over the levels
/// is safe.
#[derive(Debug)]
pub(super) struct Node<T> {
    children: BTreeMap<Box<str>, Self>,
    /// A bucket is never empty.
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
    /// Returns the node at a prefix, if it exists.
    pub(super) fn at<'p>(&self, mut prefix: impl Iterator<Item = &'p str>) -> Option<&Self> {
        prefix.try_fold(self, |node, part| node.children.get(part))
    }

    /// Returns the item of a key.
    pub(super) fn get(&self, format: Format, key: &str) -> Option<&T> {
        let (mut parents, leaf) = split(key);
        let node = parents.try_fold(self, |node, part| node.children.get(part))?;
        node.buckets.get(&format)?.get(leaf)
    }

    /// Stores an item, and returns the one that it replaces.
    pub(super) fn insert(&mut self, format: Format, key: &str, item: T) -> Option<T> {
        let (parents, leaf) = split(key);
        let node = parents.fold(self, Self::child);
        let bucket = node.buckets.entry(format).or_default();
        match bucket.get_mut(leaf) {
            Some(old) => Some(std::mem::replace(old, item)),
            None => bucket.insert(leaf.into(), item),
        }
    }

    fn child(&mut self, part: &str) -> &mut Self {
        // Two look-ups, so that the name is only allocated for a new node.
        if !self.children.contains_key(part) {
            self.children.insert(part.into(), Self::default());
        }
        let child = self.children.get_mut(part);
        child.expect("the child was inserted above if it was absent")
    }

    /// Removes an item. Keeps nodes that are empty after that.
    pub(super) fn remove(&mut self, format: Format, key: &str) -> Option<T> {
        let (mut parents, leaf) = split(key);
        let node = parents.try_fold(self, |node, part| node.children.get_mut(part))?;
        let bucket = node.buckets.get_mut(&format)?;
        let item = bucket.remove(leaf)?;
        if bucket.is_empty() {
            node.buckets.remove(&format);
        }
        Some(item)
    }

    /// Removes an item, and the nodes that are empty after that.
    pub(super) fn take(&mut self, format: Format, key: &str) -> Option<T> {
        let Some((part, rest)) = key.split_once(SEPARATOR) else {
            return self.remove(format, key);
        };
        let child = self.children.get_mut(part)?;
        let item = child.take(format, rest);
        if child.is_empty() {
            self.children.remove(part);
        }
        item
    }

    fn is_empty(&self) -> bool {
        self.children.is_empty() && self.buckets.is_empty()
    }

    /// Removes all items of a format below a prefix. Keeps nodes.
    pub(super) fn clear<'p>(
        &mut self,
        format: Format,
        mut prefix: impl Iterator<Item = &'p str>,
        removed: &mut Vec<T>,
    ) {
        let node = prefix.try_fold(self, |node, part| node.children.get_mut(part));
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

    /// Removes the empty nodes below this one, and returns whether this one is empty.
    pub(super) fn prune(&mut self) -> bool {
        self.children.retain(|_, child| !child.prune());
        self.is_empty()
    }

    /// Counts the items of a format in this node and below.
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

    /// Counts this node and all below it.
    pub(super) fn nodes(&self) -> usize {
        1 + self.children.values().map(Self::nodes).sum::<usize>()
    }

    /// Calls `each` with the items after a key until it returns `false`: first the items of a node,
    /// sorted by name, then those of its children. `path` has the parts down to this node.
    pub(super) fn walk(
        &self,
        format: Format,
        after: Option<&str>,
        path: &mut String,
        each: &mut impl FnMut(&str, &T) -> bool,
    ) -> bool {
        if let Some(below) = after.and_then(|key| key.split_once(SEPARATOR)) {
            return self.walk_children(format, Some(below), path, each);
        }
        let first = after.map_or(Bound::Unbounded, Bound::Excluded);
        if let Some(bucket) = self.buckets.get(&format) {
            debug_assert!(!bucket.is_empty(), "the last item takes its bucket along");
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
        after: Option<(&str, &str)>,
        path: &mut String,
        each: &mut impl FnMut(&str, &T) -> bool,
    ) -> bool {
        let first = after.map_or(Bound::Unbounded, |(child, _)| Bound::Included(child));
        for (name, child) in self.children.range::<str, _>((first, Bound::Unbounded)) {
            let after = after
                .filter(|&(first, _)| *first == **name)
                .map(|(_, rest)| rest);
            if !descend(path, name, |path| child.walk(format, after, path, each)) {
                return false;
            }
        }
        true
    }
}

/// Calls `go` with a part appended to the path.
fn descend<R>(path: &mut String, part: &str, go: impl FnOnce(&mut String) -> R) -> R {
    let len = path.len();
    if len != 0 {
        path.push(SEPARATOR);
    }
    path.push_str(part);
    let result = go(path);
    path.truncate(len);
    result
}

/// Splits a key into the parts before its last, and its last.
fn split(key: &str) -> (impl Iterator<Item = &str>, &str) {
    debug_assert!(
        !key.is_empty() && !key.ends_with(SEPARATOR),
        "{key:?} is not a key"
    );
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
