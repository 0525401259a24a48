//! The nesting depth of a value in MessagePack. Parses markers and lengths only.

/// Returns whether lists and maps are nested more than `max_depth` levels deep. For bytes that are
/// not valid MessagePack, checks them up to the first invalid one: no decoder gets further.
pub(super) fn exceeds(max_depth: usize, encoded: &[u8]) -> bool {
    // The number of values still expected, at each level.
    let mut open: Vec<u64> = Vec::with_capacity(16);
    let mut rest = encoded;
    loop {
        if let Some(left) = open.last_mut() {
            *left -= 1;
        }
        let Some((token, after)) = Token::read(rest) else {
            return false;
        };
        rest = after;
        if let Token::Container(items) = token {
            if open.len() == max_depth {
                return true;
            }
            open.push(items);
        }
        while open.last() == Some(&0) {
            open.pop();
        }
        if open.is_empty() {
            return false;
        }
    }
}

enum Token {
    /// A value that contains no other values.
    Scalar,
    /// A list or map, with the number of its values, keys included.
    Container(u64),
}

impl Token {
    /// Returns the token at the start of some bytes, and the bytes after it.
    fn read(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (&marker, rest) = bytes.split_first()?;
        let small = u64::from(marker & 0x0f);
        Some(match marker {
            0x80..=0x8f => (Self::Container(2 * small), rest),
            0x90..=0x9f => (Self::Container(small), rest),
            0xdc..=0xdf => {
                let (len, rest) = number(rest, if marker & 1 == 0 { 2 } else { 4 })?;
                let each = if marker < 0xde { 1 } else { 2 };
                (Self::Container(each * len), rest)
            }
            _ => (Self::Scalar, after_scalar(marker, rest)?),
        })
    }
}

/// Returns the bytes after a value that contains no other values.
fn after_scalar(marker: u8, rest: &[u8]) -> Option<&[u8]> {
    let (len, rest) = match marker {
        0x00..=0x7f | 0xc0 | 0xc2 | 0xc3 | 0xe0..=0xff => (0, rest),
        0xa0..=0xbf => (u64::from(marker & 0x1f), rest),
        // Bytes and texts, preceded by their length; extensions have a type as well.
        0xc4 | 0xd9 => number(rest, 1)?,
        0xc5 | 0xda => number(rest, 2)?,
        0xc6 | 0xdb => number(rest, 4)?,
        0xc7..=0xc9 => {
            let (len, rest) = number(rest, 1 << (marker - 0xc7))?;
            (len + 1, rest)
        }
        0xcc | 0xd0 => (1, rest),
        0xcd | 0xd1 => (2, rest),
        0xca | 0xce | 0xd2 => (4, rest),
        0xcb | 0xcf | 0xd3 => (8, rest),
        0xd4..=0xd8 => (1 + (1 << (marker - 0xd4)), rest),
        _ => return None,
    };
    rest.get(usize::try_from(len).ok()?..)
}

/// Returns the big-endian number in the first `len` bytes, and the bytes after it.
fn number(bytes: &[u8], len: usize) -> Option<(u64, &[u8])> {
    let (digits, rest) = bytes.split_at_checked(len)?;
    let number = digits
        .iter()
        .fold(0, |number, &digit| number << 8 | u64::from(digit));
    Some((number, rest))
}

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;
    use serde::de::IgnoredAny;
    use serde_json::Value;

    use super::*;

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            (-40_000..70_000).prop_map(Value::from),
            (-200..300).prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            (0_usize..70_000).prop_map(|len| "x".repeat(len % 300 * (len % 300)).into()),
        ];
        leaf.prop_recursive(6, 60, 20, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..20).prop_map(Value::from),
                prop::collection::btree_map("[a-z]{0,40}", inner, 0..20)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    fn depth(value: &Value) -> usize {
        match value {
            Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
            Value::Object(items) => 1 + items.values().map(depth).max().unwrap_or(0),
            _ => 0,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

        #[test]
        fn depth_equals_the_built_nesting(value in values()) {
            let encoded = rmp_serde::to_vec(&value).unwrap();
            for deepest in 0..8 {
                prop_assert_eq!(exceeds(deepest, &encoded), depth(&value) > deepest);
            }
        }

        #[test]
        fn depth_check_agrees_with_decoder(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for deepest in 0..6_usize {
                let mut decoder = rmp_serde::Deserializer::from_read_ref(&bytes[..]);
                decoder.set_max_depth(deepest + 1);
                let refused = matches!(
                    IgnoredAny::deserialize(&mut decoder),
                    Err(rmp_serde::decode::Error::DepthLimitExceeded)
                );
                // The decoder counts an extension as a level.
                prop_assert!(refused || !exceeds(deepest, &bytes));
            }
        }
    }
}
