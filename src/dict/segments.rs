//! What a key or a prefix can be made of: texts, keys, and sequences of them.
//!
//! Knows how they flatten from left to right, not what becomes of them.

use std::borrow::Cow;
use std::sync::Arc;

use crate::dict::error::KeyError;
use crate::dict::key::DictKey;
use crate::dict::prefix::Prefix;

/// What segments can be taken from: a text (one segment, never parsed), a [`DictKey`], a
/// [`Prefix`], `()` for none, and any array, slice, `Vec` or tuple of up to three such, however deep.
///
/// ```
/// use mmapcache::dict::DictKey;
///
/// let key = DictKey::new(["users", "42"])?;
/// assert_eq!(key, DictKey::new(("users", "42"))?);
/// assert_eq!(key, DictKey::new(vec![DictKey::new("users")?, DictKey::new("42")?])?);
/// # Ok::<(), mmapcache::dict::KeyError>(())
/// ```
pub trait Segments {
    /// Calls `each` with every segment, from left to right, until it fails.
    ///
    /// # Errors
    ///
    /// The first error of `each`.
    fn each(&self, each: &mut dyn FnMut(&str) -> Result<(), KeyError>) -> Result<(), KeyError>;

    /// The key of these segments.
    ///
    /// # Errors
    ///
    /// As [`DictKey::new`].
    fn to_key(&self) -> Result<DictKey, KeyError> {
        DictKey::of(self.to_prefix()?)
    }

    /// The prefix of these segments.
    ///
    /// # Errors
    ///
    /// As [`Prefix::new`].
    fn to_prefix(&self) -> Result<Prefix, KeyError> {
        Prefix::default().joined(self)
    }
}

impl Segments for str {
    fn each(&self, each: &mut dyn FnMut(&str) -> Result<(), KeyError>) -> Result<(), KeyError> {
        each(self)
    }
}

impl Segments for String {
    fn each(&self, each: &mut dyn FnMut(&str) -> Result<(), KeyError>) -> Result<(), KeyError> {
        each(self)
    }
}

impl Segments for () {
    fn each(&self, _: &mut dyn FnMut(&str) -> Result<(), KeyError>) -> Result<(), KeyError> {
        Ok(())
    }
}

impl Segments for Prefix {
    fn each(&self, each: &mut dyn FnMut(&str) -> Result<(), KeyError>) -> Result<(), KeyError> {
        self.segments().try_for_each(each)
    }

    fn to_prefix(&self) -> Result<Prefix, KeyError> {
        Ok(self.clone())
    }
}

impl Segments for DictKey {
    fn each(&self, each: &mut dyn FnMut(&str) -> Result<(), KeyError>) -> Result<(), KeyError> {
        self.segments().try_for_each(each)
    }

    fn to_key(&self) -> Result<DictKey, KeyError> {
        Ok(self.clone())
    }

    fn to_prefix(&self) -> Result<Prefix, KeyError> {
        Ok(self.as_prefix().clone())
    }
}

impl<T: Segments + ?Sized> Segments for &T {
    fn each(&self, each: &mut dyn FnMut(&str) -> Result<(), KeyError>) -> Result<(), KeyError> {
        T::each(self, each)
    }

    fn to_key(&self) -> Result<DictKey, KeyError> {
        T::to_key(self)
    }

    fn to_prefix(&self) -> Result<Prefix, KeyError> {
        T::to_prefix(self)
    }
}

impl<T: Segments> Segments for [T] {
    fn each(&self, each: &mut dyn FnMut(&str) -> Result<(), KeyError>) -> Result<(), KeyError> {
        self.iter().try_for_each(|part| part.each(each))
    }
}

impl<T: Segments, const N: usize> Segments for [T; N] {
    fn each(&self, each: &mut dyn FnMut(&str) -> Result<(), KeyError>) -> Result<(), KeyError> {
        self.as_slice().each(each)
    }
}

impl<T: Segments> Segments for Vec<T> {
    fn each(&self, each: &mut dyn FnMut(&str) -> Result<(), KeyError>) -> Result<(), KeyError> {
        self.as_slice().each(each)
    }
}

impl<A: Segments> Segments for (A,) {
    fn each(&self, each: &mut dyn FnMut(&str) -> Result<(), KeyError>) -> Result<(), KeyError> {
        self.0.each(each)
    }
}

impl<A: Segments, B: Segments> Segments for (A, B) {
    fn each(&self, each: &mut dyn FnMut(&str) -> Result<(), KeyError>) -> Result<(), KeyError> {
        self.0.each(each)?;
        self.1.each(each)
    }
}

impl<A: Segments, B: Segments, C: Segments> Segments for (A, B, C) {
    fn each(&self, each: &mut dyn FnMut(&str) -> Result<(), KeyError>) -> Result<(), KeyError> {
        self.0.each(each)?;
        self.1.each(each)?;
        self.2.each(each)
    }
}

impl Segments for Box<str> {
    fn each(&self, each: &mut dyn FnMut(&str) -> Result<(), KeyError>) -> Result<(), KeyError> {
        each(self)
    }
}

impl Segments for Arc<str> {
    fn each(&self, each: &mut dyn FnMut(&str) -> Result<(), KeyError>) -> Result<(), KeyError> {
        each(self)
    }
}

impl Segments for Cow<'_, str> {
    fn each(&self, each: &mut dyn FnMut(&str) -> Result<(), KeyError>) -> Result<(), KeyError> {
        each(self)
    }
}
