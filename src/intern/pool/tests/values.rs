//! Handles and values: identity, order, maps, counts.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::BuildHasher;
use std::sync::Barrier;

use proptest::prelude::*;

use crate::intern::pool::tests::*;

// An `Option` of a handle is one pointer wide, too.
#[test]
fn handle_is_one_pointer_wide() {
    assert_eq!(size_of::<Interned>(), size_of::<usize>());
    assert_eq!(size_of::<Option<Interned>>(), size_of::<usize>());
    assert_eq!(size_of::<TypedInterned<str>>(), size_of::<usize>());
    fn goes_everywhere<T: Send + Sync + Clone + 'static>() {}
    goes_everywhere::<Interned>();
    goes_everywhere::<TypedInterned<str>>();
}

#[test]
fn equal_bytes_share_one_handle() {
    let pool = Pool::new();
    let values: Vec<Vec<u8>> = (0..2_000_usize)
        .map(|len| vec![len as u8; len % 300])
        .collect();
    let distinct: BTreeSet<_> = values.iter().collect();
    let handles: Vec<_> = values.iter().map(|value| pool.intern(value)).collect();
    assert_eq!(pool.len(), distinct.len());
    for (a, value) in handles.iter().zip(&values) {
        assert_eq!(&a[..], value);
        assert_eq!(*a, pool.intern(value));
        assert_eq!(Some(a), pool.get(value).as_ref());
        for (b, other) in handles.iter().zip(&values).take(50) {
            assert_eq!(a == b, value == other);
            assert_eq!(a.cmp(b), value.cmp(other));
        }
    }
    assert_eq!(pool.get("never seen"), None);
    assert_eq!(pool.intern("").as_str(), Some(""));
}

// Handles of two pools are never equal, but their order is consistent.
#[test]
fn handles_of_pools_differ() {
    let (one, two) = (Pool::new(), Pool::new());
    let (a, b) = (one.intern("same"), two.intern("same"));
    assert_ne!(a, b);
    assert_ne!(a.cmp(&b), std::cmp::Ordering::Equal);
    assert_eq!(a.cmp(&b), b.cmp(&a).reverse());
    assert_eq!(*a, *b);
    drop(one);
    assert_eq!(&a[..], b"same");
}

