//! Standard output and standard error. A closed one never makes the program panic.

use std::error::Error;
use std::io::{self, BufWriter, StdoutLock, Write};

use serde_json::Value;

use crate::failure::Failure;
use crate::json_number;
use crate::progress;

/// Standard output, buffered. Call [`Output::end`] to flush it: a drop would ignore the error.
#[derive(Debug)]
pub(crate) struct Output(BufWriter<StdoutLock<'static>>);

impl Output {
    pub(crate) fn new() -> Self {
        Self(BufWriter::with_capacity(64 << 10, io::stdout().lock()))
    }

    /// Writes with a closure.
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

    /// Writes a JSON value, indented.
    pub(crate) fn json(&mut self, value: &Value) -> Result<(), Failure> {
        let mut value = value.clone();
        json_number::stringify_large(&mut value);
        self.line(&format!("{value:#}"))
    }

    /// Writes a JSON value as one line.
    pub(crate) fn json_line(&mut self, mut value: Value) -> Result<(), Failure> {
        json_number::stringify_large(&mut value);
        self.line(&value.to_string())
    }

    /// Flushes the buffer.
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        self.with(|out| out.flush())
    }

    /// Flushes the buffer. Call it after the last line.
    pub(crate) fn end(mut self) -> Result<(), Failure> {
        self.flush()
    }
}

/// Prints an error and all its causes on standard error, as one line.
pub(crate) fn report_error(error: &dyn Error) {
    warn(&chain(error));
}

/// Prints a message on standard error. Control characters in it are escaped, so that it stays one
/// line. Ignores a closed standard error: there is no other place for the message.
pub(crate) fn warn(text: &str) {
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

/// Returns an error and all its causes as text.
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
