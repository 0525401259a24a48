//! Runs programs, and prints their command lines.

use std::process::{Command, Stdio};

/// A task's result: an error says what went wrong, for a person.
pub(crate) type Result<T = ()> = std::result::Result<T, String>;

/// Returns a command of cargo's, its arguments separated by spaces. A first one like `+nightly`
/// names a toolchain.
pub(crate) fn cargo(arguments: &str) -> Command {
    program("cargo", arguments)
}

/// Runs cargo with arguments as [`cargo`] takes them.
pub(crate) fn run_cargo(arguments: &str) -> Result {
    run(&mut cargo(arguments))
}

pub(crate) fn program(name: &str, arguments: &str) -> Command {
    let mut command = Command::new(name);
    command.args(arguments.split_whitespace());
    command
}

/// Prints a command and runs it. Its failure is an error.
pub(crate) fn run(command: &mut Command) -> Result {
    let line = line(command);
    eprintln!("$ {line}");
    let status = command
        .status()
        .map_err(|error| format!("{line}: {error}"))?;
    status
        .success()
        .then_some(())
        .ok_or_else(|| format!("`{line}` failed ({status})"))
}

/// Returns whether a command succeeds; what it prints is dropped.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// Returns what a command prints to its standard output.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let line = line(command);
    let output = command.stderr(Stdio::inherit()).output();
    let output = output.map_err(|error| format!("{line}: {error}"))?;
    if !output.status.success() {
        return Err(format!("`{line}` failed ({})", output.status));
    }
    String::from_utf8(output.stdout).map_err(|error| format!("{line}: {error}"))
}

/// Returns a command as a shell would take it, with the variables that it sets.
fn line(command: &Command) -> String {
    let set = command.get_envs().filter_map(|(name, value)| {
        let value = value?.to_string_lossy().into_owned();
        let quote = if value.contains(' ') { "\"" } else { "" };
        Some(format!("{}={quote}{value}{quote}", name.to_string_lossy()))
    });
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words = words.map(|word| word.to_string_lossy().into_owned());
    set.chain(words).collect::<Vec<_>>().join(" ")
}
