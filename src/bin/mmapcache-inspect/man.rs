//! `man`: this program's manual pages, made of what `--help` says.

use std::path::{Path, PathBuf};

use clap::Command;
use clap_mangen::Man;

use crate::failure::Failure;
use crate::output::Output;
use crate::verdict::Verdict;

/// Which pages, and where to.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The page of this command; by default the program's
    #[arg(conflicts_with = "dir")]
    command: Option<String>,
    /// Write all pages into this directory, which is made if it is not there
    #[arg(long)]
    dir: Option<PathBuf>,
}

pub(crate) fn run(program: Command, arguments: &Arguments) -> Result<Verdict, Failure> {
    if let Some(dir) = &arguments.dir {
        std::fs::create_dir_all(dir).map_err(Failure::file(dir, "create the directory"))?;
        clap_mangen::generate_to(program, dir).map_err(Failure::file(dir, "write the pages"))?;
        return Ok(Verdict::Fine);
    }
    let page = match &arguments.command {
        None => Man::new(program),
        Some(name) => Man::new(page_of(program, name)?),
    };
    let mut text = Vec::new();
    page.render(&mut text)
        .map_err(Failure::file(Path::new("the page"), "write it"))?;
    let mut out = Output::new();
    out.with(|out| out.write_all(&text))?;
    out.end()?;
    Ok(Verdict::Fine)
}

/// The command of a name, as its page names it.
fn page_of(mut program: Command, name: &str) -> Result<Command, Failure> {
    program.build();
    let found = program
        .get_subcommands()
        .find(|found| found.get_name() == name);
    match found {
        Some(found) => Ok(found.clone()),
        None => Err(Failure::Request(format!("{name}: no such command"))),
    }
}
