//! Keys: sequences of parts, stored as one text with `/` between the parts.
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

/// What the parts of a key can be taken from: a text (one part, never parsed), a [`DictKey`], `()`
/// (no part), an `Option` of these (`None` is no part), and any array, slice, `Vec` or tuple of up to
/// three of these, nested to any depth.
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

    /// Returns the parts as a key if they are one already. They are not checked again.
    fn checked_parts(&self) -> Option<&DictKey> {
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

impl KeyParts for DictKey {
    fn visit_parts(
        &self,
        visit: &mut dyn FnMut(&str) -> Result<(), KeyError>,
    ) -> Result<(), KeyError> {
        self.parts().try_for_each(visit)
    }

    fn checked_parts(&self) -> Option<&DictKey> {
        Some(self)
    }
}

impl<T: KeyParts + ?Sized> KeyParts for &T {
    fn visit_parts(
        &self,
        visit: &mut dyn FnMut(&str) -> Result<(), KeyError>,
    ) -> Result<(), KeyError> {
        T::visit_parts(self, visit)
    }

    fn checked_parts(&self) -> Option<&DictKey> {
        T::checked_parts(self)
    }
}

impl<T: KeyParts> KeyParts for Option<T> {
    fn visit_parts(
        &self,
        visit: &mut dyn FnMut(&str) -> Result<(), KeyError>,
    ) -> Result<(), KeyError> {
        self.as_ref()
            .map_or(Ok(()), |parts| parts.visit_parts(visit))
    }

    fn checked_parts(&self) -> Option<&DictKey> {
        self.as_ref()?.checked_parts()
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
    /// Where the first part begins: the name of a format may come before it.
    start: usize,
    /// The parts that [`KeyBuilder::append`] was given, for its errors.
    appended: usize,
}

impl KeyBuilder {
    /// Builds the text of a key after `head`, below `prefix`, which may be empty.
    pub(super) fn new(head: &[&str], prefix: &str) -> Self {
        // Most keys fit into this, so that the text is allocated once.
        let mut text = String::with_capacity(prefix.len() + 64);
        head.iter().for_each(|head| text.push_str(head));
        let start = text.len();
        text.push_str(prefix);
        Self {
            text,
            start,
            appended: 0,
        }
    }

    /// Appends parts.
    pub(super) fn append(&mut self, parts: &(impl KeyParts + ?Sized)) -> Result<(), KeyError> {
        if let Some(checked) = parts.checked_parts() {
            self.push(checked.as_str());
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
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct DictKey(Arc<str>);

impl DictKey {
    /// Creates the key of these parts, from left to right.
    ///
    /// # Errors
    ///
    /// Returns a [`KeyError`] if there is no part, if a part is not safe, or if there are more than
    /// 255.
    pub fn new(parts: impl KeyParts) -> Result<Self, KeyError> {
        Self::optional(&parts)?.ok_or(KeyError::NoPart)
    }

    /// Creates the key of these parts, if there are any.
    pub(super) fn optional(parts: &impl KeyParts) -> Result<Option<Self>, KeyError> {
        if let Some(checked) = parts.checked_parts() {
            return Ok(Some(checked.clone()));
        }
        let mut builder = KeyBuilder::new(&[], "");
        builder.append(parts)?;
        let text = builder.into_text()?;
        Ok((!text.is_empty()).then(|| Self(text.into())))
    }

    /// Creates the key of an iterator's parts.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`DictKey::new`].
    pub fn from_parts<P: AsRef<str>>(parts: impl IntoIterator<Item = P>) -> Result<Self, KeyError> {
        let mut builder = KeyBuilder::new(&[], "");
        for part in parts {
            builder.append(part.as_ref())?;
        }
        Ok(Self(builder.into_key_text()?.into()))
    }

    /// Parses a key's parts joined by `/`, as [`DictKey::as_str`] and `Display` write them.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`DictKey::new`].
    pub fn parse(joined: &str) -> Result<Self, KeyError> {
        for (index, part) in joined.split(SEPARATOR).enumerate() {
            key_part::check(index, part)?;
        }
        check_count(joined)?;
        Ok(Self(joined.into()))
    }

    /// Creates a key of parts joined by `/` that were checked before.
    pub(super) fn from_checked(text: &str) -> Self {
        debug_assert!(Self::parse(text).is_ok(), "{text:?} is not a key");
        Self(text.into())
    }

    /// Returns this key with more parts after its own.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`DictKey::new`].
    pub fn join(&self, parts: impl KeyParts) -> Result<Self, KeyError> {
        let mut builder = KeyBuilder::new(&[], self.as_str());
        builder.append(&parts)?;
        Ok(Self(builder.into_text()?.into()))
    }

    /// Returns the parts from left to right.
    pub fn parts(&self) -> impl DoubleEndedIterator<Item = &str> + Clone {
        self.0.split(SEPARATOR)
    }

    /// Returns the first part.
    pub fn first(&self) -> &str {
        self.parts().next().unwrap_or_default()
    }

    /// Returns the number of parts, which is at least one. Counts them in the text.
    #[expect(clippy::len_without_is_empty, reason = "no key is empty")]
    pub fn len(&self) -> usize {
        self.parts().count()
    }

    /// Returns the parts joined by `/`, which no part can have.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl PartialOrd for DictKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for DictKey {
    fn cmp(&self, other: &Self) -> Ordering {
        self.parts().cmp(other.parts())
    }
}

impl fmt::Display for DictKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for DictKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DictKey({:?})", self.as_str())
    }
}
