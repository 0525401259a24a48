//! What a dictionary says of itself, and what its clones share.

use mmapcache::dict::{Dict, Format, Prefix, Result};

use super::{KIND, append_only, fresh, in_format};

#[test]
fn point_12_params_say_what_a_dictionary_was_made_with() -> Result<()> {
    let dict = in_format::<u32>(Format::MessagePack);
    let params = dict.params();
    assert_eq!(params.kind, KIND);
    assert_eq!(params.format, Format::MessagePack);
    assert_eq!(dict.format(), Format::MessagePack);
    assert!(!params.append_only);
    assert!(append_only::<u32>().params().append_only);
    assert!(params.prefix.is_empty());
    assert_eq!(params, dict.clone().params());

    let sub = dict.subdict(["a", "b"])?;
    let expected = Prefix::new(["a", "b"])?;
    assert_eq!(sub.prefix(), &expected);
    assert_eq!(sub.params().prefix, expected);
    assert_ne!(sub.params(), params);
    Ok(())
}

#[test]
fn point_12_params_read_as_the_kind_with_all_else_in_the_order_of_names() -> Result<()> {
    let text = append_only::<u32>().subdict("a")?.params().to_string();
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

#[test]
fn point_12_a_clone_shares_the_storage() -> Result<()> {
    let dict = fresh();
    let clone = dict.clone();
    let etag = dict.insert("k", 1)?;
    assert_eq!(clone.get("k")?, Some(1));
    assert_eq!(clone.etag("k")?, Some(etag));
    clone.remove("k")?;
    assert!(dict.is_empty()?);
    Ok(())
}
