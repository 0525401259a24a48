//! Caches that some release wrote, as text: the length of each file, then every line of sixteen bytes
//! that is not all zeros.
#![allow(dead_code, reason = "each test program uses a part")]

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
/// The names of the files in a golden directory, and their suffixes.
pub(crate) const FILES: [(&str, &str); 3] =
    [("index", ""), ("heap", ".heap"), ("roster", ".roster")];
/// Bytes per line of a dump.
const LINE: usize = 16;

/// Returns the path of a file in a golden directory.
pub(crate) fn path_of(golden: &str, name: &str) -> String {
    format!("{ROOT}/{golden}/{name}")
}

/// Writes the files of a golden cache to a path and the suffixes after it.
pub(crate) fn copy_to(golden: &str, path: &Path) {
    for (name, suffix) in FILES {
        let text = fs::read_to_string(path_of(golden, &format!("{name}.hex"))).unwrap();
        restore(&text, &with_suffix(path, suffix));
    }
}

pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Returns a file as text.
pub(crate) fn dump(path: &Path) -> String {
    let bytes = fs::read(path).unwrap();
    let mut text = format!("length {}\n", bytes.len());
    for (number, line) in bytes.chunks(LINE).enumerate() {
        if line.iter().any(|&byte| byte != 0) {
            let digits: String = line.iter().map(|byte| format!("{byte:02x}")).collect();
            text.push_str(&format!("{:08x} {digits}\n", number * LINE));
        }
    }
    text
}

fn restore(text: &str, path: &Path) {
    let file = File::create_new(path).unwrap();
    let (length, lines) = text.split_once('\n').unwrap();
    let length = length.strip_prefix("length ").unwrap();
    file.set_len(length.parse().unwrap()).unwrap();
    for line in lines.lines() {
        let (at, digits) = line.split_once(' ').unwrap();
        let bytes: Vec<u8> = (0..digits.len())
            .step_by(2)
            .map(|i| u8::from_str_radix(&digits[i..i + 2], 16).unwrap())
            .collect();
        let at = u64::from_str_radix(at, 16).unwrap();
        file.write_all_at(&bytes, at).unwrap();
    }
}
