//! The limits and defaults of a `Cache`, which all its processes share.
//!
//! Eight words of the index header, the last of which checks the others, and eight more with the same:
//! a reader without the lock sees all of them from one change, or reads again. Calls no other module.

/// Words of the settings, the check included.
pub(crate) const WORDS: usize = 8;

/// What becomes of an insertion that exceeds a limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum EvictionPolicy {
    /// The oldest entries that no reader has used since they were written, or last passed over.
    #[default]
    Clock,
    /// The oldest entries.
    Fifo,
    /// No entry: the insertion is refused.
    Refuse,
}

/// Limits and defaults; 0 is no limit, and no default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Bytes of disk that all files may take.
    pub max_bytes: u64,
    pub max_entries: u64,
    /// Milliseconds.
    pub time_to_live: u64,
    /// Milliseconds.
    pub time_to_idle: u64,
    /// Milliseconds after the deadline in which a value is still served.
    pub stale_for: u64,
    /// Milliseconds after the deadline in which a value replaces one that cannot be computed.
    pub stale_on_error: u64,
    pub eviction: EvictionPolicy,
    /// Percent by which a life is shortened at random, at most.
    pub jitter: u8,
}

/// The bytes of disk that all files of a cache may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bound(pub u64);

impl Bound {
    /// Returns by how many bytes the files may exceed the bound for a moment.
    pub(crate) fn step(self) -> u64 {
        (self.0 / 16).max(4 << 20)
    }

    /// Returns the capacity of a segment: what cleaning frees at a time.
    pub(crate) fn segment(self) -> u64 {
        (self.0 / 32).max(128 << 10)
    }

    /// Returns the bytes of the longest record that may be put.
    pub(crate) fn longest_record(self) -> u64 {
        self.0 / 16
    }

    /// Returns by how many bytes files may grow in a put beside its record: index, roster, and room
    /// ahead.
    pub(crate) fn ahead(self) -> u64 {
        (self.0 / 64).min(1 << 20)
    }
}

impl Settings {
    /// Returns the bound of bytes, if there is one.
    #[inline]
    pub(crate) fn bound(&self) -> Option<Bound> {
        (self.max_bytes > 0).then_some(Bound(self.max_bytes))
    }

    pub(crate) fn to_words(self) -> [u64; WORDS] {
        let eviction = match self.eviction {
            EvictionPolicy::Clock => 0,
            EvictionPolicy::Fifo => 1,
            EvictionPolicy::Refuse => 2,
        };
        let mut words = [
            self.max_bytes,
            self.max_entries,
            self.time_to_live,
            self.time_to_idle,
            self.stale_for,
            self.stale_on_error,
            eviction | u64::from(self.jitter) << 8,
            0,
        ];
        words[WORDS - 1] = check(&words);
        words
    }

    /// Returns the settings, or `None` if the words do not pass their check.
    pub(crate) fn from_words(words: [u64; WORDS]) -> Option<Self> {
        if words[WORDS - 1] != check(&words) {
            return None;
        }
        let eviction = match words[6] & 0xff {
            0 => EvictionPolicy::Clock,
            1 => EvictionPolicy::Fifo,
            2 => EvictionPolicy::Refuse,
            _ => return None,
        };
        Some(Self {
            max_bytes: words[0],
            max_entries: words[1],
            time_to_live: words[2],
            time_to_idle: words[3],
            stale_for: words[4],
            stale_on_error: words[5],
            eviction,
            jitter: (words[6] >> 8) as u8,
        })
    }
}

/// Returns the check of all words but the last: 0 if they are all 0, as in a new file.
fn check(words: &[u64; WORDS]) -> u64 {
    const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
    let sum = words[..WORDS - 1].iter().zip(0_u64..);
    let sum = sum.fold(0_u64, |sum, (word, at)| {
        let factor = MULTIPLIER.wrapping_mul(2 * at + 3);
        sum.wrapping_add(word.wrapping_mul(factor))
    });
    (sum ^ (sum >> 32)).wrapping_mul(MULTIPLIER)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Settings {
        Settings {
            max_bytes: 1 << 30,
            max_entries: 1_000_000,
            time_to_live: 600_000,
            time_to_idle: 60_000,
            stale_for: 1,
            stale_on_error: u64::MAX,
            eviction: EvictionPolicy::Refuse,
            jitter: 10,
        }
    }

    #[test]
    fn settings_round_trip() {
        for settings in [example(), Settings::default()] {
            assert_eq!(Settings::from_words(settings.to_words()), Some(settings));
        }
        assert_eq!(Settings::default().to_words(), [0; WORDS]);
    }

    #[test]
    fn flipped_bits_are_noticed() {
        for settings in [example(), Settings::default()] {
            for bit in 0..WORDS * 64 {
                let mut words = settings.to_words();
                words[bit / 64] ^= 1 << (bit % 64);
                assert_eq!(Settings::from_words(words), None, "{bit}");
            }
        }
    }
}
