//! `man`: the manual pages of this program, made from the texts of `--help`.

use std::path::{Path, PathBuf};

use clap::Command;
use clap_mangen::Man;

use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use crate::output::Output;

/// The pages, and where they go.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Print the page of this command; without it, the page of the program
    #[arg(conflicts_with = "dir")]
    command: Option<String>,
    /// Write all pages into this directory; create it if it does not exist
    #[arg(long)]
    dir: Option<PathBuf>,
}

pub(crate) fn run(program: Command, arguments: &Arguments) -> Result<ExitStatus, Failure> {
    if let Some(dir) = &arguments.dir {
        write_all(program, dir)?;
        return Ok(ExitStatus::Success);
    }
    let page = match &arguments.command {
        None => text(program)?,
        Some(name) => text(page_of(program, name)?)?,
    };
    let mut out = Output::new();
    out.with(|out| out.write_all(&page))?;
    out.end()?;
    Ok(ExitStatus::Success)
}

/// Writes a page for the program and one for each of its commands.
fn write_all(mut program: Command, dir: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(dir).map_err(Failure::file(dir, "create the directory"))?;
    program.build();
    let has_page = |one: &&Command| !one.is_hide_set() && one.get_name() != "help";
    let commands = program.get_subcommands().filter(has_page);
    for command in commands.chain([&program]) {
        let name = command.get_display_name().unwrap_or(command.get_name());
        let path = dir.join(format!("{name}.1"));
        let page = text(command.clone())?;
        std::fs::write(&path, page).map_err(Failure::file(&path, "write the page"))?;
    }
    Ok(())
}

/// Returns the page of a command, with the program's name and version in its footer.
fn text(command: Command) -> Result<Vec<u8>, Failure> {
    let source = concat!("mmapcache-inspect ", env!("CARGO_PKG_VERSION"));
    let mut text = Vec::new();
    Man::new(command)
        .source(source)
        .render(&mut text)
        .map_err(Failure::file(Path::new("the page"), "write it"))?;
    Ok(text)
}

/// Returns the command with a name.
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
