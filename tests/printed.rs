//! What `{:?}` shows of the public types: a short text, without what must stay in the files.
//!
//! A handle's text ends up in logs. A reader of the log who finds the hash seed can choose keys
//! that collide.

mod child;
mod collider;

use std::collections::BTreeSet;
use std::fmt::Debug;

use child::tight;
use mmapcache::inspect::CacheFiles;
use mmapcache::intern::{DecodeCache, Pool, PoolOptions, TypedPool};
use mmapcache::{Cache, Labels, Repair};

/// Types that represent files, memory or work: checked below.
const HANDLES: [&str; 32] = [
    "Backup",
    "Cache",
    "CacheBuilder",
    "CacheEntries",
    "CacheFiles",
    "CacheKeys",
    "CacheWriter",
    "Cached",
    "CachedDict",
    "DecodeCache",
    "DecodeOptions",
    "Dict",
    "Entries",
    "IndexHeader",
    "Iter",
    "Keys",
    "LabelIter",
    "Labels",
    "Local",
    "LocalDict",
    "LocalOptions",
    "Mmap",
    "MmapCache",
    "MmapDict",
    "Options",
    "Pool",
    "PoolOptions",
    "Repair",
    "TypedCache",
    "TypedPool",
    "Verify",
    "Writer",
];

/// Types that are values which the caller asked for, and show their contents. A `Field` has the raw
/// bytes of a header: showing them is its purpose.
const VALUES: &str = "BackupReport CacheCounts CacheEntry CacheFile CacheSettings CacheStats \
    ComputeError ComputeOptions Condition Corruption DecodeStats DictError DictKey \
    DiskUsage Durability ETag Entry Error ErrorKind Eviction Field Format HeapAddress IndexScan IndexState \
    InsertOptions Interned KeyError KeyInfo KeyParts LabelId LockKind LockState Metric MetricKind Obtained Origin Outcome PoolError PoolStats \
    Problem Progress Record Recovery RegionScan RemovalCause RepairReport Result Retention Retrieve Slot Stats \
    Store StoredHash TypedInterned Update Upgrade Value ValueRef VerifyLevel VerifyReport Version";

/// A new type must be added to one of the two lists.
#[test]
fn public_types_are_all_listed() {
    let sources = [
        include_str!("../src/lib.rs"),
        include_str!("../src/inspect.rs"),
        include_str!("../src/intern.rs"),
        include_str!("../src/dict.rs"),
    ];
    let mut exported = BTreeSet::new();
    for statement in sources
        .iter()
        .flat_map(|source| source.split("pub use ").skip(1))
    {
        let statement = statement.split(';').next().expect("a statement");
        let names = statement.split(|c: char| !c.is_alphanumeric() && c != '_');
        exported.extend(names.filter(|name| name.starts_with(|c: char| c.is_uppercase())));
    }
    let listed: BTreeSet<_> = HANDLES
        .into_iter()
        .chain(VALUES.split_whitespace())
        .collect();
    let unlisted: Vec<_> = exported.difference(&listed).collect();
    assert!(exported.len() > 60 && unlisted.is_empty(), "{unlisted:?}");
}

/// The texts of handles, one after the other.
struct Texts {
    seed: u64,
    checked: u32,
}

impl Texts {
    #[track_caller]
    fn check(&mut self, shown: &dyn Debug) {
        let text = format!("{shown:?}");
        assert!(text.len() < 1_000, "{} bytes: {text}", text.len());
        assert!(!text.contains('\n'), "{text}");
        assert!(!text.contains("uninit"), "{text}");
        assert!(!text.contains("secret"), "{text}");
        assert!(!text.contains(&self.seed.to_string()), "{text}");
        assert!(!text.contains(&format!("{:x}", self.seed)), "{text}");
        self.checked += 1;
    }
}

#[test]
fn handles_show_one_short_line() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("cache");
    let cache = tight().open(&path).expect("a cache");
    for i in 0..2_000_u32 {
        cache
            .put(format!("secret {i}").as_bytes(), b"secret")
            .expect("a put");
    }
    let mut texts = Texts {
        seed: collider::seed_of(&path),
        checked: 0,
    };
    let text = format!("{cache:?}");
    assert_eq!(
        text,
        format!(
            "MmapCache {{ path: {:?}, entries: 2000, mode: \"read-write\" }}",
            cache.path()
        )
    );
    let reader = tight().read_only(true).open(&path).expect("a reader");
    assert!(format!("{reader:?}").ends_with("mode: \"read-only\" }"));
    texts.check(&reader);
    let (mut keys, mut items) = (cache.keys().expect("keys"), cache.iter().expect("items"));
    let mut entries = cache.entries().expect("entries");
    assert!(keys.next().is_some() && items.next().is_some() && entries.next().is_some());
    texts.check(&keys);
    texts.check(&items);
    texts.check(&(&cache).into_iter());
    texts.check(&entries);
    texts.check(&cache.writer().expect("a writer"));
    texts.check(&cache.verify());
    texts.check(&cache.backup());
    texts.check(&Repair::new(&path));
    texts.check(&tight());
    let files = CacheFiles::open(&path, None).expect("files");
    texts.check(files.header().expect("a header"));
    texts.check(&files);

    let path = dir.path().join("expiring");
    let cache = Cache::open(&path).expect("a cache");
    cache.insert("secret", "secret").expect("an entry");
    texts.seed = collider::seed_of(&path);
    texts.check(&cache);
    texts.check(&Cache::builder(&path));
    texts.check(&cache.entries().expect("entries"));
    texts.check(&cache.keys().expect("keys"));
    texts.check(&cache.writer().expect("a writer"));
    assert!(format!("{cache:?}").starts_with("Cache { path: "));

    let path = dir.path().join("labels");
    let labels = Labels::open(&path).expect("labels");
    labels.get_or_intern("secret").expect("an id");
    texts.seed = collider::seed_of(&path);
    let mut all = labels.iter().expect("a listing");
    assert!(all.next().is_some());
    texts.check(&all);
    texts.check(&labels);
    assert!(format!("{labels:?}").starts_with("Labels { path: "));

    let pool = Pool::new();
    let held = pool.intern(b"secret");
    texts.check(&pool);
    texts.check(&PoolOptions::default());
    texts.check(&TypedPool::<str>::default());
    texts.check(&DecodeCache::<String>::new());
    drop(held);
    assert_eq!(texts.checked, 23);
}

#[cfg(feature = "dict")]
#[test]
fn dictionaries_show_one_short_line() {
    use mmapcache::TypedCache;
    use mmapcache::dict::{CachedDict, LocalDict, MmapDict};
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("cache");
    let files = MmapDict::<String>::open(&path).expect("a dictionary");
    files.insert("secret", "secret".into()).expect("an item");
    let mut texts = Texts {
        seed: collider::seed_of(&path),
        checked: 0,
    };
    let cached = CachedDict::new(files.clone());
    assert!(cached.get("secret").expect("a lookup").is_some());
    let local = LocalDict::<String>::new();
    local.insert("secret", "secret".into()).expect("an item");
    texts.check(&files);
    texts.check(&cached);
    texts.check(&local);
    let expiring = dir.path().join("expiring");
    texts.check(&TypedCache::<String>::open(expiring).expect("a cache"));
    let text = format!("{files:?}");
    assert!(
        text.contains("entries: 1") && text.contains("read-write"),
        "{text}"
    );
}
