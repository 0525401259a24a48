//! `export`: writes entries as lines of JSON, to files, or to another cache.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::either_cache::EitherCache;
use crate::entry_terms::EntryTerms;
use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use crate::location::Location;
use crate::output::{self, Output};
use crate::progress::{self, Progress};
use crate::{copy_entries, json_line, key, tree, units};

/// The destination of an export.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The cache: the path of its index
    pub(crate) cache: PathBuf,
    /// Write each value to a file in this new or empty directory; the key is the path. Reports and skips
    /// keys that are not a safe relative path; the exit code is then 2
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Store each entry in another cache, created if it does not exist; the entries get new versions
    /// (`copy` keeps them)
    #[arg(long, value_name = "OTHER", conflicts_with = "dir")]
    to_cache: Option<PathBuf>,
}

pub(crate) fn run(location: &Location, arguments: &Arguments) -> Result<ExitStatus, Failure> {
    if let Some(other) = &arguments.to_cache {
        return to_cache(location, other);
    }
    let cache = EitherCache::open_read_only(location)?;
    match &arguments.dir {
        Some(dir) => to_files(&cache, dir),
        None => to_lines(&cache),
    }
}

fn to_cache(location: &Location, other: &Path) -> Result<ExitStatus, Failure> {
    let began = Instant::now();
    let other = Location {
        cache: other.to_owned(),
        heap: None,
    };
    let counts = copy_entries::run(location, &other)?;
    let mut out = Output::new();
    out.line(&counts.text(began.elapsed()))?;
    out.end()?;
    Ok(counts.exit_status())
}

fn to_lines(cache: &EitherCache) -> Result<ExitStatus, Failure> {
    let mut out = Output::new();
    let damage = each(cache, |key, value, terms| {
        out.with(|out| json_line::write(out, key, value, terms))
    })?;
    out.end()?;
    Ok(ExitStatus::problems_if(damage))
}

/// Calls a closure with every valid entry, and reports damaged ones. Returns whether there were any.
fn each(
    cache: &EitherCache,
    mut take: impl FnMut(&[u8], &[u8], Option<EntryTerms>) -> Result<(), Failure>,
) -> Result<bool, Failure> {
    let progress = progress::of_printing("exporting entries", cache.len());
    let mut damage = false;
    cache.each(|item| {
        progress.iter().for_each(Progress::step);
        match item {
            Ok((key, value, terms)) => take(key, value, terms),
            Err(error) if error.is_corruption() => {
                damage = true;
                output::report_error(&error);
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    })?;
    Ok(damage)
}

/// Writes files into a directory that is new or empty, so that no link in it can lead out of it.
fn to_files(cache: &EitherCache, dir: &Path) -> Result<ExitStatus, Failure> {
    fs::create_dir_all(dir).map_err(Failure::file(dir, "create the directory"))?;
    let mut names = fs::read_dir(dir).map_err(Failure::file(dir, "list the directory"))?;
    if names.next().is_some() {
        let what = format!("{}: not empty; export to a new directory", dir.display());
        return Err(Failure::Request(what));
    }
    let (mut written, mut bytes, mut refused) = (0, 0, 0);
    let damage = each(cache, |key, value, terms| {
        if terms.is_some_and(|terms| terms.is_negative) {
            // It has no value.
            return Ok(());
        }
        let stored = if is_safe(key) {
            write_file(dir, key, value)
        } else {
            Err(io::Error::other("not a safe relative path"))
        };
        match stored {
            Ok(()) => {
                written += 1;
                bytes += value.len() as u64;
            }
            Err(error) if is_caused_by_key(&error) => {
                refused += 1;
                output::warn(&format!("{}: not written: {error}", key::show(key)));
            }
            Err(error) => {
                let path = tree::path_of(dir, key);
                return Err(Failure::file(&path, "write the file")(error));
            }
        }
        Ok(())
    })?;
    let mut out = Output::new();
    out.line(&format!(
        "wrote {} files, {}",
        units::count(written),
        units::bytes(bytes)
    ))?;
    if refused > 0 {
        let refused = units::count(refused);
        out.line(&format!(
            "{refused} entries skipped: their keys are not usable as paths"
        ))?;
    }
    out.end()?;
    Ok(match (damage, refused) {
        (true, _) => ExitStatus::Problems,
        (false, 0) => ExitStatus::Success,
        (false, _) => ExitStatus::Incomplete,
    })
}

/// Returns whether a key is a path that stays below the directory, and the only one for its file.
fn is_safe(key: &[u8]) -> bool {
    !key.contains(&0)
        && key
            .split(|&byte| byte == b'/')
            .all(|name| !matches!(name, b"" | b"." | b".."))
}

fn write_file(dir: &Path, key: &[u8], value: &[u8]) -> io::Result<()> {
    let path = tree::path_of(dir, key);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    // A key that is deleted and inserted again during the listing may occur twice. The second is the
    // newer one.
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .custom_flags(libc::O_NOFOLLOW)
        .open(&path)?
        .write_all(value)
}

/// Returns whether the key caused an error: because of its form, or because another key created a
/// directory in place of its file, or a file in place of its directory.
fn is_caused_by_key(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::Other
            | io::ErrorKind::AlreadyExists
            | io::ErrorKind::IsADirectory
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::InvalidFilename
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn safe_keys_stay_inside_the_directory() {
        for safe in [&b"a"[..], b"a/b/c.txt", b"...", b"a/.b", b"\xff/\n"] {
            assert!(is_safe(safe));
        }
        for unsafe_key in [
            &b""[..],
            b"/",
            b"/a",
            b"a/",
            b"a//b",
            b".",
            b"..",
            b"../a",
            b"a/../b",
            b"a/..",
            b"./a",
            b"a\0b",
        ] {
            assert!(!is_safe(unsafe_key), "{}", unsafe_key.escape_ascii());
        }
    }
}
