//! The commands of `mmapcache-inspect` that show a cache to people and programs from afar: a page,
//! a view that moves, figures for a collector. Judged by what they print and write.
#![cfg(feature = "cli")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod browser;
mod metrics;
mod program;
mod report;
mod terminal;
mod watch;
