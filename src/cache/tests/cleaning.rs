//! What cleaning makes of entries that ended, and of the cache's own: they go, and nothing that they
//! ended comes back.

use super::*;

const LONG: &[u8] = &[7; 5_000];

fn tagged() -> InsertOptions {
    InsertOptions::new().tag("tag")
}

fn fill(cache: &Cache, keys: std::ops::Range<u32>, options: &InsertOptions) {
    for i in keys {
        cache
            .insert_with(i.to_le_bytes(), [1; 40], options)
            .unwrap();
    }
}

#[track_caller]
fn assert_absent(cache: &Cache, keys: std::ops::Range<u32>) {
    for i in keys {
        assert_eq!(cache.get(i.to_le_bytes()).unwrap(), None, "{i}");
    }
}

/// Loses the index, and rebuilds it from the heap.
fn rebuilt(path: &Path, cache: Cache) -> Cache {
    drop(cache);
    std::fs::remove_file(path).unwrap();
    Repair::new(path).run().unwrap();
    Cache::open(path).unwrap()
}

// E2: entries of an invalidated group are dropped, and then the group's own entry; entries that were
// inserted after the invalidation stay.
#[test]
fn invalidated_entries_are_cleaned() {
    let (_dir, path) = place();
    let cache = Cache::open_with(&path, &tiny()).unwrap();
    fill(&cache, 0..300, &tagged());
    cache.invalidate_tag("tag").unwrap();
    fill(&cache, 300..400, &tagged());
    cache.cache.compact().unwrap();
    assert_eq!(cache.len_with_expired(), 100, "nothing internal is left");
    assert_absent(&cache, 0..300);
    assert!(cache.contains(300_u32.to_le_bytes()).unwrap());
    let cache = rebuilt(&path, cache);
    assert_absent(&cache, 0..300);
    assert!(cache.contains(399_u32.to_le_bytes()).unwrap());
    assert!(cache.verify().run().unwrap().is_clean());
}

// E2: copied records lie in any order, so that cleaning may come to the group before its entries: it must
// keep the group then.
#[test]
fn copied_groups_outlive_their_entries() {
    let (_dir, path) = place();
    let cache = Cache::open_with(&path, &tiny()).unwrap();
    // The group takes the first position of the roster, and the first place of a copied heap.
    cache.invalidate_tag("tag").unwrap();
    fill(&cache, 0..300, &tagged());
    cache.invalidate_tag("tag").unwrap();
    let mut writer = cache.cache.writer().unwrap();
    writer.rewrite_heap().unwrap();
    drop(writer);
    for kept in [1, 0] {
        // Compacting does nothing without a dead record.
        cache.insert("dead", "1").unwrap();
        assert!(cache.remove("dead").unwrap());
        cache.cache.compact().unwrap();
        // Moved once, it is after all that it ended.
        assert_eq!(cache.len_with_expired(), kept);
        assert_absent(&cache, 0..300);
    }
    assert_absent(&rebuilt(&path, cache), 0..300);
}

// One damaged record among those of an invalidated group: cleaning passes it, and no other comes back.
#[test]
fn damage_revives_no_invalidated_entry() {
    let (_dir, path) = place();
    let cache = Cache::open_with(&path, &tiny()).unwrap();
    fill(&cache, 0..40, &tagged());
    cache.invalidate_tag("tag").unwrap();
    drop(cache);
    // The checksum of a record: a scan that meets it searches for the next record.
    let heap = path.with_file_name("cache.heap");
    let file = File::options().write(true).open(heap).unwrap();
    file.write_all_at(&[0xff; 24], 128 + 20 * 80).unwrap();
    let cache = Cache::open_with(&path, &tiny()).unwrap();
    for _ in 0..3 {
        fill(&cache, 1_000..1_300, &InsertOptions::new());
        let _ = cache.cache.compact();
        assert_absent(&cache, 0..40);
    }
}

// Cleaning writes a long value with the deadline that a touch stored apart from it.
#[test]
fn cleaning_ends_stored_deadlines() {
    let (_dir, path) = place();
    let cache = Cache::open_with(&path, &tiny()).unwrap();
    for i in 0..10_u32 {
        cache
            .insert_with(i.to_le_bytes(), LONG, &ttl(HOUR))
            .unwrap();
    }
    for i in 0..5_u32 {
        assert!(cache.touch(i.to_le_bytes(), 2 * HOUR).unwrap());
    }
    assert!(cache.touch(5_u32.to_le_bytes(), Duration::ZERO).unwrap());
    assert_eq!(cache.len_with_expired(), 16);
    cache.cache.compact().unwrap();
    assert_eq!(cache.len_with_expired(), 9, "and an expired one less");
    let cache = rebuilt(&path, cache);
    for i in 0..10_u32 {
        let entry = cache.entry(i.to_le_bytes()).unwrap();
        match i {
            5 => assert_eq!(entry, None),
            _ => {
                let life = if i < 5 { 2 * HOUR } else { HOUR };
                assert_close(entry.unwrap().remaining(), life);
            }
        }
    }
}

// A search for expired entries knows of the deadlines that are stored apart.
#[test]
fn lengthened_lives_survive_sweeps() {
    let (_dir, path) = place();
    let cache = Cache::open_with(&path, &tiny()).unwrap();
    let soon = ttl(Duration::from_millis(50));
    cache.insert_with("long", LONG, &soon).unwrap();
    assert!(cache.touch("long", HOUR).unwrap());
    std::thread::sleep(Duration::from_millis(80));
    for _ in 0..4 {
        cache.cache.write(|writer| writer.sweep(10_000)).unwrap();
    }
    assert!(cache.contains("long").unwrap());
}
