//! Statistics and reports of the engine as dictionaries.

use std::path::Path;

use mmapcache::{
    BackupReport, CacheCounts, CacheSettings, CacheStats, DiskUsage, Recovery, RepairReport, Stats,
    VerifyReport,
};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use crate::seconds::since_epoch;

type Dict<'py> = PyResult<Bound<'py, PyDict>>;

/// Makes a dictionary of fields of a value, by their names.
macro_rules! fields {
    ($py:expr, $value:expr, $($field:ident),* $(,)?) => {{
        let dict = PyDict::new($py);
        $(dict.set_item(stringify!($field), $value.$field)?;)*
        dict
    }};
}

/// Counters and totals of the files.
pub(crate) fn stats<'py>(py: Python<'py>, stats: &Stats) -> Dict<'py> {
    let dict = fields!(
        py,
        stats,
        occupied,
        deleted,
        high_water_mark,
        slots,
        load,
        heap_bytes,
        live_bytes,
        dead_bytes,
        segments,
        generation,
        puts,
        overwrites,
        deletes,
        dropped,
        recoveries,
        damaged_seen,
        changes,
        writer,
        sync_failed,
        append_only,
    );
    dict.set_item("created", since_epoch(stats.created))?;
    dict.set_item("compacted", stats.compacted.map(since_epoch))?;
    Ok(dict)
}

/// The statistics of a cache: of its files, of this handle and of all processes.
pub(crate) fn cache_stats<'py>(py: Python<'py>, of: &CacheStats) -> Dict<'py> {
    let dict = PyDict::new(py);
    dict.set_item("files", stats(py, &of.files)?)?;
    dict.set_item("handle", counts(py, &of.handle)?)?;
    dict.set_item("total", counts(py, &of.total)?)?;
    Ok(dict)
}

fn counts<'py>(py: Python<'py>, counts: &CacheCounts) -> Dict<'py> {
    let dict = fields!(
        py,
        counts,
        hits,
        stale_hits,
        negative_hits,
        misses,
        insertions,
        replaced,
        removed,
        evicted_size,
        evicted_number,
        expired,
        invalidated,
    );
    dict.set_item("hit_ratio", counts.hit_ratio())?;
    Ok(dict)
}

/// The limits and defaults of a cache.
pub(crate) fn settings<'py>(py: Python<'py>, settings: &CacheSettings) -> Dict<'py> {
    let dict = fields!(py, settings, max_bytes, max_entries, jitter);
    for (name, time) in [
        ("time_to_live", settings.time_to_live),
        ("time_to_idle", settings.time_to_idle),
        ("stale_while_revalidate", settings.stale_while_revalidate),
        ("stale_if_error", settings.stale_if_error),
    ] {
        dict.set_item(name, time.map(|time| time.as_secs_f64()))?;
    }
    dict.set_item("eviction", settings.eviction.to_string())?;
    Ok(dict)
}

/// Bytes that the files take on the disk.
pub(crate) fn disk_usage<'py>(py: Python<'py>, usage: &DiskUsage) -> Dict<'py> {
    let dict = fields!(py, usage, index, heap, roster);
    dict.set_item("total", usage.total())?;
    Ok(dict)
}

/// What a backup copied.
pub(crate) fn backup<'py>(py: Python<'py>, report: &BackupReport) -> Dict<'py> {
    Ok(fields!(
        py,
        report,
        entries,
        entries_before,
        records,
        heap_bytes,
        damaged_bytes,
        shared_bytes,
    ))
}

/// What a verification found.
pub(crate) fn verify<'py>(py: Python<'py>, report: &VerifyReport) -> Dict<'py> {
    let dict = fields!(
        py,
        report,
        entries,
        records,
        regions,
        miss_groups,
        damaged_bytes,
        problem_count,
        totals_compared,
    );
    dict.set_item("is_clean", report.is_clean())?;
    let problems = PyList::empty(py);
    for problem in &report.problems {
        let item = PyDict::new(py);
        item.set_item("path", problem.path.as_os_str())?;
        item.set_item("at", problem.at)?;
        item.set_item("what", problem.what.as_str())?;
        problems.append(item)?;
    }
    dict.set_item("problems", problems)?;
    Ok(dict)
}

/// What a recovery found and lost.
pub(crate) fn recovery<'py>(py: Python<'py>, recovery: &Recovery) -> Dict<'py> {
    Ok(fields!(
        py,
        recovery,
        entries,
        entries_before,
        records,
        dropped,
        unwritten,
        damaged_bytes,
    ))
}

/// Warns of a recovery that lost entries: the call that ran it goes on as usual.
pub(crate) fn warn_of_losses(
    py: Python<'_>,
    recovery: Option<Recovery>,
    path: &Path,
) -> PyResult<()> {
    let Some(recovery) = recovery.filter(|recovery| recovery.dropped > 0) else {
        return Ok(());
    };
    let category = py.import("mmapcache._errors")?.getattr("RecoveryWarning")?;
    let message = format!("{}: rebuilt from its heap: {recovery}", path.display());
    let warn = py.import("warnings")?.getattr("warn")?;
    warn.call1((message, category))?;
    Ok(())
}

/// What a repair found and lost.
pub(crate) fn repair<'py>(py: Python<'py>, report: &RepairReport) -> Dict<'py> {
    let dict = fields!(
        py,
        report,
        rebuilt,
        entries,
        entries_before,
        dropped,
        unwritten,
        records,
        damaged_bytes,
        rewritten,
        segments,
    );
    dict.set_item("missing_segments", &report.missing_segments)?;
    let kept = report.kept.iter().map(|path| path.as_os_str());
    dict.set_item("kept", PyList::new(py, kept)?)?;
    Ok(dict)
}
