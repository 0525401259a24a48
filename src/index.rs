//! The index file and the roster: an extendible hash table over mapped words.
//!
//! [`table`] is the directory over [`region`]s of slots, [`header`] has the words that writers
//! change, [`roster`] lists the slots that have an entry. May call `os` and everything below it.

pub(crate) mod group;
pub(crate) mod header;
pub(crate) mod region;
pub(crate) mod roster;
pub(crate) mod table;
