//! What is measured: series of stores that do the same workloads at one size.
//!
//! May call `plan`, `store` for errors, and `stores` for names.

use crate::plan::{Size, Workload};
use crate::store::{Error, Result};
use crate::stores::{ALL, LIMIT, is_durable, is_for_large_values, takes};

/// Entries of the stores that sync each write.
const DURABLE: u64 = 20_000;
/// Values from here on are large.
const LARGE: usize = 16 << 10;

/// Stores that are measured one after another, so that their figures can be compared.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Series {
    pub(crate) size: Size,
    pub(crate) stores: Vec<String>,
    pub(crate) workload: Vec<Workload>,
    /// Of reads and of small stores, only these figures; all if there is none.
    pub(crate) figures: Vec<String>,
    /// Whether the limit is measured before and after each store.
    pub(crate) limit: bool,
}

/// What the command line asks for.
#[derive(Default)]
pub(crate) struct Asked<'a> {
    pub(crate) only: &'a [String],
    pub(crate) workload: &'a [Workload],
    pub(crate) size: Option<Size>,
    pub(crate) soak: bool,
}

const fn size(entries: u64, value: usize) -> Size {
    Size { entries, value }
}

/// Fresh stores of up to so many entries.
pub(crate) const SMALL: Size = size(1_000, 100);

use Workload::{
    Batch, Change, Cold, Latency, Load, Processes, Read, Reopen, Small, Space, Threads, Writers,
};

const EVERY: &[Workload] = &[
    Load, Batch, Read, Change, Space, Reopen, Threads, Processes, Latency, Writers,
];
const ALONE: &[Workload] = &[Load, Batch, Read, Change, Space, Reopen];
const GROWTH: &[Workload] = &[Load, Read];
const VALUES: &[Workload] = &[Load, Read, Space];
/// With the page cache dropped too, which other programs on the machine will notice.
const EVERY_AND_COLD: &[Workload] = &[
    Load, Batch, Read, Change, Space, Reopen, Threads, Processes, Latency, Writers, Cold,
];

/// Sizes and workloads of all stores. Large values are fewer: 256 MiB of them.
const SIZES: [(Size, &[Workload]); 8] = [
    (size(1_000_000, 100), EVERY_AND_COLD),
    (size(10_000, 100), GROWTH),
    (size(100_000, 100), ALONE),
    (size(1_000_000, 16), VALUES),
    (size(200_000, 1024), ALONE),
    (size(16_384, LARGE), VALUES),
    (size(1_024, 256 << 10), VALUES),
    (size(64, 4 << 20), VALUES),
];
const SOAK: Size = size(10_000_000, 100);
/// The sizes of the curves over the number of entries, and of those over the length of values.
pub(crate) const BY_ENTRIES: &[Size] = &[
    size(10_000, 100),
    size(100_000, 100),
    size(1_000_000, 100),
    SOAK,
];
pub(crate) const BY_VALUE: &[Size] = &[
    size(1_000_000, 16),
    size(1_000_000, 100),
    size(200_000, 1024),
    size(16_384, LARGE),
    size(1_024, 256 << 10),
    size(64, 4 << 20),
];
/// The tables that the cache is compared with at ten million entries, where others take hours.
const TABLES: [&str; 3] = ["kyoto", "tdb", "tkrzw"];

/// Returns an error if a store was not compiled in.
pub(crate) fn known(names: &[String]) -> Result<()> {
    let is_known = |name: &&String| ALL.iter().any(|(known, _)| known == name);
    match names.iter().find(|name| !is_known(name)) {
        None => Ok(()),
        Some(name) => {
            let all: Vec<_> = ALL.iter().map(|(known, _)| *known).collect();
            let all = all.join(", ");
            Err(Error::Failed(format!(
                "no store `{name}` was compiled in; there are {all}"
            )))
        }
    }
}

/// Returns everything that was asked for, in the order in which it is measured.
pub(crate) fn asked_for(asked: &Asked<'_>) -> Result<Vec<Series>> {
    known(asked.only)?;
    let mut all = match asked.size {
        Some(size) => vec![one_size(asked, size)],
        None => every_size(asked),
    };
    if asked.soak {
        all.extend(soak(asked));
    }
    all.retain(|series| !series.stores.is_empty());
    Ok(all)
}

