//! Durations on the command line.

use std::time::Duration;

/// The accepted seconds. Shorter intervals would load the machine.
const RANGE: std::ops::RangeInclusive<f64> = 0.01..=86_400.0;

/// Parses a number followed by `ms`, `s`, `m` or `h`; without a unit, seconds.
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    const UNITS: [(&str, f64); 4] = [("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
    let split = UNITS
        .iter()
        .find_map(|(name, length)| Some((text.strip_suffix(name)?, *length)));
    let (number, length) = split.unwrap_or((text, 1.0));
    let seconds = number.parse::<f64>().map(|number| number * length);
    match seconds {
        Ok(seconds) if RANGE.contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        Ok(_) => Err("from 10ms to 24h".to_owned()),
        Err(_) => Err("a number and ms, s, m or h, such as 500ms".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_accept_only_known_units() {
        for (text, millis) in [
            ("1s", 1000),
            ("500ms", 500),
            ("2", 2000),
            ("1.5s", 1500),
            ("2m", 120_000),
            ("1h", 3_600_000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in [
            "", "s", "1x", "-1s", "0", "9ms", "25h", "nan", "inf", "1e300s", "1 s m",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
