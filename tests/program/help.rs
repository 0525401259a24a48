//! Help: examples, completions and manual pages.

use std::process::Command;

use mmapcache::{Cache, Labels};

use crate::run::Workspace;

/// Returns the commands that `--help` lists.
pub(crate) fn commands(workspace: &Workspace) -> Vec<String> {
    let help = workspace.run(0, &["--help"]).stdout();
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

/// Returns the examples in the help of a command.
fn examples(workspace: &Workspace, command: &str) -> Vec<String> {
    let help = workspace.run(0, &[command, "--help"]).stdout();
    let (_, examples) = help.rsplit_once("Example: ").unwrap_or_default();
    // Help wraps long lines.
    let examples = examples.split_whitespace().collect::<Vec<_>>().join(" ");
    let typed = examples.split("mmapcache-inspect ").skip(1);
    typed
        .map(|rest| format!("mmapcache-inspect {rest}"))
        .collect()
}

/// Returns a directory with everything that the examples use.
fn with_all_inputs() -> Workspace {
    let workspace = Workspace::new();
    workspace.fill("cache", 50);
    workspace.fill("other", 60);
    workspace
        .open("cache")
        .put(b"key \x01", b"a value")
        .unwrap();
    workspace.open("cache").put(b"stale", b"").unwrap();
    workspace.open("cache").put(b"\xff\x01", b"").unwrap();
    for name in ["thumbnails", "docs"] {
        workspace
            .open(name)
            .put(b"photos/cat.jpg", b"small")
            .unwrap();
    }
    let pages = Cache::open(workspace.path("pages")).unwrap();
    pages.insert("page", "text").unwrap();
    let labels = Labels::open(workspace.path("labels")).unwrap();
    labels.get_or_intern("r/rust").unwrap();
    std::fs::create_dir(workspace.path("tree")).unwrap();
    std::fs::write(workspace.path("tree/file"), b"content").unwrap();
    workspace
}

// Also asserts that every command has an example.
#[test]
fn command_examples_all_run() {
    let workspace = Workspace::new();
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_mmapcache-inspect"));
    let path = std::env::var("PATH").unwrap();
    let path = format!("{}:{path}", program.parent().unwrap().display());
    for command in commands(&workspace) {
        let examples = examples(&workspace, &command);
        assert!(!examples.is_empty(), "{command}: no example");
        for example in examples {
            let workspace = with_all_inputs();
            let output = Command::new("sh")
                .args(["-c", &example])
                .env("PATH", &path)
                .current_dir(workspace.0.path())
                .output()
                .unwrap();
            assert!(output.status.success(), "{example}: {output:?}");
        }
    }
}

#[test]
fn completions_include_every_command() {
    let workspace = Workspace::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = workspace.run(0, &["completions", shell]).stdout();
        for command in commands(&workspace) {
            assert!(script.contains(&command), "{shell}: {command}");
        }
        assert!(script.contains("heap-path"), "{shell}");
    }
    workspace.run(2, &["completions", "no-such-shell"]);
}

/// Returns what bash offers as completions of the last word.
fn complete(workspace: &Workspace, words: &[&str]) -> Vec<String> {
    let script = workspace.run(0, &["completions", "bash"]).stdout();
    std::fs::write(workspace.path("completions.bash"), script).unwrap();
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
        .current_dir(workspace.0.path())
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
    let workspace = Workspace::new();
    assert_eq!(complete(&workspace, &["ver"]), ["verify"]);
    assert_eq!(complete(&workspace, &["--heap"]), ["--heap-path"]);
    assert_eq!(complete(&workspace, &["stats", "--fu"]), ["--full"]);
    assert_eq!(
        complete(&workspace, &["stats", "cache", "--fu"]),
        ["--full"]
    );
    assert_eq!(
        complete(&workspace, &["verify", "cache", "--level", "s"]),
        ["slots"]
    );
    for command in commands(&workspace) {
        let help = workspace.run(0, &[&command, "--help"]).stdout();
        let offered = complete(&workspace, &[&command, "--"]);
        let words = help.split([' ', '\n', ',']);
        let named = words.filter(|word| word.starts_with("--") && word.len() > 2);
        // Only options at the start of a line, not those that a text mentions.
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
    let workspace = Workspace::new();
    for command in commands(&workspace).iter().map(String::as_str).chain([""]) {
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
    let workspace = Workspace::new();
    for command in commands(&workspace) {
        let help = workspace.run(0, &[&command, "--help"]).stdout();
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
    let workspace = Workspace::new();
    workspace.run(0, &["man", "--dir", "deep/man1"]);
    for command in commands(&workspace) {
        let name = format!("deep/man1/mmapcache-inspect-{command}.1");
        let page = std::fs::read_to_string(workspace.path(&name)).unwrap();
        assert!(
            page.contains(".SH SYNOPSIS") && page.contains("Example"),
            "{page}"
        );
        let shown = workspace.run(0, &["man", &command]).stdout();
        let head = format!(".TH mmapcache-inspect-{command} 1");
        let version = concat!("\"mmapcache-inspect ", env!("CARGO_PKG_VERSION"), "\"");
        for text in [&shown, &page] {
            let mut lines = text.lines();
            let found = lines.find(|line| line.starts_with(&head)).unwrap();
            assert!(found.contains(version), "{found}");
        }
    }
    assert!(workspace.path("deep/man1/mmapcache-inspect.1").exists());
    assert!(workspace.run(0, &["man"]).stdout().contains(".SH NAME"));
    workspace.run(2, &["man", "no-such-command"]);
}

#[test]
fn tour_shows_each_commands_output() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/inspect.md");
    let page = std::fs::read_to_string(page).unwrap();
    let shown: Vec<_> = page
        .lines()
        .filter_map(|line| line.strip_prefix("$ "))
        .collect();
    // The README shows `demo`.
    for command in commands(&Workspace::new())
        .iter()
        .filter(|&name| name != "demo")
    {
        let is_shown = shown
            .iter()
            .any(|line| line.contains(&format!("mmapcache-inspect {command} ")));
        assert!(is_shown, "docs/inspect.md lacks `{command}`");
    }
}
