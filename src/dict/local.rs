//! [`LocalDict`]: dictionaries in memory, their creation, and the methods that only they have.

mod memory;
mod options;
#[cfg(all(test, not(loom)))]
mod tests;
mod tree;
mod turns;

use std::sync::Arc;

use crate::dict::dictionary::Dict;
use crate::dict::error::Result;
use crate::dict::key::KeyParts;
use crate::dict::store::Backend;
use crate::dict::value::Value;

pub use crate::dict::local::memory::Local;
pub use crate::dict::local::options::LocalOptions;

/// A dictionary in memory: for tests, for data that need not persist, and as a cache of slower data.
///
/// It behaves as an [`MmapDict`](crate::dict::MmapDict): values are encoded when they are stored and
/// decoded when they are first read, so later changes of the caller's value do not reach the item,
/// and a value that the format cannot express is refused. Further reads clone the decoded value;
/// [`get_shared`](Self::get_shared) does not even clone.
///
/// Clones, sub-dictionaries and dictionaries of [other formats](Dict::with_format) share one tree,
/// and many threads can use them. The closure of an update runs without a lock on the tree, and
/// again if another thread wrote the item during that. Updates of one item take turns, and wait for
/// their turn at most a second: closures that wait for each other are slow, and do not deadlock.
///
/// # Cost
///
/// A read takes a shared lock and walks down the parts of the key, a write does the same with the
/// exclusive lock, and neither allocates in the tree except for new parts. Listing takes the lock
/// for 64 items at a time. An item takes its encoded bytes, the decoded value after it was first
/// read, and about 200 bytes.
///
/// Deletions leave empty nodes in the tree. After every
/// [`prune_interval`](LocalOptions::prune_interval) deletions the whole tree is searched for them.
///
/// # After a fork
///
/// A forked child has all items as of the fork, and continues with a dictionary of its own. `fork`
/// waits for the threads that are using the tree, which takes microseconds, or as long as `len`,
/// `clear` and similar operations take. Updates that other threads had begun are not done in the
/// child.
///
/// `fork` waits for at most ten seconds. That limit is reached if a signal handler forks in the
/// middle of an operation of this dictionary, or if a thread is stopped there. In the child, every
/// operation that reads or writes the tree then returns
/// [`DictError::Forked`](crate::dict::DictError::Forked).
///
/// ```
/// use mmapcache::dict::LocalDict;
///
/// let scores = LocalDict::<u32>::new();
/// scores.insert(["chess", "ada"], 1_900)?;
/// scores.insert(["chess", "bob"], 1_750)?;
///
/// let chess = scores.subdict("chess")?;
/// assert_eq!(chess.len()?, 2);
/// assert_eq!(chess.take("bob")?, Some(1_750));
/// assert!(!scores.contains(["chess", "bob"])?);
/// # Ok::<(), mmapcache::dict::DictError>(())
/// ```
pub type LocalDict<V> = Dict<V, Local>;

/// Creates an empty dictionary of JSON values.
impl<V: Value> Default for LocalDict<V> {
    fn default() -> Self {
        Self::new()
    }
}

/// Dictionaries in memory; see [`LocalDict`].
impl<V: Value> LocalDict<V> {
    /// Creates an empty dictionary of JSON values.
    pub fn new() -> Self {
        Self::with(&LocalOptions::new())
    }

    /// Creates an empty dictionary with options.
    pub fn with(options: &LocalOptions) -> Self {
        Self::on_whole(Local::new(options), options.format)
    }

    /// Returns an item's value without cloning it: all callers get the same instance, until the item
    /// is written again. Decodes the value if no call has read it before.
    ///
    /// # Errors
    ///
    /// Returns the errors of [all operations](Dict#errors).
    pub fn get_shared(&self, key: impl KeyParts) -> Result<Option<Arc<V>>> {
        self.store().shared(&self.item_key(&key)?)
    }

    /// Returns the number of deletions after which the tree is searched for empty nodes; `None` if it
    /// never is. See [`LocalOptions::prune_interval`].
    pub fn prune_interval(&self) -> Option<u32> {
        self.store().prune_interval()
    }

    /// Returns the number of nodes of the whole tree, empty ones included: one for the root, and one
    /// for each part that a key has before its last. Takes a shared lock and time proportional to the
    /// number of nodes; 0 in a forked child that lost the tree.
    pub fn nodes(&self) -> usize {
        self.store().nodes()
    }
}

impl<V: Value> From<LocalDict<V>> for Dict<V> {
    fn from(dict: LocalDict<V>) -> Self {
        dict.on_store(Arc::new(dict.store().clone()))
    }
}
