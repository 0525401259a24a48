//! The parameters of a dictionary, and what its clones share.

use mmapcache::dict::{DictKey, Format, Result};

use super::{KIND, append_only, fresh, in_format};

// Point 12.
#[test]
fn params_describe_the_dictionary() -> Result<()> {
    let dict = in_format::<u32>(Format::MessagePack);
    assert_eq!(dict.kind(), KIND);
    assert_eq!(dict.format(), Format::MessagePack);
    assert!(!dict.is_append_only());
    assert!(append_only::<u32>().is_append_only());
    assert_eq!(dict.prefix(), None);
    assert_eq!(dict.to_string(), dict.clone().to_string());

    let sub = dict.subdict(["a", "b"])?;
    let expected = DictKey::new(["a", "b"])?;
    assert_eq!(sub.prefix(), Some(&expected));
    assert_ne!(sub.to_string(), dict.to_string());
    Ok(())
}

// Point 12. Parameters print as the kind with all others in the order of names.
#[test]
fn params_print_kind_then_names() -> Result<()> {
    let text = append_only::<u32>().subdict("a")?.to_string();
    let inside = text.strip_prefix(&format!("{KIND}(append_only=true, format=json, "));
    let inside = inside.and_then(|rest| rest.strip_suffix(')')).expect(&text);
    let names: Vec<_> = inside
        .split(", ")
        .filter_map(|one| one.split('=').next())
        .collect();
    assert!(names.is_sorted(), "{names:?}");
    assert!(inside.contains("prefix=\"a\""), "{text}");
    Ok(())
}

// Point 12.
#[test]
fn clones_share_the_storage() -> Result<()> {
    let dict = fresh();
    let clone = dict.clone();
    let etag = dict.insert("k", 1)?;
    assert_eq!(clone.get("k")?, Some(1));
    assert_eq!(clone.etag("k")?, Some(etag));
    clone.remove("k")?;
    assert!(dict.is_empty()?);
    Ok(())
}
