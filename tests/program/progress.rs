//! How far long work is: on a terminal, after a second, and nowhere else.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::time::Duration;

use mmapcache::Labels;
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::run::Desk;

/// Each command that can take long, and what it says while it does.
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

fn furnished() -> Desk {
    let desk = Desk::new();
    desk.fill("cache", 20);
    let labels = Labels::open(desk.path("labels")).unwrap();
    labels.get_or_intern("r/rust").unwrap();
    std::fs::create_dir(desk.path("tree")).unwrap();
    std::fs::write(desk.path("tree/file"), b"content").unwrap();
    std::fs::write(desk.path("lines"), "{\"key\":\"k\",\"value\":\"v\"}\n").unwrap();
    desk
}

/// A terminal, of which the program gets the inside.
fn terminal() -> (File, OwnedFd) {
    let outside = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&outside).unwrap();
    unlockpt(&outside).unwrap();
    let name = ptsname(&outside, Vec::new()).unwrap();
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let inside = rustix::fs::open(name, flags, Mode::empty()).unwrap();
    (File::from(outside), inside)
}

/// What a run shows on the terminal that is its standard error; its input stays open for a while.
fn shown(desk: &Desk, arguments: &[&str], open: Duration) -> String {
    let (mut outside, inside) = terminal();
    let mut child = Command::new(env!("CARGO_BIN_EXE_mmapcache-inspect"))
        .args(arguments)
        .current_dir(desk.0.path())
        .env("TERM", "xterm")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(inside)
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let feeder = std::thread::spawn(move || {
        let _ = input.write_all(b"{\"key\":\"k\",\"value\":\"v\"}\n");
        std::thread::sleep(open);
    });
    // Ends with an error when nobody has the inside any more.
    let (mut bytes, mut piece) = (Vec::new(), [0; 4096]);
    while let Ok(count @ 1..) = outside.read(&mut piece) {
        bytes.extend(&piece[..count]);
    }
    feeder.join().unwrap();
    assert!(child.wait().unwrap().success(), "{arguments:?}");
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn long_commands_all_show_progress() {
    for (arguments, what) in COMMANDS {
        let desk = furnished();
        let at_once = [arguments, &["--progress-after", "0"][..]].concat();
        let text = shown(&desk, &at_once, Duration::ZERO);
        assert!(text.contains(what), "{arguments:?}: {text:?}");
    }
}

#[test]
fn short_work_and_pipes_show_none() {
    for (arguments, _) in COMMANDS
        .iter()
        .filter(|(arguments, _)| arguments[0] != "demo")
    {
        let text = shown(&furnished(), arguments, Duration::ZERO);
        assert_eq!(text, "", "{arguments:?}");
        let at_once = [arguments, &["--progress-after", "0"][..]].concat();
        let said = furnished().run(0, &at_once).err();
        assert_eq!(said, "", "{arguments:?}");
    }
}

#[test]
fn progress_is_shown_after_a_second() {
    let desk = furnished();
    let arguments = ["import", "new", "-"];
    let text = shown(&desk, &arguments, Duration::from_millis(2_500));
    assert!(text.contains("importing: lines"), "{text:?}");
    assert_eq!(desk.look("new").len(), 1);
}
