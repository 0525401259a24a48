//! 64-bit numbers in JSON.
//!
//! jq before 1.7, JavaScript and others keep 53 bits of a number. A number that may need more is
//! therefore written as a string of its digits.

use serde_json::Value;

/// The largest number that every JSON parser keeps exactly: 2^53.
const LARGEST: u64 = 1 << 53;

/// Returns a number as a string, in the form for versions, ids and times in nanoseconds.
pub(crate) fn string(number: u64) -> Value {
    number.to_string().into()
}

/// Parses a number that this program wrote: a JSON number, or a string of digits.
pub(crate) fn parse(value: &Value) -> Option<u64> {
    match value {
        Value::String(digits) => digits.parse().ok(),
        other => other.as_u64(),
    }
}

/// Replaces each integer that is too large by a string. Only a damaged file has such a large count
/// or size.
pub(crate) fn stringify_large(value: &mut Value) {
    match value {
        Value::Number(number) => {
            if let Some(large) = number.as_u64().filter(|&number| number > LARGEST) {
                *value = string(large);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(stringify_large),
        Value::Object(members) => members.values_mut().for_each(stringify_large),
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
        stringify_large(&mut value);
        let expected = json!([
            { "a": 9_007_199_254_740_992_u64, "b": "9007199254740993" },
            "18446744073709551615", 0.5, -1, "x", null
        ]);
        assert_eq!(value, expected);
    }

    #[test]
    fn numbers_parse_in_both_forms() {
        assert_eq!(parse(&json!(7)), Some(7));
        assert_eq!(parse(&string(u64::MAX)), Some(u64::MAX));
        for wrong in [
            json!("x"),
            json!(-1),
            json!(null),
            json!("18446744073709551616"),
        ] {
            assert_eq!(parse(&wrong), None, "{wrong}");
        }
    }
}
