//! What an item of a dictionary is found by: one or more segments.
//!
//! Knows that there is at least one; what a segment is, its prefix knows.

use std::fmt;

use crate::dict::error::KeyError;
use crate::dict::prefix::Prefix;
use crate::dict::segments::Segments;

/// One to 255 safe segments: ASCII letters, digits and `( ) _ - ~ . =`, at most 253 bytes each,
/// none of them empty, `.` or `..`.
///
/// A key and a longer key that begins with it are two items, and may both be there. Ordered segment
/// by segment. A clone costs a count.
///
/// ```
/// use mmapcache::dict::{DictKey, KeyError};
///
/// let key = DictKey::new("reports")?.join(["2026", "november.txt"])?;
/// assert_eq!(key.to_string(), "reports/2026/november.txt");
/// assert_eq!(key.segments().last(), Some("november.txt"));
/// assert_eq!(DictKey::parse(key.as_str())?, key);
///
/// // A text is one segment, and is never taken apart.
/// let error = DictKey::new("reports/2026").unwrap_err();
/// assert!(matches!(error, KeyError::Character { character: '/', position: 7, .. }));
/// # Ok::<(), KeyError>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DictKey(Prefix);

impl DictKey {
    /// The key of these segments, from left to right.
    ///
    /// # Errors
    ///
    /// [`KeyError`], where there is no segment, where one of them is not safe, and where there are
    /// more than 255.
    pub fn new(segments: impl Segments) -> Result<Self, KeyError> {
        segments.to_key()
    }

    /// The key of an iterator's segments.
    ///
    /// # Errors
    ///
    /// As [`DictKey::new`].
    pub fn from_segments<S: AsRef<str>>(
        segments: impl IntoIterator<Item = S>,
    ) -> Result<Self, KeyError> {
        Self::of(Prefix::from_segments(segments)?)
    }

    /// Reads a key's segments joined by `/`, as [`DictKey::as_str`] and its text give them.
    ///
    /// # Errors
    ///
    /// As [`DictKey::new`].
    pub fn parse(joined: &str) -> Result<Self, KeyError> {
        Self::of(Prefix::parse(joined)?)
    }

    /// The key of a prefix, where that is not empty.
    pub(super) fn of(prefix: Prefix) -> Result<Self, KeyError> {
        if prefix.is_empty() {
            return Err(KeyError::NoSegment);
        }
        Ok(Self(prefix))
    }

    /// Segments joined by `/` that are known to be safe, and of which there is one at least.
    pub(super) fn trusted(text: &str) -> Self {
        Self(Prefix::trusted(text))
    }

    /// This key with more segments behind it.
    ///
    /// # Errors
    ///
    /// As [`DictKey::new`].
    pub fn join(&self, segments: impl Segments) -> Result<Self, KeyError> {
        Ok(Self(self.0.join(segments)?))
    }

    /// The same segments as a prefix.
    pub fn as_prefix(&self) -> &Prefix {
        &self.0
    }

    /// The segments from left to right.
    pub fn segments(&self) -> impl DoubleEndedIterator<Item = &str> + Clone {
        self.0.segments()
    }

    /// The first segment.
    pub fn first(&self) -> &str {
        self.segments().next().unwrap_or_default()
    }

    /// How many segments there are: at least one.
    #[expect(clippy::len_without_is_empty, reason = "no key is empty")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The segments joined by `/`, which none of them can hold.
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
