//! Keys and prefixes: sequences of parts, stored as one text with `/` between the parts.
//!
//! No part can have the separator, so the text of a key has one meaning.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use crate::dict::key_part::{self, KeyError, MAX_PART};

/// Separates two parts. It is not in their alphabet.
pub(super) const SEPARATOR: char = '/';

/// The most parts of a key. Trees of keys are walked by recursion.
const MAX_PARTS: usize = 255;

/// A text that is shorter has no more than [`MAX_PARTS`] parts: each has a character at least.
const COUNTED_LEN: usize = 2 * MAX_PARTS;

// The longest key, with the name of a format before it, is a valid key of the engine.
const _: () = assert!(16 + MAX_PARTS * (MAX_PART + 1) <= u16::MAX as usize);

/// What the parts of a key can be taken from: a text (one part, never parsed), a [`DictKey`], a
/// [`Prefix`], `()` (no part), and any array, slice, `Vec` or tuple of up to three of these, nested
/// to any depth.
///
/// ```
/// use mmapcache::dict::DictKey;
///
/// let key = DictKey::new(["users", "42"])?;
/// assert_eq!(key, DictKey::new(("users", "42"))?);
/// assert_eq!(key, DictKey::new(vec![DictKey::new("users")?, DictKey::new("42")?])?);
/// # Ok::<(), mmapcache::dict::KeyError>(())
/// ```
pub trait KeyParts {
    /// Calls `visit` with each part from left to right.
    ///
    /// # Errors
    ///
    /// Returns the first error of `visit`, and visits no further part.
    fn visit_parts(
        &self,
        visit: &mut dyn FnMut(&str) -> Result<(), KeyError>,
    ) -> Result<(), KeyError>;

    /// Returns the parts as a prefix if they are one already. They are not checked again.
    fn checked_parts(&self) -> Option<&Prefix> {
        None
    }
}

/// A text is one part.
macro_rules! one_part {
    ($($text:ty),*) => {
        $(impl KeyParts for $text {
            fn visit_parts(
                &self,
                visit: &mut dyn FnMut(&str) -> Result<(), KeyError>,
            ) -> Result<(), KeyError> {
                visit(self)
            }
        })*
    };
}

