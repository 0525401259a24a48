//! Files that are written completely or not at all, and never replace another file by mistake.

use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::failure::Failure;

/// The mark must be within this many bytes of the file's start.
const MARK_RANGE: u64 = 4096;

/// Writes a file under a temporary name beside `path`, syncs it, and renames it.
///
/// Replaces an existing regular file if it is empty or has any of the marks near its start; with
/// `force` any regular file.
pub(crate) fn write(
    path: &Path,
    content: &[u8],
    marks: &[&str],
    force: bool,
) -> Result<(), Failure> {
    let replace = may_replace(path, marks, force)?;
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    // The umask decides who may read the file: a metrics collector often runs as another user.
    let mut file = tempfile::Builder::new()
        .prefix(".mmapcache-inspect-")
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(dir)
        .map_err(Failure::file(path, "create a file beside it"))?;
    file.write_all(content)
        .and_then(|()| file.as_file().sync_all())
        .map_err(Failure::file(path, "write the new file beside it"))?;
    let placed = match replace {
        true => file.persist(path),
        false => file.persist_noclobber(path),
    };
    placed.map_err(|refused| Failure::file(path, "rename the new file to it")(refused.error))?;
    Ok(())
}

/// Returns whether there is a file that may be replaced. Fails if it must be kept.
fn may_replace(path: &Path, marks: &[&str], force: bool) -> Result<bool, Failure> {
    let refuse = |what: &str| Failure::Request(format!("{}: {what}", path.display()));
    let meta = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        other => other.map_err(Failure::file(path, "read what is there"))?,
    };
    if !meta.is_file() {
        return Err(refuse(
            "exists and is not a regular file; name another, or `-` for standard output",
        ));
    }
    if force || meta.len() == 0 {
        return Ok(true);
    }
    let mut start = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MARK_RANGE).read_to_end(&mut start))
        .map_err(Failure::file(path, "read what is there"))?;
    let has = |mark: &&str| {
        start
            .windows(mark.len())
            .any(|window| window == mark.as_bytes())
    };
    match marks.iter().any(has) {
        true => Ok(true),
        false => Err(refuse(
            "exists, and this command did not write it; --force replaces it",
        )),
    }
}
