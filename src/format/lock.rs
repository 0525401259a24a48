//! The word by which writers lock the index.
//!
//! Packs and unpacks the word; independent of the rules by which it is acquired.

/// The byte of the index file that a contender with owner id 0 would lock. No file is as long.
#[cfg(all(target_os = "linux", not(loom)))]
pub(crate) const FIRST_LIVENESS_BYTE: i64 = 1 << 62;
/// The byte of the index file that a computation of a key locks whose number is 0.
#[cfg(all(target_os = "linux", not(loom)))]
pub(crate) const FIRST_COMPUTATION_BYTE: i64 = 1 << 61;
/// Computations of a key have numbers below this.
pub(crate) const COMPUTATIONS: u64 = 1 << 61;
/// The limit of owner ids, which are not 0.
pub(crate) const OWNER_IDS: u32 = 1 << 31;

/// The lock word.
///
/// Bits 0 to 30: the id of the owner. Bit 31: waiters sleep until the word changes. From bit 32: the
/// id of the waiter that gets the lock next. An owner that releases the lock with a next waiter leaves
/// the word without an owner, and other handles leave it alone for a while (the handoff).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LockWord(pub u64);

impl LockWord {
    pub(crate) const FREE: Self = Self(0);
    const AWAITED: u64 = 1 << 31;
    const OWNER: u64 = Self::AWAITED - 1;

    pub(crate) fn owner(self) -> u32 {
        (self.0 & Self::OWNER) as u32
    }

    pub(crate) fn is_awaited(self) -> bool {
        self.0 & Self::AWAITED != 0
    }

    pub(crate) fn next(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Returns the half that sleeping waiters compare.
    pub(crate) fn low(self) -> u32 {
        self.0 as u32
    }

    pub(crate) fn owned_by(self, owner: u32) -> Self {
        debug_assert!(owner < OWNER_IDS, "the other bits are not the owner's");
        Self((self.0 & !Self::OWNER) | u64::from(owner))
    }

    pub(crate) fn awaited(self) -> Self {
        Self(self.0 | Self::AWAITED)
    }

    pub(crate) fn with_next(self, next: u32) -> Self {
        Self(u64::from(self.low()) | (u64::from(next) << 32))
    }
}
