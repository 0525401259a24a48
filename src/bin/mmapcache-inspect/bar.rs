//! Bars and levels made of block characters.

/// The eighths of a cell, from the left.
const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
/// Levels from low to full.
const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Returns a bar that fills a share of `width` cells, to an eighth of a cell. A share above 0 always
/// shows.
pub(crate) fn bar(share: f64, width: usize) -> String {
    let share = if share.is_finite() {
        share.clamp(0.0, 1.0)
    } else {
        0.0
    };
    let eighths = (share * width as f64 * 8.0).round() as usize;
    let eighths = if share > 0.0 { eighths.max(1) } else { 0 };
    "█".repeat(eighths / 8) + EIGHTHS[eighths % 8]
}

/// Returns a cell that is filled from below by a share. It is empty only if the share is 0.
pub(crate) fn level(share: f64) -> char {
    if share > 0.0 {
        let step = (share * LEVELS.len() as f64).ceil() as usize;
        LEVELS[step.clamp(1, LEVELS.len()) - 1]
    } else {
        ' '
    }
}

/// Divides `width` whole cells among the parts of a whole. A part above 0 gets a cell while any are
/// left.
pub(crate) fn cells(parts: &[u64], whole: u64, width: usize) -> Vec<usize> {
    let mut left = width;
    let share = |part: u64| part as f64 / whole.max(1) as f64 * width as f64;
    let mut cells = Vec::with_capacity(parts.len());
    for &part in parts {
        let wanted = (share(part).round() as usize).max(usize::from(part > 0));
        let given = wanted.min(left);
        left -= given;
        cells.push(given);
    }
    debug_assert_eq!(
        cells.iter().sum::<usize>() + left,
        width,
        "within the width"
    );
    cells
}

#[cfg(test)]
mod tests {
    use super::*;

    // A bar is never longer than its width.
    #[test]
    fn bar_length_matches_its_share() {
        assert_eq!(bar(0.0, 10), "");
        assert_eq!(bar(1e-9, 10), "▏");
        assert_eq!(bar(0.5, 3), "█▌");
        assert_eq!(bar(1.0, 4), "████");
        assert_eq!(bar(7.0, 4), "████");
        assert_eq!(bar(f64::NAN, 4), "");
    }

    #[test]
    fn only_zero_has_empty_level() {
        assert_eq!(
            [0.0, 0.001, 0.5, 0.95, 1.0, 2.0].map(level),
            [' ', '▁', '▄', '█', '█', '█']
        );
    }

    #[test]
    fn nonzero_parts_get_a_cell() {
        assert_eq!(cells(&[1, 1_000_000], 1_000_001, 10), [1, 9]);
        assert_eq!(cells(&[0, 5, 5], 10, 4), [0, 2, 2]);
        assert_eq!(cells(&[10, 10], 10, 4), [4, 0]);
    }
}
