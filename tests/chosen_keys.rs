//! Keys chosen to collide: under another seed they are ordinary keys, and even an attacker who
//! knows the seed can degrade one region only.

mod collider;

use mmapcache::{Error, ErrorKind, MmapCache, Options};

struct Scratch(tempfile::TempDir);

impl Scratch {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    fn path(&self) -> std::path::PathBuf {
        self.0.path().join("cache")
    }

    fn open(&self) -> MmapCache {
        MmapCache::open(self.path()).expect("a cache")
    }
}

/// The shape of a table with these keys.
#[derive(Debug)]
struct Shape {
    entries: u64,
    slots: u64,
    miss_groups: f64,
    disk: u64,
}

fn shape(cache: &MmapCache) -> Shape {
    let report = cache.verify().run().expect("a report");
    assert!(report.is_clean(), "{:?}", report.problems);
    Shape {
        entries: report.entries,
        slots: cache.stats().expect("numbers").slots,
        miss_groups: report.miss_groups,
        disk: cache.disk_usage().expect("numbers").total(),
    }
}

// Keys that collide under one seed are ordinary keys under another.
#[test]
fn keys_collide_under_one_seed() {
    let known = 0x5eed_0000_dead_beef;
    let (chosen, ordinary) = (Scratch::new(), Scratch::new());
    let (chosen, ordinary) = (chosen.open(), ordinary.open());
    for i in 0..20_000_u32 {
        chosen.put(&collider::key(known, i), b"v").expect("a put");
        ordinary
            .put(&u64::from(i).to_le_bytes(), b"v")
            .expect("a put");
    }
    let (chosen, ordinary) = (shape(&chosen), shape(&ordinary));
    eprintln!("chosen {chosen:?}\nordinary {ordinary:?}");
    assert_eq!(chosen.entries, 20_000);
    assert!(chosen.miss_groups < ordinary.miss_groups + 0.2);
    assert!(chosen.slots <= ordinary.slots * 5 / 4);
}

/// A rebuild and a clear hash all keys under a new seed.
#[test]
fn rebuild_defuses_chosen_keys() {
    let scratch = Scratch::new();
    let cache = scratch.open();
    let seed = collider::seed_of(&scratch.path());
    let keys: Vec<_> = (0..800).map(|i| collider::key(seed, i)).collect();
    for key in &keys {
        cache.put(key, b"v").expect("a put");
    }
    let before = shape(&cache);
    let items = keys.iter().map(|key| Ok::<_, Error>((key, b"v")));
    cache.atomic_rebuild(items).expect("a rebuild");
    let after = shape(&cache);
    eprintln!("before {before:?}\nafter {after:?}");
    assert_ne!(collider::seed_of(&scratch.path()), seed);
    assert_eq!(after.entries, 800);
    assert!(before.miss_groups > 30.0 && after.miss_groups < 6.0);
}

/// The worst that an attacker can do who reads the file and chooses keys: one region is full, the
/// directory has its full depth, and further such keys are refused.
#[test]
fn colliding_keys_bounded_to_one_region() {
    for slots in [16, 512, 1024] {
        let scratch = Scratch::new();
        let cache = Options::new()
            .region_slots(slots)
            .open(scratch.path())
            .expect("a cache");
        for i in 0..5_000_u64 {
            cache
                .put(&[1, i as u8, (i >> 8) as u8], b"ordinary")
                .expect("a put");
        }
        let before = shape(&cache);
        let seed = collider::seed_of(&scratch.path());
        let mut put = 0;
        let refused = loop {
            match cache.put(&collider::key(seed, put), &put.to_le_bytes()) {
                Ok(_) => put += 1,
                Err(error) => break error,
            }
        };
        assert!(
            matches!(refused.kind(), ErrorKind::TableFull { .. }),
            "{refused}"
        );
        assert!(!refused.is_corruption());
        let full = shape(&cache);
        eprintln!("{slots} slots: {put} of them fit; before {before:?}, full {full:?}");
        assert!((900..=1_024).contains(&put), "{put}");
        assert_eq!(full.entries, before.entries + u64::from(put));
        assert!(full.disk < before.disk + (24 << 20), "{full:?}");
        // Other keys are unaffected, and nothing else grows.
        for i in 0..200 {
            assert!(cache.put(&collider::key(seed, put + i), b"v").is_err());
            cache.put(&[2, i as u8], b"ordinary").expect("a put");
        }
        for i in 0..put {
            let found = cache.get(&collider::key(seed, i)).expect("a lookup");
            assert_eq!(found.as_deref(), Some(&i.to_le_bytes()[..]));
        }
        assert!(shape(&cache).disk < full.disk + (1 << 20));
        assert!(cache.delete(&collider::key(seed, 0)).expect("a deletion"));
        cache
            .put(&collider::key(seed, put), b"v")
            .expect("its place");
    }
}
