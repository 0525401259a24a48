//! The text format of Prometheus, version 0.0.4.

use std::fmt::Write;

/// The type of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Increases and decreases.
    Gauge,
    /// Only increases, until it restarts at 0.
    Counter,
}

/// All samples of one name.
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

/// Returns the text of all families that have samples.
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

/// Escapes the value of a label.
fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

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
