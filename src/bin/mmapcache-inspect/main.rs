//! `mmapcache-inspect`: looks into caches, checks them, fills and empties them.
//!
//! Starts the command that was asked for and turns how it ended into an exit code. Knows no
//! command.

mod arguments;
mod bar;
mod batch;
mod change;
mod compact;
mod completions;
mod copy;
mod count;
mod culprit;
mod delete;
mod demo;
mod exact;
mod export;
mod failure;
mod get;
mod grid;
mod header;
mod headers;
mod heap;
mod hexdump;
mod histogram;
mod holder;
mod import;
mod intern;
mod json_line;
mod key;
mod labels;
mod list;
mod man;
mod map;
mod metrics;
mod moment;
mod output;
mod own;
mod paint;
mod place;
mod progress;
mod put;
mod record;
mod repair;
mod report;
mod site;
mod slot;
mod staged;
mod stats;
mod tally;
mod transfer;
mod tree;
mod units;
mod verdict;
mod verify;
mod watch;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match arguments::Arguments::parse().run() {
        Ok(verdict) => verdict.exit_code(),
        Err(failure) => {
            if !failure.is_broken_pipe() {
                output::complain(&failure);
            }
            failure.exit_code()
        }
    }
}
