//! The commands of `mmapcache-inspect` that show a cache as a whole: a page, a live view, metrics
//! for a collector. Checks what they print and write.
#![cfg(feature = "cli")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod browser;
mod metrics;
mod program;
mod report;
mod terminal;
mod watch;
