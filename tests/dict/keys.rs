//! Keys and prefixes without a dictionary.

use std::collections::{BTreeSet, HashSet};

use mmapcache::dict::{DictKey, KeyError, is_safe_char, replace_unsafe_chars, safe_chars};

type Result = std::result::Result<(), KeyError>;

fn texts(key: &DictKey) -> Vec<&str> {
    key.parts().collect()
}

// Point 1.
#[test]
fn nested_parts_are_flattened_in_order() -> Result {
    let inner = DictKey::new(["c", "d"])?;
    let tail = DictKey::new("f")?;
    let key = DictKey::new((
        "a",
        vec![["b"].as_slice(), &[]],
        (inner, "e", ((), [[Some(tail), None]])),
    ))?;
    assert_eq!(texts(&key), ["a", "b", "c", "d", "e", "f"]);
    assert_eq!(key.len(), 6);
    assert_eq!(
        key,
        DictKey::from_parts("abcdef".chars().map(String::from))?
    );
    Ok(())
}

// Point 1. Owned and borrowed texts make the same key.
#[test]
fn owned_and_borrowed_texts_agree() -> Result {
    let owned = String::from("a");
    let expected = DictKey::new("a")?;
    assert_eq!(DictKey::new(&owned)?, expected);
    assert_eq!(DictKey::new([&[&owned]])?, expected);
    assert_eq!(DictKey::new([&owned])?, expected);
    assert_eq!(DictKey::new(vec![owned.clone()])?, expected);
    assert_eq!(DictKey::new(owned)?, expected);
    Ok(())
}

// Point 2. Letters, digits and seven marks are safe, and nothing else is.
#[test]
fn only_listed_characters_are_safe() {
    let safe: HashSet<char> = safe_chars().collect();
    assert_eq!(safe.len(), 26 + 26 + 10 + 7);
    assert!("()_-~.=".chars().all(|mark| safe.contains(&mark)));
    for character in (0..0x2_0000).filter_map(char::from_u32) {
        let expected = character.is_ascii_alphanumeric() || "()_-~.=".contains(character);
        assert_eq!(is_safe_char(character), expected, "{character:?}");
        assert_eq!(safe.contains(&character), expected, "{character:?}");
        let part = format!("x{character}");
        assert_eq!(DictKey::new(part).is_ok(), expected, "{character:?}");
    }
}

// Point 2. An unsafe character is named with its part and its position.
#[test]
fn unsafe_characters_are_located() {
    let error = DictKey::new(("ok", ["also-ok", "né/t"])).unwrap_err();
    let expected = KeyError::UnsafeChar {
        index: 2,
        part: "né/t".to_owned(),
        position: 1,
        character: 'é',
    };
    assert_eq!(error, expected);
    assert!(error.to_string().contains("'é' at 1"), "{error}");
}

// Point 2. Each unsafe character is replaced by the same text.
#[test]
fn unsafe_characters_are_replaced_alike() -> Result {
    assert_eq!(replace_unsafe_chars("a b/ü", "_"), "a_b__");
    assert_eq!(replace_unsafe_chars("a b/ü", ""), "ab");
    assert_eq!(replace_unsafe_chars("a b", "(-)"), "a(-)b");
    assert_eq!(replace_unsafe_chars("safe.already", "_"), "safe.already");
    DictKey::new(replace_unsafe_chars("https://example.org/?q=1", "~"))?;
    Ok(())
}

// Point 3.
#[test]
fn parts_have_1_to_253_bytes() -> Result {
    assert_eq!(
        DictKey::new(["a", ""]).unwrap_err(),
        KeyError::EmptyPart { index: 1 }
    );
    let longest = "x".repeat(253);
    assert_eq!(DictKey::new(&longest)?.first(), longest);
    let (index, len) = (0, 254);
    assert_eq!(
        DictKey::new("x".repeat(254)).unwrap_err(),
        KeyError::LongPart { index, len }
    );
    Ok(())
}

