//! Whether the segments that a heap must have are at their paths.
//!
//! A heap can be missing as a whole: its disk is not mounted, or `heap_path` was forgotten. A writer
//! that went on without it would drop every entry. Reads names and headers of files; this file alone
//! stores where the heap is. May call `engine::generation` and everything below it.

use std::fs::FileType;
use std::io;
use std::ops::RangeInclusive;
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::Path;

use crate::error::{Error, ErrorKind, Result};
use crate::format::heap_addr::HeapAddr;
use crate::format::index::{HeapHome, HeapLocation, PAGE};
use crate::format::seal::SealedHeader;
use crate::format::segment::{SegmentHeader, first_place};
use crate::index::header::Header;
use crate::os::file_names::{FileNames, Stage};
use crate::os::files;

use crate::engine::file_header::read_sealed;
use crate::engine::generation::Generation;
use crate::engine::open::has_records;

/// What has the name of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Under {
    /// The segment, or a damaged file that may be it: recovery has to read it.
    Segment,
    /// Something else, or nothing.
    Other(&'static str),
}

/// Refuses to write to a heap with a missing segment that no writer had reason to remove: recovery
/// would drop its entries.
///
/// Costs four system calls for each segment. If one is missing after a power loss, or in a copy of
/// the files, lists the directory.
///
/// # Errors
///
/// Returns [`ErrorKind::HeapMissing`], [`ErrorKind::UnsupportedVersion`] for a segment of another release, or
/// [`ErrorKind::Io`].
pub(crate) fn check(generation: &Generation, names: &FileNames, boot: [u64; 2]) -> Result<()> {
    check_but(generation, names, boot, |_| false)
}

/// As [`check`], for a generation that was just opened: passes over the segments that were there then
/// and not changed since the last writer of this boot left. A rename changes a file's time, so each has
/// the name that it had then. (Of a heap on a disk of its own, another disk's may have the name.)
pub(crate) fn check_opened(
    generation: &Generation,
    names: &FileNames,
    boot: [u64; 2],
) -> Result<()> {
    let seen = generation.seen;
    let (first, end) = match names.heap_home() {
        HeapLocation::NextToIndex if seen.is_filled => seen.left,
        _ => (0, 0),
    };
    check_but(generation, names, boot, |number| {
        (first..end).contains(&number)
    })
}

/// As [`check`], without the segments of which the caller knows that they are there.
fn check_but(
    generation: &Generation,
    names: &FileNames,
    boot: [u64; 2],
    is_known: impl Fn(u16) -> bool,
) -> Result<()> {
    let header = generation.header();
    let Some(required) = required(header) else {
        // The header is corrupt, or a power loss left words of different times in it: recovery goes by
        // what it finds, if it finds anything.
        let is_explained =
            !found(generation, names)?.is_empty() || may_be_missing(generation, names, boot)?;
        return match is_explained {
            true => Ok(()),
            false => Err(missing(generation, names, header.oldest(), "nothing")),
        };
    };
    for number in required.filter(|&number| !is_known(number)) {
        if let Under::Other(what) = under_name(generation, names, number)?
            && !is_cleared(generation)
            && !may_be_missing(generation, names, boot)?
        {
            return Err(missing(generation, names, number, what));
        }
    }
    Ok(())
}

/// As [`check`], for the segments that are not mapped, while a writer is at work: no state that
/// recovery leaves explains a missing one then.
pub(crate) fn check_unmapped(generation: &Generation, names: &FileNames) -> Result<()> {
    for number in required(generation.header()).into_iter().flatten() {
        if let Some(error) = missing_segment(generation, names, number)? {
            return Err(error);
        }
    }
    Ok(())
}

/// Returns whether there is a segment of this heap before the oldest in use. A writer removes the
/// file before it stores that the next one is the oldest, so the header is corrupt then. A writer
/// that went by it would drop deletions (H5), and a later recovery would find what they deleted.
pub(crate) fn has_older(generation: &Generation, names: &FileNames) -> Result<bool> {
    let oldest = generation.header().checked_oldest();
    let Some(before) = oldest.and_then(|oldest| oldest.checked_sub(1)) else {
        return Ok(false);
    };
    let header = read_sealed::<SegmentHeader>(&names.segment(before, Stage::Final))?;
    Ok(header.is_some_and(|header| is_of(generation, &header, before)))
}

