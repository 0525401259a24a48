//! Turns errors of mmapcache into those of foyer. Calls nothing of this crate.

use mmapcache::ErrorKind;

/// Returns foyer's error for one of mmapcache. It has the path as context, and the error itself as its
/// source: `downcast_ref::<mmapcache::Error>()` tells corruption, contention and refusal apart.
pub(crate) fn to_foyer(error: mmapcache::Error) -> foyer::Error {
    let kind = match error.kind() {
        ErrorKind::Io { .. } => foyer::ErrorKind::Io,
        ErrorKind::DiskFull { .. } => foyer::ErrorKind::NoSpace,
        _ if error.is_corruption() => foyer::ErrorKind::Parse,
        ErrorKind::OtherType { .. }
        | ErrorKind::InvalidOption { .. }
        | ErrorKind::OptionMismatch { .. }
        | ErrorKind::UnsupportedVersion { .. }
        | ErrorKind::Unsupported { .. } => foyer::ErrorKind::Config,
        _ => foyer::ErrorKind::External,
    };
    let path = error
        .path()
        .map_or_else(String::new, |path| path.display().to_string());
    foyer::Error::new(kind, error.to_string())
        .with_context("path", path)
        .with_source(error)
}
