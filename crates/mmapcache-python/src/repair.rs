//! Functions for files that no handle can open: repair, and the upgrade of an older format.

use std::path::PathBuf;

use mmapcache::{Options, Repair, Upgrade};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::reports;
use crate::seconds::Seconds;
use crate::waiting::Patience;

fn options(patience: Patience, heap_path: Option<&PathBuf>) -> Options {
    let mut options = Options::new();
    options.lock_timeout(Some(patience.piece()));
    if let Some(path) = heap_path {
        options.heap_path(path);
    }
    options
}

/// Repairs the cache at a path, of any class: rebuilds index and roster from the heap if they are damaged.
/// Returns what was found and lost. Reads the whole heap; no entry that verifies is lost.
#[pyfunction]
#[pyo3(signature = (path, *, keep_damaged=false, rewrite_heap=false, heap_path=None, lock_timeout=None))]
pub(crate) fn repair<'py>(
    py: Python<'py>,
    path: PathBuf,
    keep_damaged: bool,
    rewrite_heap: bool,
    heap_path: Option<PathBuf>,
    lock_timeout: Option<Seconds>,
) -> PyResult<Bound<'py, PyDict>> {
    let patience = lock_timeout.map_or_else(Patience::default, Patience::new);
    let options = options(patience, heap_path.as_ref());
    let report = patience.run(py, || {
        let repair = Repair::new(&path).options(&options);
        repair
            .keep_damaged(keep_damaged)
            .rewrite_heap(rewrite_heap)
            .run()
    })?;
    reports::repair(py, &report)
}

/// Upgrades the files of an older release, of any class. Returns what was found and lost, or `None` if the
/// files have the format of this release.
#[pyfunction]
#[pyo3(signature = (path, *, heap_path=None, lock_timeout=None))]
pub(crate) fn upgrade<'py>(
    py: Python<'py>,
    path: PathBuf,
    heap_path: Option<PathBuf>,
    lock_timeout: Option<Seconds>,
) -> PyResult<Option<Bound<'py, PyDict>>> {
    let patience = lock_timeout.map_or_else(Patience::default, Patience::new);
    let options = options(patience, heap_path.as_ref());
    let report = patience.run(py, || Upgrade::new(&path).options(&options).run())?;
    report
        .map(|report| reports::repair(py, &report))
        .transpose()
}
