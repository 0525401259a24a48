//! `completions`: what a shell needs to complete this program's command lines.

use clap_complete::Shell;

use crate::failure::Failure;
use crate::output::Output;
use crate::verdict::Verdict;

/// Which shell.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    shell: Shell,
}

pub(crate) fn run(mut program: clap::Command, arguments: &Arguments) -> Result<Verdict, Failure> {
    let name = program.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut program, name, &mut script);
    let mut out = Output::new();
    out.with(|out| out.write_all(&script))?;
    out.end()?;
    Ok(Verdict::Fine)
}
