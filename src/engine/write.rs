//! Changing a generation under the writer lock.

pub(crate) mod cache_words;
pub(crate) mod clear;
pub(crate) mod durability;
pub(crate) mod heap_end;
pub(crate) mod in_place;
pub(crate) mod limits;
pub(crate) mod mutator;
pub(crate) mod publish;
pub(crate) mod put;
pub(crate) mod session;
pub(crate) mod split;
pub(crate) mod writer;
