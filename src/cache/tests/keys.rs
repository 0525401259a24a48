//! The keys that a cache keeps for itself.

use crate::cache::tests::*;

/// Keys that begin with the id of a cache.
fn reserved(cache: &Cache) -> [Vec<u8>; 3] {
    let id = cache.cache.handle().generation.load().ids.cache;
    let group = crate::format::internal::group_key(id, 7).to_vec();
    [id.to_vec(), [&id[..], b"dkey"].concat(), group]
}

#[track_caller]
fn assert_refused<T: std::fmt::Debug>(result: Result<T>) {
    match result.map_err(Error::into_kind) {
        Err(ErrorKind::Unsupported { what }) => assert!(what.contains("id of the cache")),
        other => panic!("{other:?}"),
    }
}

#[test]
fn internal_keys_are_refused_everywhere() {
    let (_dir, path) = place();
    let cache = Cache::open(&path).unwrap();
    let options = InsertOptions::new();
    cache
        .insert_with("key", "value", &options.tag("a"))
        .unwrap();
    cache.invalidate_tag("a").unwrap();
    let began = cache.last_version().unwrap();
    for key in reserved(&cache) {
        assert_refused(cache.get(&key));
        assert_refused(cache.entry(&key));
        assert_refused(cache.contains(&key));
        assert_refused(cache.insert(&key, "value"));
        assert_refused(cache.insert_with(&key, "value", &options));
        assert_refused(cache.insert_computed(&key, "value", &options, began));
        assert_refused(cache.add(&key, "value", &options));
        assert_refused(cache.insert_absent(&key, HOUR));
        assert_refused(cache.remove(&key));
        assert_refused(cache.touch(&key, HOUR));
        assert_refused(cache.persist(&key));
    }
    assert_eq!(cache.len_with_expired(), 2);
    // Nearly the id.
    let id = cache.cache.handle().generation.load().ids.cache;
    let mut other = id;
    other[15] ^= 1;
    for key in [&id[..15], &other[..]] {
        cache.insert(key, "value").unwrap();
        assert!(cache.contains(key).unwrap());
    }
}

// A tool that writes the cache's own keys makes everything of them invalid, not fresh.
#[test]
fn foreign_internal_entries_are_damaged() {
    let (_dir, path) = place();
    let cache = Cache::open(&path).unwrap();
    let options = InsertOptions::new();
    let id = cache.cache.handle().generation.load().ids.cache;
    cache
        .insert_with("key", "value", &options.tag("a"))
        .unwrap();
    let (kind, name) = (internal::GroupKind::Tag, b"a");
    let group = internal::group_key(id, internal::group_hash(kind, name));
    let raw = Options::new().raw(true).open(&path).unwrap();
    raw.put(group, "").unwrap();
    assert_eq!(Cache::open(&path).unwrap().get("key").unwrap(), None);
    cache
        .insert_with("key", "value", &options.tag("a"))
        .unwrap();
    assert_eq!(Cache::open(&path).unwrap().get("key").unwrap(), None);
    cache.invalidate_tag("a").unwrap();
    cache
        .insert_with("key", "value", &options.tag("a"))
        .unwrap();
    assert!(Cache::open(&path).unwrap().contains("key").unwrap());
}

use crate::format::internal;
