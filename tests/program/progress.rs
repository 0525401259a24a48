//! Progress of long work: only on a terminal, and only after a second.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::time::Duration;

use mmapcache::Labels;
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::run::Workspace;

/// Commands that can take long, and their progress messages.
const COMMANDS: &[(&[&str], &str)] = &[
    (&["import", "new", "tree"], "importing: files"),
    (&["import", "new", "lines"], "importing: lines"),
    (&["import", "--labels", "new", "lines"], "importing: labels"),
    (
        &["import", "new", "--from-cache", "cache"],
        "storing entries",
    ),
    (&["export", "cache"], "exporting entries"),
    (&["export", "cache", "--dir", "files"], "exporting entries"),
    (&["export", "cache", "--to-cache", "new"], "storing entries"),
    (&["list", "cache"], "listing entries"),
    (&["list", "cache", "--values"], "listing entries"),
    (&["list", "cache", "--sort", "size"], "sorting entries"),
    (&["labels", "labels"], "listing labels"),
    (&["heap", "cache"], "reading the heap"),
    (&["heap", "cache", "--damage"], "reading the heap"),
    (&["map", "cache"], "reading the index"),
    (&["histogram", "cache"], "reading the index"),
    (&["report", "cache", "--json"], "reading the index"),
    (&["stats", "cache", "--full"], "reading the index"),
    (&["copy", "cache", "new"], "copying and reading"),
    (&["verify", "cache"], "checking"),
    (&["repair", "cache"], "reading the heap"),
    (&["compact", "cache"], "compacting"),
    (
        &["put", "cache", "k", "v", "--sync"],
        "waiting for the lock or the disk",
    ),
    (
        &["delete", "cache", "key 001"],
        "waiting for the lock or the disk",
    ),
    (&["demo", "tree"], "while another process writes"),
];

fn with_all_inputs() -> Workspace {
    let workspace = Workspace::new();
    workspace.fill("cache", 20);
    let labels = Labels::open(workspace.path("labels")).unwrap();
    labels.get_or_intern("r/rust").unwrap();
    std::fs::create_dir(workspace.path("tree")).unwrap();
    std::fs::write(workspace.path("tree/file"), b"content").unwrap();
    std::fs::write(workspace.path("lines"), "{\"key\":\"k\",\"value\":\"v\"}\n").unwrap();
    workspace
}

/// Opens a pseudo-terminal. The program gets the second part.
fn terminal() -> (File, OwnedFd) {
    let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&controller).unwrap();
    unlockpt(&controller).unwrap();
    let name = ptsname(&controller, Vec::new()).unwrap();
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let device = rustix::fs::open(name, flags, Mode::empty()).unwrap();
    (File::from(controller), device)
}

/// Returns what a run shows on a terminal as standard error. Its input stays open for the given time.
fn shown(workspace: &Workspace, arguments: &[&str], open: Duration) -> String {
    let (mut controller, device) = terminal();
    let mut child = Command::new(env!("CARGO_BIN_EXE_mmapcache-inspect"))
        .args(arguments)
        .current_dir(workspace.0.path())
        .env("TERM", "xterm")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(device)
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let feeder = std::thread::spawn(move || {
        let _ = input.write_all(b"{\"key\":\"k\",\"value\":\"v\"}\n");
        std::thread::sleep(open);
    });
    // Reading fails when the last process has closed the device.
    let (mut bytes, mut piece) = (Vec::new(), [0; 4096]);
    while let Ok(count @ 1..) = controller.read(&mut piece) {
        bytes.extend(&piece[..count]);
    }
    feeder.join().unwrap();
    assert!(child.wait().unwrap().success(), "{arguments:?}");
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn long_commands_all_show_progress() {
    for (arguments, what) in COMMANDS {
        let workspace = with_all_inputs();
        let at_once = [arguments, &["--progress-after", "0"][..]].concat();
        let text = shown(&workspace, &at_once, Duration::ZERO);
        assert!(text.contains(what), "{arguments:?}: {text:?}");
    }
}

#[test]
fn short_work_and_pipes_show_none() {
    for (arguments, _) in COMMANDS
        .iter()
        .filter(|(arguments, _)| arguments[0] != "demo")
    {
        let text = shown(&with_all_inputs(), arguments, Duration::ZERO);
        assert_eq!(text, "", "{arguments:?}");
        let at_once = [arguments, &["--progress-after", "0"][..]].concat();
        let output = with_all_inputs().run(0, &at_once).stderr();
        assert_eq!(output, "", "{arguments:?}");
    }
}

#[test]
fn progress_is_shown_after_a_second() {
    let workspace = with_all_inputs();
    let arguments = ["import", "new", "-"];
    let text = shown(&workspace, &arguments, Duration::from_millis(2_500));
    assert!(text.contains("importing: lines"), "{text:?}");
    assert_eq!(workspace.open_read_only("new").len(), 1);
}
