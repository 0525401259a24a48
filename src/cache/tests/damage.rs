//! Damage: what limits an entry is lost together with the entry, or before it is served again.

use crate::cache::tests::*;
use crate::format::index::word;

const LONG: [u8; 4_200] = [7; 4_200];

/// Entries that are not served any more, each for another reason; and one that is.
fn fill(cache: &Cache) {
    let options = ttl(HOUR).stale_for(HOUR).tag("a");
    cache
        .insert_with("tagged", "old", &options.cost(HOUR))
        .unwrap();
    let spaced = InsertOptions::new().namespace("n");
    cache.insert_with("spaced", "old", &spaced).unwrap();
    cache.insert_with("long", LONG, &ttl(HOUR)).unwrap();
    let past = InsertOptions::new().expires_at(SystemTime::now() - HOUR);
    let stale = past.stale_for(Duration::from_secs(60));
    cache.insert_with("stale", "old", &stale).unwrap();
    cache.invalidate_tag("a").unwrap();
    cache.invalidate_namespace("n").unwrap();
    assert!(cache.touch("long", Duration::ZERO).unwrap());
    cache.insert_with("fresh", "new", &options).unwrap();
}

const ENDED: [&str; 4] = ["tagged", "spaced", "long", "stale"];

#[track_caller]
fn assert_none_served(cache: &Cache, at: &str) {
    for key in ENDED {
        assert_eq!(cache.get(key).ok().flatten(), None, "{key}, {at}");
        assert_eq!(cache.entry(key).ok().flatten(), None, "{key}, {at}");
    }
    if let Ok(Some(entry)) = cache.entry("fresh") {
        assert_eq!(entry.value(), b"new", "{at}");
        assert!(entry.has_tag("a") && !entry.has_tag("b"), "{at}");
        assert_close(entry.remaining(), HOUR);
    }
}

// Each bit of every record: those of the groups and of the deadline too. And of the slots' bodies,
// which repeat the life.
#[test]
fn flipped_bits_serve_nothing_ended() {
    let (_dir, path) = place();
    let cache = Cache::open_with(&path, &tiny()).unwrap();
    fill(&cache);
    assert_none_served(&cache, "undamaged");
    assert!(cache.contains("fresh").unwrap());
    let generation = cache.cache.handle().generation.load_full();
    let heap_end = generation.header().tail().bytes() as usize;
    drop((generation, cache));
    // Header, control bytes, marks and links of the region come before its bodies.
    let bodies = 8_192 + 64 + 10 * 16;
    let heap = path.with_extension("heap");
    for (file, bytes) in [(&heap, 128..heap_end), (&path, bodies..12_288)] {
        let original = std::fs::read(file).unwrap();
        for at in bytes.filter(|&at| at < original.len()) {
            // Most of the long value is like its beginning.
            let is_filler = original[at] == 7 && at % 64 != 0;
            for bit in (0..8).filter(|_| !is_filler) {
                write_byte(file, at, original[at] ^ (1 << bit));
                let options = tiny().read_only(true).clone();
                if let Ok(cache) = Cache::open_with(&path, &options) {
                    assert_none_served(&cache, &format!("{file:?} {at} bit {bit}"));
                }
            }
            write_byte(file, at, original[at]);
        }
    }
}

/// Damages the record of a key in the heap. Returns the version of the last change.
fn damage_record(cache: &Cache, key: &[u8]) -> u64 {
    let handle = cache.cache.handle();
    let generation = handle.generation.load_full();
    let crate::engine::read::lookup::Answer::Found((_, link, _)) =
        crate::engine::read::lookup::find_in_place(handle, key, |_, _, _| true).unwrap()
    else {
        panic!("the key has an entry");
    };
    let place = link.addr();
    let segment = generation.segment(place.segment).unwrap();
    let file = segment.file().path().to_owned();
    let at = place.bytes() as usize + 9;
    let byte = std::fs::read(&file).unwrap()[at];
    write_byte(&file, at, byte ^ 0x10);
    generation.header().last_version()
}

