//! 64-bit numbers in JSON. jq before 1.7, JavaScript and others keep 53 bits of a number, so what
//! may need more is written as a string of its digits.
//!
//! Knows values, not what they count.

use serde_json::Value;

/// The largest number that every reader of JSON keeps to the last digit: 2^53.
const LARGEST: u64 = 1 << 53;

/// A number that is always written as a string: a version, an id, a time in nanoseconds.
pub(crate) fn wide(number: u64) -> Value {
    number.to_string().into()
}

/// A number as this program writes it: a JSON number, or a string of its digits.
pub(crate) fn read(value: &Value) -> Option<u64> {
    match value {
        Value::String(digits) => digits.parse().ok(),
        other => other.as_u64(),
    }
}

/// Turns each integer that is too large into a string. Counts and sizes are numbers; only a damaged
/// file says such a large one.
pub(crate) fn settle(value: &mut Value) {
    match value {
        Value::Number(number) => {
            if let Some(large) = number.as_u64().filter(|&number| number > LARGEST) {
                *value = wide(large);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(settle),
        Value::Object(members) => members.values_mut().for_each(settle),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn large_integers_become_strings() {
        let mut value = json!([{ "a": LARGEST, "b": LARGEST + 1 }, u64::MAX, 0.5, -1, "x", null]);
        settle(&mut value);
        let expected = json!([
            { "a": 9_007_199_254_740_992_u64, "b": "9007199254740993" },
            "18446744073709551615", 0.5, -1, "x", null
        ]);
        assert_eq!(value, expected);
    }

    #[test]
    fn numbers_are_read_in_both_forms() {
        assert_eq!(read(&json!(7)), Some(7));
        assert_eq!(read(&wide(u64::MAX)), Some(u64::MAX));
        for wrong in [
            json!("x"),
            json!(-1),
            json!(null),
            json!("18446744073709551616"),
        ] {
            assert_eq!(read(&wrong), None, "{wrong}");
        }
    }
}
