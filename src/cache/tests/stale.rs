//! Stale values, and clocks that are set.

use crate::cache::tests::*;
use crate::engine::write::cache_words;
use crate::format::index::word;
use crate::format::settings::Settings;

const MINUTE: Duration = Duration::from_secs(60);

fn set_default_stale_for(cache: &Cache, stale_for: Duration) {
    let settings = Settings {
        stale_for: stale_for.as_millis() as u64,
        ..Settings::default()
    };
    let store = |_: &mut crate::Writer<'_>| {
        let generation = cache.cache.handle().generation.load();
        cache_words::set_settings(generation.header(), settings);
        Ok(())
    };
    cache.cache.write(store).unwrap();
}

/// What a key is now: fresh, stale, or nothing.
fn state(cache: &Cache, key: &str) -> Option<bool> {
    let entry = cache.entry(key).unwrap();
    let value = cache.get(key).unwrap();
    assert_eq!(
        value,
        entry.clone().map(|entry| entry.into_value()),
        "{key}"
    );
    assert_eq!(cache.contains(key).unwrap(), entry.is_some(), "{key}");
    entry.map(|entry| entry.is_stale())
}

const FRESH: Option<bool> = Some(false);
const STALE: Option<bool> = Some(true);

// To the millisecond in `cache::freshness`; here with files, and by the clock.
#[test]
fn stale_values_expire_later() {
    let (_dir, path) = place();
    let cache = Cache::open(&path).unwrap();
    let hour = ttl(HOUR);
    cache.insert_with("plain", "1", &hour).unwrap();
    let own = hour.stale_for(20 * MINUTE);
    cache.insert_with("own", "2", &own).unwrap();
    let none = hour.stale_for(Duration::ZERO);
    cache.insert_with("none", "3", &none).unwrap();
    let ever = hour.stale_for(Duration::MAX);
    cache.insert_with("ever", "4", &ever).unwrap();
    let unlimited = InsertOptions::new().stale_for(MINUTE);
    cache.insert_with("unlimited", "5", &unlimited).unwrap();
    let keys = ["plain", "own", "none", "ever", "unlimited"];
    let states = |minutes: u32| {
        let _clock = ClockSet::ahead(minutes * MINUTE);
        keys.map(|key| state(&cache, key))
    };
    assert_eq!(states(59), [FRESH; 5]);
    assert_eq!(states(60), [None, STALE, None, STALE, FRESH]);
    assert_eq!(states(79), [None, STALE, None, STALE, FRESH]);
    assert_eq!(states(80), [None, None, None, STALE, FRESH]);
    assert_eq!(
        states(60 * 24 * 365 * 100),
        [None, None, None, STALE, FRESH]
    );
    set_default_stale_for(&cache, 10 * MINUTE);
    assert_eq!(states(69), [STALE, STALE, None, STALE, FRESH]);
    assert_eq!(states(70), [None, STALE, None, STALE, FRESH]);
    // Settings of which neither copy passes its check are no default.
    let generation = cache.cache.handle().generation.load_full();
    generation.header().corrupt(word::SETTINGS, 1);
    assert_eq!(states(69), [STALE, STALE, None, STALE, FRESH]);
    generation.header().corrupt(word::SETTINGS_COPY, 1);
    assert_eq!(states(69), [None, STALE, None, STALE, FRESH]);
}

#[test]
fn negative_entries_are_never_stale() {
    let (_dir, path) = place();
    let cache = Cache::open(&path).unwrap();
    set_default_stale_for(&cache, HOUR);
    cache.insert_absent("missing", HOUR).unwrap();
    assert!(cache.entry("missing").unwrap().unwrap().is_negative());
    let _clock = ClockSet::ahead(HOUR);
    assert_eq!(cache.entry("missing").unwrap(), None);
    assert!(cache.add("missing", "now", &ttl(HOUR)).unwrap().is_some());
}

#[test]
fn conditional_calls_find_stale_entries() {
    let (_dir, path) = place();
    let cache = Cache::open(&path).unwrap();
    let options = ttl(HOUR).stale_for(HOUR).tag("t").cost(MINUTE);
    let version = cache.insert_with("key", "value", &options).unwrap();
    let _clock = ClockSet::ahead(HOUR);
    assert_eq!(state(&cache, "key"), STALE);
    assert_eq!(cache.add("key", "other", &options).unwrap(), None);
    assert_eq!(cache.sweep().unwrap(), 0);
    // The value was found to be right still.
    assert!(cache.touch("key", HOUR).unwrap());
    let entry = cache.entry("key").unwrap().unwrap();
    assert!(!entry.is_stale() && entry.has_tag("t") && !entry.has_tag("u"));
    assert_eq!((entry.version(), entry.value()), (version, &b"value"[..]));
    assert_eq!(entry.cost(), Some(MINUTE));
    assert_close(entry.remaining(), HOUR);
    let _clock = ClockSet::ahead(2 * HOUR);
    assert_eq!(state(&cache, "key"), STALE, "still served for an hour");
    assert!(cache.remove("key").unwrap());
    assert_eq!(state(&cache, "key"), None);
}

// Versions go on from the last one if the clock was set back; deadlines go by the clock.
#[test]
fn clock_set_back_lengthens_lives_only() {
    let (_dir, path) = place();
    let cache = Cache::open(&path).unwrap();
    let later = ClockSet::ahead(24 * HOUR);
    let first = cache.insert_with("first", "1", &ttl(HOUR)).unwrap();
    drop(later);
    assert_eq!(state(&cache, "first"), FRESH);
    let entry = cache.entry("first").unwrap().unwrap();
    assert_eq!(entry.age(), Duration::ZERO);
    assert_close(entry.remaining(), 25 * HOUR);
    let second = cache.insert_with("second", "2", &ttl(HOUR)).unwrap();
    assert!(second > first);
    assert_close(cache.entry("second").unwrap().unwrap().remaining(), HOUR);
    let states = |hours: u32| {
        let _clock = ClockSet::ahead(hours * HOUR);
        ["first", "second"].map(|key| state(&cache, key))
    };
    assert_eq!(states(1), [FRESH, None]);
    assert_eq!(states(25), [None, None]);
    // Set back once more, what was expired is not: no store says so.
    assert_eq!(states(0), [FRESH, FRESH]);
}

// What a failed computation may need is expired, but not over.
#[test]
fn sweeps_keep_values_for_errors() {
    let (_dir, path) = place();
    let builder = Cache::builder(&path).stale_if_error(HOUR);
    let cache = builder.open().unwrap();
    cache.insert_with("key", "value", &expired()).unwrap();
    cache.insert_absent("absent", Duration::ZERO).unwrap();
    assert_eq!(cache.sweep().unwrap(), 1);
    let failed = || Err::<Vec<u8>, _>("failed");
    let value = cache.get_or_try_insert_with("key", InsertOptions::new(), failed);
    assert_eq!(value.unwrap().value, b"value");
    // How long it is needed is not known any more.
    let _clock = ClockSet::ahead(2 * HOUR);
    let generation = cache.cache.handle().generation.load_full();
    let stored = generation.header().settings().unwrap();
    generation.header().corrupt(word::SETTINGS, 1);
    generation.header().corrupt(word::SETTINGS_COPY, 1);
    assert_eq!(cache.sweep().unwrap(), 0);
    cache_words::set_settings(generation.header(), stored);
    assert_eq!(cache.sweep().unwrap(), 1);
}
