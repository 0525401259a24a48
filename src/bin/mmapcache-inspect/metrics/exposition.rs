//! Numbers in Prometheus's text format, version 0.0.4.
//!
//! Knows how names, labels and values are written; not which there are.

use std::fmt::Write;

/// What a number may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Rise and fall.
    Gauge,
    /// Only rise, until it begins anew.
    Counter,
}

/// All numbers of one name.
#[derive(Debug)]
pub(super) struct Family<'a> {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) help: &'static str,
    pub(super) samples: Vec<Sample<'a>>,
}

/// A number and its labels.
#[derive(Debug)]
pub(super) struct Sample<'a> {
    pub(super) labels: Vec<(&'static str, &'a str)>,
    pub(super) value: f64,
}

/// The families that have any numbers.
pub(super) fn text(families: &[Family<'_>]) -> String {
    let mut text = String::new();
    for family in families.iter().filter(|family| !family.samples.is_empty()) {
        let kind = match family.kind {
            Kind::Gauge => "gauge",
            Kind::Counter => "counter",
        };
        let name = family.name;
        // Writing to a string cannot fail.
        let _ = writeln!(text, "# HELP {name} {}\n# TYPE {name} {kind}", family.help);
        for sample in &family.samples {
            text.push_str(name);
            for (place, (label, value)) in sample.labels.iter().enumerate() {
                text.push(if place == 0 { '{' } else { ',' });
                let _ = write!(text, "{label}=\"{}\"", escaped(value));
            }
            text.push_str(if sample.labels.is_empty() { "" } else { "}" });
            let _ = writeln!(text, " {}", sample.value);
        }
    }
    text
}

/// A label's value between its quotes.
fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    // A family has its head once, and a line for each number.
    #[test]
    fn family_has_one_head() {
        let sample = |cache, value| Sample {
            labels: vec![("cache", cache), ("file", "heap")],
            value,
        };
        let family = |samples| Family {
            name: "x_bytes",
            kind: Kind::Gauge,
            help: "Bytes.",
            samples,
        };
        let some = family(vec![
            sample("/a \"b\"\\\n", 1.0),
            sample("c", 1e18),
            sample("d", 0.25),
        ]);
        assert_eq!(
            text(&[family(Vec::new()), some]),
            "# HELP x_bytes Bytes.\n# TYPE x_bytes gauge\n\
             x_bytes{cache=\"/a \\\"b\\\"\\\\\\n\",file=\"heap\"} 1\n\
             x_bytes{cache=\"c\",file=\"heap\"} 1000000000000000000\n\
             x_bytes{cache=\"d\",file=\"heap\"} 0.25\n"
        );
    }
}
