//! A pool for values of one type, so that handles of different things are never mixed up.
//!
//! Knows types only; everything else is the pool's.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::ops::Deref;

use crate::error::PoolError;

use crate::intern::pool::Pool;
use crate::intern::pool::handle::Interned;

/// A [`Pool`] that takes values of one type only: `TypedPool<str>`, or that of a type of one's own
/// that is made of bytes.
///
/// Its handles have that type, and those of topics and of hosts do not compare.
///
/// ```
/// use mmapcache::TypedPool;
///
/// let topics = TypedPool::<str>::default();
/// let blocks = topics.intern("blocks");
/// assert_eq!(blocks.as_str(), "blocks");
/// assert_eq!(topics.intern(&String::from("blocks")), blocks);
/// assert_eq!(topics.pool().stats().hits, 1);
/// ```
pub struct TypedPool<T: ?Sized> {
    pool: Pool,
    of: PhantomData<fn(&T)>,
}

impl<T: AsRef<[u8]> + ?Sized> TypedPool<T> {
    /// A pool for one type.
    pub fn new(pool: Pool) -> Self {
        Self {
            pool,
            of: PhantomData,
        }
    }

    /// As [`Pool::intern`].
    ///
    /// # Panics
    ///
    /// As [`Pool::intern`].
    #[inline]
    pub fn intern(&self, value: &T) -> TypedInterned<T> {
        TypedInterned::new(self.pool.intern(value))
    }

    /// As [`Pool::try_intern`].
    ///
    /// # Errors
    ///
    /// As [`Pool::try_intern`].
    #[inline]
    pub fn try_intern(&self, value: &T) -> Result<TypedInterned<T>, PoolError> {
        self.pool.try_intern(value).map(TypedInterned::new)
    }

    /// As [`Pool::lookup`].
    #[inline]
    pub fn lookup(&self, value: &T) -> Option<TypedInterned<T>> {
        self.pool.lookup(value).map(TypedInterned::new)
    }

    /// The pool itself, for everything that has no type.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }
}

impl<T: AsRef<[u8]> + ?Sized> Default for TypedPool<T> {
    fn default() -> Self {
        Self::new(Pool::new())
    }
}

impl<T: ?Sized> fmt::Debug for TypedPool<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pool.fmt(f)
    }
}

/// An [`Interned`] value of a known type: as wide, as fast, compared and hashed in the same way.
pub struct TypedInterned<T: ?Sized> {
    handle: Interned,
    of: PhantomData<fn(&T)>,
}

impl<T: ?Sized> TypedInterned<T> {
    #[inline]
    fn new(handle: Interned) -> Self {
        Self {
            handle,
            of: PhantomData,
        }
    }

    /// The handle without its type.
    #[inline]
    pub fn untyped(&self) -> &Interned {
        &self.handle
    }

    /// The handle without its type.
    #[inline]
    pub fn into_untyped(self) -> Interned {
        self.handle
    }
}

impl TypedInterned<str> {
    /// The text. It is checked again each time, which takes no longer than reading it.
    pub fn as_str(&self) -> &str {
        // Only a `&str` gets in here.
        self.handle.as_str().unwrap_or_default()
    }
}

impl<T: ?Sized> Deref for TypedInterned<T> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        self.handle.as_bytes()
    }
}

impl<T: ?Sized> AsRef<[u8]> for TypedInterned<T> {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        self.handle.as_bytes()
    }
}

impl<T: ?Sized> Clone for TypedInterned<T> {
    #[inline]
    fn clone(&self) -> Self {
        Self::new(self.handle.clone())
    }
}

impl<T: ?Sized> PartialEq for TypedInterned<T> {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        self.handle == other.handle
    }
}

impl<T: ?Sized> Eq for TypedInterned<T> {}

impl<T: ?Sized> Hash for TypedInterned<T> {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.handle.hash(state);
    }
}

impl<T: ?Sized> PartialOrd for TypedInterned<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T: ?Sized> Ord for TypedInterned<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.handle.cmp(&other.handle)
    }
}

impl<T: ?Sized> fmt::Debug for TypedInterned<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.handle.fmt(f)
    }
}

impl<T: ?Sized> fmt::Display for TypedInterned<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.handle.fmt(f)
    }
}