#[test]
fn handles_display_their_value() {
    let pool = Pool::new();
    let broken = pool.intern(b"caf\xe9\n");
    assert_eq!(format!("{broken:?}"), r#"Interned(b"caf\xe9\n")"#);
    assert_eq!(broken.to_string(), "caf\u{fffd}\n");
    assert_eq!(broken.as_str(), None);
    assert_eq!(format!("{:>6}|", pool.intern("blo")), "   blo|");
}

// With a fixed seed, maps and walks have the same order in every run.
#[test]
fn fixed_seed_fixes_the_order() {
    let order = || {
        let pool = PoolOptions::new().seed(42).build();
        let mut map: HashMap<Interned, usize, StoredHash> = HashMap::default();
        for i in 0..100 {
            map.insert(pool.intern(format!("topic {i}")), i);
        }
        let mut walk = Vec::new();
        pool.for_each(|handle| walk.push(handle.to_string()));
        let listed: Vec<_> = map.into_values().collect();
        (listed, walk)
    };
    let (listed, walk) = order();
    assert_eq!(order(), (listed.clone(), walk));
    assert!(!listed.is_sorted(), "this is no order of hashes");
    let hash = |seed| {
        PoolOptions::new()
            .seed(seed)
            .build()
            .intern("a")
            .stored_hash()
    };
    assert_ne!(hash(1), hash(2));
    let handle = PoolOptions::new().build().intern("a");
    assert_eq!(
        StoredHash::default().hash_one(&handle),
        handle.stored_hash()
    );
}

#[test]
fn stats_count_pool_operations() {
    let pool = released();
    let a = pool.intern("aaaa");
    let more: Vec<_> = (0..3).map(|_| pool.intern("aaaa")).collect();
    let b = pool.intern("bb");
    assert_eq!(pool.get("bb").as_ref(), Some(&b));
    assert_eq!(pool.get("c"), None);
    let stats = pool.stats();
    assert_eq!((stats.hits, stats.misses, stats.entries), (4, 2, 2));
    assert_eq!(stats.bytes_saved, 3 * 4 + 2);
    assert_eq!(stats.hit_rate(), 4.0 / 6.0);
    // Headers of 48 bytes, and a table of four places.
    assert!(stats.bytes_held >= 2 * 56 && stats.bytes_held < 2 * 56 + 100);
    drop((a, more));
    let stats = pool.stats();
    assert_eq!((stats.hits, stats.misses, stats.entries), (4, 2, 1));
}

// The top is ranked by handles or by uses, and then by bytes.
#[test]
fn top_is_ranked_by_handles() {
    let one_shard_and_many = [(Retention::Forever, 1), (Retention::UntilReleased, 16)];
    for (retention, shards) in one_shard_and_many {
        let pool = PoolOptions::new()
            .retention(retention)
            .shards(shards)
            .build();
        let _held: Vec<_> = (0..5).map(|_| pool.intern("held")).collect();
        let used = pool.intern("used");
        for _ in 0..9 {
            pool.intern("used");
        }
        let _once: Vec<_> = ["d", "c", "b", "a"].map(|value| pool.intern(value)).into();
        let counts = |all: Vec<(Interned, u64)>| -> Vec<_> {
            all.iter()
                .map(|(handle, count)| (handle.to_string(), *count))
                .collect()
        };
        let referenced = |count| counts(pool.most_referenced(count));
        let used_most = |count| counts(pool.most_used(count));
        let entry = |value: &str, count| (value.to_owned(), count);
        assert_eq!(referenced(2), [entry("held", 5), entry("a", 1)]);
        let used_first = [entry("used", 10), entry("held", 5), entry("a", 1)];
        assert_eq!(used_most(3), used_first);
        assert_eq!(used_most(100).len(), 6);
        assert_eq!(used_most(0), []);
        let _more = [
            used.clone(),
            used.clone(),
            used.clone(),
            used.clone(),
            used.clone(),
        ];
        assert_eq!(referenced(1), [entry("used", 6)]);
    }
}

// P1: a table has one entry for equal bytes.
#[test]
fn concurrent_interning_gives_equal_handles() {
    for retention in [Retention::Forever, Retention::UntilReleased] {
        let pool = PoolOptions::new().retention(retention).shards(2).build();
        let barrier = Barrier::new(8);
        let all: Vec<Vec<Interned>> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|thread| {
                    let (pool, barrier) = (&pool, &barrier);
                    scope.spawn(move || {
                        barrier.wait();
                        let mut handles: Vec<_> = (0..500)
                            .map(|i| (i * (2 * thread + 1)) % 500)
                            .map(|i| pool.intern(format!("value {i}")))
                            .collect();
                        handles.sort();
                        handles.dedup();
                        handles
                    })
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        assert_eq!(pool.len(), 500);
        let longest = all.iter().max_by_key(|handles| handles.len()).unwrap();
        let known: HashSet<_> = longest.iter().collect();
        assert_eq!(known.len(), 500);
        for handle in all.iter().flatten() {
            assert!(known.contains(handle), "{handle} has two handles");
        }
    }
}

// P4: no handle is dropped under a shard's lock, which dropping the last handle of a value takes.
#[test]
fn walk_may_reenter_the_pool() {
    let pool = released();
    let _kept: Vec<_> = (0..20).map(|i| pool.intern([i])).collect();
    let mut seen = BTreeSet::new();
    pool.for_each(|handle| {
        assert_eq!(pool.intern(handle), *handle);
        drop(pool.intern("only for now"));
        seen.insert(handle.to_vec());
    });
    assert_eq!(seen.len(), 20);
    assert_eq!(pool.len(), 20);
}

#[test]
fn typed_handles_keep_their_text() {
    let topics = TypedPool::<str>::new(released());
    let topic = topics.intern("blöcke");
    assert_eq!(topic.as_str(), "blöcke");
    assert_eq!(topics.try_intern("blöcke").as_ref(), Ok(&topic));
    assert_eq!(topics.get("blöcke"), Some(topic.clone()));
    assert_eq!(topics.get("none"), None);
    assert_eq!(topics.pool().get("blöcke").as_ref(), Some(topic.untyped()));
    drop(topic.into_untyped());
    assert!(topics.pool().is_empty());
}

#[test]
fn labels_and_handles_convert_mutually() {
    let dir = tempfile::tempdir().unwrap();
    let labels = crate::Labels::open(dir.path().join("labels")).unwrap();
    let pool = PoolOptions::new().max_bytes(500).shards(1).build();
    let handle = pool.intern("r/outfits");
    let id = labels.get_or_intern(&handle).unwrap();
    assert_eq!(labels.get(&handle).unwrap(), Some(id));
    assert_eq!(pool.intern_label(&labels, id).unwrap(), Some(handle));
    let unassigned = crate::LabelId::new(77);
    assert_eq!(pool.intern_label(&labels, unassigned).unwrap(), None);
    let long = labels.get_or_intern([7; 1_000]).unwrap();
    let refused = pool.intern_label(&labels, long).unwrap_err();
    assert!(matches!(
        refused.kind(),
        crate::ErrorKind::Pool(PoolError::Full { .. })
    ));
    assert!(!refused.is_corruption());
}

#[derive(Clone, Debug)]
enum Step {
    Intern(u8),
    Lookup(u8),
    Clone(prop::sample::Index),
    Drop(prop::sample::Index),
    Shrink,
    Reset,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => any::<u8>().prop_map(|value| Step::Intern(value % 24)),
        2 => any::<u8>().prop_map(|value| Step::Lookup(value % 24)),
        2 => any::<prop::sample::Index>().prop_map(Step::Clone),
        5 => any::<prop::sample::Index>().prop_map(Step::Drop),
        1 => Just(Step::Shrink),
        1 => Just(Step::Reset),
    ]
}

/// What the pool should hold: for each value its handle's generation.
#[derive(Default)]
struct Model {
    known: BTreeMap<u8, u64>,
    /// Value, generation, and the handle.
    held: Vec<(u8, u64, Interned)>,
    generation: u64,
}

impl Model {
    fn took(&mut self, value: u8, handle: Interned) {
        let generation = *self.known.entry(value).or_insert(self.generation);
        self.held.push((value, generation, handle));
    }

    fn forget_unheld(&mut self) {
        let held = &self.held;
        self.known.retain(|&value, &mut generation| {
            held.iter()
                .any(|held| (held.0, held.1) == (value, generation))
        });
    }
}

fn text(value: u8) -> Vec<u8> {
    vec![value; usize::from(value)]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn pool_behaves_like_a_map(
        steps in prop::collection::vec(step(), 1..120),
        retention in prop_oneof![
            Just(Retention::Forever),
            Just(Retention::UntilReleased),
            Just(Retention::UntilReset),
        ],
    ) {
        let pool = PoolOptions::new().retention(retention).shards(2).max_bytes(1 << 20).build();
        let mut model = Model::default();
        for step in steps {
            match step {
                Step::Intern(value) => model.took(value, pool.intern(text(value))),
                Step::Lookup(value) => {
                    let found = pool.get(text(value));
                    prop_assert_eq!(found.is_some(), model.known.contains_key(&value));
                    if let Some(handle) = found {
                        model.took(value, handle);
                    }
                }
                Step::Clone(at) if !model.held.is_empty() => {
                    let held = at.get(&model.held).clone();
                    model.held.push(held);
                }
                Step::Drop(at) if !model.held.is_empty() => {
                    model.held.swap_remove(at.index(model.held.len()));
                    if retention == Retention::UntilReleased {
                        model.forget_unheld();
                    }
                }
                Step::Clone(_) | Step::Drop(_) => {}
                Step::Shrink => {
                    pool.shrink();
                    if retention == Retention::UntilReset {
                        model.forget_unheld();
                    }
                }
                Step::Reset => {
                    let count = model.known.len();
                    if retention == Retention::UntilReset {
                        prop_assert_eq!(pool.reset(), Ok(count));
                        model.known.clear();
                        model.generation += 1;
                    } else {
                        prop_assert!(pool.reset().is_err());
                    }
                }
            }
            prop_assert_eq!(pool.len(), model.known.len());
            for (value, generation, handle) in &model.held {
                prop_assert_eq!(&handle[..], &text(*value)[..]);
                let (first_value, first_generation, first) = &model.held[0];
                let same = (value, generation) == (first_value, first_generation);
                prop_assert_eq!(handle == first, same);
            }
        }
        let mut listed = Vec::new();
        pool.for_each(|handle| listed.push(handle.to_vec()));
        listed.sort();
        let known: Vec<_> = model.known.keys().map(|&value| text(value)).collect();
        prop_assert_eq!(listed, known);
    }
}
