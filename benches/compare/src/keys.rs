//! Keys and values, made from numbers.
//!
//! The timed workloads lay them out in memory before the clock starts ([`Keys`], [`Batch`]), as an
//! application has its keys in a message or a list. A key that is made just before the call, by
//! stores of eight bytes, cannot be loaded until those stores have retired, so that no two gets
//! overlap, whatever the store. Values are pseudorandom, so that compression gains nothing.

/// Numbers from here on are those of absent keys.
const ABSENT: u64 = 1 << 40;

/// Mixes a number's bits: pseudorandom, but reproducible.
pub(crate) fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn fill(seed: u64, bytes: &mut [u8]) {
    let lane = |at: u64| seed.wrapping_mul(2 * at + 1).to_le_bytes();
    let (chunks, rest) = bytes.as_chunks_mut::<8>();
    let last = chunks.len() as u64;
    for (at, chunk) in (0_u64..).zip(chunks) {
        *chunk = lane(at);
    }
    let left = rest.len();
    rest.copy_from_slice(&lane(last)[..left]);
}

/// The key of a number: 16 to 40 bytes, 28 on average.
#[derive(Clone, Copy)]
pub(crate) struct Key {
    bytes: [u8; 40],
    len: usize,
}

impl Key {
    pub(crate) fn new(number: u64) -> Self {
        let seed = mix(number);
        let mut bytes = [0; 40];
        fill(seed, &mut bytes);
        Self {
            bytes,
            len: 16 + (seed >> 32) as usize % 25,
        }
    }

    /// Returns a key that is never put.
    #[cfg(test)]
    pub(crate) fn absent(number: u64) -> Self {
        Self::new(number + ABSENT)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Keys laid out one after the other before the clock starts.
#[derive(Default)]
pub(crate) struct Keys {
    bytes: Vec<u8>,
    ends: Vec<u32>,
}

impl Keys {
    /// Lays out the keys of some numbers, in their order.
    pub(crate) fn of(numbers: impl Iterator<Item = u64>) -> Self {
        let mut keys = Self::default();
        numbers.for_each(|number| keys.push(Key::new(number)));
        keys
    }

    /// Lays out the keys of some numbers that are never put.
    pub(crate) fn absent(numbers: impl Iterator<Item = u64>) -> Self {
        Self::of(numbers.map(|number| number + ABSENT))
    }

    fn push(&mut self, key: Key) {
        self.bytes.extend_from_slice(key.bytes());
        self.ends
            .push(u32::try_from(self.bytes.len()).expect("less than 4 GiB of keys"));
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(crate) fn at(&self, index: usize) -> &[u8] {
        let start = match index {
            0 => 0,
            _ => self.ends[index - 1],
        };
        &self.bytes[start as usize..self.ends[index] as usize]
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).map(|index| self.at(index))
    }
}

/// Makes values of one length, all in the same buffer. The first eight bytes are a number, on which
/// the next key can depend.
pub(crate) struct Values {
    buffer: Vec<u8>,
}

impl Values {
    pub(crate) fn new(len: usize) -> Self {
        Self {
            buffer: vec![0; len],
        }
    }

    /// Returns the value of a number; each `turn` has another value of the same length.
    pub(crate) fn of(&mut self, number: u64, turn: u64) -> &[u8] {
        fill(mix(number ^ (turn << 48) ^ 0x55), &mut self.buffer);
        &self.buffer
    }
}

/// Keys and values that are put together.
#[derive(Default)]
pub(crate) struct Batch {
    keys: Keys,
    values: Vec<u8>,
    value_len: usize,
}

impl Batch {
    /// Replaces the contents.
    pub(crate) fn make(
        &mut self,
        numbers: impl Iterator<Item = u64>,
        turn: u64,
        values: &mut Values,
    ) {
        self.keys.clear();
        self.values.clear();
        self.value_len = values.buffer.len();
        for number in numbers {
            self.keys.push(Key::new(number));
            self.values.extend_from_slice(values.of(number, turn));
        }
    }

    pub(crate) fn items(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let values = self.values.chunks_exact(self.value_len);
        self.keys.iter().zip(values)
    }
}

/// Reads all of a value, as a user does, and reduces it to a number.
pub(crate) fn consume(value: &[u8]) -> u64 {
    let (chunks, rest) = value.as_chunks::<8>();
    let sum = chunks.iter().fold(0_u64, |sum, chunk| {
        sum.wrapping_add(u64::from_le_bytes(*chunk))
    });
    match value.last_chunk() {
        Some(last) if !rest.is_empty() => sum.wrapping_add(u64::from_le_bytes(*last)),
        _ => sum,
    }
}
