//! `mmapcache-inspect`: reads, checks, fills and backs up caches.
//!
//! Runs a command and converts its result to an exit code.

mod arguments;
mod atomic_file;
mod bar;
mod batch;
mod cache_figures;
mod cache_file_names;
mod compact;
mod completions;
mod copy;
mod copy_entries;
mod damaged_key;
mod delete;
mod demo;
mod either_cache;
mod entry_state;
mod entry_terms;
mod evict;
mod exit_status;
mod expire;
mod export;
mod failure;
mod get;
mod grid;
mod header;
mod header_fields;
mod heap;
mod heap_address;
mod hexdump;
mod histogram;
mod import;
mod import_counts;
mod import_labels;
mod index_scan;
mod invalidate;
mod json_line;
mod json_number;
mod key;
mod labels;
mod list;
mod location;
mod lock_status;
mod man;
mod map;
mod metrics;
mod output;
mod portable_entry;
mod progress;
mod put;
mod record;
mod repair;
mod report;
mod slot;
mod stats;
mod terminal;
mod timestamp;
mod tree;
mod units;
mod upgrade;
mod value_histogram;
mod verify;
mod watch;
mod write_options;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match arguments::Arguments::parse().run() {
        Ok(status) => status.exit_code(),
        Err(failure) => {
            if !failure.is_broken_pipe() {
                output::report_error(&failure);
            }
            failure.exit_code()
        }
    }
}