/// Returns the error for a segment that an entry links to and that must be there, if nothing of it
/// is; `None` if the link itself may be corrupt.
pub(crate) fn missing_segment(
    generation: &Generation,
    names: &FileNames,
    number: u16,
) -> Result<Option<Error>> {
    let is_required = required(generation.header()).is_some_and(|all| all.contains(&number));
    if !is_required || generation.segment(number).is_some() {
        return Ok(None);
    }
    Ok(match under_name(generation, names, number)? {
        Under::Segment => None,
        Under::Other(what) => Some(missing(generation, names, number, what)),
    })
}

/// Returns the error for a segment, with what has its name.
pub(crate) fn missing(
    generation: &Generation,
    names: &FileNames,
    number: u16,
    found: &'static str,
) -> Error {
    missing_for(generation.header(), names, number, found)
}

pub(crate) fn missing_for(
    header: Header<'_>,
    names: &FileNames,
    number: u16,
    found: &'static str,
) -> Error {
    ErrorKind::HeapMissing {
        cache: names.cache().to_owned(),
        entries: header.occupied(),
        elsewhere: match header.heap_home().home {
            HeapLocation::Unknown => None,
            HeapLocation::NextToIndex => Some(false),
            HeapLocation::Elsewhere => Some(true),
        },
        found,
    }
    .at(names.segment(number, Stage::Final))
}

/// Returns the error for a heap without any segment. `old` is the header that counts its entries.
pub(crate) fn missing_all(
    generation: &Generation,
    names: &FileNames,
    old: Option<Header<'_>>,
) -> Error {
    let header = old.unwrap_or(generation.header());
    missing_for(header, names, header.oldest(), "nothing")
}

/// Stores where the heap is, once it was found there, and from which segment on it is complete: an
/// index of an older release says neither.
pub(crate) fn note_home(header: Header<'_>, names: &FileNames) {
    let known = header.heap_home();
    let now = HeapHome {
        home: names.heap_home(),
        whole_from: match known.home {
            HeapLocation::Unknown => header.tail().segment,
            _ => known.whole_from,
        },
    };
    if now != known {
        header.set_heap_home(now);
    }
}

/// Stores that the heap is complete from its last segment on: a recovery has indexed what was before
/// it.
pub(crate) fn whole_from_tail(header: Header<'_>) {
    let known = header.heap_home();
    let now = HeapHome {
        whole_from: header.tail().segment,
        ..known
    };
    header.set_heap_home(now);
}

/// Returns the segments that must be there: from the one that cleaning has come to, before which
/// nothing is live (H4), up to the last. `None` if the header contradicts itself.
pub(crate) fn required(header: Header<'_>) -> Option<RangeInclusive<u16>> {
    let (tail, reserved) = (header.tail(), header.reserved());
    let oldest = header.checked_oldest()?;
    let is_place =
        |place: HeapAddr| place.unit >= first_place(0).unit && place.to_word() >> 48 == 0;
    let agree =
        reserved.segment == tail.segment || reserved.segment == tail.segment.wrapping_add(1);
    if !is_place(tail) || !is_place(reserved) || !agree || oldest > tail.segment {
        return None;
    }
    let cleaned = header
        .clean_cursor()
        .map(|cursor| cursor.addr.segment)
        .filter(|number| (oldest..=tail.segment).contains(number));
    let home = header.heap_home();
    let from = match home.home {
        // Recovery by an older release may have left gaps anywhere.
        HeapLocation::Unknown => tail.segment,
        _ => cleaned.unwrap_or(oldest).max(home.whole_from),
    };
    Some(from.min(tail.segment)..=tail.segment)
}

/// Returns whether there is nothing to lose: a clear on a full disk that was stopped has removed the
/// last segment, and begun none. An append-only heap is never cleared.
fn is_cleared(generation: &Generation) -> bool {
    let counters = generation.header().counters();
    counters.occupied == 0 && counters.live == 0 && !generation.is_append_only()
}

