//! The commands of `mmapcache-inspect` that do something: put, delete, compact, copy, check, list in
//! order, hand entries over, and explain themselves. Judged by what they print and how they exit.
//!
//! Knows the cache only through the library's public interface, and the program only from outside.
#![cfg(feature = "cli")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod change;
mod check;
mod copies;
mod help;
mod json;
mod labels;
mod listing;
mod losses;
mod progress;
mod run;
mod transfer;
