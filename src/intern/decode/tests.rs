//! What a cache of decoded instances promises.
#![cfg(not(loom))]

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Barrier;
use std::sync::mpsc;
use std::time::Duration;

use proptest::prelude::*;

use crate::intern::decode::*;

type Text = Result<String, std::str::Utf8Error>;

fn text(packed: &[u8]) -> Text {
    std::str::from_utf8(packed).map(str::to_owned)
}

fn never(_: &[u8]) -> Text {
    panic!("this is decoded already")
}

fn bounded(min: usize, max: usize) -> DecodeCache<String> {
    DecodeOptions::new()
        .min_entries(min)
        .max_entries(max)
        .build()
}

/// A clock that shows what it was set to.
#[derive(Clone, Default)]
struct Hand(Arc<std::sync::Mutex<Duration>>);

impl Hand {
    fn set(&self, seconds: u64) {
        *self.0.lock().unwrap() = Duration::from_secs(seconds);
    }

    fn options(&self, min: usize, max: usize, age: u64) -> DecodeOptions {
        let hand = self.clone();
        let mut options = DecodeOptions::new();
        options
            .min_entries(min)
            .max_entries(max)
            .max_age(Duration::from_secs(age))
            .clock(move || *hand.0.lock().unwrap());
        options
    }
}

#[test]
fn equal_bytes_are_decoded_once() {
    let cache = bounded(10, 100);
    let one = cache.get_or_decode("a", text).unwrap();
    let two = cache.get_or_decode("a", never).unwrap();
    assert!(Arc::ptr_eq(&one, &two));
    assert!(Arc::ptr_eq(&one, &cache.get("a").unwrap()));
    assert!(cache.get("b").is_none());
    let stats = cache.stats();
    assert_eq!((stats.hits, stats.misses, stats.entries), (2, 1, 1));
    assert_eq!(stats.hit_rate(), 2.0 / 3.0);
}

#[test]
fn decode_failures_are_not_cached() {
    let cache = bounded(10, 100);
    for _ in 0..2 {
        assert!(cache.get_or_decode(b"\xff", text).is_err());
    }
    let repaired = cache.get_or_decode(b"\xff", |_| Text::Ok("mended".into()));
    assert_eq!(**repaired.as_ref().unwrap(), "mended");
    let stats = cache.stats();
    assert_eq!((stats.hits, stats.misses, stats.failures), (0, 3, 2));
}

#[test]
fn least_recently_used_is_evicted() {
    let cache = bounded(0, 3);
    for value in ["a", "b", "c", "a", "d"] {
        cache.get_or_decode(value, text).unwrap();
    }
    assert!(cache.get("b").is_none(), "it was used least recently");
    for value in ["a", "c", "d"] {
        assert!(cache.get(value).is_some(), "{value}");
    }
    let stats = cache.stats();
    assert_eq!((stats.entries, stats.evictions), (3, 1));
}

#[test]
fn held_instances_survive_eviction() {
    let cache = bounded(0, 2);
    let held = cache.get_or_decode("held", text).unwrap();
    for i in 0..1_000 {
        cache.get_or_decode(i.to_string(), text).unwrap();
    }
    let again = cache.get_or_decode("held", never).unwrap();
    assert!(Arc::ptr_eq(&held, &again));
    assert_eq!(cache.stats().revivals, 1);
    assert_eq!(cache.stats().entries, 2);
    drop((held, again));
    cache.clear();
    assert!(cache.get("held").is_none());
    // The cache remembers the instances that are held, and a few more.
    assert!(cache.open().unwrap().evicted_len() < 5);
}

#[test]
fn age_evicts_down_to_minimum() {
    let hand = Hand::default();
    let cache: DecodeCache<String> = hand.options(2, 100, 10).build();
    for (second, value) in [(0, "a"), (1, "b"), (2, "c"), (3, "d")] {
        hand.set(second);
        cache.get_or_decode(value, text).unwrap();
    }
    hand.set(10);
    cache.get("a").unwrap();
    cache.expire();
    assert_eq!(cache.len(), 4, "none is older than ten seconds");
    hand.set(13);
    cache.expire();
    assert_eq!(cache.len(), 2, "b and c are, d is just ten seconds old");
    hand.set(100);
    cache.expire();
    assert_eq!(cache.len(), 2, "the minimum");
    cache.get_or_decode("e", text).unwrap();
    assert_eq!(cache.len(), 2, "an insertion lets the oldest go");
    assert!(cache.get("d").is_none() && cache.get("a").is_some());
    hand.set(0);
    cache.expire();
    assert_eq!(cache.len(), 2, "a clock that goes back evicts nothing");
}

