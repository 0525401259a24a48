//! Heap addresses as text: segment number and byte, as in `3:4096`.
//!
//! [`parse`] reads what [`format`](format()) returns.

use mmapcache::inspect::HeapAddress;

/// Returns an address as text.
pub(crate) fn format(address: HeapAddress) -> String {
    format!("{}:{}", address.segment, address.at)
}

/// Parses an address. The byte may be hexadecimal, as in `0x1000`.
pub(crate) fn parse(text: &str) -> Result<HeapAddress, String> {
    let (segment, at) = text
        .split_once(':')
        .ok_or("an address is written SEGMENT:BYTE, as in 3:4096")?;
    let segment = segment
        .parse()
        .map_err(|_| format!("\"{segment}\" is not the number of a segment"))?;
    let parsed = match at.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => at.parse(),
    };
    let at = parsed.map_err(|_| format!("\"{at}\" is not a number of bytes"))?;
    Ok(HeapAddress::new(segment, at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_round_trip_as_text() {
        for address in [
            HeapAddress::new(0, 128),
            HeapAddress::new(u16::MAX, u64::MAX),
        ] {
            assert_eq!(parse(&format(address)), Ok(address));
        }
        assert_eq!(parse("3:0x1000"), Ok(HeapAddress::new(3, 4096)));
        for wrong in [
            "", "3", ":", "3:", ":8", "-1:8", "65536:8", "3:0x", "3:8:1", "3:1e3",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
