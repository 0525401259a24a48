//! The life of an entry of a cache: its deadline, relative to the time of its version, in four bytes.
//!
//! Packs and unpacks it. Calls nothing.

/// The deadline of an entry minus the time of its version, in milliseconds, or none.
///
/// A sign (bit 31), an exponent (bits 27 to 30) and a mantissa (bits 0 to 26): exact below 2^27 ms,
/// some 37 hours, and to 1/2^26 of the difference beyond, up to 2^42 ms, some 139 years. A deadline
/// before the version's time is possible: versions continue from the last one if the clock was set
/// back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Life(pub u32);

impl Life {
    /// No deadline.
    pub(crate) const NONE: Self = Self(0);
    const MANTISSA_BITS: u32 = 27;
    const MANTISSA: u64 = (1 << Self::MANTISSA_BITS) - 1;
    const EXPONENT: u32 = 15;
    const NEGATIVE: u32 = 1 << 31;
    /// The longest difference, in milliseconds.
    pub(crate) const LONGEST: u64 = Self::MANTISSA << Self::EXPONENT;
    const NS_PER_MS: u64 = 1_000_000;

    /// Returns the life of an entry that was written at `version`, in nanoseconds since the Unix epoch,
    /// and whose deadline is `deadline`, in milliseconds since then. Rounds down, so no entry lives
    /// longer than it was given. Shortens what is longer than [`LONGEST`](Self::LONGEST).
    pub(crate) fn new(version: u64, deadline: u64) -> Self {
        let written = version / Self::NS_PER_MS;
        match deadline.checked_sub(written) {
            // The code of no deadline: a millisecond less.
            Some(0) => Self(Self::NEGATIVE | 1),
            Some(after) => Self(Self::pack(after, 0)),
            None => {
                let before = written - deadline;
                Self(Self::NEGATIVE | Self::pack(before, 1))
            }
        }
    }

    /// Packs a difference; rounds it up if `up` is 1, otherwise down.
    fn pack(difference: u64, up: u64) -> u32 {
        let difference = difference.min(Self::LONGEST);
        let bits = u64::BITS - difference.leading_zeros();
        let exponent = bits.saturating_sub(Self::MANTISSA_BITS);
        let lost = difference & ((1 << exponent) - 1);
        let mantissa = (difference >> exponent) + up.min(lost);
        debug_assert!(exponent <= Self::EXPONENT, "the difference was limited");
        // Rounding up may need one more bit: the next exponent has it exactly, if there is one.
        if mantissa > Self::MANTISSA && exponent < Self::EXPONENT {
            return ((exponent + 1) << Self::MANTISSA_BITS) | (mantissa >> 1) as u32;
        }
        (exponent << Self::MANTISSA_BITS) | mantissa.min(Self::MANTISSA) as u32
    }

    /// Returns the deadline in milliseconds since the Unix epoch. `None` if there is none.
    #[inline]
    pub(crate) fn deadline(self, version: u64) -> Option<u64> {
        if self == Self::NONE {
            return None;
        }
        let written = version / Self::NS_PER_MS;
        let mantissa = u64::from(self.0) & Self::MANTISSA;
        let exponent = (self.0 & !Self::NEGATIVE) >> Self::MANTISSA_BITS;
        let difference = mantissa << exponent;
        Some(if self.0 & Self::NEGATIVE == 0 {
            written.saturating_add(difference)
        } else {
            written.saturating_sub(difference)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERSION: u64 = 1_790_000_000_123_456_789;
    const WRITTEN: u64 = VERSION / 1_000_000;
    const DAY: u64 = 86_400_000;

    fn round_trip(deadline: u64) -> u64 {
        Life::new(VERSION, deadline).deadline(VERSION).unwrap()
    }

    // Redis and leases of half a second need milliseconds; a longer life than given serves stale data.
    #[test]
    fn lives_below_a_day_are_exact() {
        for life in [1, 2, 499, 500, 86_399_999, DAY, (1 << 27) - 1] {
            assert_eq!(round_trip(WRITTEN + life), WRITTEN + life);
            assert_eq!(round_trip(WRITTEN - life), WRITTEN - life);
        }
        assert_eq!(round_trip(WRITTEN), WRITTEN - 1, "no code of its own");
    }

    #[test]
    fn long_lives_round_down() {
        let years = 365 * DAY;
        let mut life = 1_u64 << 27;
        while life < 139 * years {
            let most = Life::LONGEST;
            for life in [life - 1, life, life + 1, (life + life / 3).min(most)] {
                for deadline in [WRITTEN + life, WRITTEN.saturating_sub(life)] {
                    let kept = round_trip(deadline);
                    assert!(kept <= deadline, "{deadline} becomes {kept}");
                    assert!(
                        deadline - kept <= (life >> 26) + 1,
                        "{deadline} becomes {kept}"
                    );
                }
            }
            life = life * 3 / 2;
        }
        assert!(round_trip(WRITTEN + 60 * years) > WRITTEN + 60 * years - 60_000);
        assert_eq!(round_trip(u64::MAX), WRITTEN + Life::LONGEST);
        assert_eq!(round_trip(0), WRITTEN.saturating_sub(Life::LONGEST));
    }
}
