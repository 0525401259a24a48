//! The stores that were compiled in, by the names that the command line uses.

#[cfg(feature = "lmdb")]
mod lmdb;
mod map;
mod mmapcache;

#[cfg(test)]
mod tests;

use crate::store::{Error, Result, Store};

/// The map that every other store is measured against.
pub(crate) const LIMIT: &str = "hashbrown";

/// Something that can be done with any store.
pub(crate) trait Visit {
    type Output;

    fn visit<S: Store>(self) -> Result<Self::Output>;
}

macro_rules! stores {
    ($($(#[$condition:meta])? $name:literal, $title:literal => $store:ty;)*) => {
        /// Every store: its name, how tables call it.
        pub(crate) const ALL: &[(&str, &str)] = &[$($(#[$condition])? ($name, $title),)*];

        /// Does something with the store of a name.
        pub(crate) fn visit<V: Visit>(name: &str, visitor: V) -> Result<V::Output> {
            match name {
                $($(#[$condition])? $name => visitor.visit::<$store>(),)*
                _ => Err(Error::Failed(format!("no store `{name}` was compiled in"))),
            }
        }
    };
}

stores! {
    "hashbrown", "hashbrown (limit)" => map::Map;
    "mmapcache", "**mmapcache**, a lock each" => mmapcache::Single;
    "mmapcache-writer", "**mmapcache**, in a `Writer`" => mmapcache::Held;
    "mmapcache-exclusive", "**mmapcache**, exclusive" => mmapcache::Exclusive;
    #[cfg(feature = "lmdb")]
    "lmdb", "LMDB" => lmdb::Lmdb;
}

/// How tables call a store.
pub(crate) fn title(name: &str) -> &str {
    ALL.iter()
        .find(|(own, _)| *own == name)
        .map_or(name, |(_, title)| title)
}
