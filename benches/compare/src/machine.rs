//! Describes what the figures were measured on.

use std::fs;
use std::path::Path;

use crate::store::{Error, Result};

/// A tmpfs is no disk.
const TMPFS: i64 = 0x0102_1994;

/// Returns processor, memory, system, file system and compiler, and how busy the machine was at the
/// beginning.
pub(crate) fn describe(dir: &Path) -> String {
    let cpu = field("/proc/cpuinfo", "model name").unwrap_or_else(|| "processor".to_owned());
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = field("/proc/meminfo", "MemTotal")
        .and_then(|text| text.trim_end_matches(" kB").parse::<f64>().ok())
        .map_or(0.0, |kib| kib / f64::from(1 << 20));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split_whitespace().next().unwrap_or("?");
    format!(
        "{cores} cores of {cpu}, {memory:.0} GiB of memory, Linux {}, {}, {}; {load} other threads \
         wanted to run when it began.",
        // Without the builder's suffix.
        kernel.trim().split('-').next().unwrap_or_default(),
        file_system(dir).unwrap_or_else(|| "an unknown file system".to_owned()),
        env!("RUSTC_VERSION"),
    )
}

/// Refuses a directory in memory: files there take no time of a disk.
pub(crate) fn on_a_disk(dir: &Path) -> Result<()> {
    if rustix::fs::statfs(dir)?.f_type == TMPFS {
        return Err(Error::Failed(
            "`--dir` lies in memory: name a directory on a disk".to_owned(),
        ));
    }
    Ok(())
}

fn field(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// Returns the type of the mount with a directory.
fn file_system(dir: &Path) -> Option<String> {
    let dir = dir.canonicalize().ok()?;
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    mounts
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ').skip(1);
            Some((words.next()?, words.next()?))
        })
        .filter(|(point, _)| dir.starts_with(point))
        .max_by_key(|(point, _)| point.len())
        .map(|(_, kind)| kind.to_owned())
}
