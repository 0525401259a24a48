//! Keys of the cache: of the facts about an object, and of its chunks. They are a format.
//!
//! Each part that may have any length is preceded by its length, so that no two keys are equal by chance.
//! Calls nothing of this crate.

/// Returns the key of what is known about an object.
pub(crate) fn facts(store: &str, location: &str) -> Vec<u8> {
    let mut key = vec![b'f'];
    push(&mut key, store);
    push(&mut key, location);
    key
}

/// Returns the name of the group that ends with a change of an object.
pub(crate) fn tag(store: &str, location: &str) -> Vec<u8> {
    let mut tag = facts(store, location);
    tag[0] = b't';
    tag
}

/// Returns the name of the group of all that is known about the objects of a store.
pub(crate) fn namespace(store: &str) -> Vec<u8> {
    let mut namespace = vec![b'n'];
    push(&mut namespace, store);
    namespace
}

/// Returns the key of a chunk of one state of an object. Chunks of other sizes have other keys.
pub(crate) fn chunk(
    store: &str,
    location: &str,
    state: &str,
    chunk_bytes: u64,
    number: u64,
) -> Vec<u8> {
    let mut key = vec![b'c'];
    push(&mut key, store);
    push(&mut key, location);
    push(&mut key, state);
    key.extend(chunk_bytes.to_le_bytes());
    key.extend(number.to_le_bytes());
    key
}

fn push(key: &mut Vec<u8>, part: &str) {
    key.extend((part.len() as u64).to_le_bytes());
    key.extend(part.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    // What is on disk is found by every later release.
    #[test]
    fn keys_stay_as_they_are() {
        let head = b"\x01\0\0\0\0\0\0\0s\x02\0\0\0\0\0\0\0ab";
        assert_eq!(facts("s", "ab"), [&b"f"[..], head].concat());
        assert_eq!(tag("s", "ab"), [&b"t"[..], head].concat());
        assert_eq!(namespace("s"), b"n\x01\0\0\0\0\0\0\0s");
        let tail = b"\x01\0\0\0\0\0\0\0e\x07\0\0\0\0\0\0\0\x09\0\0\0\0\0\0\0";
        assert_eq!(
            chunk("s", "ab", "e", 7, 9),
            [&b"c"[..], head, tail].concat()
        );
        assert_ne!(facts("sa", "b"), facts("s", "ab"));
    }
}