#[test]
fn ageless_cache_never_reads_clock() {
    let mut options = DecodeOptions::new();
    options
        .clock(|| panic!("it did"))
        .no_max_age()
        .max_entries(1);
    let cache: DecodeCache<String> = options.build();
    for value in ["a", "b", "b"] {
        cache.get_or_decode(value, text).unwrap();
    }
    cache.expire();
    cache.clear();
    assert_eq!(cache.len(), 0);
}

// Pinned instances are never evicted, and can be the instance of empty input.
#[test]
fn pinned_instances_are_never_evicted() {
    let cache = bounded(0, 1);
    let empty = cache.pin("", "nothing".to_owned());
    let igp = cache.pin([0], "IGP".to_owned());
    for i in 0..100 {
        cache.get_or_decode(i.to_string(), text).unwrap();
    }
    cache.clear();
    cache.set_enabled(false);
    assert!(Arc::ptr_eq(
        &empty,
        &cache.get_or_decode("", never).unwrap()
    ));
    assert!(Arc::ptr_eq(&igp, &cache.get([0]).unwrap()));
    assert_eq!((cache.len(), cache.stats().pinned), (2, 2));
}

#[test]
fn pinning_reuses_existing_instance() {
    let cache = bounded(0, 1);
    let kept = cache.get_or_decode("kept", text).unwrap();
    let pinned = cache.pin("kept", "another".to_owned());
    assert!(Arc::ptr_eq(&kept, &pinned));
    let held = cache.get_or_decode("held", text).unwrap();
    cache.get_or_decode("more", text).unwrap();
    assert!(Arc::ptr_eq(&held, &cache.pin("held", "another".to_owned())));
    assert!(Arc::ptr_eq(&held, &cache.pin("held", "a third".to_owned())));
    let stats = cache.stats();
    assert_eq!((stats.entries, stats.pinned), (1, 2));
}

// An instance is found by its id as long as it is cached or held.
#[test]
fn instances_are_found_by_id() {
    let number = |text: &String| text.parse().ok();
    let mut options = DecodeOptions::new();
    let cache = options
        .min_entries(0)
        .max_entries(2)
        .build_with_secondary_key(number);
    let ipv4 = cache.pin([0, 1], "1".to_owned());
    assert!(Arc::ptr_eq(&ipv4, &cache.get_by_secondary_key(1).unwrap()));
    cache.get_or_decode("x", text).unwrap();
    let held = cache.get_or_decode("25", text).unwrap();
    cache.get_or_decode("26", text).unwrap();
    cache.get_or_decode("026", text).unwrap();
    assert_eq!(
        *cache.get_by_secondary_key(26).unwrap(),
        "26",
        "the first one has it"
    );
    assert!(
        Arc::ptr_eq(&held, &cache.get_by_secondary_key(25).unwrap()),
        "evicted, but held"
    );
    assert!(cache.get_by_secondary_key(2).is_none());
    drop(held);
    cache.clear();
    assert!(cache.get_by_secondary_key(25).is_none());
    assert!(cache.get_by_secondary_key(26).is_none());
    cache.get_or_decode("026", text).unwrap();
    assert_eq!(
        *cache.get_by_secondary_key(26).unwrap(),
        "026",
        "its owner is gone"
    );
    for i in 100..200 {
        cache.get_or_decode(i.to_string(), text).unwrap();
    }
    assert!(
        cache.open().unwrap().secondary_keys_len() < 10,
        "numbers of what is gone go, too"
    );
    assert!(cache.get_by_secondary_key(1).is_some());
}

#[test]
fn disabled_cache_decodes_each_time() {
    let cache = bounded(0, 10);
    let before = cache.get_or_decode("a", text).unwrap();
    cache.set_enabled(false);
    assert!(!cache.is_enabled());
    let off = cache.get_or_decode("a", text).unwrap();
    assert!(!Arc::ptr_eq(&before, &off));
    cache.get_or_decode("b", text).unwrap();
    assert!(cache.get("a").is_none());
    cache.set_enabled(true);
    assert!(Arc::ptr_eq(&before, &cache.get("a").unwrap()));
    assert!(cache.get("b").is_none());
}

