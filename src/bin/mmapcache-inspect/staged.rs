//! A file that is written whole or not at all.
//!
//! Knows how a file takes another's place, and what must not be replaced by mistake; not what is
//! in it.

use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::failure::Failure;

/// Bytes at a file's start among which its mark must be.
const MARKED: u64 = 4096;

/// Writes a file under a preliminary name beside `path`, syncs it, and renames it.
///
/// What stands there already is replaced if it is an empty regular file or one with any of the
/// marks near its start; with `force` any regular file is.
pub(crate) fn write(
    path: &Path,
    content: &[u8],
    marks: &[&str],
    force: bool,
) -> Result<(), Failure> {
    let taken = look(path, marks, force)?;
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    // Readable to whom the umask lets: who collects metrics is often another user.
    let mut file = tempfile::Builder::new()
        .prefix(".mmapcache-inspect-")
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(dir)
        .map_err(Failure::file(path, "create a file beside it"))?;
    file.write_all(content)
        .and_then(|()| file.as_file().sync_all())
        .map_err(Failure::file(
            path,
            "write the file that is to take its place",
        ))?;
    let placed = match taken {
        true => file.persist(path),
        false => file.persist_noclobber(path),
    };
    placed.map_err(|refused| Failure::file(path, "put the new file there")(refused.error))?;
    Ok(())
}

/// Whether something stands there; a failure if it must stay.
fn look(path: &Path, marks: &[&str], force: bool) -> Result<bool, Failure> {
    let refuse = |what: &str| Failure::Request(format!("{}: {what}", path.display()));
    let meta = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        other => other.map_err(Failure::file(path, "look what stands there"))?,
    };
    if !meta.is_file() {
        return Err(refuse(
            "something stands there that is no regular file; name another, or `-` for standard output",
        ));
    }
    if force || meta.len() == 0 {
        return Ok(true);
    }
    let mut start = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MARKED).read_to_end(&mut start))
        .map_err(Failure::file(path, "look what stands there"))?;
    let has = |mark: &&str| {
        start
            .windows(mark.len())
            .any(|window| window == mark.as_bytes())
    };
    match marks.iter().any(has) {
        true => Ok(true),
        false => Err(refuse(
            "there is a file already, and not one of this command's; --force replaces it",
        )),
    }
}
