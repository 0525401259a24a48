//! The stores that were compiled in, by their names on the command line.

#[cfg(feature = "candystore")]
mod candystore;
#[cfg(feature = "fjall")]
mod fjall;
mod floor;
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
    "floor-copy", "memcpy out of a mapping (floor)" => floor::Copy;
    "floor-sum", "the same, and CRC-32 (floor)" => floor::CopyAndSum;
    "mmapcache", "**mmapcache**, a lock each" => mmapcache::Single;
    "mmapcache-writer", "**mmapcache**, in a `Writer`" => mmapcache::Held;
    "mmapcache-exclusive", "**mmapcache**, exclusive" => mmapcache::Exclusive;
    "mmapcache-ref", "**mmapcache**, `get_ref`, verified" => mmapcache::Ref;
    "mmapcache-ref-unverified", "**mmapcache**, `get_ref`, not verified" => mmapcache::RefUnverified;
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
    #[cfg(feature = "lmdb")]
    "lmdb-sync", "LMDB, its default: a sync each" => lmdb::Synced;
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
    ["mmapcache-durable", "lmdb-sync", "redb-shared"].contains(&name)
}

/// Whether a row shows what a copy costs, so that only values from 16 KiB on need it.
pub(crate) fn is_for_large_values(name: &str) -> bool {
    name.starts_with("floor-") || name.starts_with("mmapcache-ref")
}

/// Whether a store takes values of a length: candystore's have less than 64 KiB.
pub(crate) fn takes(name: &str, value: usize) -> bool {
    name != "candystore" || value < 65_000
}

/// Returns the title of a store.
pub(crate) fn title(name: &str) -> &str {
    ALL.iter()
        .find(|(own, _)| *own == name)
        .map_or(name, |(_, title)| title)
}
