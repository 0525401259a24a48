//! A pool for values of one type, whose handles cannot be mixed up with those of another.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::ops::Deref;

use crate::error::PoolError;

use crate::intern::pool::Pool;
use crate::intern::pool::handle::Interned;

/// A [`Pool`] that takes values of one type only: `TypedPool<str>`, or a type that derefs to bytes.
///
/// Its handles have the type of the pool: those of topics and those of hosts do not compare.
///
/// ```
/// use mmapcache::intern::TypedPool;
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
    /// Wraps a pool.
    pub fn new(pool: Pool) -> Self {
        Self {
            pool,
            of: PhantomData,
        }
    }

    /// Interns a value, as [`Pool::intern`].
    ///
    /// # Panics
    ///
    /// Panics as [`Pool::intern`].
    #[inline]
    pub fn intern(&self, value: &T) -> TypedInterned<T> {
        TypedInterned::new(self.pool.intern(value))
    }

    /// Interns a value if it fits, as [`Pool::try_intern`].
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Pool::try_intern`].
    #[inline]
    pub fn try_intern(&self, value: &T) -> Result<TypedInterned<T>, PoolError> {
        self.pool.try_intern(value).map(TypedInterned::new)
    }

    /// Returns the handle of a value, if the pool has the value, as [`Pool::get`].
    #[inline]
    pub fn get(&self, value: &T) -> Option<TypedInterned<T>> {
        self.pool.get(value).map(TypedInterned::new)
    }

    /// Returns the untyped pool.
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

/// A handle of a [`TypedPool`]: an [`Interned`] value with a type. It has the same size, and is
/// compared and hashed in the same way.
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

    /// Returns the untyped handle.
    #[inline]
    pub fn untyped(&self) -> &Interned {
        &self.handle
    }

    /// Returns the untyped handle.
    #[inline]
    pub fn into_untyped(self) -> Interned {
        self.handle
    }
}

impl TypedInterned<str> {
    /// Returns the text. Each call validates it as UTF-8, which takes no longer than reading it.
    pub fn as_str(&self) -> &str {
        // The pool takes `&str` only.
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
