//! Eight control bytes at once, matched inside one word.
//!
//! Knows the values of control bytes, not which slots they stand for.

use crate::format::region::{DELETED, EMPTY};

const HIGH: u64 = 0x8080_8080_8080_8080;
const LOW: u64 = 0x0101_0101_0101_0101;

/// The control bytes of eight neighbouring slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Group(pub u64);

/// A set of the eight bytes of a group: the top bit of each member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Matches(u64);

impl Group {
    pub(crate) const WIDTH: u32 = 8;

    /// The bytes equal to `control`.
    #[inline]
    pub(crate) fn matching(self, control: u8) -> Matches {
        let differing = self.0 ^ (LOW * u64::from(control));
        // Exact: without carries from byte to byte there are no false neighbours.
        Matches(!(((differing & !HIGH) + !HIGH) | differing) & HIGH)
    }

    /// The bytes that end a probe. The top bit and the lowest must both be clear: the usual
    /// zero-byte trick takes a DELETED byte above an EMPTY one for EMPTY.
    #[inline]
    pub(crate) fn empty(self) -> Matches {
        const { assert!(EMPTY == 0 && DELETED == 1) };
        Matches(!self.0 & !(self.0 << 7) & HIGH)
    }

    /// The bytes of slots that may be taken: empty and deleted ones.
    #[inline]
    pub(crate) fn vacant(self) -> Matches {
        Matches(!self.0 & HIGH)
    }

    /// The bytes of slots that are taken.
    #[inline]
    pub(crate) fn full(self) -> Matches {
        Matches(self.0 & HIGH)
    }

    pub(crate) fn byte(self, index: u32) -> u8 {
        (self.0 >> (8 * index)) as u8
    }

    pub(crate) fn with_byte(self, index: u32, control: u8) -> Self {
        let shift = 8 * index;
        Self(self.0 & !(0xff << shift) | (u64::from(control) << shift))
    }
}

impl Matches {
    #[inline]
    pub(crate) fn any(self) -> bool {
        self.0 != 0
    }

    pub(crate) fn count(self) -> u32 {
        // The product adds up all bytes in the topmost: there may be no instruction to count bits.
        ((self.0 >> 7).wrapping_mul(LOW) >> 56) as u32
    }

    /// The last member.
    pub(crate) fn last_member(self) -> Option<u32> {
        self.any().then(|| 7 - self.0.leading_zeros() / 8)
    }
}

impl Iterator for Matches {
    type Item = u32;

    #[inline]
    fn next(&mut self) -> Option<u32> {
        if self.0 == 0 {
            return None;
        }
        let index = self.0.trailing_zeros() / 8;
        self.0 &= self.0 - 1;
        Some(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Each pair of neighbouring bytes matches as it would one byte at a time.
    #[test]
    fn group_matches_every_byte_pair() {
        let bytes = [EMPTY, DELETED, 0x80, 0x81, 0xff, 0xfe];
        for a in bytes {
            for b in bytes {
                for c in bytes {
                    let group = Group(u64::from_le_bytes([a, b, c, a, c, b, b, a]));
                    let naive = |wanted: &dyn Fn(u8) -> bool| -> Vec<u32> {
                        (0..8).filter(|&index| wanted(group.byte(index))).collect()
                    };
                    assert_eq!(
                        group.empty().collect::<Vec<_>>(),
                        naive(&|byte| byte == EMPTY),
                        "{group:x?}"
                    );
                    assert_eq!(
                        group.vacant().collect::<Vec<_>>(),
                        naive(&|byte| byte < 0x80),
                        "{group:x?}"
                    );
                    let full = naive(&|byte| byte >= 0x80);
                    assert_eq!(group.full().count(), full.len() as u32);
                    assert_eq!(group.full().last_member(), full.last().copied());
                    assert_eq!(group.full().collect::<Vec<_>>(), full, "{group:x?}");
                    for control in bytes {
                        assert_eq!(
                            group.matching(control).collect::<Vec<_>>(),
                            naive(&|byte| byte == control)
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn changed_byte_leaves_its_neighbours() {
        let group = Group(u64::MAX).with_byte(3, 0x81);
        assert_eq!(
            (group.byte(2), group.byte(3), group.byte(4)),
            (0xff, 0x81, 0xff)
        );
    }
}