fn group_of_tag(cache: &Cache, tag: &[u8]) -> [u8; 25] {
    use crate::format::internal::{GroupKind, group_hash, group_key};
    let id = cache.cache.handle().generation.load().ids.cache;
    group_key(id, group_hash(GroupKind::Tag, tag))
}

fn trusted_from(cache: &Cache) -> u64 {
    let generation = cache.cache.handle().generation.load_full();
    generation.header().trusted_from()
}

/// Entries with and without what damage may take from them.
fn fill_limited(cache: &Cache) {
    let tagged = InsertOptions::new().tag("a");
    cache.insert_with("tagged", "old", &tagged).unwrap();
    cache.insert_with("other", "old", &tagged.tag("b")).unwrap();
    cache.insert("long", LONG).unwrap();
    cache.insert("plain", "value").unwrap();
    cache.invalidate_tag("a").unwrap();
    cache.insert("last", "value").unwrap();
}

#[track_caller]
fn assert_distrusted(cache: &Cache, last: u64) {
    assert!(trusted_from(cache) >= last);
    for key in ["tagged", "other", "long"] {
        assert_eq!(cache.get(key).unwrap(), None, "{key}");
    }
    assert!(cache.contains("plain").unwrap());
    cache
        .insert_with("other", "new", &InsertOptions::new().tag("b"))
        .unwrap();
    cache.insert("long", LONG).unwrap();
    assert!(cache.contains("other").unwrap() && cache.contains("long").unwrap());
}

#[test]
fn recovery_distrusts_what_damage_took() {
    let (_dir, path) = place();
    let cache = Cache::open(&path).unwrap();
    fill_limited(&cache);
    let last = damage_record(&cache, &group_of_tag(&cache, b"a"));
    let mut writer = cache.cache.writer().unwrap();
    writer.session().recover("a test").unwrap();
    drop(writer);
    assert_distrusted(&cache, last);
    // The next generation continues it.
    let before = trusted_from(&cache);
    let mut writer = cache.cache.writer().unwrap();
    writer.rewrite_heap().unwrap();
    drop(writer);
    assert_eq!(trusted_from(&cache), before);
}

#[test]
fn repair_distrusts_what_damage_took() {
    let (_dir, path) = place();
    let cache = Cache::open(&path).unwrap();
    fill_limited(&cache);
    let last = damage_record(&cache, &group_of_tag(&cache, b"a"));
    drop(cache);
    std::fs::remove_file(&path).unwrap();
    Repair::new(&path).run().unwrap();
    assert_distrusted(&Cache::open(&path).unwrap(), last);
}

// Also what cleaning gives up.
#[test]
fn cleaning_distrusts_what_damage_took() {
    let (_dir, path) = place();
    let cache = Cache::open_with(&path, &tiny()).unwrap();
    fill_limited(&cache);
    let last = damage_record(&cache, &group_of_tag(&cache, b"a"));
    // The group's entry is damaged: nothing of the group is valid, and others are.
    let valid = |cache: &Cache| ["tagged", "other"].map(|key| cache.contains(key).unwrap());
    assert_eq!(valid(&Cache::open(&path).unwrap()), [false, true]);
    for i in 0..1_000_u32 {
        cache.insert(format!("later {}", i % 20), [8; 90]).unwrap();
    }
    cache.cache.compact().unwrap();
    assert!(cache.cache.stats().unwrap().dropped > 0);
    assert_distrusted(&cache, last);
}

// An engine without deadlines has none of these words.
#[test]
fn engines_have_no_words_of_caches() {
    let (_dir, path) = place();
    let engine = tiny().open(&path).unwrap();
    for i in 0..10_u32 {
        engine.put(i.to_le_bytes(), "value").unwrap();
    }
    let mut writer = engine.writer().unwrap();
    writer.session().recover("a test").unwrap();
    drop(writer);
    let generation = engine.handle.generation.load_full();
    crate::engine::write::publish::count_dropped(generation.header(), 1);
    for at in word::SETTINGS..word::SETTINGS + 32 {
        assert_eq!(generation.header().raw(at), 0, "word {at}");
    }
}
