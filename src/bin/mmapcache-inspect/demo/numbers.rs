//! Named numbers as a line of JSON, in which the child processes of a demonstration report.

use serde_json::{Map, Value};

use crate::json_number;

/// Returns a line with a number for each name.
pub(super) fn line<const N: usize>(names: [&str; N], numbers: [u64; N]) -> String {
    let members = names.into_iter().zip(numbers);
    let object: Map<String, Value> = members
        .map(|(name, number)| (name.to_owned(), number.into()))
        .collect();
    Value::Object(object).to_string()
}

/// Parses a line that [`line()`] returned.
pub(super) fn parse<const N: usize>(names: [&str; N], text: &str) -> Option<[u64; N]> {
    let value: Value = serde_json::from_str(text).ok()?;
    let mut numbers = [0; N];
    for (number, name) in numbers.iter_mut().zip(names) {
        *number = json_number::parse(&value[name])?;
    }
    Some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_round_trip() {
        let text = line(["a", "b"], [0, u64::MAX]);
        assert_eq!(parse(["b", "a"], &text), Some([u64::MAX, 0]));
        assert_eq!(parse(["c"], &text), None);
        assert_eq!(parse(["a"], "writing"), None);
    }
}
