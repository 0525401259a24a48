//! The misses of a recorded trace: each request is a lookup, and an insertion after a miss.

use std::collections::HashSet;
use std::io::{BufRead, BufReader};

use mmapcache::{Cache, CacheBuilder, ErrorKind};

/// What a value takes besides its own bytes, roughly.
const OVERHEAD: u64 = 200;
/// Longer objects are stored as if they had this length.
const LONGEST: usize = 1 << 21;
/// The length of values if the trace has none.
const USUAL: usize = 16;

/// A request: the key, and the bytes of the object.
type Request = (Vec<u8>, usize);

/// A failure, in words.
type Result<T> = std::result::Result<T, String>;

pub(crate) fn measure(file: &str, columns: &[&str]) -> Result<()> {
    let column = |text: &&str| {
        let number = text.parse::<usize>();
        number.map_err(|_| format!("`{text}` is no column: the first is 0"))
    };
    let columns: Vec<usize> = columns.iter().map(column).collect::<Result<_>>()?;
    let (key, size) = match columns[..] {
        [key] => (key, None),
        [key, size] => (key, Some(size)),
        _ => return Err("name the column of the key, and of the size if there is one".to_owned()),
    };
    let opened = std::fs::File::open(file).map_err(|error| format!("{file}: {error}"))?;
    let (requests, skipped) = read(BufReader::new(opened), key, size)?;
    if requests.is_empty() {
        return Err(format!("{file} has no line with these columns"));
    }
    let distinct: HashSet<&[u8]> = requests.iter().map(|(key, _)| &key[..]).collect();
    println!(
        "{file}: {} requests of {} keys; {skipped} lines skipped",
        requests.len(),
        distinct.len()
    );
    for percent in [1, 10] {
        let entries = (distinct.len() as u64 * percent / 100).max(1);
        let misses = replay(&requests, |builder| builder.max_entries(entries), false)?;
        println!("{percent} % of the keys, {entries} entries: {misses}");
    }
    if size.is_some() {
        let mut seen = HashSet::new();
        let first = requests.iter().filter(|(key, _)| seen.insert(key));
        let all: u64 = first.map(|(_, size)| *size as u64 + OVERHEAD).sum();
        for percent in [5, 10, 20] {
            let bytes = (all / 100 * percent).max(1 << 20);
            let misses = replay(&requests, |builder| builder.max_bytes(bytes), true)?;
            println!("{percent} % of the bytes, {bytes} bytes of disk: {misses}");
        }
    }
    Ok(())
}

/// Returns the share of misses, in words.
fn replay(
    requests: &[Request],
    limit: impl Fn(CacheBuilder) -> CacheBuilder,
    with_sizes: bool,
) -> Result<String> {
    let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
    let failed = |error: mmapcache::Error| error.to_string();
    let builder = Cache::builder(dir.path().join("cache"));
    let cache = limit(builder).open().map_err(failed)?;
    let value = vec![7; LONGEST];
    let (mut misses, mut refused, mut found) = (0_u64, 0_u64, Vec::new());
    for (key, size) in requests {
        if cache.get_into(key, &mut found).map_err(failed)? {
            continue;
        }
        misses += 1;
        let len = if with_sizes { *size } else { USUAL };
        match cache.insert(key, &value[..len.min(LONGEST)]) {
            Ok(_) => {}
            // More than a segment: a cache does without it.
            Err(error) if matches!(error.kind(), ErrorKind::ValueTooLarge { .. }) => refused += 1,
            Err(error) => return Err(failed(error)),
        }
    }
    let share = misses as f64 / requests.len() as f64;
    Ok(match refused {
        0 => format!("misses {share:.4}"),
        _ => format!("misses {share:.4}, {refused} of them too long to store"),
    })
}

/// Reads the requests below the header, and the number of lines that are none: with too few columns,
/// no key, or a size that is no number.
fn read(lines: impl BufRead, key: usize, size: Option<usize>) -> Result<(Vec<Request>, u64)> {
    let (mut requests, mut skipped) = (Vec::new(), 0);
    for line in lines.split(b'\n').skip(1) {
        let line = line.map_err(|error| format!("the trace cannot be read: {error}"))?;
        let line = line.strip_suffix(b"\r").unwrap_or(&line);
        match request(line, key, size) {
            Some(request) => requests.push(request),
            None => skipped += 1,
        }
    }
    Ok((requests, skipped))
}

fn request(line: &[u8], key: usize, size: Option<usize>) -> Option<Request> {
    let field = |at: usize| line.split(|&byte| byte == b',').nth(at);
    let key = field(key)?.trim_ascii();
    let size = match size {
        Some(at) => std::str::from_utf8(field(at)?).ok()?.trim().parse().ok()?,
        None => USUAL,
    };
    // A cache takes no other keys.
    (1..=usize::from(u16::MAX))
        .contains(&key.len())
        .then(|| (key.to_vec(), size))
}
