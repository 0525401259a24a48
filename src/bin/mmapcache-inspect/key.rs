//! Keys and other bytes as text on the command line and in listings.
//!
//! [`parse`] reads what [`show`] returns.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use crate::failure::Failure;

/// Returns the bytes for a text: `\xNN` is a byte, `\\` a backslash, and only hexadecimal digits
/// follow `hex:`.
pub(crate) fn parse(text: &OsStr) -> Result<Vec<u8>, String> {
    let text = text.as_bytes();
    if let Some(digits) = text.strip_prefix(b"hex:") {
        return parse_hex(digits);
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, after @ ..] = rest {
        let (next, after) = match (first, after) {
            (b'\\', [b'\\', after @ ..]) => (b'\\', after),
            (b'\\', [b'x', high, low, after @ ..]) => (byte(*high, *low)?, after),
            (b'\\', _) => {
                return Err("a backslash is written \\\\ and any byte as \\xNN".to_owned());
            }
            (&plain, after) => (plain, after),
        };
        bytes.push(next);
        rest = after;
    }
    Ok(bytes)
}

/// Returns the bytes for an argument. `what` names the argument in the error.
pub(crate) fn parse_argument(text: &OsStr, what: &str) -> Result<Vec<u8>, Failure> {
    let refuse = |why| Failure::Request(format!("the {what} {}: {why}", text.display()));
    parse(text).map_err(refuse)
}

fn parse_hex(digits: &[u8]) -> Result<Vec<u8>, String> {
    let pairs = digits.chunks(2).map(|pair| match pair {
        [high, low] => byte(*high, *low),
        _ => Err("an odd number of hex digits".to_owned()),
    });
    pairs.collect()
}

fn byte(high: u8, low: u8) -> Result<u8, String> {
    match (char::from(high).to_digit(16), char::from(low).to_digit(16)) {
        (Some(high), Some(low)) => Ok((high * 16 + low) as u8),
        _ => Err(format!(
            "\"{}\" are not two hex digits",
            [high, low].escape_ascii()
        )),
    }
}

/// Returns bytes as one line of text. It can be pasted between single quotes in a shell: it contains
/// none, and starts neither like an option nor like `hex:`.
pub(crate) fn show(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => text.push_str("\\\\"),
                '-' if text.is_empty() => escape(&mut text, b"-"),
                c if plain(c) => text.push(c),
                c => escape(&mut text, c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        escape(&mut text, chunk.invalid());
    }
    if text.starts_with("hex:") {
        text.replace_range(..1, "\\x68");
    }
    text
}

/// Returns whether a character is shown unescaped: it is printable and not a single quote.
/// `escape_debug` knows which are printable, but also escapes the double quote.
fn plain(c: char) -> bool {
    c == '"' || (c != '\'' && c.escape_debug().eq([c]))
}

fn escape(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        text.push_str(&format!("\\x{byte:02x}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_keys_can_be_pasted() {
        let odd: [&[u8]; 12] = [
            b"plain/name.txt",
            b"back\\slash",
            b"\\x41",
            b"hex:41",
            b"hex:",
            b"-option",
            b"two\nlines\0",
            b"it's \"quoted\"",
            b"\xff\xfe\x80",
            b"cut \xe2\x82",
            "gr\u{fc}\u{df}e \u{1f980} \u{202e}\u{301}".as_bytes(),
            b" ",
        ];
        let every: Vec<u8> = (0..=255).collect();
        for bytes in odd.into_iter().chain([&every[..]]) {
            let text = show(bytes);
            assert_eq!(parse(OsStr::new(&text)).as_deref(), Ok(bytes), "{text}");
            assert!(
                !text.contains(['\'', '\n']) && !text.starts_with('-'),
                "{text}"
            );
        }
    }

    #[test]
    fn readable_keys_are_shown_unchanged() {
        for text in ["share/doc/a b.html", "gr\u{fc}\u{df}e", "$HOME \"x\" `y`"] {
            assert_eq!(show(text.as_bytes()), text);
        }
    }

    #[test]
    fn unknown_escapes_are_refused() {
        let of = |text: &str| parse(OsStr::new(text));
        assert_eq!(of("hex:00fF"), Ok(vec![0, 255]));
        assert_eq!(of("a\\x00\\\\"), Ok(b"a\0\\".to_vec()));
        for wrong in ["hex:0", "hex:zz", "\\", "\\n", "\\x4", "\\xg0", "\\x+1"] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
    }
}
