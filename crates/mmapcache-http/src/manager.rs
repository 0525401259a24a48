//! [`MmapManager`]: what http-cache calls. Decides which thread does the work; calls `store`.

use std::sync::Arc;
use std::time::Duration;

use blocking::unblock;
use http_cache::{BoxError, CacheManager, HttpResponse};
use http_cache_semantics::CachePolicy;
use mmapcache::Cache;

use crate::reports::Reports;
use crate::store::{Found, LARGE, Store};

/// How long an entry is kept after it stopped being fresh, unless told otherwise.
const RETENTION: Duration = Duration::from_secs(30 * 24 * 3600);

/// Stores the responses of http-cache in a [`Cache`], for all threads and processes that open it.
///
/// Clones share the cache and the counters, and cost two reference counts.
///
/// # Deadlines
///
/// An entry ends [`retention`](Self::retention) after it stopped being fresh. Until then http-cache can
/// revalidate it, and answer from it if the origin cannot be reached or the mode says so. It goes
/// earlier if the cache evicts it: set [`max_bytes`](mmapcache::CacheBuilder::max_bytes).
///
/// # Errors
///
/// A cache that fails does not fail a request. A failed lookup is a miss, and a response that cannot be
/// stored is returned all the same; its key then has no entry, so no older response comes back, unless the
/// cache cannot even remove it, for it is read-only or locked for too long. All of this
/// is counted by [`statistics`](Self::statistics), and logged as warnings by the crate `log`, at most
/// one a second of each kind. A value that is no response, of another program or another version of
/// this crate, is a miss too, and the next response for its key replaces it.
///
/// A failed deletion is an error: otherwise http-cache would serve what was to be removed. It is a
/// [`mmapcache::Error`], boxed; `downcast_ref` finds it.
///
/// # Threads
///
/// See [`Threads`].
#[derive(Clone, Debug)]
pub struct MmapManager {
    store: Store,
    threads: Threads,
}

/// Where a manager works. A lookup of a small response in memory takes some 20 microseconds, most of it to
/// decode headers; one of 100 MB, or on a slow disk, takes milliseconds, in which a task that does it
/// itself stops its executor's thread. The README has figures.
///
/// The pool is that of the crate `blocking`. It has no executor of its own: a manager works under tokio,
/// smol and any other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Threads {
    /// All in the calling task. For programs whose threads do nothing else, and blocking clients.
    Task,
    /// Bodies of 256 KiB or more on the pool, the rest in the task. For caches that fit into memory. A
    /// store in the task waits for the writer lock: microseconds, or as long as another process writes
    /// one large body.
    #[default]
    LargeOnPool,
    /// All on the pool, which adds some 25 to 80 microseconds to a call. For caches that are larger than the
    /// memory, slow disks, and [`Durability::Sync`](mmapcache::Durability::Sync).
    Pool,
}

/// What a manager and its clones could not do, since the first of them was made. The counters of the
/// cache, such as hits and evictions, are in [`Cache::stats`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ManagerStats {
    /// Lookups of values that this version cannot read as a response.
    pub unreadable: u64,
    /// Lookups that failed.
    pub failed_lookups: u64,
    /// Responses that could not be stored.
    pub failed_stores: u64,
    /// Older responses that could not be removed after a newer one was not stored: they are served until
    /// they expire, to this process and others.
    pub failed_removals: u64,
    /// Responses that were not stored because no request could be answered with them, or because the
    /// cache holds no values so large.
    pub declined: u64,
}

impl MmapManager {
    /// Opens the cache at `path`, with the limits that are stored in its files; creates it, without
    /// limits, if there is none. Use [`new`](Self::new) to set them.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Cache::open`].
    pub fn open(path: impl AsRef<std::path::Path>) -> mmapcache::Result<Self> {
        Cache::open(path).map(Self::new)
    }

