//! Handles in serde's formats.

use serde::de::DeserializeSeed;

use crate::intern::pool::tests::*;

// Handles are written as text or bytes, and read into a pool.
#[test]
fn handles_serialize_as_their_value() {
    let (pool, other) = (Pool::new(), Pool::new());
    for (value, written) in [
        (&b"blocks"[..], "\"blocks\""),
        (b"", "\"\""),
        (b"\xff\x00\x07", "[255,0,7]"),
    ] {
        let handle = pool.intern(value);
        assert_eq!(serde_json::to_string(&handle).unwrap(), written);
        for reader in [&pool, &other] {
            let mut from = serde_json::Deserializer::from_str(written);
            let read = reader.deserialize(&mut from).unwrap();
            assert_eq!(&read[..], value);
            assert_eq!(read, reader.intern(value));
            assert_eq!(read == handle, std::ptr::eq(reader, &raw const pool));
        }
    }
    let text = TypedPool::<str>::default().intern("typed");
    assert_eq!(serde_json::to_string(&text).unwrap(), "\"typed\"");
}

#[test]
fn unfit_input_fails_to_deserialize() {
    let pool = PoolOptions::new().max_bytes(10).build();
    for refused in ["7", "{}", "[256]", "\"does not fit\""] {
        let mut from = serde_json::Deserializer::from_str(refused);
        assert!((&pool).deserialize(&mut from).is_err(), "{refused}");
    }
}
