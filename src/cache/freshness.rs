//! Decides whether an entry is returned, recomputed, or both.
//!
//! May call `cache::compute_options`, `engine::read::lookup` and `format`.

use std::time::Duration;

use crate::cache::compute_options::ComputeOptions;
use crate::engine::read::lookup::EntryTerms;
use crate::format::settings::Settings;

/// What an entry is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Freshness {
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
    terms: &EntryTerms,
    options: &ComputeOptions,
    now: u64,
    settings: impl FnOnce() -> Settings,
    draw: impl FnOnce() -> f64,
) -> Freshness {
    let Some(deadline) = terms.life.deadline(terms.version) else {
        return Freshness::Fresh;
    };
    if now < deadline {
        let is_early = cost_of(terms).is_some_and(|cost| {
            options.beta() > 0.0 && is_early(deadline - now, cost, options.beta(), draw)
        });
        return if is_early {
            Freshness::Early
        } else {
            Freshness::Fresh
        };
    }
    let (late, settings) = (now - deadline, settings());
    if late < stale_for(terms, options, &settings) {
        return Freshness::Stale;
    }
    Freshness::Expired {
        on_error: late < options.stale_on_error_millis(settings.stale_on_error),
    }
}

/// Returns whether to recompute `left` milliseconds before the deadline: with probability
/// exp(-left / (beta · cost)), by Vattani, Chierichetti and Lowenstein, "Optimal Probabilistic Cache
/// Stampede Prevention", 2015.
fn is_early(left: u64, cost: Duration, beta: f64, draw: impl FnOnce() -> f64) -> bool {
    let scale = beta * cost.as_secs_f64() * 1_000.0;
    // exp(-40) is less than the smallest draw.
    left as f64 <= 40.0 * scale && -draw().ln() * scale >= left as f64
}

/// Returns the time that the computation of an entry took. Not stored yet.
fn cost_of(_terms: &EntryTerms) -> Option<Duration> {
    None
}

/// Returns how long after its deadline an entry is still served, in milliseconds.
fn stale_for(_terms: &EntryTerms, _options: &ComputeOptions, settings: &Settings) -> u64 {
    #[cfg(test)]
    if let Some(time) = _options.stale_for {
        return time.as_millis() as u64;
    }
    settings.stale_for
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::insert::InsertOptions;
    use crate::format::life::Life;
    use crate::format::record::Traits;

    const SECOND: Duration = Duration::from_secs(1);

    fn terms(deadline: u64) -> EntryTerms {
        EntryTerms {
            version: 1_000_000,
            life: Life::new(1_000_000, deadline),
            traits: Traits::default(),
        }
    }

    fn decided(now: u64, options: &ComputeOptions, settings: Settings) -> Freshness {
        decide(&terms(5_000), options, now, || settings, || 1.0)
    }

    #[test]
    fn lateness_decides_what_is_served() {
        let settings = Settings {
            stale_for: 100,
            stale_on_error: 1_000,
            ..Settings::default()
        };
        let options = ComputeOptions::new();
        for (now, expected) in [
            (4_999, Freshness::Fresh),
            (5_000, Freshness::Stale),
            (5_099, Freshness::Stale),
            (5_100, Freshness::Expired { on_error: true }),
            (5_999, Freshness::Expired { on_error: true }),
            (6_000, Freshness::Expired { on_error: false }),
        ] {
            assert_eq!(decided(now, &options, settings), expected, "{now}");
        }
        let none = Settings::default();
        let expired = Freshness::Expired { on_error: false };
        assert_eq!(decided(5_000, &options, none), expired);
        let own = ComputeOptions::from(InsertOptions::new()).stale_on_error(2 * SECOND);
        let usable = Freshness::Expired { on_error: true };
        assert_eq!(decided(6_999, &own, none), usable);
        assert_eq!(decided(7_000, &own, none), expired);
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