    /// Makes a manager of an open cache, which may hold other entries too: their keys must not begin
    /// with a method and a colon, or with the byte 255.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("responses");
    /// use mmapcache::Cache;
    /// use mmapcache_http::MmapManager;
    ///
    /// let cache = Cache::builder(path).max_bytes(2 << 30).open()?;
    /// let manager = MmapManager::new(cache);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(cache: impl Into<Arc<Cache>>) -> Self {
        Self {
            store: Store {
                cache: cache.into(),
                reports: Arc::new(Reports::default()),
                retention: Some(RETENTION),
            },
            threads: Threads::default(),
        }
    }

    /// Sets how long an entry is kept after it stopped being fresh: 30 days by default. `None` keeps it
    /// until it is evicted or removed. Applies to what this manager stores from now on.
    #[must_use]
    pub fn retention(mut self, retention: impl Into<Option<Duration>>) -> Self {
        self.store.retention = retention.into();
        self
    }

    /// Sets which threads this manager works on.
    #[must_use]
    pub fn threads(mut self, threads: Threads) -> Self {
        self.threads = threads;
        self
    }

    /// Returns the cache: for its statistics, its settings, `flush`, `backup` and the like. Change its
    /// responses by the manager only.
    pub fn cache(&self) -> &Cache {
        &self.store.cache
    }

    /// Returns what the manager and its clones could not do so far.
    pub fn statistics(&self) -> ManagerStats {
        let reports = &self.store.reports;
        ManagerStats {
            unreadable: reports.unreadable.count(),
            failed_lookups: reports.failed_lookups.count(),
            failed_stores: reports.failed_stores.count(),
            failed_removals: reports.failed_removals.count(),
            declined: reports.declined.count(),
        }
    }

    /// Removes everything from the cache, in all processes, what other programs stored in it included.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Cache::clear`].
    pub async fn clear(&self) -> mmapcache::Result<()> {
        self.run(true, |store| store.cache.clear()).await
    }

    /// Removes the entries whose keys begin with `prefix`, and returns how many. The keys of http-cache
    /// are the method, a colon and the URL, unless an option says otherwise:
    /// `"GET:https://example.com/"`.
    ///
    /// Takes a look-up for each entry of the cache, and reads its value. What is stored during the call
    /// may stay.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Cache::entries`] and [`Cache::remove`]. What was removed before stays
    /// removed.
    pub async fn remove_prefix(&self, prefix: &str) -> mmapcache::Result<u64> {
        let prefix = prefix.to_owned();
        self.run(true, move |store| store.remove_prefix(&prefix))
            .await
    }

    /// Runs work on the pool if it may take long and the pool may be used at all, or if all work is to
    /// be done there; otherwise in the task.
    async fn run<T: Send + 'static>(
        &self,
        is_long: bool,
        work: impl FnOnce(&Store) -> T + Send + 'static,
    ) -> T {
        let is_in_task = match self.threads {
            Threads::Task => true,
            Threads::LargeOnPool => !is_long,
            Threads::Pool => false,
        };
        if is_in_task {
            return work(&self.store);
        }
        let store = self.store.clone();
        unblock(move || work(&store)).await
    }
}

impl CacheManager for MmapManager {
    async fn get(&self, cache_key: &str) -> Result<Option<(HttpResponse, CachePolicy)>, BoxError> {
        let key = cache_key.to_owned();
        let found = self.run(false, move |store| store.find(&key)).await;
        let entry = match found {
            Found::Nothing => None,
            Found::Whole(entry) => Some(entry),
            found @ Found::Apart(..) => {
                let key = cache_key.to_owned();
                self.run(true, move |store| store.complete(&key, found))
                    .await
            }
        };
        Ok(entry.map(|entry| (entry.response, entry.policy)))
    }

    async fn put(
        &self,
        cache_key: String,
        res: HttpResponse,
        policy: CachePolicy,
    ) -> Result<HttpResponse, BoxError> {
        let is_long = res.body.len() >= LARGE;
        Ok(self
            .run(is_long, move |store| store.put(&cache_key, res, &policy))
            .await)
    }

    async fn delete(&self, cache_key: &str) -> Result<(), BoxError> {
        let key = cache_key.to_owned();
        self.run(false, move |store| store.remove(&key)).await?;
        Ok(())
    }
}
