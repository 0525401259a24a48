//! Places of the heap as text: the segment's number and the byte, as `3:4096`.
//!
//! What [`show`] prints, [`parse`] reads back.

use mmapcache::inspect::HeapPlace;

/// A place as text.
pub(crate) fn show(place: HeapPlace) -> String {
    format!("{}:{}", place.segment, place.at)
}

/// The place that a text names. The byte may be hexadecimal, as `0x1000`.
pub(crate) fn parse(text: &str) -> Result<HeapPlace, String> {
    let (segment, at) = text
        .split_once(':')
        .ok_or("a place is written SEGMENT:BYTE, as 3:4096")?;
    let segment = segment
        .parse()
        .map_err(|_| format!("\"{segment}\" is not the number of a segment"))?;
    let parsed = match at.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => at.parse(),
    };
    let at = parsed.map_err(|_| format!("\"{at}\" is not a number of bytes"))?;
    Ok(HeapPlace::new(segment, at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_round_trip_as_text() {
        for place in [HeapPlace::new(0, 128), HeapPlace::new(u16::MAX, u64::MAX)] {
            assert_eq!(parse(&show(place)), Ok(place));
        }
        assert_eq!(parse("3:0x1000"), Ok(HeapPlace::new(3, 4096)));
        for wrong in [
            "", "3", ":", "3:", ":8", "-1:8", "65536:8", "3:0x", "3:8:1", "3:1e3",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
