//! Errors of the engine as Python exceptions, whose classes `mmapcache/_errors.py` defines.

use std::io;
use std::path::Path;

use mmapcache::{Error, ErrorKind};
use pyo3::exceptions::{PyException, PyOSError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// The class of an exception, and the name of its `errno` if it is an `OSError` too.
type Class = (&'static str, Option<&'static str>);

/// Returns the exception for an error of the engine.
#[cold]
pub(crate) fn to_python(py: Python<'_>, error: Error) -> PyErr {
    make(py, error).unwrap_or_else(|failed| failed)
}

/// Returns an exception of this package that is not about a file.
#[cold]
pub(crate) fn plain(py: Python<'_>, class: &str, message: &str) -> PyErr {
    let made = class_of(py, class).and_then(|class| class.call1((message,)));
    made.map_or_else(|failed| failed, PyErr::from_value)
}

/// Returns the error of a call on a closed handle.
#[cold]
pub(crate) fn closed(py: Python<'_>) -> PyErr {
    plain(
        py,
        "ClosedError",
        "the handle is closed, or was never opened; open a new one",
    )
}

/// Returns the error of a call that used up its time for the writer lock.
#[cold]
pub(crate) fn locked(py: Python<'_>, error: &Error, waited: f64) -> PyErr {
    let holder = match error.kind() {
        ErrorKind::Locked {
            holder: Some(process),
            ..
        } => format!(" (process {process})"),
        _ => String::new(),
    };
    let message = format!(
        "another writer{holder} held the lock for {waited:.2} s; try again, or raise `lock_timeout`"
    );
    let made = of_system(py, ("LockedError", "ETIMEDOUT"), &message, error);
    made.unwrap_or_else(|failed| failed)
}

/// Returns the exception for a value that was computed and could not be stored.
#[cold]
pub(crate) fn not_stored(py: Python<'_>, value: &[u8], error: Error) -> PyErr {
    not_stored_because(py, value, to_python(py, error))
}

/// The same, for a reason that is an exception already. One that is no error, such as
/// `KeyboardInterrupt`, is returned itself.
#[cold]
pub(crate) fn not_stored_because(py: Python<'_>, value: &[u8], cause: PyErr) -> PyErr {
    if !cause.is_instance_of::<PyException>(py) {
        return cause;
    }
    let made = class_of(py, "NotStoredError").and_then(|class| {
        let message = format!("computed, and not stored: {}", cause.value(py));
        let exception = class.call1((message,))?;
        let path = cause.value(py).getattr_opt("path")?;
        exception.setattr("path", path)?;
        exception.setattr("value", PyBytes::new(py, value))?;
        Ok(PyErr::from_value(exception))
    });
    let exception = made.unwrap_or_else(|failed| failed);
    exception.set_cause(py, Some(cause));
    exception
}

fn make(py: Python<'_>, error: Error) -> PyResult<PyErr> {
    if let Some(source) = error.io_error() {
        return of_io(py, source, &error);
    }
    let path = error.path().map(|path| path.as_os_str().to_owned());
    let (class, errno) = class(&error);
    if let Some(errno) = errno {
        return of_system(py, (class, errno), &error.kind().to_string(), &error);
    }
    let message = error.to_string();
    let from_rebuild = match error.into_kind() {
        // What the caller's iterator raised.
        ErrorKind::RebuildSource { source } => source.downcast::<PyErr>().ok(),
        _ => None,
    };
    if let Some(raised) = from_rebuild {
        return Ok(*raised);
    }
    let exception = class_of(py, class)?.call1((message,))?;
    exception.setattr("path", path)?;
    Ok(PyErr::from_value(exception))
}

fn class_of<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    py.import("mmapcache._errors")?.getattr(name)
}

/// Makes an exception that is an `OSError` too.
fn of_system(
    py: Python<'_>,
    (class, errno): (&str, &str),
    message: &str,
    error: &Error,
) -> PyResult<PyErr> {
    let number = py.import("errno")?.getattr(errno)?;
    let path = error.path().map(Path::as_os_str);
    let exception = class_of(py, class)?.call1((number, message, path))?;
    exception.setattr("path", path)?;
    Ok(PyErr::from_value(exception))
}

/// Makes an `OSError` from the system's error: Python chooses the subclass by its number. The conversion
/// that PyO3 has for `io::Error` loses the number and the file.
fn of_io(py: Python<'_>, source: &io::Error, error: &Error) -> PyResult<PyErr> {
    let message = error.kind().to_string();
    let Some(number) = source.raw_os_error() else {
        return Ok(PyOSError::new_err(error.to_string()));
    };
    // The number says this already.
    let message = message.replace(&format!(" (os error {number})"), "");
    let class = py.get_type::<PyOSError>();
    let path = error.path().map(Path::as_os_str);
    let exception = class.call1((number, message, path))?;
    Ok(PyErr::from_value(exception))
}

fn class(error: &Error) -> Class {
    if error.is_corruption() {
        return ("CorruptionError", None);
    }
    match error.kind() {
        ErrorKind::NotFound => ("NotFoundError", Some("ENOENT")),
        ErrorKind::AlreadyExists => ("ExistsError", Some("EEXIST")),
        ErrorKind::HeapMissing { .. } => ("HeapMissingError", Some("ENOENT")),
        ErrorKind::Locked { .. } => ("LockedError", Some("ETIMEDOUT")),
        ErrorKind::DiskFull { .. } => ("DiskFullError", Some("ENOSPC")),
        ErrorKind::SyncFailed => ("SyncFailedError", Some("EIO")),
        ErrorKind::AlreadyWriting | ErrorKind::AlreadyComputing | ErrorKind::ForkedWriter => {
            ("WriterError", None)
        }
        ErrorKind::UnsupportedVersion { .. } => ("UnsupportedVersionError", None),
        ErrorKind::Unsupported { .. } => ("UnsupportedError", None),
        ErrorKind::OptionMismatch { .. } | ErrorKind::InvalidOption { .. } => ("OptionError", None),
        ErrorKind::OtherType { .. } => ("OtherTypeError", None),
        ErrorKind::ReadOnly => ("ReadOnlyError", None),
        ErrorKind::AppendOnly => ("AppendOnlyError", None),
        ErrorKind::KeyLength { .. } => ("KeyLengthError", None),
        ErrorKind::ValueTooLarge { .. } => ("ValueTooLargeError", None),
        ErrorKind::TableFull { .. }
        | ErrorKind::CacheFull { .. }
        | ErrorKind::IdsExhausted { .. } => ("CacheFullError", None),
        ErrorKind::Contended { .. } | ErrorKind::Superseded => ("ContendedError", None),
        ErrorKind::NotACounter { .. } => ("NotACounterError", None),
        ErrorKind::CounterOverflow { .. } => ("CounterOverflowError", None),
        _ => ("MmapCacheError", None),
    }
}
