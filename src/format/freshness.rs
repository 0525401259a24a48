//! When an entry is fresh, stale or expired: the one place that decides.
//!
//! Knows neither files nor clocks. Calls no other module.

/// What a reader may do with an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Freshness {
    /// Before its deadline.
    Fresh,
    /// After its deadline, and still served.
    Stale,
    /// After its deadline, and not served any more.
    Expired,
    /// What limited it may be lost: nothing may be served of it, whatever its deadline says.
    Distrusted,
    /// Not newer than the last invalidation of one of its groups.
    Invalidated,
}

/// What decides about an entry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    pub version: u64,
    /// In milliseconds since the Unix epoch.
    pub deadline: Option<u64>,
    pub is_negative: bool,
    /// Milliseconds after the deadline in which the entry itself says that it is served.
    pub stale_for: Option<u64>,
    /// The version of the last invalidation of its groups; 0 if there is none.
    pub invalidated_upto: u64,
    /// The last version whose limits may be lost; 0 if there is none.
    pub distrusted_upto: u64,
}

impl Facts {
    /// Decides. Reads the clock, in milliseconds since the Unix epoch, only if there is a deadline,
    /// and the default of the cache only if the deadline has passed.
    #[inline]
    pub(crate) fn freshness(
        &self,
        now: impl FnOnce() -> u64,
        stale_by_default: impl FnOnce() -> u64,
    ) -> Freshness {
        if self.version <= self.invalidated_upto {
            return Freshness::Invalidated;
        }
        if self.version <= self.distrusted_upto {
            return Freshness::Distrusted;
        }
        let Some(deadline) = self.deadline else {
            return Freshness::Fresh;
        };
        let now = now();
        if now < deadline {
            return Freshness::Fresh;
        }
        if self.is_negative {
            return Freshness::Expired;
        }
        let stale_for = self.stale_for.unwrap_or_else(stale_by_default);
        match now < deadline.saturating_add(stale_for) {
            true => Freshness::Stale,
            false => Freshness::Expired,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Facts = Facts {
        version: 10,
        deadline: Some(1_000),
        is_negative: false,
        stale_for: None,
        invalidated_upto: 0,
        distrusted_upto: 0,
    };

    #[track_caller]
    fn assert_at(facts: Facts, by_default: u64, expected: &[(u64, Freshness)]) {
        for &(now, expected) in expected {
            let found = facts.freshness(|| now, || by_default);
            assert_eq!(found, expected, "at {now}");
        }
    }

    #[test]
    fn deadlines_begin_each_state() {
        use Freshness::{Expired, Fresh, Stale};
        assert_at(PLAIN, 0, &[(999, Fresh), (1_000, Expired)]);
        let by_default = [
            (999, Fresh),
            (1_000, Stale),
            (1_004, Stale),
            (1_005, Expired),
        ];
        assert_at(PLAIN, 5, &by_default);
        let own = |stale_for| Facts {
            stale_for: Some(stale_for),
            ..PLAIN
        };
        assert_at(own(2), 5, &[(1_001, Stale), (1_002, Expired)]);
        assert_at(own(0), 5, &[(999, Fresh), (1_000, Expired)]);
        assert_at(own(u64::MAX), 5, &[(1_000, Stale), (u64::MAX - 1, Stale)]);
        let negative = Facts {
            is_negative: true,
            ..own(100)
        };
        assert_at(negative, 5, &[(999, Fresh), (1_000, Expired)]);
        let forever = Facts {
            deadline: None,
            ..PLAIN
        };
        assert_at(forever, 0, &[(0, Fresh), (u64::MAX, Fresh)]);
    }

    // Neither is ever served, whatever the deadline says.
    #[test]
    fn invalidated_entries_are_never_stale() {
        for (upto, expected) in [(9, Freshness::Fresh), (10, Freshness::Invalidated)] {
            let facts = Facts {
                invalidated_upto: upto,
                stale_for: Some(1_000),
                ..PLAIN
            };
            assert_at(facts, 5, &[(0, expected)]);
            let stale = facts.freshness(|| 1_000, || 5) == Freshness::Stale;
            assert_eq!(stale, upto == 9);
        }
        let distrusted = Facts {
            distrusted_upto: 10,
            stale_for: Some(1_000),
            ..PLAIN
        };
        assert_at(
            distrusted,
            5,
            &[(0, Freshness::Distrusted), (1_000, Freshness::Distrusted)],
        );
    }
}