one_part!(str, String, Box<str>, Arc<str>, Cow<'_, str>);

/// The parts of several values, one value after the other.
macro_rules! parts_of_each {
    ($($name:ident: $field:tt),*) => {
        impl<$($name: KeyParts),*> KeyParts for ($($name,)*) {
            fn visit_parts(
                &self,
                visit: &mut dyn FnMut(&str) -> Result<(), KeyError>,
            ) -> Result<(), KeyError> {
                $(self.$field.visit_parts(visit)?;)*
                Ok(())
            }
        }
    };
}

parts_of_each!(A: 0);
parts_of_each!(A: 0, B: 1);
parts_of_each!(A: 0, B: 1, C: 2);

impl KeyParts for () {
    fn visit_parts(&self, _: &mut dyn FnMut(&str) -> Result<(), KeyError>) -> Result<(), KeyError> {
        Ok(())
    }
}

impl KeyParts for Prefix {
    fn visit_parts(
        &self,
        visit: &mut dyn FnMut(&str) -> Result<(), KeyError>,
    ) -> Result<(), KeyError> {
        self.parts().try_for_each(visit)
    }

    fn checked_parts(&self) -> Option<&Prefix> {
        Some(self)
    }
}

impl KeyParts for DictKey {
    fn visit_parts(
        &self,
        visit: &mut dyn FnMut(&str) -> Result<(), KeyError>,
    ) -> Result<(), KeyError> {
        self.parts().try_for_each(visit)
    }

    fn checked_parts(&self) -> Option<&Prefix> {
        Some(&self.0)
    }
}

impl<T: KeyParts + ?Sized> KeyParts for &T {
    fn visit_parts(
        &self,
        visit: &mut dyn FnMut(&str) -> Result<(), KeyError>,
    ) -> Result<(), KeyError> {
        T::visit_parts(self, visit)
    }

    fn checked_parts(&self) -> Option<&Prefix> {
        T::checked_parts(self)
    }
}

impl<T: KeyParts> KeyParts for [T] {
    fn visit_parts(
        &self,
        visit: &mut dyn FnMut(&str) -> Result<(), KeyError>,
    ) -> Result<(), KeyError> {
        self.iter().try_for_each(|parts| parts.visit_parts(visit))
    }
}

impl<T: KeyParts, const N: usize> KeyParts for [T; N] {
    fn visit_parts(
        &self,
        visit: &mut dyn FnMut(&str) -> Result<(), KeyError>,
    ) -> Result<(), KeyError> {
        self.as_slice().visit_parts(visit)
    }
}

impl<T: KeyParts> KeyParts for Vec<T> {
    fn visit_parts(
        &self,
        visit: &mut dyn FnMut(&str) -> Result<(), KeyError>,
    ) -> Result<(), KeyError> {
        self.as_slice().visit_parts(visit)
    }
}

/// Appends parts to a text, and checks them.
pub(super) struct KeyBuilder {
    text: String,
    /// Where the first part begins: a text may have something else before the key.
    start: usize,
    /// The parts that [`KeyBuilder::append`] was given, for its errors.
    appended: usize,
}

impl KeyBuilder {
    /// Builds the text of a key after `head`, below `prefix`.
    pub(super) fn new(head: &[&str], prefix: &Prefix) -> Self {
        // Most keys fit into this, so that the text is allocated once.
        let mut text = String::with_capacity(prefix.as_str().len() + 64);
        head.iter().for_each(|head| text.push_str(head));
        let start = text.len();
        text.push_str(prefix.as_str());
        Self {
            text,
            start,
            appended: 0,
        }
    }

    /// Appends parts.
    pub(super) fn append(&mut self, parts: &(impl KeyParts + ?Sized)) -> Result<(), KeyError> {
        if let Some(checked) = parts.checked_parts() {
            if !checked.is_empty() {
                self.push(checked.as_str());
            }
            return Ok(());
        }
        parts.visit_parts(&mut |part| {
            key_part::check(self.appended, part)?;
            self.push(part);
            Ok(())
        })
    }

    fn push(&mut self, text: &str) {
        debug_assert!(!text.is_empty(), "the caller checks parts");
        if self.text.len() > self.start {
            self.text.push(SEPARATOR);
        }
        self.text.push_str(text);
        self.appended += 1;
    }

    /// Returns the text, if [`KeyBuilder::append`] was given at least one part.
    pub(super) fn into_key_text(self) -> Result<String, KeyError> {
        if self.appended == 0 {
            return Err(KeyError::NoPart);
        }
        self.into_text()
    }

    fn into_text(self) -> Result<String, KeyError> {
        check_count(&self.text[self.start..])?;
        Ok(self.text)
    }
}

/// Checks how many parts a text has.
fn check_count(text: &str) -> Result<(), KeyError> {
    if text.len() > COUNTED_LEN {
        let parts = 1 + text.matches(SEPARATOR).count();
        if parts > MAX_PARTS {
            return Err(KeyError::TooManyParts { parts });
        }
    }
    Ok(())
}

/// Any number of safe parts, or none: the place in the tree of keys where a
/// [sub-dictionary](crate::dict::Dict::subdict) begins.
///
/// Ordered part by part. A clone increments a reference count.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Prefix(Arc<str>);

impl Prefix {
    /// Creates the prefix of these parts, from left to right.
    ///
    /// # Errors
    ///
    /// Returns a [`KeyError`] if a part is not safe, or if there are more than 255.
    pub fn new(parts: impl KeyParts) -> Result<Self, KeyError> {
        Self::default().join(parts)
    }

    /// Creates the prefix of an iterator's parts.
    ///
    /// # Errors
    ///
    /// As [`Prefix::new`].
    pub fn from_parts<P: AsRef<str>>(parts: impl IntoIterator<Item = P>) -> Result<Self, KeyError> {
        let mut builder = KeyBuilder::new(&[], &Self::default());
        for part in parts {
            builder.append(part.as_ref())?;
        }
        Ok(Self(builder.into_text()?.into()))
    }

    /// Returns this prefix with more parts after its own.
    ///
    /// # Errors
    ///
    /// As [`Prefix::new`].
    pub fn join(&self, parts: impl KeyParts) -> Result<Self, KeyError> {
        if let (true, Some(checked)) = (self.is_empty(), parts.checked_parts()) {
            return Ok(checked.clone());
        }
        let mut builder = KeyBuilder::new(&[], self);
        builder.append(&parts)?;
        Ok(Self(builder.into_text()?.into()))
    }

    /// Parses parts joined by [`SEPARATOR`], as [`Prefix::as_str`] returns them.
    fn parse(text: &str) -> Result<Self, KeyError> {
        for (index, part) in text.split(SEPARATOR).enumerate() {
            key_part::check(index, part)?;
        }
        check_count(text)?;
        Ok(Self(text.into()))
    }

    /// Returns the parts from left to right.
    pub fn parts(&self) -> impl DoubleEndedIterator<Item = &str> + Clone {
        let all = self.0.split(SEPARATOR);
        all.filter(|part| !part.is_empty())
    }

    /// Returns the number of parts.
    pub fn len(&self) -> usize {
        self.parts().count()
    }

    /// Returns whether there is no part.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the parts joined by `/`, which no part can have; an empty text if there is no part.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Creates the prefix without a part.
impl Default for Prefix {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl PartialOrd for Prefix {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Prefix {
    fn cmp(&self, other: &Self) -> Ordering {
        self.parts().cmp(other.parts())
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Prefix({:?})", &*self.0)
    }
}

/// The key of an item: 1 to 255 safe parts of ASCII letters, digits and `( ) _ - ~ . =`, each of 1
/// to 253 bytes, and none of them `.` or `..`.
///
/// A key and a longer key that begins with it are two items, and both can exist. Ordered part by
/// part. A clone increments a reference count.
///
/// ```
/// use mmapcache::dict::{DictKey, KeyError};
///
/// let key = DictKey::new("reports")?.join(["2026", "november.txt"])?;
/// assert_eq!(key.to_string(), "reports/2026/november.txt");
/// assert_eq!(key.parts().last(), Some("november.txt"));
/// assert_eq!(DictKey::parse(key.as_str())?, key);
///
/// // A text is one part, and is never split.
/// let error = DictKey::new("reports/2026").unwrap_err();
/// assert!(matches!(error, KeyError::UnsafeChar { character: '/', position: 7, .. }));
/// # Ok::<(), KeyError>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DictKey(Prefix);

impl DictKey {
    /// Creates the key of these parts, from left to right.
    ///
    /// # Errors
    ///
    /// Returns a [`KeyError`] if there is no part, if a part is not safe, or if there are more than
    /// 255.
    pub fn new(parts: impl KeyParts) -> Result<Self, KeyError> {
        Self::from_prefix(Prefix::new(parts)?)
    }

    /// Creates the key of an iterator's parts.
    ///
    /// # Errors
    ///
    /// As [`DictKey::new`].
    pub fn from_parts<P: AsRef<str>>(parts: impl IntoIterator<Item = P>) -> Result<Self, KeyError> {
        Self::from_prefix(Prefix::from_parts(parts)?)
    }

    /// Parses a key's parts joined by `/`, as [`DictKey::as_str`] and `Display` write them.
    ///
    /// # Errors
    ///
    /// As [`DictKey::new`].
    pub fn parse(joined: &str) -> Result<Self, KeyError> {
        Self::from_prefix(Prefix::parse(joined)?)
    }

    fn from_prefix(prefix: Prefix) -> Result<Self, KeyError> {
        if prefix.is_empty() {
            return Err(KeyError::NoPart);
        }
        Ok(Self(prefix))
    }

    /// Creates a key of parts joined by `/` that were checked before.
    pub(super) fn from_checked(text: &str) -> Self {
        debug_assert!(Prefix::parse(text).is_ok(), "{text:?} is not a key");
        Self(Prefix(text.into()))
    }

    /// Returns this key with more parts after its own.
    ///
    /// # Errors
    ///
    /// As [`DictKey::new`].
    pub fn join(&self, parts: impl KeyParts) -> Result<Self, KeyError> {
        Ok(Self(self.0.join(parts)?))
    }

    /// Returns the same parts as a prefix.
    pub fn as_prefix(&self) -> &Prefix {
        &self.0
    }

    /// Returns the parts from left to right.
    pub fn parts(&self) -> impl DoubleEndedIterator<Item = &str> + Clone {
        self.0.parts()
    }

    /// Returns the first part.
    pub fn first(&self) -> &str {
        self.parts().next().unwrap_or_default()
    }

    /// Returns the number of parts, which is at least one.
    #[expect(clippy::len_without_is_empty, reason = "no key is empty")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns the parts joined by `/`, which no part can have.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Display for DictKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for DictKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DictKey({:?})", self.as_str())
    }
}