fn make(
    asked: &Asked<'_>,
    size: Size,
    workload: &[Workload],
    is_wanted: impl Fn(&str) -> bool,
) -> Series {
    let is_named = |name: &str| asked.only.iter().any(|only| only == name);
    let stores = ALL
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| *name != LIMIT && (asked.only.is_empty() || is_named(name)))
        .filter(|name| is_wanted(name) && takes(name, size.value))
        .map(str::to_owned)
        .collect();
    let workload = match asked.workload {
        [] => workload,
        workload => workload,
    };
    Series {
        size,
        stores,
        workload: workload.to_vec(),
        figures: Vec::new(),
        limit: workload.iter().any(|workload| workload.has_a_limit()),
    }
}

/// All stores that do not sync, unless others are named.
fn one_size(asked: &Asked<'_>, size: Size) -> Series {
    let is_named = |name: &str| asked.only.iter().any(|only| only == name);
    make(asked, size, EVERY, |name| {
        is_named(name) || (!is_durable(name) && is_usual_at(name, size))
    })
}

fn is_usual_at(name: &str, size: Size) -> bool {
    !is_for_large_values(name) || size.value >= LARGE
}

fn every_size(asked: &Asked<'_>) -> Vec<Series> {
    let is_wanted = |name: &str, size: Size| !is_durable(name) && is_usual_at(name, size);
    let sizes = SIZES
        .iter()
        .map(|&(size, workload)| make(asked, size, workload, |name| is_wanted(name, size)));
    let mut all: Vec<_> = sizes.collect();
    // A store that syncs each write is compared with others that do, at a size that does not take
    // hours; a fresh store of a few entries with all.
    let workload = [Load, Batch, Read, Change, Space, Reopen, Processes, Writers];
    all.push(make(asked, size(DURABLE, 100), &workload, is_durable));
    if asked.workload.is_empty() || asked.workload.contains(&Small) {
        let mut small = make(asked, SMALL, &[Small], |name| is_usual_at(name, SMALL));
        small.workload = vec![Small];
        small.limit = false;
        all.push(small);
    }
    all
}

fn soak(asked: &Asked<'_>) -> [Series; 2] {
    let ours = |name: &str| name.starts_with("mmapcache") || name == "lmdb";
    let is_usual = |name: &str| !is_durable(name) && is_usual_at(name, SOAK);
    [
        make(asked, SOAK, EVERY, |name| ours(name) && is_usual(name)),
        make(asked, SOAK, GROWTH, |name| TABLES.contains(&name)),
    ]
}

#[cfg(test)]
mod tests {
    use super::{Asked, BY_ENTRIES, BY_VALUE, DURABLE, LARGE, SMALL, asked_for, size};
    use crate::plan::{Size, Workload};

    fn all(asked: &Asked<'_>) -> Vec<super::Series> {
        asked_for(asked).expect("known stores")
    }

    #[test]
    fn large_values_have_floors_alone() {
        for series in all(&Asked::default()) {
            let has = |name: &str| series.stores.iter().any(|store| store == name);
            let is_large = series.size.value >= LARGE;
            for name in ["floor-copy", "floor-sum", "mmapcache-ref"] {
                assert_eq!(has(name), is_large, "{name} at {:?}", series.size);
            }
        }
    }

    // A store that syncs each write takes hours at the other sizes.
    #[test]
    fn durable_stores_are_few_and_small() {
        let soak = Asked {
            soak: true,
            ..Asked::default()
        };
        for series in all(&soak) {
            let has = series.stores.iter().any(|name| name == "mmapcache-durable");
            let may = [SMALL, size(DURABLE, 100)].contains(&series.size);
            assert_eq!(has, may, "{series:?}");
        }
    }

    #[test]
    fn curves_have_what_is_measured() {
        let soak = Asked {
            soak: true,
            ..Asked::default()
        };
        let all = all(&soak);
        for size in BY_ENTRIES.iter().chain(BY_VALUE) {
            let reads = |series: &super::Series| {
                series.size == *size && series.workload.contains(&Workload::Read)
            };
            assert!(all.iter().any(reads), "{size:?}");
        }
    }

    #[test]
    fn named_store_is_measured_anywhere() {
        let size = Size {
            entries: 100,
            value: 100,
        };
        let only = ["mmapcache-durable".to_owned(), "floor-sum".to_owned()];
        let series = all(&Asked {
            only: &only,
            size: Some(size),
            workload: &[Workload::Load],
            ..Asked::default()
        });
        assert_eq!(series.len(), 1);
        assert_eq!(series[0].stores.len(), 2);
        assert!(series[0].limit);
        let unknown = ["absent".to_owned()];
        let refused = asked_for(&Asked {
            only: &unknown,
            ..Asked::default()
        });
        assert!(refused.is_err());
    }
}
