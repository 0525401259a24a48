//! The recent values of a number, drawn in a line.

use std::collections::VecDeque;

use crate::{bar, units};

/// The most values that are kept.
pub(super) const KEPT: usize = 60;

/// The last values of a number; `None` if it was unknown.
#[derive(Debug, Default)]
pub(super) struct Sparkline(VecDeque<Option<f64>>);

impl Sparkline {
    pub(super) fn add(&mut self, value: Option<f64>) {
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back(value);
        debug_assert!(self.0.len() <= KEPT, "the memory of a sparkline is bounded");
    }

    /// Returns the highest value, and at least 0.
    pub(super) fn highest(&self) -> f64 {
        self.0.iter().flatten().copied().fold(0.0, f64::max)
    }

    /// Returns a cell for each of the last values, scaled to the highest of all that are kept.
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

/// Returns bytes per second with a sign.
pub(super) fn signed(rate: f64) -> String {
    let sign = if rate < 0.0 { "-" } else { "+" };
    format!("{sign}{}", units::bytes(rate.abs().round() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sparkline_scales_to_its_maximum() {
        let mut sparkline = Sparkline::default();
        assert_eq!(
            (sparkline.line(10).as_str(), sparkline.highest()),
            ("", 0.0)
        );
        for value in [
            Some(0.0),
            None,
            Some(50.0),
            Some(100.0),
            Some(-3.0),
            Some(1.0),
        ] {
            sparkline.add(value);
        }
        assert_eq!(sparkline.line(10), " \u{b7}▄█ ▁");
        assert_eq!(sparkline.line(2), " ▁");
        (0..100).for_each(|value| sparkline.add(Some(f64::from(value))));
        assert_eq!(sparkline.line(100).chars().count(), KEPT);
    }

    #[test]
    fn growth_has_a_sign() {
        assert_eq!(
            [0.0, 2048.0, -1.4].map(signed),
            ["+0 B", "+2.0 KiB", "-1 B"]
        );
    }
}
