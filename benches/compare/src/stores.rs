//! The stores that were compiled in, by their names on the command line.

#[cfg(feature = "candystore")]
mod candystore;
#[cfg(feature = "fjall")]
mod fjall;
#[cfg(any(
    feature = "gdbm",
    feature = "kyoto",
    feature = "rocksdb",
    feature = "tdb",
    feature = "tkrzw"
))]
mod foreign;
#[cfg(feature = "gdbm")]
mod gdbm;
#[cfg(feature = "kyoto")]
mod kyoto;
#[cfg(feature = "lmdb")]
mod lmdb;
mod map;
mod mmapcache;
#[cfg(feature = "redb")]
mod redb;
#[cfg(feature = "rocksdb")]
mod rocksdb;
#[cfg(feature = "sqlite")]
mod sqlite;
#[cfg(feature = "tdb")]
mod tdb;
#[cfg(feature = "tkrzw")]
mod tkrzw;

#[cfg(test)]
mod tests;

use crate::store::{Error, Result, Store};

/// The map that every other store is measured against.
pub(crate) const LIMIT: &str = "hashbrown";

/// An operation on any store.
pub(crate) trait Visit {
    type Output;

    fn visit<S: Store>(self) -> Result<Self::Output>;
}

macro_rules! stores {
    ($($(#[$condition:meta])? $name:literal, $title:literal => $store:ty;)*) => {
        /// Every store: its name, and its title in tables.
        pub(crate) const ALL: &[(&str, &str)] = &[$($(#[$condition])? ($name, $title),)*];

        /// Runs a visitor on the store with a name.
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
    #[cfg(feature = "tdb")]
    "tdb", "TDB, robust mutexes" => tdb::Tdb;
    #[cfg(feature = "kyoto")]
    "kyoto", "Kyoto Cabinet HashDB" => kyoto::Kyoto;
    #[cfg(feature = "tkrzw")]
    "tkrzw", "tkrzw HashDBM" => tkrzw::Tkrzw;
    #[cfg(feature = "gdbm")]
    "gdbm", "gdbm" => gdbm::Gdbm;
    #[cfg(feature = "candystore")]
    "candystore", "candystore" => candystore::Candystore;
    #[cfg(feature = "redb")]
    "redb", "redb" => redb::Redb;
    "mmapcache-durable", "**mmapcache**, a sync each" => mmapcache::Durable;
    #[cfg(feature = "redb")]
    "redb-shared", "redb, `MultiWriter`, a sync each" => redb::Shared;
    #[cfg(feature = "fjall")]
    "fjall", "fjall" => fjall::Fjall;
    #[cfg(feature = "rocksdb")]
    "rocksdb", "RocksDB, no log" => rocksdb::Rocksdb;
    #[cfg(feature = "sqlite")]
    "sqlite", "SQLite, WAL" => sqlite::Sqlite;
}

/// Whether a store syncs each write: it is then compared with such stores only.
pub(crate) fn is_durable(name: &str) -> bool {
    ["mmapcache-durable", "redb-shared"].contains(&name)
}

/// Returns the title of a store.
pub(crate) fn title(name: &str) -> &str {
    ALL.iter()
        .find(|(own, _)| *own == name)
        .map_or(name, |(_, title)| title)
}
