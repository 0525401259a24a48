//! The files that a demonstration is given.
//!
//! Knows where a Rust toolchain keeps files of its own; reads none of them.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::failure::Failure;
use crate::tree::Selection;

use super::Arguments;

/// A tree, and which of its files.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) root: PathBuf,
    pub(crate) selection: Selection,
    /// Whether nobody named a directory.
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
        // The children are told the path that was found, not one that depends on where they run.
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

/// The directory of the active Rust toolchain, as it says itself.
fn toolchain() -> Result<PathBuf, Failure> {
    let said = Command::new("rustc")
        .args(["--print", "sysroot"])
        .output()
        .map_err(Failure::file(
            Path::new("rustc"),
            "ask it for its files (name a directory instead: `demo DIR`)",
        ))?;
    let path = String::from_utf8_lossy(&said.stdout);
    match path.trim_end() {
        path if said.status.success() && !path.is_empty() => Ok(path.into()),
        _ => Err(Failure::Request(
            "rustc does not say where its files are; name a directory: `demo DIR`".to_owned(),
        )),
    }
}
