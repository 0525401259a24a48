//! Groups: invalidations reach every handle and process, and outlive every rewrite.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;

use crate::cache::tests::*;
use crate::engine::Version;
use crate::sync::failpoint;

fn tagged(tag: &str) -> InsertOptions {
    InsertOptions::new().tag(tag)
}

fn there(cache: &Cache, keys: &[&str]) -> Vec<bool> {
    let is_there = |key: &&str| cache.contains(key).unwrap();
    keys.iter().map(is_there).collect()
}

#[test]
fn invalidation_ends_one_group() {
    let (_dir, path) = place();
    let cache = Cache::open(&path).unwrap();
    let other = Cache::open(&path).unwrap();
    let keys = ["none", "tag", "space", "both"];
    let fill = || {
        cache.insert("none", "1").unwrap();
        cache.insert_with("tag", "2", &tagged("a")).unwrap();
        let space = InsertOptions::new().namespace("a");
        cache.insert_with("space", "3", &space).unwrap();
        cache.insert_with("both", "4", &space.tag("b")).unwrap();
    };
    fill();
    let expect = |expected: [bool; 4]| {
        // Twice, for what a handle remembers.
        for cache in [&cache, &other, &cache, &other] {
            assert_eq!(there(cache, &keys), expected);
        }
    };
    expect([true; 4]);
    cache.invalidate_tag("unknown").unwrap();
    expect([true; 4]);
    cache.invalidate_tag("a").unwrap();
    expect([true, false, true, true]);
    other.invalidate_tag("b").unwrap();
    expect([true, false, true, false]);
    fill();
    expect([true; 4]);
    other.invalidate_namespace("a").unwrap();
    expect([true, true, false, false]);
    let entry = |key| cache.entry(key).unwrap();
    assert!(entry("tag").unwrap().has_tag("a") && !entry("tag").unwrap().has_namespace("a"));
    assert_eq!(entry("both"), None);
    assert!(!cache.touch("both", HOUR).unwrap() && !cache.remove("both").unwrap());
    assert!(cache.add("space", "new", &tagged("b")).unwrap().is_some());
    expect([true, true, true, false]);
    fill();
    cache.invalidate_namespace("a").unwrap();
    let swept_from = cache.last_version().unwrap();
    assert_eq!(cache.sweep().unwrap(), 2);
    assert_eq!(cache.sweep().unwrap(), 0);
    expect([true, true, false, false]);
    // The sweep kept the group's entry: computations that began before still find it.
    let before = Version(swept_from.0 - 1);
    let space = InsertOptions::new().namespace("a");
    let late = Cache::open(&path).unwrap();
    assert_eq!(
        late.insert_computed("space", "old", &space, before)
            .unwrap(),
        None
    );
    let stored = late.insert_computed("space", "new", &space, swept_from);
    assert!(stored.unwrap().is_some());
}

const CHILD_PATH: &str = "MMAPCACHE_TEST_INVALIDATE";

#[test]
fn other_processes_see_an_invalidation() {
    let (_dir, path) = place();
    let cache = Cache::open(&path).unwrap();
    cache.insert_with("key", "value", &tagged("a")).unwrap();
    assert_eq!(there(&cache, &["key"]), [true]);
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--ignored"])
        .arg("cache::tests::groups::invalidate_in_child")
        .env(CHILD_PATH, &path)
        .output()
        .unwrap();
    assert!(child.status.success(), "{child:?}");
    assert_eq!(there(&cache, &["key", "by child"]), [false, true]);
}

#[test]
#[ignore = "run by other_processes_see_an_invalidation"]
fn invalidate_in_child() {
    let Some(path) = std::env::var_os(CHILD_PATH) else {
        return;
    };
    let cache = Cache::open(path).unwrap();
    assert_eq!(there(&cache, &["key"]), [true]);
    cache.invalidate_tag("a").unwrap();
    cache.insert_with("by child", "", &tagged("a")).unwrap();
}

// What was read before an invalidation must not be stored after it.
#[test]
fn outdated_computations_are_not_stored() {
    let (_dir, path) = place();
    let cache = Cache::open(&path).unwrap();
    let options = tagged("a").namespace("n");
    let began = cache.last_version().unwrap();
    cache.invalidate_tag("other").unwrap();
    let stored = cache.insert_computed("key", "1", &options, began).unwrap();
    assert!(stored.is_some());
    for invalidate in [
        (|cache: &Cache| cache.invalidate_tag("a")) as fn(&Cache) -> Result<()>,
        |cache| cache.invalidate_namespace("n"),
    ] {
        let began = cache.last_version().unwrap();
        invalidate(&Cache::open(&path).unwrap()).unwrap();
        let stored = cache.insert_computed("key", "2", &options, began).unwrap();
        assert_eq!(stored, None);
        assert_eq!(cache.get("key").unwrap(), None);
        // No group, or begun afterwards.
        let began_later = cache.last_version().unwrap();
        for (options, since) in [(InsertOptions::new(), began), (options, began_later)] {
            let stored = cache.insert_computed("key", "3", &options, since).unwrap();
            assert_eq!(
                cache.entry("key").unwrap().unwrap().version(),
                stored.unwrap()
            );
        }
    }
}

fn fill(cache: &Cache) {
    for round in 0..10 {
        for i in 0..300_u32 {
            let options = tagged(if i % 3 == 0 { "ended" } else { "valid" });
            let options = if i % 5 == 0 {
                options.namespace("n")
            } else {
                options
            };
            cache
                .insert_with(i.to_le_bytes(), [7; 90], &options)
                .unwrap();
        }
        if round == 8 {
            cache.invalidate_tag("valid").unwrap();
        }
    }
    cache.invalidate_tag("ended").unwrap();
    cache.invalidate_namespace("n").unwrap();
    for i in 0..300_u32 {
        cache.insert(format!("later {i}"), [8; 90]).unwrap();
    }
}