/// Returns whether recovery explains that segments are missing: a power loss took names that were
/// not synced, or a copy was made while a writer was at work. The rest must be consistent.
fn may_be_missing(generation: &Generation, names: &FileNames, boot: [u64; 2]) -> Result<bool> {
    let header = generation.header();
    let is_same_boot = header.written_under() == boot && boot != [0; 2];
    let lost_power = header.is_dirty() && !is_same_boot;
    // Restored files are copies. After a power loss perhaps only a permission was changed.
    let is_copy = generation.is_copied(boot) || (!lost_power && generation.is_touched());
    if !is_copy && !lost_power {
        return Ok(false);
    }
    let flushed = header.is_flushed();
    let home = header.heap_home();
    let there = found(generation, names)?;
    let (Some(&first), Some(&last)) = (there.first(), there.last()) else {
        // Before the first flush no name is known to be on the disk; but a heap elsewhere may be
        // on a disk that is not mounted.
        return Ok(lost_power && !is_copy && !flushed && home.home == HeapLocation::NextToIndex);
    };
    // H4: what was synced before this place has its names on the disk, and is removed in order. A
    // recovery that was stopped may have removed a segment of which nothing was synced.
    let synced = header.synced_to();
    let was_synced = |number: u16| flushed && first_place(number) < synced;
    let is_gap = |number: u16| {
        let was_there = !lost_power || was_synced(number);
        was_there && number >= home.whole_from && !there.contains(&number)
    };
    let is_cut = lost_power && !is_copy && last.checked_add(1).is_some_and(was_synced);
    let is_known = home.home != HeapLocation::Unknown;
    let has_gap = is_known && (first..last).any(is_gap);
    Ok(!(is_cut || has_gap))
}

/// Returns the numbers of the segments of this heap in the directory.
fn found(generation: &Generation, names: &FileNames) -> Result<Vec<u16>> {
    let mut found = Vec::new();
    for number in names.segment_numbers()? {
        if under_name(generation, names, number)? == Under::Segment {
            found.push(number);
        }
    }
    Ok(found)
}

fn under_name(generation: &Generation, names: &FileNames, number: u16) -> Result<Under> {
    // The final name twice: a rename may happen between the first two.
    for stage in [Stage::Final, Stage::New, Stage::Final] {
        let header = read_sealed::<SegmentHeader>(&names.segment(number, stage))?;
        if header.is_some_and(|header| is_of(generation, &header, number)) {
            return Ok(Under::Segment);
        }
    }
    let path = names.segment(number, Stage::Final);
    let meta = match path.symlink_metadata() {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(Under::Other("nothing"));
        }
        Err(error) => return Err(Error::io(&path, "look at the path")(error)),
    };
    if !meta.is_file() {
        return Ok(Under::Other(kind(meta.file_type(), &path)));
    }
    match read_sealed::<SegmentHeader>(&path)? {
        Some(header) if header.cache_id != generation.ids.cache => {
            Ok(Under::Other("a heap segment of another cache"))
        }
        Some(_) => Ok(Under::Other("a heap segment of another time of this cache")),
        None => judge_damaged(generation, &path, number),
    }
}

fn is_of(generation: &Generation, header: &SegmentHeader, number: u16) -> bool {
    header.cache_id == generation.ids.cache
        && header.heap_id == generation.ids.heap
        && header.number == u32::from(number)
}

/// Judges a regular file without a valid header: a damaged segment, if anything in it says so.
fn judge_damaged(generation: &Generation, path: &Path, number: u16) -> Result<Under> {
    let file = files::open(path, false)?;
    let mut start = vec![0; PAGE as usize];
    let mut len = 0;
    while len < start.len() {
        match file.read_at(&mut start[len..], len as u64) {
            Ok(0) => break,
            Ok(count) => len += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::io(path, "read the file")(error)),
        }
    }
    let start = &start[..len];
    let begins =
        |bytes: &[u8], at: usize| start.get(at..).is_some_and(|rest| rest.starts_with(bytes));
    let is_blank = start.iter().all(|&byte| byte == 0);
    let is_ours = begins(&SegmentHeader::MAGIC, 0)
        || begins(&generation.ids.cache, 16)
        || begins(&generation.ids.heap.to_le_bytes(), 32);
    if is_blank || is_ours || has_records(generation, file, path, number)? {
        return Ok(Under::Segment);
    }
    Ok(Under::Other("a file that is no heap segment"))
}

/// Names the kind of what is no regular file.
fn kind(kind: FileType, path: &Path) -> &'static str {
    if kind.is_symlink() {
        return match path.metadata() {
            Ok(_) => "a symbolic link",
            Err(_) => "a symbolic link that leads nowhere",
        };
    }
    if kind.is_dir() {
        "a directory"
    } else if kind.is_fifo() {
        "a FIFO"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}
