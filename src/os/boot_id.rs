//! The id of the running boot of the system, and the time when it began.
//!
//! May call `error` and `lock`; the caller decides what another boot means for a cache.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::OnceLock;

use crate::error::{Error, Result};
use crate::lock::set_once;

/// Returns the id of this boot, or zeros if the system does not report it: dirty files then count as
/// from another boot. Fails if the process is out of file descriptors.
pub(crate) fn id() -> Result<[u64; 2]> {
    static KNOWN: OnceLock<[u64; 2]> = OnceLock::new();
    if let Some(known) = KNOWN.get() {
        return Ok(*known);
    }
    let id = read()?;
    // An id that is not available now may be available later.
    if id != [0; 2] {
        set_once(&KNOWN, || id);
    }
    Ok(id)
}

/// Returns when the system was started, in nanoseconds since the epoch by the clock as set now.
pub(crate) fn began() -> u64 {
    #[cfg(target_os = "linux")]
    let clock = rustix::time::ClockId::Boottime;
    #[cfg(not(target_os = "linux"))]
    let clock = rustix::time::ClockId::Monotonic;
    let nanos = |clock| {
        let time = rustix::time::clock_gettime(clock);
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        seconds
            .saturating_mul(1_000_000_000)
            .saturating_add(time.tv_nsec as u64)
    };
    nanos(rustix::time::ClockId::Realtime).saturating_sub(nanos(clock))
}

fn read() -> Result<[u64; 2]> {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    let mut text = [0; 64];
    // One call returns all of it.
    let len = match File::open(path).and_then(|mut file| file.read(&mut text)) {
        Ok(len) => len,
        Err(error) => {
            return match error.raw_os_error() {
                Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM) => {
                    Err(Error::io(path, "read the id of this boot")(error))
                }
                _ => Ok([0; 2]),
            };
        }
    };
    let text = text[..len].iter().copied().map(char::from);
    let digits: String = text.filter(char::is_ascii_hexdigit).collect();
    let half = |range: std::ops::Range<usize>| {
        digits
            .get(range)
            .and_then(|part| u64::from_str_radix(part, 16).ok())
            .unwrap_or(0)
    };
    Ok([half(0..16), half(16..32)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boot_has_an_id() {
        assert_ne!(id().unwrap(), [0; 2]);
        assert_eq!(id().unwrap(), read().unwrap());
    }
}
