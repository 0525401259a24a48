//! Where a dictionary's view begins: any number of segments, or none.
//!
//! Knows how segments are joined in one text, which no segment's own character can confuse.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use crate::dict::error::KeyError;
use crate::dict::segment;
use crate::dict::segments::Segments;

/// Stands between two segments. It is outside their alphabet.
pub(super) const SEPARATOR: char = '/';

/// The most segments that a key may have: trees of them are walked by recursion.
const MAX_SEGMENTS: usize = 255;

// The longest key fits into one of the engine's, with what stores put in front.
const _: () = assert!(16 + MAX_SEGMENTS * (segment::MAX_SEGMENT + 1) <= u16::MAX as usize);

/// Any number of safe segments, or none: the place in the tree where a
/// [view](crate::dict::Dict::subdict) begins.
///
/// Ordered segment by segment. A clone costs a count.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Prefix(Arc<str>);

impl Prefix {
    /// The prefix of these segments, from left to right.
    ///
    /// # Errors
    ///
    /// [`KeyError`], where one of them is no safe segment, and where there are more than 255.
    pub fn new(segments: impl Segments) -> Result<Self, KeyError> {
        segments.to_prefix()
    }

    /// The prefix of an iterator's segments.
    ///
    /// # Errors
    ///
    /// As [`Prefix::new`].
    pub fn from_segments<S: AsRef<str>>(
        segments: impl IntoIterator<Item = S>,
    ) -> Result<Self, KeyError> {
        let mut joined = Joined::default();
        for segment in segments {
            joined.push(segment.as_ref())?;
        }
        joined.into_prefix()
    }

    /// This prefix with more segments behind it.
    ///
    /// # Errors
    ///
    /// As [`Prefix::new`].
    pub fn join(&self, segments: impl Segments) -> Result<Self, KeyError> {
        if self.is_empty() {
            return segments.to_prefix();
        }
        self.joined(&segments)
    }

    pub(super) fn joined<S: Segments + ?Sized>(&self, segments: &S) -> Result<Self, KeyError> {
        let mut joined = Joined::default();
        // Most keys fit, so that their text is not moved as it grows.
        joined.text.reserve(self.0.len() + 64);
        joined.text.push_str(&self.0);
        segments.each(&mut |segment| joined.push(segment))?;
        joined.into_prefix()
    }

    /// Segments joined by [`SEPARATOR`] that are known to be safe.
    pub(super) fn trusted(text: &str) -> Self {
        Self(text.into())
    }

    /// Reads segments joined by [`SEPARATOR`], as [`Prefix::as_str`] gave them.
    pub(super) fn parse(text: &str) -> Result<Self, KeyError> {
        for (number, segment) in text.split(SEPARATOR).enumerate() {
            segment::check(number, segment)?;
        }
        Self(text.into()).checked()
    }

    /// This prefix, if it is no longer than one may be.
    fn checked(self) -> Result<Self, KeyError> {
        let segments = self.len();
        if segments > MAX_SEGMENTS {
            return Err(KeyError::ManySegments { segments });
        }
        Ok(self)
    }

    /// The segments from left to right.
    pub fn segments(&self) -> impl DoubleEndedIterator<Item = &str> + Clone {
        let all = self.0.split(SEPARATOR);
        all.filter(|segment| !segment.is_empty())
    }

    /// How many segments there are.
    pub fn len(&self) -> usize {
        self.segments().count()
    }

    /// Whether there is no segment.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The segments joined by `/`, which none of them can hold; empty for no segment.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// No segment.
impl Default for Prefix {
    fn default() -> Self {
        Self("".into())
    }
}

impl PartialOrd for Prefix {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Prefix {
    fn cmp(&self, other: &Self) -> Ordering {
        self.segments().cmp(other.segments())
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

/// Segments that are being joined.
#[derive(Default)]
struct Joined {
    text: String,
    /// Those that were added, for what errors say.
    count: usize,
}

impl Joined {
    fn push(&mut self, segment: &str) -> Result<(), KeyError> {
        segment::check(self.count, segment)?;
        if !self.text.is_empty() {
            self.text.push(SEPARATOR);
        }
        self.text.push_str(segment);
        self.count += 1;
        Ok(())
    }

    fn into_prefix(self) -> Result<Prefix, KeyError> {
        Prefix(self.text.into()).checked()
    }
}