#[track_caller]
fn assert_valid(cache: &Cache) {
    for i in 0..300_u32 {
        let expected = i % 3 != 0 && i % 5 != 0;
        assert_eq!(cache.contains(i.to_le_bytes()).unwrap(), expected, "{i}");
    }
    let generation = cache.cache.handle().generation.load_full();
    assert_eq!(generation.header().trusted_from(), 0, "nothing was lost");
}

#[test]
fn invalidations_outlive_every_rewrite() {
    let (dir, path) = place();
    let cache = Cache::open_with(&path, &tiny()).unwrap();
    fill(&cache);
    assert_valid(&cache);
    cache.cache.compact().unwrap();
    assert_valid(&cache);
    let mut writer = cache.cache.writer().unwrap();
    writer.rewrite_heap().unwrap();
    drop(writer);
    assert_valid(&cache);
    let copy = dir.path().join("copy");
    cache.backup().to(&copy).unwrap();
    assert_valid(&Cache::open(&copy).unwrap());
    let mut writer = cache.cache.writer().unwrap();
    writer.session().recover("a test").unwrap();
    drop(writer);
    assert_valid(&cache);
    drop(cache);
    std::fs::remove_file(&path).unwrap();
    Repair::new(&path).run().unwrap();
    let cache = Cache::open(&path).unwrap();
    assert_valid(&cache);
    assert!(cache.verify().run().unwrap().is_clean());
    cache.clear().unwrap();
    cache.insert_with("key", "value", &tagged("ended")).unwrap();
    assert!(cache.contains("key").unwrap());
}

// Killed anywhere, an invalidation has happened or not, and no handle sees it undone.
#[test]
fn stopped_invalidation_is_atomic() {
    for steps in 0.. {
        let (_dir, path) = place();
        let cache = Cache::open_with(&path, &tiny()).unwrap();
        cache.insert_with("key", "value", &tagged("a")).unwrap();
        cache.invalidate_tag("a").unwrap();
        cache.insert_with("key", "value", &tagged("a")).unwrap();
        cache.insert_with("other", "value", &tagged("b")).unwrap();
        let reader = Cache::open_with(&path, Options::new().read_only(true)).unwrap();
        assert_eq!(there(&reader, &["key"]), [true]);
        failpoint::set(steps);
        let outcome = catch_unwind(AssertUnwindSafe(|| cache.invalidate_tag("a").unwrap()));
        failpoint::clear();
        drop(cache);
        let seen = there(&reader, &["key"])[0];
        let fresh = Cache::open_with(&path, Options::new().read_only(true)).unwrap();
        let seen_by_new = there(&fresh, &["key"])[0];
        assert!(
            seen || !seen_by_new,
            "step {steps}: a handle saw what was not done"
        );
        let next = Cache::open_with(&path, &tiny()).unwrap();
        next.insert("after", "").unwrap();
        let mended = there(&next, &["key"])[0];
        assert!(
            seen_by_new || !mended,
            "step {steps}: undone after it was seen"
        );
        assert_eq!(there(&next, &["other"]), [true]);
        assert!(next.verify().run().unwrap().is_clean(), "step {steps}");
        if outcome.is_ok() {
            assert!(!seen && !seen_by_new && !mended && steps > 10, "{steps}");
            return;
        }
        next.invalidate_tag("a").unwrap();
        for cache in [&reader, &fresh, &next] {
            assert_eq!(
                there(cache, &["key", "other"]),
                [false, true],
                "step {steps}"
            );
        }
    }
}

// E2: cleaning drops the entry of a group when it has met all that the group ended. A computation that
// began before that is not stored yet: its result must be refused all the same.
#[test]
fn dropped_groups_refuse_old_computations() {
    let (_dir, path) = place();
    let cache = Cache::open_with(&path, &tiny()).unwrap();
    cache.insert_with("key", "old", &tagged("a")).unwrap();
    let since = cache.last_version().unwrap();
    cache.invalidate_tag("a").unwrap();
    for number in 0..400 {
        cache.insert("other", [number as u8; 400]).unwrap();
    }
    // The clock ticks: the segment that cleaning begins is newer than all records.
    std::thread::sleep(Duration::from_millis(20));
    cache.cache.compact().unwrap();
    assert_eq!(cache.len_with_expired(), 1, "the group is dropped");
    let again = |since| {
        cache
            .insert_computed("key", "old", &tagged("a"), since)
            .unwrap()
    };
    assert_eq!(again(since), None);
    assert_eq!(cache.get("key").unwrap(), None);
    // In a quiet cache the next one is stored.
    let now = cache.last_version().unwrap();
    assert!(again(now).is_some());
}

// What ends entries needs no room that another entry would have to leave.
#[test]
fn full_caches_accept_invalidations() {
    for by_bytes in [false, true] {
        let (_dir, path) = place();
        let builder = Cache::builder(&path).eviction(crate::Eviction::None);
        let cache = match by_bytes {
            true => builder.max_bytes(1 << 20).open().unwrap(),
            false => builder.max_entries(20).open().unwrap(),
        };
        let long = vec![1; 5_000];
        cache.insert_with("long", &long, &ttl(HOUR)).unwrap();
        let insert = |number: u32| cache.insert_with(format!("{number}"), &long, &tagged("a"));
        let refused = (0..10_000).find_map(|number| insert(number).err());
        assert!(refused.is_some());
        assert!(cache.touch("long", Duration::ZERO).unwrap());
        assert_eq!(cache.get("long").unwrap(), None);
        cache.invalidate_tag("a").unwrap();
        assert_eq!(cache.get("0").unwrap(), None);
    }
}
