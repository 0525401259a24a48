//! `export`: entries become lines of JSON, or files.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use mmapcache::MmapCache;

use crate::failure::Failure;
use crate::output::{self, Output};
use crate::progress::{self, Progress};
use crate::site::Site;
use crate::verdict::Verdict;
use crate::{json_line, key, transfer, tree, units};

/// Where to export to.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The cache: the path of its index
    pub(crate) cache: PathBuf,
    /// Write each value to a file in this new or empty directory, at the path that is its key.
    /// Keys that are no safe relative path are reported and left out; the exit code is then 2
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Put each entry into another cache, which is made if there is none; all get new versions
    /// (`copy` keeps them)
    #[arg(long, value_name = "OTHER", conflicts_with = "dir")]
    to_cache: Option<PathBuf>,
}

pub(crate) fn run(site: &Site, arguments: &Arguments) -> Result<Verdict, Failure> {
    if let Some(other) = &arguments.to_cache {
        return to_cache(site, other);
    }
    let cache = site.look()?;
    match &arguments.dir {
        Some(dir) => to_files(&cache, dir),
        None => to_lines(&cache),
    }
}

fn to_cache(site: &Site, other: &Path) -> Result<Verdict, Failure> {
    let began = Instant::now();
    let other = Site {
        cache: other.to_owned(),
        heap: None,
    };
    let tally = transfer::run(site, &other)?;
    let mut out = Output::new();
    out.line(&tally.text(began.elapsed()))?;
    out.end()?;
    Ok(tally.verdict())
}

fn to_lines(cache: &MmapCache) -> Result<Verdict, Failure> {
    let mut out = Output::new();
    let damage = each(cache, |key, value| {
        out.with(|out| json_line::write(out, key, Some(value)))
    })?;
    out.end()?;
    Ok(Verdict::wrong_if(damage))
}

/// Gives every sound entry to a closure, and reports the damaged ones. Returns whether there were
/// any.
fn each(
    cache: &MmapCache,
    mut take: impl FnMut(&[u8], &[u8]) -> Result<(), Failure>,
) -> Result<bool, Failure> {
    let progress = progress::of_printing("exporting entries", cache.len());
    let mut items = cache.iter()?;
    let mut damage = false;
    while let Some(item) = items.next_borrowed() {
        progress.iter().for_each(Progress::step);
        match item {
            Ok((key, value)) => take(key, value)?,
            Err(error) if error.is_corruption() => {
                damage = true;
                output::complain(&error);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(damage)
}

/// Writes files into a directory that is new or empty: so no link that somebody put there can lead
/// out of it.
fn to_files(cache: &MmapCache, dir: &Path) -> Result<Verdict, Failure> {
    fs::create_dir_all(dir).map_err(Failure::file(dir, "create the directory"))?;
    let mut names = fs::read_dir(dir).map_err(Failure::file(dir, "list the directory"))?;
    if names.next().is_some() {
        let what = format!("{}: not empty; export into a new directory", dir.display());
        return Err(Failure::Request(what));
    }
    let (mut written, mut bytes, mut refused) = (0, 0, 0);
    let damage = each(cache, |key, value| {
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
            Err(error) if is_the_keys_fault(&error) => {
                refused += 1;
                output::remark(&format!("{}: not written: {error}", key::show(key)));
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
            "{refused} entries left out: their keys name no file here"
        ))?;
    }
    out.end()?;
    Ok(match (damage, refused) {
        (true, _) => Verdict::Wrong,
        (false, 0) => Verdict::Fine,
        (false, _) => Verdict::Incomplete,
    })
}

/// Whether a key is a path that stays below where it starts, and the only one for its file.
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
    // A key that was deleted and inserted again meanwhile may come twice; then the later one is the
    // newer.
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .custom_flags(libc::O_NOFOLLOW)
        .open(&path)?
        .write_all(value)
}

/// Whether it is the key that makes no file: because of its own form, or because another key
/// already made a directory where its file would stand, or a file where its directory would.
fn is_the_keys_fault(error: &io::Error) -> bool {
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
