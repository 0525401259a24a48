//! The commands of `mmapcache-inspect` that write, copy, verify and list, and its help: what they
//! print, and their exit codes.
#![cfg(feature = "cli")]
#![expect(clippy::unwrap_used, reason = "a test that cannot continue has failed")]

mod copy;
mod copy_entries;
mod dropped_entries;
mod expiring;
mod groups_and_eviction;
mod help;
mod json;
mod labels;
mod list;
mod portable_entries;
mod progress;
mod put_delete_compact;
mod run;
mod verify;
