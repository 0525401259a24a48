//! The key of an item in a storage, and the part of a storage that a dictionary shows.

use crate::codec::Format;
use crate::dict::key::{DictKey, KeyBuilder, KeyParts, SEPARATOR};
use crate::dict::key_part::KeyError;

/// The key of an item in a storage: the name of its format and its parts from the root, joined by
/// `/`. The text is built once for each operation, and is the key that the engine stores.
#[derive(Clone, Debug)]
pub(super) struct ItemKey {
    text: String,
    format: Format,
}

impl ItemKey {
    pub(super) fn format(&self) -> Format {
        self.format
    }

    /// Returns the parts from the root, joined by `/`.
    pub(super) fn path(&self) -> &str {
        &self.text[self.format.name().len() + SEPARATOR.len_utf8()..]
    }

    /// Returns the key that the engine stores.
    pub(super) fn as_bytes(&self) -> &[u8] {
        self.text.as_bytes()
    }

    /// Returns the parts from the root, for errors.
    pub(super) fn to_dict_key(&self) -> DictKey {
        DictKey::from_checked(self.path())
    }
}

/// The items below one prefix, in one format.
#[derive(Clone, Debug)]
pub(super) struct Scope {
    pub(super) format: Format,
    /// `None` for the root.
    pub(super) prefix: Option<DictKey>,
}

impl Scope {
    /// Returns the scope of all items in a format.
    pub(super) fn whole(format: Format) -> Self {
        Self {
            format,
            prefix: None,
        }
    }

    /// Returns the scope of the items whose keys begin with more parts.
    pub(super) fn below(&self, parts: &impl KeyParts) -> Result<Self, KeyError> {
        let prefix = match &self.prefix {
            Some(prefix) => Some(prefix.join(parts)?),
            None => DictKey::optional(parts)?,
        };
        Ok(Self {
            format: self.format,
            prefix,
        })
    }

    /// Returns the parts of the prefix joined by `/`; an empty text for the root.
    pub(super) fn prefix_text(&self) -> &str {
        self.prefix.as_ref().map_or("", DictKey::as_str)
    }

    /// Returns the parts of the prefix from left to right.
    pub(super) fn prefix_parts(&self) -> impl Iterator<Item = &str> {
        self.prefix.iter().flat_map(DictKey::parts)
    }

    /// Builds the key of the item whose key relative to this scope is `key`.
    pub(super) fn item_key(&self, key: &(impl KeyParts + ?Sized)) -> Result<ItemKey, KeyError> {
        let mut builder = KeyBuilder::new(&[self.format.name(), "/"], self.prefix_text());
        builder.append(key)?;
        let text = builder.into_key_text()?;
        debug_assert!(
            text.starts_with(&self.item_prefix()),
            "listings find it: {text:?}"
        );
        Ok(ItemKey {
            text,
            format: self.format,
        })
    }

    /// Returns what the text of every [`ItemKey`] in this scope begins with.
    pub(super) fn item_prefix(&self) -> String {
        let mut prefix = format!("{}{SEPARATOR}", self.format);
        if let Some(parts) = &self.prefix {
            prefix.push_str(parts.as_str());
            prefix.push(SEPARATOR);
        }
        prefix
    }
}
