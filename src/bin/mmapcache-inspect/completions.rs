//! `completions`: scripts for the completion of command lines in shells.

use clap_complete::Shell;

use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use crate::output::Output;

/// The shell.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The shell that the script is for
    shell: Shell,
}

pub(crate) fn run(
    mut program: clap::Command,
    arguments: &Arguments,
) -> Result<ExitStatus, Failure> {
    let name = program.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut program, &name, &mut script);
    if arguments.shell == Shell::Bash {
        script = with_options_completed(&script, &name);
    }
    let mut out = Output::new();
    out.with(|out| out.write_all(&script))?;
    out.end()?;
    Ok(ExitStatus::Success)
}

/// Returns the script for bash, corrected so that it completes the options of commands.
///
/// For a name with a hyphen, clap_complete 4.6 sets `cmd` to `mmapcache__inspect__subcmd__stats` and
/// then looks for `mmapcache__subcmd__inspect__subcmd__stats`, so that no option is ever completed
/// (<https://github.com/clap-rs/clap/issues/6421>). This replaces the wrong name; it does not
/// change a script without it.
fn with_options_completed(script: &[u8], name: &str) -> Vec<u8> {
    let wrong = format!("{}__subcmd__", name.replace('-', "__subcmd__"));
    let right = format!("{}__subcmd__", name.replace('-', "__"));
    let script = String::from_utf8_lossy(script);
    script.replace(&wrong, &right).into_bytes()
}
