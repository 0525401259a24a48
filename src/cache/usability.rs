//! Decides whether an entry is returned, recomputed, or both.
//!
//! May call `cache::compute_options`, `cache::found` and `format`.

use std::time::Duration;

use crate::cache::compute_options::ComputeOptions;
use crate::cache::found::Found;
use crate::format::freshness::Freshness;
use crate::format::settings::Settings;

/// What an entry is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Usability {
    Fresh,
    /// Fresh; this caller recomputes it if no other one does (XFetch).
    Early,
    /// Past its deadline, within the time in which it is still served: one caller recomputes it.
    Stale,
    /// Past that. `on_error`: it may stand in for a computation that fails.
    Expired {
        on_error: bool,
    },
}

/// Decides about an entry at `now`, in milliseconds since the Unix epoch. `draw` is a random number,
/// above 0 and at most 1.
pub(super) fn decide(
    found: &Found,
    options: &ComputeOptions,
    now: u64,
    settings: impl FnOnce() -> Settings,
    draw: impl FnOnce() -> f64,
) -> Usability {
    let on_error = match found.freshness {
        Freshness::Fresh => {
            let is_early = is_early_now(found, options, now, draw);
            return match is_early {
                true => Usability::Early,
                false => Usability::Fresh,
            };
        }
        Freshness::Stale => return Usability::Stale,
        // Whatever fails, these never count again.
        Freshness::Distrusted | Freshness::Invalidated => false,
        Freshness::Expired => found.deadline.is_some_and(|deadline| {
            let late = now.saturating_sub(deadline);
            late < options.stale_on_error_millis(settings().stale_on_error)
        }),
    };
    Usability::Expired { on_error }
}

fn is_early_now(
    found: &Found,
    options: &ComputeOptions,
    now: u64,
    draw: impl FnOnce() -> f64,
) -> bool {
    let (Some(deadline), Some(cost)) = (found.deadline, found.extension.cost) else {
        return false;
    };
    let (left, cost) = (
        deadline.saturating_sub(now),
        Duration::from_micros(cost.get()),
    );
    options.beta() > 0.0 && is_early(left, cost, options.beta(), draw)
}

/// Returns whether to recompute `left` milliseconds before the deadline: with probability
/// exp(-left / (beta · cost)), by Vattani, Chierichetti and Lowenstein, "Optimal Probabilistic Cache
/// Stampede Prevention", 2015.
fn is_early(left: u64, cost: Duration, beta: f64, draw: impl FnOnce() -> f64) -> bool {
    let scale = beta * cost.as_secs_f64() * 1_000.0;
    // exp(-40) is less than the smallest draw.
    left as f64 <= 40.0 * scale && -draw().ln() * scale >= left as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::insert::InsertOptions;
    use crate::format::extension::{Extension, Span};
    use crate::format::record::Traits;

    const SECOND: Duration = Duration::from_secs(1);

    fn found(freshness: Freshness) -> Found {
        Found {
            value: Vec::new(),
            version: 1_000_000,
            traits: Traits::NONE,
            extension: Extension {
                cost: Some(Span::new(1_000_000)),
                ..Extension::default()
            },
            deadline: Some(5_000),
            freshness,
        }
    }

    #[test]
    fn lateness_decides_what_replaces_failures() {
        let settings = Settings {
            stale_on_error: 1_000,
            ..Settings::default()
        };
        let decided = |now, freshness, options: &ComputeOptions, settings: Settings| {
            decide(&found(freshness), options, now, || settings, || 1.0)
        };
        let (usable, expired) = (
            Usability::Expired { on_error: true },
            Usability::Expired { on_error: false },
        );
        let plain = ComputeOptions::new();
        for (now, freshness, expected) in [
            (4_999, Freshness::Fresh, Usability::Fresh),
            (5_000, Freshness::Stale, Usability::Stale),
            (5_999, Freshness::Expired, usable),
            (6_000, Freshness::Expired, expired),
            (5_000, Freshness::Invalidated, expired),
            (5_000, Freshness::Distrusted, expired),
        ] {
            assert_eq!(decided(now, freshness, &plain, settings), expected, "{now}");
        }
        let own = ComputeOptions::from(InsertOptions::new()).stale_on_error(2 * SECOND);
        let none = Settings::default();
        assert_eq!(decided(6_999, Freshness::Expired, &own, none), usable);
        assert_eq!(decided(7_000, Freshness::Expired, &own, none), expired);
    }

    // Only for callers that ask for it, and more likely near the deadline.
    #[test]
    fn early_recomputations_are_asked_for() {
        let decided = |now, options: &ComputeOptions, draw| {
            let fresh = found(Freshness::Fresh);
            decide(&fresh, options, now, Settings::default, || draw)
        };
        let early = ComputeOptions::new().early(1.0);
        assert_eq!(decided(4_500, &early, 0.5), Usability::Early);
        assert_eq!(decided(4_000, &early, 0.5), Usability::Fresh);
        assert_eq!(
            decided(4_999, &ComputeOptions::new(), 0.01),
            Usability::Fresh
        );
    }

    // Of many draws, the share of early ones is exp(-left / (beta * cost)).
    #[test]
    fn early_share_follows_formula() {
        let draws = 10_000;
        for (left, beta) in [(0, 1.0), (500, 1.0), (1_000, 1.0), (1_000, 2.0)] {
            let early = (1..=draws)
                .filter(|&draw| is_early(left, SECOND, beta, || f64::from(draw) / f64::from(draws)))
                .count();
            let expected = (-(left as f64) / (beta * 1_000.0)).exp();
            let share = early as f64 / f64::from(draws);
            assert!((share - expected).abs() < 0.001, "{left} {beta}: {share}");
        }
        assert!(!is_early(40_001, SECOND, 1.0, || panic!("hopeless")));
    }
}
