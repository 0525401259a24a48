//! `completions`: what a shell needs to complete this program's command lines.

use clap_complete::Shell;

use crate::failure::Failure;
use crate::output::Output;
use crate::verdict::Verdict;

/// Which shell.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Which shell the script is for
    shell: Shell,
}

pub(crate) fn run(mut program: clap::Command, arguments: &Arguments) -> Result<Verdict, Failure> {
    let name = program.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut program, &name, &mut script);
    if arguments.shell == Shell::Bash {
        script = with_options_reached(&script, &name);
    }
    let mut out = Output::new();
    out.with(|out| out.write_all(&script))?;
    out.end()?;
    Ok(Verdict::Fine)
}

/// The script for bash, in which the options of every command are reached.
///
/// For a name with a hyphen, clap_complete 4.6 sets `cmd` to `mmapcache__inspect__subcmd__stats` and
/// then looks for `mmapcache__subcmd__inspect__subcmd__stats`, so that no option is ever completed
/// (<https://github.com/clap-rs/clap/issues/6421>). The one word is replaced; a script without it
/// stays as it is.
fn with_options_reached(script: &[u8], name: &str) -> Vec<u8> {
    let sought = format!("{}__subcmd__", name.replace('-', "__subcmd__"));
    let set = format!("{}__subcmd__", name.replace('-', "__"));
    let script = String::from_utf8_lossy(script);
    script.replace(&sought, &set).into_bytes()
}