// Point 3. One dot and two are refused, and similar names are not.
#[test]
fn dot_parts_are_refused() -> Result {
    for (index, dots) in [(0, "."), (1, "..")] {
        let parts = &["a", dots][1 - index..];
        let part = dots.to_owned();
        let expected = KeyError::Dots { index, part };
        assert_eq!(DictKey::new(parts).unwrap_err(), expected);
    }
    for fine in [".hidden", "...", "a..b", "a.", "..a"] {
        DictKey::new(fine)?;
    }
    Ok(())
}

// Point 3.
#[test]
fn keys_have_at_most_255_parts() -> Result {
    let longest = vec!["x".repeat(253); 255];
    let fits = DictKey::new(&longest)?;
    assert_eq!((fits.len(), fits.as_str().len()), (255, 255 * 254 - 1));
    let many = Err(KeyError::TooManyParts { parts: 256 });
    assert_eq!(DictKey::new((&longest, "y")), many);
    assert_eq!(fits.join("y"), many);
    Ok(())
}

// Point 4. A prefix may be empty, and a key may not.
#[test]
fn prefixes_may_be_empty() -> Result {
    let nothing: [&str; 0] = [];
    for empty in [
        DictKey::new(()),
        DictKey::new(nothing),
        DictKey::new(None::<DictKey>),
    ] {
        assert_eq!(empty, Err(KeyError::NoPart));
    }
    assert_eq!(DictKey::from_parts(nothing), Err(KeyError::NoPart));
    let (prefix, key) = (DictKey::new(["a", "b"])?, DictKey::new(["a", "b", "c"])?);
    assert_eq!(DictKey::new((None::<DictKey>, &key))?, key);
    assert_eq!(DictKey::new((Some(&prefix), "c"))?, key);
    assert_eq!(DictKey::new(Some(&key))?, key);
    assert_eq!(key.join(None::<DictKey>)?, key);
    Ok(())
}

// Point 5. Keys are equal, and hashed, by their parts.
#[test]
fn keys_compare_by_their_parts() -> Result {
    let key = DictKey::new(["a", "b"])?;
    let set = HashSet::from([key.clone(), DictKey::new(("a", "b"))?]);
    assert_eq!(set.len(), 1);
    assert!(set.contains(&DictKey::new("a")?.join("b")?));
    assert_ne!(key, DictKey::new("ab")?);
    assert_ne!(key, DictKey::new(["b", "a"])?);
    assert_ne!(key, DictKey::new(["A", "b"])?, "case counts");
    Ok(())
}

// Point 5. Keys are joined, counted, and read from both ends.
#[test]
fn keys_join_and_iterate_both_ways() -> Result {
    let key = DictKey::new("a")?.join(["b", "c"])?;
    assert_eq!(key, DictKey::new(["a", "b"])?.join("c")?.join(())?);
    let backwards: Vec<_> = key.parts().rev().collect();
    assert_eq!(backwards, ["c", "b", "a"]);
    assert!(key.parts().any(|part| part == "b"));
    assert_eq!((key.len(), key.first()), (3, "a"));
    assert_eq!(key.to_string(), "a/b/c");
    assert_eq!(format!("{key:?}"), "DictKey(\"a/b/c\")");
    Ok(())
}

// Point 5.
#[test]
fn keys_are_ordered_by_parts() -> Result {
    let ordered = [
        DictKey::new("a")?,
        DictKey::new(["a", "b"])?,
        DictKey::new(["a", "b", "a"])?,
        DictKey::new(["a", "c"])?,
        // As one text it would come first: `-` is less than the separator.
        DictKey::new("a-")?,
        DictKey::new("b")?,
    ];
    let set: BTreeSet<_> = ordered.iter().rev().cloned().collect();
    assert!(set.iter().eq(&ordered));
    Ok(())
}
