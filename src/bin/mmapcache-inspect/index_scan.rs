//! Scans the index, shows the progress, and collects what commands show of it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mmapcache::inspect::{CacheFiles, IndexScan};

use crate::failure::Failure;
use crate::progress;
use crate::value_histogram::ValueHistogram;

/// Bytes of a segment before its first record.
const SEGMENT_HEADER: u64 = 128;

/// The contents of an index.
#[derive(Debug)]
pub(crate) struct Scan {
    pub(crate) index: IndexScan,
    /// Lengths of the keys.
    pub(crate) key_bytes: ValueHistogram,
    /// Lengths of the values; empty for an id cache.
    pub(crate) value_bytes: ValueHistogram,
    /// Seconds since the entries were written, 0 for times in the future; empty for an id cache.
    pub(crate) ages: ValueHistogram,
    /// All segments, in the order of their numbers.
    pub(crate) segments: Vec<SegmentUse>,
}

/// The bytes of a segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SegmentUse {
    pub(crate) number: u16,
    /// The length of the file.
    pub(crate) len: u64,
    /// Bytes before the committed end of the heap, the header included.
    pub(crate) used: u64,
    /// Records of entries.
    pub(crate) live_records: u64,
    /// Bytes of these records.
    pub(crate) live_bytes: u64,
    /// Used bytes that cleaning can reclaim.
    pub(crate) dead_bytes: u64,
}

/// Scans the index.
pub(crate) fn run(cache_files: &CacheFiles) -> Result<Scan, Failure> {
    let progress = progress::of_count("reading the index: regions", 0);
    let has_values = !cache_files.is_id_cache()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.unwrap_or(Duration::ZERO).as_nanos();
    let mut key_bytes = ValueHistogram::default();
    let mut value_bytes = ValueHistogram::default();
    let mut ages = ValueHistogram::default();
    let index = cache_files.scan_index(
        |done, all| {
            progress.set(done.into(), all.into());
            true
        },
        |key_len, value_len, version| {
            key_bytes.add(key_len.into());
            if has_values {
                value_bytes.add(value_len.into());
                let age = now.saturating_sub(version.into()) / 1_000_000_000;
                ages.add(age as u64);
            }
        },
    )?;
    let segments = segments(cache_files, &index);
    Ok(Scan {
        index,
        key_bytes,
        value_bytes,
        ages,
        segments,
    })
}

fn segments(cache_files: &CacheFiles, index: &IndexScan) -> Vec<SegmentUse> {
    let tail = cache_files.state().map(|state| state.tail);
    let numbers = cache_files.segments();
    let files = numbers
        .iter()
        .filter_map(|&number| cache_files.segment_file(number));
    files
        .filter_map(|file| {
            let (number, len) = (file.segment()?, file.len);
            let used = match tail {
                Some(tail) if tail.segment == number => tail.at.min(len),
                Some(tail) if tail.segment < number => 0,
                _ => len,
            };
            let (live_records, live_bytes) = index.live_records(number);
            Some(SegmentUse {
                number,
                len,
                used,
                live_records,
                live_bytes,
                dead_bytes: used
                    .saturating_sub(SEGMENT_HEADER)
                    .saturating_sub(live_bytes),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use mmapcache::Options;

    #[test]
    fn segment_bytes_match_the_header() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cache");
        let mut options = Options::new();
        options
            .max_segment_bytes(16 * 1024)
            .compaction_threshold(0, u64::MAX);
        let cache = options.open(&path).unwrap();
        for number in 0..600_u32 {
            let key = (number % 200).to_le_bytes();
            cache.put(&key, &[0; 100]).unwrap();
        }
        let cache_files = CacheFiles::open(&path, None).unwrap();
        let scan = run(&cache_files).unwrap();
        let state = cache_files.state().unwrap();
        let sum = |of: fn(&SegmentUse) -> u64| -> u64 { scan.segments.iter().map(of).sum() };
        assert!(scan.segments.len() > 3);
        assert_eq!(sum(|segment| segment.used), state.heap_bytes());
        assert_eq!(sum(|segment| segment.live_bytes), state.live_bytes);
        let headers = SEGMENT_HEADER * scan.segments.len() as u64;
        assert_eq!(
            sum(|segment| segment.dead_bytes) + headers,
            state.dead_bytes()
        );
        assert_eq!(scan.key_bytes.sum, 200 * 4);
        assert_eq!(scan.value_bytes.sum, 200 * 100);
        assert_eq!(scan.ages.count(), 200);
    }
}