#[test]
fn concurrent_threads_decode_once() {
    let cache = bounded(0, 0);
    let barrier = Barrier::new(8);
    let decoded = std::sync::Mutex::new(0);
    let all: Vec<_> = std::thread::scope(|scope| {
        let ask = || {
            barrier.wait();
            cache.get_or_decode("slow", |packed| {
                *decoded.lock().unwrap() += 1;
                std::thread::sleep(Duration::from_millis(100));
                text(packed)
            })
        };
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap().unwrap())
            .collect()
    });
    assert_eq!(*decoded.lock().unwrap(), 1);
    assert!(all.iter().all(|instance| Arc::ptr_eq(instance, &all[0])));
    let stats = cache.stats();
    assert_eq!((stats.hits, stats.misses), (7, 1));
}

#[test]
fn decoding_blocks_no_other_bytes() {
    let cache = bounded(0, 10);
    let ((begin, begun), (go_on, gone_on)) = (mpsc::channel(), mpsc::channel());
    std::thread::scope(|scope| {
        let asked = &cache;
        let slow = scope.spawn(move || {
            asked.get_or_decode("slow", |packed| {
                begin.send(()).unwrap();
                let waited = gone_on.recv_timeout(Duration::from_secs(60));
                waited.expect("the other bytes are decoded first");
                text(packed)
            })
        });
        begun.recv().unwrap();
        cache.get_or_decode("quick", text).unwrap();
        cache.get("quick").unwrap();
        go_on.send(()).unwrap();
        assert_eq!(*slow.join().unwrap().unwrap(), "slow");
    });
}

/// The first thread fails as `fail` does; the threads that wait for it then try, one after another.
fn others_try_after(fail: fn() -> Text) {
    let cache = bounded(0, 10);
    let ((begin, begun), (go_on, gone_on)) = (mpsc::channel(), mpsc::channel());
    std::thread::scope(|scope| {
        let asked = &cache;
        let failing = scope.spawn(move || {
            asked.get_or_decode("bad", |_| {
                begin.send(()).unwrap();
                gone_on.recv().unwrap();
                fail()
            })
        });
        begun.recv().unwrap();
        let waiting: Vec<_> = (0..3)
            .map(|_| scope.spawn(|| cache.get_or_decode("bad", text).unwrap()))
            .collect();
        go_on.send(()).unwrap();
        assert!(!matches!(failing.join(), Ok(Ok(_))));
        let all: Vec<_> = waiting
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect();
        assert!(all.iter().all(|instance| Arc::ptr_eq(instance, &all[0])));
    });
    let stats = cache.stats();
    assert_eq!((stats.misses, stats.failures, stats.hits), (2, 1, 2));
    assert!(cache.open().unwrap().flights.is_empty());
}

#[test]
fn failed_decoding_lets_others_try() {
    others_try_after(|| text(b"\xff"));
}

#[test]
fn panicking_decoding_lets_others_try() {
    others_try_after(|| panic!("as it was to"));
    let cache = bounded(0, 10);
    for _ in 0..2 {
        let panicked = catch_unwind(AssertUnwindSafe(|| cache.get_or_decode("bad", never)));
        assert!(panicked.is_err());
    }
}

// A decode function may ask the cache, even for its own bytes.
#[test]
fn decode_function_may_reenter_cache() {
    let cache = bounded(0, 10);
    let outer = cache.get_or_decode("a", |packed| {
        let other = cache.get_or_decode("b", text)?;
        let same = cache.get_or_decode("a", text)?;
        assert_eq!((&**other, &**same), ("b", "a"));
        text(packed)
    });
    assert!(Arc::ptr_eq(&outer.unwrap(), &cache.get("a").unwrap()));
    assert_eq!(cache.len(), 2);
}

