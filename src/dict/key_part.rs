//! The parts of a key: their alphabet, their length, and why a text is not a key.

/// The longest part, in bytes.
pub(super) const MAX_PART: usize = 253;

/// The characters that a part may have besides ASCII letters and digits.
const PUNCTUATION: &str = "()_-~.=";

/// Whether a part may have a byte. A table, because a `match` takes three times as long: building a
/// key of two parts takes 64 ns with it and 113 ns without.
const SAFE: [bool; 256] = {
    let mut safe = [false; 256];
    let mut byte = 0;
    while byte < safe.len() {
        safe[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let mut next = 0;
    while next < PUNCTUATION.len() {
        safe[PUNCTUATION.as_bytes()[next] as usize] = true;
        next += 1;
    }
    safe
};

/// Why a text, or a sequence of texts, is not a key.
///
/// Parts are counted from 0, and so are the characters of a part.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The key has no part.
    #[error("the key is empty; give it at least one part")]
    NoPart,
    /// A part has no character.
    #[error("part {index} of the key is empty; remove it or give it a name")]
    EmptyPart {
        /// The number of the part.
        index: usize,
    },
    /// A part has a character that is not safe.
    #[error(
        "part {index} of the key, {part:?}, has the unsafe character {character:?} at {position}; use only ASCII letters, digits and ()_-~.= (see `replace_unsafe_chars`)"
    )]
    UnsafeChar {
        /// The number of the part.
        index: usize,
        /// The text of the part.
        part: String,
        /// The number of the character.
        position: usize,
        /// The character.
        character: char,
    },
    /// A part is `.` or `..`, which have another meaning in paths.
    #[error("part {index} of the key is {part:?}, which is reserved for paths; use another name")]
    Dots {
        /// The number of the part.
        index: usize,
        /// The text of the part.
        part: String,
    },
    /// A part has more than 253 bytes.
    #[error("part {index} of the key has {len} bytes, the limit is 253; shorten or hash it")]
    LongPart {
        /// The number of the part.
        index: usize,
        /// Its length in bytes.
        len: usize,
    },
    /// The key has more than 255 parts.
    #[error("the key has {parts} parts, the limit is 255; join some of them")]
    TooManyParts {
        /// How many parts it has.
        parts: usize,
    },
}

/// Returns the characters that a part may have, letters first.
pub fn safe_chars() -> impl Iterator<Item = char> {
    ('a'..='z')
        .chain('A'..='Z')
        .chain('0'..='9')
        .chain(PUNCTUATION.chars())
}

/// Returns whether a part may have this character: ASCII letters, digits and `( ) _ - ~ . =`.
pub fn is_safe_char(character: char) -> bool {
    u8::try_from(character).is_ok_and(|byte| SAFE[usize::from(byte)])
}

/// Replaces every character that a part may not have.
///
/// The result may still not be a part: if it is empty, too long, `.` or `..`, or if `replacement`
/// has unsafe characters.
///
/// ```
/// assert_eq!(mmapcache::dict::replace_unsafe_chars("a b/c", "_"), "a_b_c");
/// ```
pub fn replace_unsafe_chars(text: &str, replacement: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        if is_safe_char(character) {
            safe.push(character);
        } else {
            safe.push_str(replacement);
        }
    }
    safe
}

/// Checks a part. `index` is its number, for the error.
pub(super) fn check(index: usize, part: &str) -> Result<(), KeyError> {
    if part.is_empty() {
        return Err(KeyError::EmptyPart { index });
    }
    let is_safe = part.bytes().all(|byte| SAFE[usize::from(byte)]);
    let mut characters = part.chars().enumerate();
    if !is_safe && let Some((position, character)) = characters.find(|&(_, it)| !is_safe_char(it)) {
        return Err(KeyError::UnsafeChar {
            index,
            part: part.to_owned(),
            position,
            character,
        });
    }
    if part == "." || part == ".." {
        return Err(KeyError::Dots {
            index,
            part: part.to_owned(),
        });
    }
    if part.len() > MAX_PART {
        return Err(KeyError::LongPart {
            index,
            len: part.len(),
        });
    }
    Ok(())
}
