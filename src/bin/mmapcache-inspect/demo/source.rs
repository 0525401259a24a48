//! The files for a demonstration: a given directory, or the active Rust toolchain.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::failure::Failure;
use crate::tree::Selection;

use super::Arguments;

/// A directory tree and a selection of its files.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) root: PathBuf,
    pub(crate) selection: Selection,
    /// Whether the user gave no directory.
    pub(crate) is_default: bool,
}

impl Source {
    pub(crate) fn choose(arguments: &Arguments) -> Result<Self, Failure> {
        let mut selection = Selection {
            parts: Vec::new(),
            file_limit: arguments.file_limit.saturating_mul(1 << 20),
            total_limit: arguments.total_limit.saturating_mul(1 << 20),
        };
        let (root, is_default) = match &arguments.dir {
            Some(dir) => (dir.clone(), false),
            None => (toolchain()?, true),
        };
        if is_default {
            let parts = ["lib", "share/doc"].map(PathBuf::from);
            selection.parts = parts
                .into_iter()
                .filter(|part| root.join(part).is_dir())
                .collect();
        }
        // The path for the child processes must not depend on their working directory.
        let root = std::fs::canonicalize(&root).map_err(Failure::file(&root, "find the files"))?;
        if !root.is_dir() {
            let what = format!("{}: not a directory; name one", root.display());
            return Err(Failure::Request(what));
        }
        Ok(Self {
            root,
            selection,
            is_default,
        })
    }
}

/// Returns the directory of the active Rust toolchain, as reported by `rustc`.
fn toolchain() -> Result<PathBuf, Failure> {
    let output = Command::new("rustc")
        .args(["--print", "sysroot"])
        .output()
        .map_err(Failure::file(
            Path::new("rustc"),
            "run it to find its files (name a directory instead: `demo DIR`)",
        ))?;
    let path = String::from_utf8_lossy(&output.stdout);
    match path.trim_end() {
        path if output.status.success() && !path.is_empty() => Ok(path.into()),
        _ => Err(Failure::Request(
            "rustc does not report its directory; name a directory: `demo DIR`".to_owned(),
        )),
    }
}
