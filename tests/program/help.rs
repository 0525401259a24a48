//! What the program says of itself: examples that run, completions, manual pages.

use std::process::Command;

use mmapcache::Labels;

use crate::run::Desk;

/// The commands that `--help` names.
pub(crate) fn commands(desk: &Desk) -> Vec<String> {
    let help = desk.run(0, &["--help"]).out();
    let (_, listed) = help.split_once("Commands:\n").unwrap();
    let (listed, _) = listed.split_once("\n\n").unwrap();
    let names = listed.lines().filter_map(|line| {
        let name = line.strip_prefix("  ")?.split(' ').next()?;
        (!name.is_empty() && name != "help").then(|| name.to_owned())
    });
    let names: Vec<_> = names.collect();
    assert!(names.len() > 10, "{names:?}");
    names
}

/// The lines of a command's help that can be typed.
fn examples(desk: &Desk, command: &str) -> Vec<String> {
    let help = desk.run(0, &[command, "--help"]).out();
    let (_, examples) = help.rsplit_once("Example: ").unwrap_or_default();
    // As one line: help wraps what is long.
    let examples = examples.split_whitespace().collect::<Vec<_>>().join(" ");
    let typed = examples.split("mmapcache-inspect ").skip(1);
    typed
        .map(|rest| format!("mmapcache-inspect {rest}"))
        .collect()
}

/// All that the examples name.
fn furnished() -> Desk {
    let desk = Desk::new();
    desk.fill("cache", 50);
    desk.fill("other", 60);
    desk.open("cache").put(b"key \x01", b"a value").unwrap();
    desk.open("cache").put(b"stale", b"").unwrap();
    desk.open("cache").put(b"\xff\x01", b"").unwrap();
    for name in ["thumbnails", "docs"] {
        desk.open(name).put(b"photos/cat.jpg", b"small").unwrap();
    }
    let labels = Labels::open(desk.path("labels")).unwrap();
    labels.get_or_intern("r/rust").unwrap();
    std::fs::create_dir(desk.path("tree")).unwrap();
    std::fs::write(desk.path("tree/file"), b"content").unwrap();
    desk
}

// Every command has an example, and each of them runs.
#[test]
fn command_examples_all_run() {
    let desk = Desk::new();
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_mmapcache-inspect"));
    let path = std::env::var("PATH").unwrap();
    let path = format!("{}:{path}", program.parent().unwrap().display());
    for command in commands(&desk) {
        let examples = examples(&desk, &command);
        assert!(!examples.is_empty(), "{command}: no example");
        for example in examples {
            let desk = furnished();
            let output = Command::new("sh")
                .args(["-c", &example])
                .env("PATH", &path)
                .current_dir(desk.0.path())
                .output()
                .unwrap();
            assert!(output.status.success(), "{example}: {output:?}");
        }
    }
}

#[test]
fn completions_know_every_command() {
    let desk = Desk::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = desk.run(0, &["completions", shell]).out();
        for command in commands(&desk) {
            assert!(script.contains(&command), "{shell}: {command}");
        }
        assert!(script.contains("heap-path"), "{shell}");
    }
    desk.run(2, &["completions", "no-such-shell"]);
}

/// What bash offers for the last of some words.
fn complete(desk: &Desk, words: &[&str]) -> Vec<String> {
    let script = desk.run(0, &["completions", "bash"]).out();
    std::fs::write(desk.path("completions.bash"), script).unwrap();
    let typed = r#"
        . ./completions.bash
        function=$(complete -p mmapcache-inspect | sed 's/.*-F \([^ ]*\).*/\1/')
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
        $function "$1" "${@: -1}" "${@: -2:1}"
        printf '%s\n' "${COMPREPLY[@]}""#;
    let mut bash = Command::new("bash");
    let completed = bash
        .args(["-c", typed, "bash", "mmapcache-inspect"])
        .args(words)
        .current_dir(desk.0.path())
        .output()
        .unwrap();
    assert!(
        completed.status.success() && completed.stderr.is_empty(),
        "{completed:?}"
    );
    let lines = String::from_utf8(completed.stdout).unwrap();
    lines.lines().map(str::to_owned).collect()
}

