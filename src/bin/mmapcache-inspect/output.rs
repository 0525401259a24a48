//! Standard output and standard error, neither of which may make the program panic.
//!
//! Knows how text reaches them, not what it says.

use std::error::Error;
use std::io::{self, BufWriter, StdoutLock, Write};

use serde_json::Value;

use crate::exact;
use crate::failure::Failure;
use crate::progress;

/// Standard output, buffered. Flushed by [`Output::end`], whose error would be lost in a drop.
#[derive(Debug)]
pub(crate) struct Output(BufWriter<StdoutLock<'static>>);

impl Output {
    pub(crate) fn new() -> Self {
        Self(BufWriter::with_capacity(64 << 10, io::stdout().lock()))
    }

    /// Writes by a closure.
    pub(crate) fn with(
        &mut self,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), Failure> {
        write(&mut self.0).map_err(Failure::Output)
    }

    /// Writes a line.
    pub(crate) fn line(&mut self, text: &str) -> Result<(), Failure> {
        self.with(|out| writeln!(out, "{text}"))
    }

    /// Writes a value for programs, indented for people too.
    pub(crate) fn json(&mut self, value: &Value) -> Result<(), Failure> {
        let mut value = value.clone();
        exact::settle(&mut value);
        self.line(&format!("{value:#}"))
    }

    /// Writes a value for programs as one line.
    pub(crate) fn json_line(&mut self, mut value: Value) -> Result<(), Failure> {
        exact::settle(&mut value);
        self.line(&value.to_string())
    }

    /// Hands everything to the system now, as before a long silence.
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        self.with(|out| out.flush())
    }

    /// Hands everything to the system.
    pub(crate) fn end(mut self) -> Result<(), Failure> {
        self.flush()
    }
}

/// Reports an error and all its causes on standard error, as one line. Where even that is closed,
/// nobody is listening.
pub(crate) fn complain(error: &dyn Error) {
    remark(&chain(error));
}

/// Says something on standard error, as one line whatever the names in it contain.
pub(crate) fn remark(text: &str) {
    let mut line = String::from("mmapcache-inspect: ");
    for c in text.chars() {
        if c.is_control() {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    line.push('\n');
    progress::around(|| {
        let _ = io::stderr().write_all(line.as_bytes());
    });
}

/// An error and all its causes.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
