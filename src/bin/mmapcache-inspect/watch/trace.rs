//! What a number was lately, drawn in a line.

use std::collections::VecDeque;

use crate::{bar, units};

/// Values that are kept.
pub(super) const KEPT: usize = 60;

/// The last values of a number; none where it was not known.
#[derive(Debug, Default)]
pub(super) struct Trace(VecDeque<Option<f64>>);

impl Trace {
    pub(super) fn add(&mut self, value: Option<f64>) {
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back(value);
        debug_assert!(self.0.len() <= KEPT, "the memory of a trace is bounded");
    }

    /// The highest that is kept, and 0 at least.
    pub(super) fn highest(&self) -> f64 {
        self.0.iter().flatten().copied().fold(0.0, f64::max)
    }

    /// The last values, a cell for each, the highest of all that are kept a whole one.
    pub(super) fn line(&self, width: usize) -> String {
        let highest = self.highest();
        let skipped = self.0.len().saturating_sub(width);
        let cells = self.0.iter().skip(skipped).map(|value| match value {
            None => '\u{b7}',
            Some(value) => bar::level(value / highest.max(f64::MIN_POSITIVE)),
        });
        cells.collect()
    }
}

/// Bytes in a second by which something grew or shrank.
pub(super) fn signed(rate: f64) -> String {
    let sign = if rate < 0.0 { "-" } else { "+" };
    format!("{sign}{}", units::bytes(rate.abs().round() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    // A trace shows its last values relative to the highest one.
    #[test]
    fn trace_scales_to_its_maximum() {
        let mut trace = Trace::default();
        assert_eq!((trace.line(10).as_str(), trace.highest()), ("", 0.0));
        for value in [
            Some(0.0),
            None,
            Some(50.0),
            Some(100.0),
            Some(-3.0),
            Some(1.0),
        ] {
            trace.add(value);
        }
        assert_eq!(trace.line(10), " \u{b7}▄█ ▁");
        assert_eq!(trace.line(2), " ▁");
        (0..100).for_each(|value| trace.add(Some(f64::from(value))));
        assert_eq!(trace.line(100).chars().count(), KEPT);
    }

    #[test]
    fn growth_has_a_sign() {
        assert_eq!(
            [0.0, 2048.0, -1.4].map(signed),
            ["+0 B", "+2.0 KiB", "-1 B"]
        );
    }
}
