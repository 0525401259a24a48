//! [`Expiring`]: a value that carries its deadline through both tiers of foyer. Calls nothing of this
//! crate.

use std::io::{Read, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use foyer::Code;

/// The stored deadline of a value that has none.
const NEVER: u64 = u64::MAX;

/// A value with a deadline, for a `HybridCache<K, Expiring<V>>`: foyer itself knows no deadlines.
///
/// The value cannot be read after its deadline: [`get`](Self::get) returns `None`, from whichever tier the
/// entry came. An engine made by
/// [`MmapEngineConfig::expiring`](crate::MmapEngineConfig::expiring) does not return an expired entry at
/// all; [`FreshEntries`](crate::FreshEntries) treats one in memory as a miss.
///
/// Deadlines are moments of the system's wall clock, in whole milliseconds, rounded down: they hold over
/// restarts. If the clock is set back, values live longer by as much.
///
/// ```
/// use std::time::Duration;
/// use mmapcache_foyer::Expiring;
///
/// let page = Expiring::new("<h1>Hello</h1>", Duration::from_secs(60));
/// assert_eq!(page.get(), Some(&"<h1>Hello</h1>"));
/// assert_eq!(Expiring::new("gone", Duration::ZERO).get(), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expiring<V> {
    value: V,
    /// Milliseconds since the Unix epoch, or [`NEVER`].
    deadline: u64,
}

impl<V> Expiring<V> {
    /// Returns a value that expires `life` from now. A life that ends after the year 584,556,019 never
    /// ends.
    pub fn new(value: V, life: Duration) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let deadline = now.unwrap_or_default().checked_add(life);
        Self {
            value,
            deadline: deadline.map_or(NEVER, millis),
        }
    }

    /// Returns a value that expires at a moment.
    pub fn until(value: V, deadline: SystemTime) -> Self {
        Self {
            value,
            deadline: millis(deadline.duration_since(UNIX_EPOCH).unwrap_or_default()),
        }
    }

    /// Returns a value that never expires.
    pub fn forever(value: V) -> Self {
        Self {
            value,
            deadline: NEVER,
        }
    }

    /// Returns the value, or `None` once its deadline has passed. Reads the clock if there is a deadline.
    pub fn get(&self) -> Option<&V> {
        (!self.is_expired()).then_some(&self.value)
    }

    /// Returns the value, or `None` once its deadline has passed, as [`get`](Self::get).
    pub fn into_inner(self) -> Option<V> {
        (!self.is_expired()).then_some(self.value)
    }

    /// Returns whether the deadline has passed.
    pub fn is_expired(&self) -> bool {
        self.deadline != NEVER && {
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            self.deadline <= millis(now.unwrap_or_default())
        }
    }

    /// Returns the moment from which on the value is expired, `None` if it never is.
    pub fn deadline(&self) -> Option<SystemTime> {
        (self.deadline != NEVER)
            .then(|| UNIX_EPOCH.checked_add(Duration::from_millis(self.deadline)))?
    }
}

impl<V: Code> Code for Expiring<V> {
    fn encode(&self, writer: &mut impl Write) -> foyer::Result<()> {
        writer
            .write_all(&self.deadline.to_le_bytes())
            .map_err(foyer::Error::io_error)?;
        self.value.encode(writer)
    }

    fn decode(reader: &mut impl Read) -> foyer::Result<Self> {
        let mut deadline = [0; 8];
        reader
            .read_exact(&mut deadline)
            .map_err(foyer::Error::io_error)?;
        Ok(Self {
            deadline: u64::from_le_bytes(deadline),
            value: V::decode(reader)?,
        })
    }

    fn estimated_size(&self) -> usize {
        size_of::<u64>() + self.value.estimated_size()
    }
}

/// Returns a time since the epoch in milliseconds, rounded down.
fn millis(since_epoch: Duration) -> u64 {
    u64::try_from(since_epoch.as_millis()).unwrap_or(NEVER)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `forever` must not be mistaken for a moment, nor a moment for `forever`.
    #[test]
    fn deadlines_survive_their_encoding() {
        let moment = UNIX_EPOCH + Duration::from_millis(1_234_567_890_123);
        for value in [
            Expiring::until(7_u64, moment),
            Expiring::forever(8),
            Expiring::until(9, UNIX_EPOCH),
        ] {
            let mut bytes = Vec::new();
            value.encode(&mut bytes).unwrap();
            assert_eq!(bytes.len(), value.estimated_size());
            let decoded = Expiring::<u64>::decode(&mut &bytes[..]).unwrap();
            assert_eq!((decoded, decoded.deadline()), (value, value.deadline()));
        }
        assert_eq!(Expiring::until(1, moment).deadline(), Some(moment));
        assert_eq!(Expiring::forever(1).deadline(), None);
    }

    #[test]
    fn expired_value_is_not_readable() {
        let now = SystemTime::now();
        let past = Expiring::until(1, now - Duration::from_millis(5));
        assert_eq!((past.get(), past.into_inner()), (None, None));
        let future = Expiring::until(1, now + Duration::from_secs(60));
        assert_eq!((future.get(), future.into_inner()), (Some(&1), Some(1)));
    }

    #[test]
    fn endless_life_never_expires() {
        assert_eq!(Expiring::new(1, Duration::MAX).deadline(), None);
        assert_eq!(Expiring::new(1, Duration::MAX).get(), Some(&1));
    }
}
