//! The word by which writers lock the index.
//!
//! Knows the packing, not who takes it when.

/// Byte of the index file that the contender with number 0 would lock; no file is as long.
#[cfg(all(target_os = "linux", not(loom)))]
pub(crate) const FIRST_LIFE: i64 = 1 << 62;
/// Contenders' numbers are less than this, and not 0.
pub(crate) const NUMBERS: u32 = 1 << 31;

/// The lock word.
///
/// Bits 0 to 30: the owner's number. Bit 31: somebody sleeps until this changes. From bit 32: the
/// number of the waiter who is next. An owner who leaves with somebody next leaves the word without
/// owner, and nobody else takes it for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct State(pub u64);

impl State {
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

    /// What sleeping waiters compare.
    pub(crate) fn low(self) -> u32 {
        self.0 as u32
    }

    pub(crate) fn owned_by(self, owner: u32) -> Self {
        Self((self.0 & !Self::OWNER) | u64::from(owner))
    }

    pub(crate) fn awaited(self) -> Self {
        Self(self.0 | Self::AWAITED)
    }

    pub(crate) fn with_next(self, next: u32) -> Self {
        Self(u64::from(self.low()) | (u64::from(next) << 32))
    }
}
