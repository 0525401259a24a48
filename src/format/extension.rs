//! The extension of a record of a `Cache`: what else is known of an entry, after its value.
//!
//! Packs and unpacks it. The parts have a fixed order, and the traits of the record say which are
//! there. May call `format::record`.

use crate::format::record::Traits;

/// A duration in four bytes: `mantissa * 2^exponent`, the exponent in bits 27 to 31. Exact below
/// 2^27, and to 1/2^26 of the duration beyond.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span(pub u32);

impl Span {
    const MANTISSA_BITS: u32 = 27;
    const MANTISSA: u32 = (1 << Self::MANTISSA_BITS) - 1;

    /// Packs a duration; rounds it down.
    pub(crate) fn new(duration: u64) -> Self {
        let bits = u64::BITS - duration.leading_zeros();
        let exponent = bits.saturating_sub(Self::MANTISSA_BITS);
        if exponent >> (u32::BITS - Self::MANTISSA_BITS) != 0 {
            return Self(u32::MAX);
        }
        Self((exponent << Self::MANTISSA_BITS) | (duration >> exponent) as u32)
    }

    pub(crate) fn get(self) -> u64 {
        u64::from(self.0 & Self::MANTISSA) << (self.0 >> Self::MANTISSA_BITS)
    }
}

/// What the extension of a record says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Extension {
    /// Milliseconds after the deadline in which the value is still served.
    pub stale_for: Option<Span>,
    /// Microseconds that the value took to compute.
    pub cost: Option<Span>,
    /// The hash of the tag's name.
    pub tag: Option<u64>,
    /// The hash of the namespace's name.
    pub namespace: Option<u64>,
}

impl Extension {
    /// Divides what a record stores into the length of its value, and its extension. `None` if it is
    /// shorter than its extension.
    #[inline]
    pub(crate) fn split(traits: Traits, stored: &[u8]) -> Option<(usize, Self)> {
        let value_len = stored
            .len()
            .checked_sub(traits.extension_bytes() as usize)?;
        let mut rest = &stored[value_len..];
        let extension = Self {
            stale_for: part(traits, Traits::STALE_FOR, &mut rest).map(span),
            cost: part(traits, Traits::COST, &mut rest).map(span),
            tag: part(traits, Traits::TAG, &mut rest).map(u64::from_le_bytes),
            namespace: part(traits, Traits::NAMESPACE, &mut rest).map(u64::from_le_bytes),
        };
        debug_assert!(rest.is_empty(), "the length is that of all parts");
        Some((value_len, extension))
    }

    /// Returns the traits that name its parts.
    pub(crate) fn traits(&self) -> Traits {
        [
            (self.stale_for.is_some(), Traits::STALE_FOR),
            (self.cost.is_some(), Traits::COST),
            (self.tag.is_some(), Traits::TAG),
            (self.namespace.is_some(), Traits::NAMESPACE),
        ]
        .into_iter()
        .filter(|(is_there, _)| *is_there)
        .fold(Traits::NONE, |traits, (_, one)| traits.with(one))
    }

    /// Appends its bytes to a value.
    pub(crate) fn append_to(&self, value: &mut Vec<u8>) {
        for span in [self.stale_for, self.cost].into_iter().flatten() {
            value.extend_from_slice(&span.0.to_le_bytes());
        }
        for group in self.groups() {
            value.extend_from_slice(&group.to_le_bytes());
        }
    }

    /// Returns the groups that the entry belongs to.
    #[inline]
    pub(crate) fn groups(&self) -> impl Iterator<Item = u64> + use<> {
        [self.tag, self.namespace].into_iter().flatten()
    }
}

/// Takes the bytes of a part, if the record has it.
#[inline]
fn part<const N: usize>(traits: Traits, which: Traits, rest: &mut &[u8]) -> Option<[u8; N]> {
    if !traits.has(which) {
        return None;
    }
    let (bytes, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(*bytes)
}

fn span(bytes: [u8; 4]) -> Span {
    Span(u32::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_round_down() {
        let mut duration = 1_u64;
        while duration < 1 << 58 {
            for duration in [duration - 1, duration, duration + 1] {
                let kept = Span::new(duration).get();
                assert!(kept <= duration && duration - kept <= duration >> 26);
                assert!(duration >= 1 << 27 || kept == duration);
            }
            duration = duration * 3 / 2 + 1;
        }
        assert_eq!(Span::new(u64::MAX).get(), ((1 << 27) - 1) << 31);
        assert_eq!(Span::new(1 << 58), Span::new(u64::MAX));
    }

    #[test]
    fn extensions_round_trip() {
        for parts in 0..16 {
            let there = |bit: u32| parts & bit != 0;
            let extension = Extension {
                stale_for: there(1).then_some(Span(7)),
                cost: there(2).then_some(Span(u32::MAX)),
                tag: there(4).then_some(0x1122_3344_5566_7788),
                namespace: there(8).then_some(9),
            };
            let mut stored = b"value".to_vec();
            extension.append_to(&mut stored);
            let traits = extension.traits();
            assert_eq!(stored.len(), 5 + traits.extension_bytes() as usize);
            assert_eq!(Extension::split(traits, &stored), Some((5, extension)));
            let short = &stored[stored.len() - traits.extension_bytes() as usize..];
            assert_eq!(Extension::split(traits, short), Some((0, extension)));
            if parts != 0 {
                assert_eq!(Extension::split(traits, &short[1..]), None);
            }
        }
    }
}
