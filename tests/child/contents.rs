//! Keys, and values that name their key and number, so that a reader recognizes a wrong value.

/// Pseudorandom numbers that are the same in every run and process.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// Returns a permanent key. Every second one is longer.
pub(crate) fn staying(number: u64) -> String {
    key("stays", number)
}

/// Returns a key that comes and goes.
pub(crate) fn passing(number: u64) -> String {
    key("comes", number)
}

/// Returns a permanent key that every writer writes.
pub(crate) fn shared(number: u64) -> String {
    key("ours", number)
}

fn key(word: &str, number: u64) -> String {
    let long = ", which is far too long for a slot";
    let tail = if number.is_multiple_of(2) { "" } else { long };
    format!("{word} {number}{tail}")
}

/// Returns the number of a permanent key, or `None` for any other key.
pub(crate) fn staying_number(key: &[u8]) -> Option<u64> {
    let (word, number) = parse_key(key)?;
    (word == "stays").then_some(number)
}

/// Whether it is one of the keys above, to the last byte.
pub(crate) fn is_key(bytes: &[u8]) -> bool {
    parse_key(bytes).is_some()
}

/// Returns word and number of a key, if it is one of those above to the last byte.
pub(crate) fn parse_key(bytes: &[u8]) -> Option<(&str, u64)> {
    let (word, rest) = std::str::from_utf8(bytes).ok()?.split_once(' ')?;
    let number = rest.split(',').next()?.parse().ok()?;
    let known = ["stays", "comes", "ours"].contains(&word);
    (known && key(word, number).as_bytes() == bytes).then_some((word, number))
}

/// Returns the value with this number for a key: about a hundred bytes, sometimes thousands.
pub(crate) fn value(key: &[u8], number: u64) -> Vec<u8> {
    let seed = key.iter().fold(number, |seed, &byte| {
        Random::new(seed ^ u64::from(byte)).next()
    });
    let mut random = Random::new(seed);
    let most = if random.below(16) == 0 { 300 } else { 30 };
    let filling = (0..random.below(most)).flat_map(|_| random.next().to_le_bytes());
    let head = [key, b" = ", number.to_string().as_bytes(), b"; "].concat();
    let filling: Vec<u8> = filling.collect();
    [head, filling].concat()
}

/// Returns the number of a value.
///
/// # Panics
///
/// If any byte differs from the value that [`value`] makes for this key.
#[track_caller]
pub(crate) fn number_of(key: &[u8], found: &[u8]) -> u64 {
    let name = String::from_utf8_lossy(key);
    let shown = String::from_utf8_lossy(&found[..found.len().min(80)]).into_owned();
    let number = parse(key, found);
    let number = number.unwrap_or_else(|| panic!("{name:?} has a foreign value: {shown:?}"));
    let whole = value(key, number) == found;
    assert!(whole, "{name:?} has a value that is not whole: {shown:?}");
    number
}

fn parse(key: &[u8], found: &[u8]) -> Option<u64> {
    let rest = found.strip_prefix(key)?.strip_prefix(b" = ")?;
    let digits = rest.split(|&byte| byte == b';').next()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}
