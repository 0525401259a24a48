//! A pseudo-terminal on which a program is started, and which a test reads.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::process::{Child, Command};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcgetattr, tcsetwinsize};

/// Limit for a program that shows nothing.
const LIMIT: Duration = Duration::from_secs(60);

pub(crate) struct Terminal {
    inside: OwnedFd,
    shown: Receiver<Vec<u8>>,
}

impl Terminal {
    pub(crate) fn open(columns: u16, rows: u16) -> Self {
        let outside = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&outside).unwrap();
        unlockpt(&outside).unwrap();
        let name = ptsname(&outside, Vec::new()).unwrap();
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let inside = rustix::fs::open(name, flags, Mode::empty()).unwrap();
        let size = Winsize {
            ws_col: columns,
            ws_row: rows,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&inside, size).unwrap();
        let (sender, shown) = mpsc::channel();
        let mut outside = File::from(outside);
        // Ends when no process has the terminal's other side open.
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = outside.read(&mut bytes) {
                let _ = sender.send(bytes[..count].to_vec());
            }
        });
        Self { inside, shown }
    }

    /// Starts a program with the terminal as its input, output and error output.
    pub(crate) fn start(&self, command: &mut Command) -> Child {
        let end = || self.inside.try_clone().unwrap();
        command
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .unwrap()
    }

    /// Returns the modes of the terminal.
    pub(crate) fn modes(&self) -> String {
        format!("{:?}", tcgetattr(&self.inside).unwrap())
    }

    /// Returns what is shown, starting after the last read, once it is enough.
    pub(crate) fn read_until(&self, enough: impl Fn(&str) -> bool) -> String {
        let began = Instant::now();
        let mut bytes = Vec::new();
        loop {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            if enough(&text) {
                return text;
            }
            let left = LIMIT.saturating_sub(began.elapsed());
            let Ok(more) = self.shown.recv_timeout(left) else {
                panic!("only this was shown: {text:?}");
            };
            bytes.extend(more);
        }
    }
}
