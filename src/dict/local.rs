//! A dictionary in memory.
//!
//! Knows how it is made; what it holds lies in `local/memory.rs`.

mod held;
mod memory;
mod options;
#[cfg(all(test, not(loom)))]
mod tests;
mod tree;
mod turns;

use std::sync::Arc;

use crate::dict::error::Result;
use crate::dict::format::{Format, Value};
use crate::dict::segments::Segments;
use crate::dict::semantics::OnStore;
use crate::dict::store::Lookup;
use crate::dict::view::View;

pub(super) use crate::dict::local::held::Held;
pub(super) use crate::dict::local::memory::Memory;
pub use crate::dict::local::options::LocalOptions;

/// A dictionary in memory: for tests, for what need not last, and in front of slower ones.
///
/// It behaves as an [`MmapDict`](crate::dict::MmapDict): values are encoded when they are put and decoded
/// when they are first read, so they are apart from what the caller does with theirs, and what the
/// format cannot express is refused. Further reads clone the decoded value;
/// [`get_shared`](Self::get_shared) does without even that.
///
/// Clones, sub-dictionaries and dictionaries of [other formats](Self::with_format) share one tree,
/// and may be used by many threads. A transformation runs its closure beside the tree, and again
/// where somebody else wrote the item meanwhile. Transformations of one item take turns, but wait no
/// longer than a second: a closure that waits for another one's is slow, and not stuck.
///
/// # Cost
///
/// A read takes a shared lock and a walk down the segments, a write the same with the exclusive
/// lock, and neither allocates for the tree but for new segments. Listing takes the lock for a few
/// items at a time. An item takes its encoded bytes, the decoded value once it was read, and some
/// 200 bytes.
///
/// # After a fork
///
/// A forked child has all items of the fork, and goes on with a dictionary of its own; `fork` waits
/// for the threads that are at work in the tree, which takes microseconds, and as long as `len`,
/// `clear` and the like take. Transformations that other threads had begun are not done in the child.
///
/// After ten seconds a fork waits no longer. That happens where a signal handler forks in the middle
/// of a call of this dictionary, or a thread is stopped there. In the child everything that reads or
/// writes the tree is [`DictError::Forked`](crate::dict::DictError::Forked) then.
///
/// Deletions leave empty nodes behind; each so many of them
/// ([`prune_interval`](LocalOptions::prune_interval)) the tree is searched for these.
///
/// ```
/// use mmapcache::dict::{Dict, LocalDict};
///
/// let scores = LocalDict::<u32>::new();
/// scores.insert(["chess", "ada"], 1_900)?;
/// scores.insert(["chess", "bob"], 1_750)?;
///
/// let chess = scores.subdict("chess")?;
/// assert_eq!(chess.len()?, 2);
/// assert_eq!(chess.pop("bob")?, Some(1_750));
/// assert!(!scores.contains(["chess", "bob"])?);
/// # Ok::<(), mmapcache::dict::DictError>(())
/// ```
#[derive(Debug)]
pub struct LocalDict<V>(View<Memory, V>);

impl<V> Clone for LocalDict<V> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// An empty dictionary of JSON values.
impl<V: Value> Default for LocalDict<V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<V: Value> LocalDict<V> {
    /// An empty dictionary of JSON values.
    pub fn new() -> Self {
        Self::with(&LocalOptions::new())
    }

    /// An empty dictionary as the options say.
    pub fn with(options: &LocalOptions) -> Self {
        Self(View::new(Memory::new(options), options.format))
    }

    /// The dictionary of another format, or type, at the same place of the same tree. Formats are
    /// namespaces of their own: no item of one is seen in the other.
    pub fn with_format<W: Value>(&self, format: Format) -> LocalDict<W> {
        LocalDict(self.0.of_format(format))
    }

    /// An item's value without a copy of its own: all who ask get the same, until the item is
    /// written again.
    ///
    /// # Errors
    ///
    /// As [`Dict::get`](crate::dict::Dict::get).
    pub fn get_shared(&self, key: impl Segments) -> Result<Option<Arc<V>>> {
        let at = self.0.place(key)?;
        let held = self.0.store.load(&at)?;
        held.map(|(_, held)| held.shared(&at)).transpose()
    }

    /// Nodes of the tree, empty ones included, whatever the view: one for the root, and one for each
    /// segment that keys have in front of their last.
    pub fn nodes(&self) -> usize {
        self.0.store.nodes()
    }
}

impl<V: Value> OnStore<V> for LocalDict<V> {
    type Store = Memory;

    fn view(&self) -> &View<Memory, V> {
        &self.0
    }

    fn with_view(&self, view: View<Memory, V>) -> Self {
        Self(view)
    }
}
