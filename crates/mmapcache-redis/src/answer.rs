//! [`Answer`]: a value and where it came from. Calls nothing.

/// The value of a key, or that there is none, and where that came from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Answer {
    /// The value; `None` if the server has, or had, no such key.
    pub value: Option<Vec<u8>>,
    /// Where it came from.
    pub source: Source,
}

/// Where an [`Answer`] came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Source {
    /// From the local file: at most as old as
    /// [`NearCacheBuilder::window`](crate::NearCacheBuilder::window).
    Local,
    /// From the server, during this call.
    Server,
    /// This call computed it: [`get_or_try_insert_with`](crate::NearCache::get_or_try_insert_with).
    Computed,
    /// From the local file, and it may have changed since: only
    /// [`get_or_unverified`](crate::NearCache::get_or_unverified) returns it.
    Unverified,
}