#[test]
fn bash_completes_commands_and_options() {
    let desk = Desk::new();
    assert_eq!(complete(&desk, &["ver"]), ["verify"]);
    assert_eq!(complete(&desk, &["--heap"]), ["--heap-path"]);
    assert_eq!(complete(&desk, &["stats", "--fu"]), ["--full"]);
    assert_eq!(complete(&desk, &["stats", "cache", "--fu"]), ["--full"]);
    assert_eq!(
        complete(&desk, &["verify", "cache", "--level", "s"]),
        ["slots"]
    );
    for command in commands(&desk) {
        let help = desk.run(0, &[&command, "--help"]).out();
        let offered = complete(&desk, &[&command, "--"]);
        let words = help.split([' ', '\n', ',']);
        let named = words.filter(|word| word.starts_with("--") && word.len() > 2);
        // Those that the options' own lines begin with, not those that texts mention.
        let lines: Vec<_> = help.lines().map(str::trim_start).collect();
        let begins = |word: &&str| {
            lines
                .iter()
                .any(|line| line.starts_with(word) || line.contains(&format!(", {word}")))
        };
        for option in named.filter(begins) {
            assert!(
                offered.iter().any(|one| one == option),
                "{command}: {option} in {offered:?}"
            );
        }
    }
}

#[test]
fn help_fits_the_terminal() {
    let desk = Desk::new();
    for command in commands(&desk).iter().map(String::as_str).chain([""]) {
        let arguments: Vec<_> = [command, "--help"]
            .into_iter()
            .filter(|it| !it.is_empty())
            .collect();
        let output = Command::new(env!("CARGO_BIN_EXE_mmapcache-inspect"))
            .args(&arguments)
            .env("COLUMNS", "60")
            .output()
            .unwrap();
        let help = String::from_utf8(output.stdout).unwrap();
        for line in help.lines().filter(|line| !line.starts_with("Usage: ")) {
            assert!(line.chars().count() <= 60, "{command}: {line}");
        }
    }
}

#[test]
fn arguments_are_all_described() {
    let desk = Desk::new();
    for command in commands(&desk) {
        let help = desk.run(0, &[&command, "--help"]).out();
        let Some((_, arguments)) = help.split_once("\nArguments:\n") else {
            continue;
        };
        let (arguments, _) = arguments.split_once("\nOptions:\n").unwrap();
        let lines: Vec<_> = arguments.lines().collect();
        let is_name = |line: &str| line.starts_with("  <") || line.starts_with("  [");
        for (at, line) in lines.iter().enumerate().filter(|(_, line)| is_name(line)) {
            let beside = line.trim().contains("  ");
            let text = |next: &&str| next.starts_with("      ") && !next.trim().is_empty();
            let below = lines.get(at + 1).is_some_and(text);
            assert!(beside || below, "{command}: nothing on {line}");
        }
    }
}

#[test]
fn commands_all_have_manual_pages() {
    let desk = Desk::new();
    desk.run(0, &["man", "--dir", "deep/man1"]);
    for command in commands(&desk) {
        let name = format!("deep/man1/mmapcache-inspect-{command}.1");
        let page = std::fs::read_to_string(desk.path(&name)).unwrap();
        assert!(
            page.contains(".SH SYNOPSIS") && page.contains("Example"),
            "{page}"
        );
        let shown = desk.run(0, &["man", &command]).out();
        let head = format!(".TH mmapcache-inspect-{command} 1");
        let version = concat!("\"mmapcache-inspect ", env!("CARGO_PKG_VERSION"), "\"");
        for text in [&shown, &page] {
            let mut lines = text.lines();
            let found = lines.find(|line| line.starts_with(&head)).unwrap();
            assert!(found.contains(version), "{found}");
        }
    }
    assert!(desk.path("deep/man1/mmapcache-inspect.1").exists());
    assert!(desk.run(0, &["man"]).out().contains(".SH NAME"));
    desk.run(2, &["man", "no-such-command"]);
}

#[test]
fn tour_shows_each_commands_output() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/inspect.md");
    let page = std::fs::read_to_string(page).unwrap();
    let shown: Vec<_> = page
        .lines()
        .filter_map(|line| line.strip_prefix("$ "))
        .collect();
    // The README begins with a demonstration.
    for command in commands(&Desk::new()).iter().filter(|&name| name != "demo") {
        let is_shown = shown
            .iter()
            .any(|line| line.contains(&format!("mmapcache-inspect {command} ")));
        assert!(is_shown, "docs/inspect.md lacks `{command}`");
    }
}
