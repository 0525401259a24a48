//! The index file and the roster: an extendible hash table over mapped words.
//!
//! [`table`] is the directory over [`region`]s of slots, [`header`] has the words that writers
//! change, [`redo`] the record of one change that is under way, and [`roster`] lists the slots that
//! have an entry. May call `os` and everything below it.

pub(crate) mod attempt;
pub(crate) mod group;
pub(crate) mod header;
pub(crate) mod redo;
pub(crate) mod region;
pub(crate) mod roster;
pub(crate) mod table;
