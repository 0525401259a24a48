//! Numbers in a readable form.

use std::time::Duration;

/// Returns a count with its digits in groups of three.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Returns a number of bytes, rounded to its largest unit.
pub(crate) fn bytes(number: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut scaled = number as f64;
    let mut unit = "B";
    for larger in UNITS {
        // From 1023.95 on, one decimal would round up to 1024 of the unit.
        if scaled < 1023.95 {
            break;
        }
        scaled /= 1024.0;
        unit = larger;
    }
    if unit == "B" {
        format!("{number} B")
    } else {
        format!("{scaled:.1} {unit}")
    }
}

/// Parses a number of bytes: digits, or a number and one of the units that [`bytes`] prints.
pub(crate) fn parse_bytes(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u32); 5] = [("KiB", 10), ("MiB", 20), ("GiB", 30), ("TiB", 40), ("B", 0)];
    let wrong = || "a number and B, KiB, MiB, GiB or TiB, such as 64MiB".to_owned();
    if let Ok(number) = text.parse::<u64>() {
        return Ok(number);
    }
    let split = UNITS
        .iter()
        .find_map(|(name, bits)| Some((text.strip_suffix(name)?.trim_end(), *bits)));
    let (number, bits) = split.ok_or_else(wrong)?;
    if !number.starts_with(|first: char| first.is_ascii_digit()) {
        return Err(wrong());
    }
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let bytes = number * (1_u64 << bits) as f64;
    // Exact below 2^53, and no cache is as large.
    match bytes < (1_u64 << 53) as f64 {
        true => Ok(bytes as u64),
        false => Err("less than 8192TiB".to_owned()),
    }
}

/// Returns bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns a share of 1 as a percentage.
pub(crate) fn percent(part: f64) -> String {
    format!("{:.1} %", part * 100.0)
}

/// Returns a duration in milliseconds or seconds.
pub(crate) fn duration(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 1.0 {
        format!("{:.1} ms", seconds * 1000.0)
    } else {
        format!("{seconds:.2} s")
    }
}

/// Returns a number of seconds, rounded to its largest unit.
pub(crate) fn span(seconds: u64) -> String {
    const UNITS: [(&str, u64); 4] = [("a", 31_557_600), ("d", 86_400), ("h", 3_600), ("min", 60)];
    let unit = UNITS.into_iter().find(|(_, length)| seconds >= 2 * length);
    match unit {
        Some((name, length)) => format!("{:.1} {name}", seconds as f64 / length as f64),
        None => format!("{seconds} s"),
    }
}

/// Returns a rate per second.
pub(crate) fn rate(number: u64, time: Duration) -> u64 {
    (number as f64 / time.as_secs_f64().max(1e-9)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_grouped_by_three() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(1_000), "1,000");
        assert_eq!(count(1_234_567), "1,234,567");
    }

    #[test]
    fn durations_use_their_shortest_unit() {
        assert_eq!(span(0), "0 s");
        assert_eq!(span(119), "119 s");
        assert_eq!(span(150), "2.5 min");
        assert_eq!(span(86_400), "24.0 h");
        assert_eq!(span(3 * 86_400), "3.0 d");
        assert_eq!(span(u64::MAX), "584542046090.6 a");
    }

    #[test]
    fn sizes_parse_as_printed() {
        for (text, parsed) in [
            ("0", 0),
            ("500", 500),
            ("18446744073709551615", u64::MAX),
            ("7B", 7),
            ("1.5KiB", 1_536),
            ("64MiB", 64 << 20),
            ("2 GiB", 2 << 30),
        ] {
            assert_eq!(parse_bytes(text), Ok(parsed), "{text}");
        }
        for number in [0, 1023, 1 << 20, 3 << 40] {
            assert_eq!(parse_bytes(&bytes(number)), Ok(number));
        }
        for text in [
            "", "MiB", "-1", "-1MiB", "1MB", "1.5", "infB", "nanB", "9999TiB", "1 2B",
        ] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_use_their_shortest_unit() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1024), "1.0 KiB");
        assert_eq!(bytes((1 << 20) - 1), "1.0 MiB");
        assert_eq!(bytes(u64::MAX), "16.0 EiB");
    }
}