/// Looks itself up in its cache when it is dropped.
struct Asking(&'static str, Arc<std::sync::OnceLock<DecodeCache<Asking>>>);

impl Drop for Asking {
    fn drop(&mut self) {
        if let Some(cache) = self.1.get() {
            cache.get(self.0);
        }
    }
}

#[test]
fn instance_drop_may_reenter_cache() {
    let cache = Arc::new(std::sync::OnceLock::new());
    let mut options = DecodeOptions::new();
    options.max_entries(1);
    assert!(cache.set(options.build()).is_ok());
    for name in ["a", "b", "c"] {
        let asking = |_: &[u8]| Ok::<_, ()>(Asking(name, Arc::clone(&cache)));
        cache.get().unwrap().get_or_decode(name, asking).unwrap();
    }
    let pinned = Asking("c", Arc::clone(&cache));
    cache.get().unwrap().pin("c", pinned);
    cache.get().unwrap().clear();
}

#[derive(Clone, Debug)]
enum Step {
    Decode(u8),
    Hold(u8),
    LetGo(prop::sample::Index),
    Pin(u8),
    Wait(u8),
    Clear,
}

fn step() -> impl Strategy<Value = Step> {
    let value = || any::<u8>().prop_map(|value| value % 12);
    prop_oneof![
        6 => value().prop_map(Step::Decode),
        3 => value().prop_map(Step::Hold),
        3 => any::<prop::sample::Index>().prop_map(Step::LetGo),
        1 => value().prop_map(Step::Pin),
        2 => (0..15_u8).prop_map(Step::Wait),
        1 => Just(Step::Clear),
    ]
}

/// The cache as a list, the least recently used first.
#[derive(Default)]
struct Model {
    now: u64,
    kept: Vec<(u8, u64)>,
    pinned: BTreeMap<u8, Arc<String>>,
    held: Vec<(u8, Arc<String>)>,
}

const MIN: usize = 2;
const MAX: usize = 4;
const AGE: u64 = 10;

impl Model {
    fn is_known(&self, value: u8) -> bool {
        self.pinned.contains_key(&value)
            || self.kept.iter().any(|kept| kept.0 == value)
            || self.held.iter().any(|held| held.0 == value)
    }

    fn used(&mut self, value: u8) {
        if self.pinned.contains_key(&value) {
            return;
        }
        let there = self.kept.iter().position(|kept| kept.0 == value);
        if let Some(at) = there {
            self.kept.remove(at);
        }
        self.kept.push((value, self.now));
        if there.is_none() {
            let too_many = self.kept.len().saturating_sub(MAX);
            self.kept.drain(..too_many);
            self.expire();
        }
    }

    fn expire(&mut self) {
        while self.kept.len() > MIN && self.now - self.kept[0].1 > AGE {
            self.kept.remove(0);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn cache_behaves_like_a_list(
        steps in prop::collection::vec(step(), 1..150),
    ) {
        let hand = Hand::default();
        let cache: DecodeCache<String> = hand.options(MIN, MAX, AGE).build();
        let mut model = Model::default();
        for step in steps {
            match step {
                Step::Decode(value) | Step::Hold(value) => {
                    let mut decoded = false;
                    let instance = cache.get_or_decode([value], |packed| {
                        decoded = true;
                        text(packed)
                    });
                    let instance = instance.unwrap();
                    prop_assert_eq!(decoded, !model.is_known(value));
                    for (_, held) in model.held.iter().filter(|held| held.0 == value) {
                        prop_assert!(Arc::ptr_eq(held, &instance));
                    }
                    model.used(value);
                    if matches!(step, Step::Hold(_)) {
                        model.held.push((value, instance));
                    }
                }
                Step::LetGo(at) if !model.held.is_empty() => {
                    model.held.swap_remove(at.index(model.held.len()));
                }
                Step::LetGo(_) => {}
                Step::Pin(value) => {
                    let pinned = cache.pin([value], "pinned".to_owned());
                    for (_, held) in model.held.iter().filter(|held| held.0 == value) {
                        prop_assert!(Arc::ptr_eq(held, &pinned));
                    }
                    model.kept.retain(|kept| kept.0 != value);
                    model.pinned.entry(value).or_insert(pinned);
                }
                Step::Wait(seconds) => {
                    model.now += u64::from(seconds);
                    hand.set(model.now);
                    cache.expire();
                    model.expire();
                }
                Step::Clear => {
                    cache.clear();
                    model.kept.clear();
                }
            }
            let stats = cache.stats();
            prop_assert_eq!((stats.entries, stats.pinned), (model.kept.len(), model.pinned.len()));
        }
        for (value, pinned) in &model.pinned {
            prop_assert!(Arc::ptr_eq(&cache.get([*value]).unwrap(), pinned));
        }
    }
}

// The thread that forks holds the lock, as a thread that a signal interrupted may.
#[test]
fn lost_cache_decodes_each_time() {
    let cache = DecodeCache::<String>::new();
    cache.pin("pinned", "pinned".to_owned());
    cache.get_or_decode("a", text).unwrap();
    let held = cache.open().unwrap();
    assert!(crate::lock::tests::child_finds(|| {
        let decoded = cache.get_or_decode("a", |_| Text::Ok("again".to_owned()));
        cache.set_enabled(true);
        cache.expire();
        cache.clear();
        decoded.is_ok_and(|decoded| *decoded == "again")
            && cache.get("a").is_none()
            && cache.get_by_secondary_key(1).is_none()
            && *cache.pin("pinned", "another".to_owned()) == "another"
            && cache.is_empty()
            && !cache.is_enabled()
    }));
    drop(held);
    assert!(cache.get_or_decode("a", never).is_ok());
}
