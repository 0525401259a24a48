//! The goals themselves.
//!
//! May use `plan` and `stores` for names.

use super::{Bound, Goal, Group, Measure, Of};
use crate::plan::Size;
use crate::series::SMALL;
use crate::stores::LIMIT;

const SINGLE: &str = "mmapcache";
const WRITER: &str = "mmapcache-writer";
const REF: &str = "mmapcache-ref";
const UNVERIFIED: &str = "mmapcache-ref-unverified";

const TEN_THOUSAND: Size = size(10_000, 100);
const MILLION: Size = size(1_000_000, 100);
const TEN_MILLION: Size = size(10_000_000, 100);
const KIB_16: Size = size(16_384, 16 << 10);
const KIB_256: Size = size(1_024, 256 << 10);
const MIB_4: Size = size(64, 4 << 20);

const fn size(entries: u64, value: usize) -> Size {
    Size { entries, value }
}

const fn of(store: &'static str, figure: &'static str) -> Of {
    Of { store, figure }
}

/// A goal for reading: at most so many times another figure.
const fn read(
    (name, what): (&'static str, &'static str),
    size: Size,
    own: Of,
    times: f64,
    (rival, says): (Of, &'static str),
) -> Goal {
    Goal {
        name,
        what,
        size,
        measure: Measure::Ratio(own, rival),
        bound: Bound::AtMost(times),
        says,
        group: Group::Reading,
    }
}

/// A goal for writing among a million entries: at most so many times another store's figure.
const fn write(
    (name, what): (&'static str, &'static str),
    own: Of,
    times: f64,
    (rival, says): (&'static str, &'static str),
) -> Goal {
    Goal {
        group: Group::Writing,
        ..read(
            (name, what),
            MILLION,
            own,
            times,
            (of(rival, own.figure), says),
        )
    }
}

/// A goal for single writes among ten million entries: at most so many milliseconds.
const fn longest(
    what: &'static str,
    figure: &'static str,
    (most, says): (f64, &'static str),
) -> Goal {
    Goal {
        name: "longest",
        what,
        size: TEN_MILLION,
        measure: Measure::Figure(of(SINGLE, figure), 1e6, " ms"),
        bound: Bound::AtMost(most),
        says,
        group: Group::Writing,
    }
}

/// A goal for several writers that overwrite at once, among a million entries.
const fn writers(
    what: &'static str,
    measure: Measure,
    (bound, says): (Bound, &'static str),
) -> Goal {
    Goal {
        name: "writers",
        what,
        size: MILLION,
        measure,
        bound,
        says,
        group: Group::Writing,
    }
}

/// A figure of several writers beside that of TDB's.
const fn beside_tdb(figure: &'static str) -> Measure {
    Measure::Ratio(of(SINGLE, figure), of("tdb", figure))
}

const MOST_TDB: (Bound, &str) = (Bound::AtMost(1.0), "at most 1 x TDB");

/// Every goal, those for reading first; ten million entries, which take longest, last in each group.
pub(super) const ALL: &[Goal] = &[
    read(
        ("get", "hit, independent keys, 1 M"),
        MILLION,
        of(SINGLE, "get"),
        1.5,
        (of(LIMIT, "get"), "at most 1.5 x hashbrown"),
    ),
    read(
        ("dependent", "hit, the next key depends, 1 M"),
        MILLION,
        of(SINGLE, "get_dependent"),
        0.9,
        (of(LIMIT, "get_dependent"), "at most 0.9 x hashbrown"),
    ),
    read(
        ("several", "hit, 16 keys in a call, beside single gets, 1 M"),
        MILLION,
        of(SINGLE, "get_16"),
        0.45,
        (of(LIMIT, "get"), "at most 0.45 x hashbrown"),
    ),
    read(
        ("miss", "miss, 1 M"),
        MILLION,
        of(SINGLE, "miss"),
        1.5,
        (of(LIMIT, "miss"), "at most 1.5 x hashbrown"),
    ),
    read(
        ("large", "get of 16 KiB into a buffer, verified"),
        KIB_16,
        of(SINGLE, "get"),
        1.0,
        (of("kyoto", "get"), "at most 1 x Kyoto Cabinet"),
    ),
    read(
        ("large", "get of 16 KiB into a buffer, verified"),
        KIB_16,
        of(SINGLE, "get"),
        1.3,
        (of("floor-sum", "get"), "at most 1.3 x memcpy and CRC-32"),
    ),
    read(
        ("large", "get of 256 KiB into a buffer, verified"),
        KIB_256,
        of(SINGLE, "get"),
        1.0,
        (of("kyoto", "get"), "at most 1 x Kyoto Cabinet"),
    ),
    read(
        ("large", "get of 256 KiB into a buffer, verified"),
        KIB_256,
        of(SINGLE, "get"),
        1.3,
        (of("floor-sum", "get"), "at most 1.3 x memcpy and CRC-32"),
    ),
    read(
        ("large", "get of 4 MiB into a buffer, verified"),
        MIB_4,
        of(SINGLE, "get"),
        1.0,
        (of("kyoto", "get"), "at most 1 x Kyoto Cabinet"),
    ),
    read(
        ("large", "get of 4 MiB into a buffer, verified"),
        MIB_4,
        of(SINGLE, "get"),
        1.3,
        (of("floor-sum", "get"), "at most 1.3 x memcpy and CRC-32"),
    ),
    read(
        ("ref", "`get_ref` of 16 KiB, not verified"),
        KIB_16,
        of(UNVERIFIED, "get"),
        1.0,
        (of("lmdb", "get"), "at most 1 x LMDB"),
    ),
    read(
        ("ref", "`get_ref` of 16 KiB, verified"),
        KIB_16,
        of(REF, "get"),
        1.6,
        (of("lmdb", "get"), "at most 1.6 x LMDB"),
    ),
    read(
        ("ref", "`get_ref` of 256 KiB, not verified"),
        KIB_256,
        of(UNVERIFIED, "get"),
        1.0,
        (of("lmdb", "get"), "at most 1 x LMDB"),
    ),
    read(
        ("ref", "`get_ref` of 256 KiB, verified"),
        KIB_256,
        of(REF, "get"),
        1.6,
        (of("lmdb", "get"), "at most 1.6 x LMDB"),
    ),
    read(
        ("ref", "`get_ref` of 4 MiB, not verified"),
        MIB_4,
        of(UNVERIFIED, "get"),
        1.0,
        (of("lmdb", "get"), "at most 1 x LMDB"),
    ),
    read(
        ("ref", "`get_ref` of 4 MiB, verified"),
        MIB_4,
        of(REF, "get"),
        1.6,
        (of("lmdb", "get"), "at most 1.6 x LMDB"),
    ),
    read(
        ("list", "list all, 1 M"),
        MILLION,
        of(SINGLE, "list"),
        1.1,
        (of("kyoto", "list"), "at most 1.1 x Kyoto Cabinet"),
    ),
    read(
        ("create", "create + one put + close, nothing synced"),
        SMALL,
        of(SINGLE, "small_create_1"),
        1.0,
        (of("lmdb", "small_create_1"), "at most 1 x LMDB, `NO_SYNC`"),
    ),
    Goal {
        name: "create",
        what: "create + one put + close: disk",
        size: SMALL,
        measure: Measure::Figure(of(SINGLE, "small_disk_1"), 1024.0, " KiB"),
        bound: Bound::AtMost(16.0),
        says: "at most 16 KiB",
        group: Group::Reading,
    },
    read(
        ("create", "create + one put + close, our default"),
        SMALL,
        of(SINGLE, "small_create_1"),
        1.0,
        (
            of("lmdb-sync", "small_create_1"),
            "at most 1 x LMDB's default, which syncs",
        ),
    ),
    read(
        ("create", "create + one put + close, `Durability::Sync`"),
        SMALL,
        of("mmapcache-durable", "small_create_1"),
        1.0,
        (
            of("lmdb-sync", "small_create_1"),
            "at most 1 x LMDB's default, which syncs",
        ),
    ),
    read(
        ("open", "open an existing one to first get, 1 M"),
        MILLION,
        of(SINGLE, "reopen_us"),
        1.25,
        (of("lmdb", "reopen_us"), "at most 1.25 x LMDB"),
    ),
    Goal {
        bound: Bound::AtLeast(1.9),
        says: "at least 1.9",
        ..read(
            ("threads", "2 threads read, times one"),
            MILLION,
            of(SINGLE, "threads_1"),
            1.9,
            (of(SINGLE, "threads_2"), ""),
        )
    },
    read(
        ("cold", "cold get, 1 M: time"),
        MILLION,
        of(SINGLE, "cold_us"),
        1.0,
        (of("lmdb", "cold_us"), "at most 1 x LMDB"),
    ),
    read(
        ("cold", "cold get, 1 M: bytes read"),
        MILLION,
        of(SINGLE, "cold_bytes"),
        1.0,
        (of("lmdb", "cold_bytes"), "at most 1 x LMDB"),
    ),
    read(
        ("dependent-10m", "hit, the next key depends, 10 M"),
        TEN_MILLION,
        of(SINGLE, "get_dependent"),
        1.0,
        (of(LIMIT, "get_dependent"), "at most 1 x hashbrown"),
    ),
    read(
        ("miss-10m", "miss, 10 M"),
        TEN_MILLION,
        of(SINGLE, "miss"),
        2.5,
        (of(LIMIT, "miss"), "at most 2.5 x hashbrown"),
    ),
    read(
        ("list-10m", "list all, 10 M"),
        TEN_MILLION,
        of(SINGLE, "list"),
        1.5,
        (of("kyoto", "list"), "at most 1.5 x Kyoto Cabinet"),
    ),
    write(
        ("put", "put new, a lock each"),
        of(SINGLE, "put"),
        1.0,
        (LIMIT, "at most 1 x hashbrown"),
    ),
    write(
        ("put", "put new, in a `Writer`"),
        of(WRITER, "put"),
        0.9,
        ("kyoto", "at most 0.9 x Kyoto Cabinet"),
    ),
    write(
        ("put", "put new, a lock each"),
        of(SINGLE, "put"),
        0.45,
        ("tdb", "at most 0.45 x TDB"),
    ),
    write(
        ("put", "put new, a lock each"),
        of(SINGLE, "put"),
        0.25,
        ("lmdb", "at most 0.25 x LMDB"),
    ),
    write(
        ("overwrite", "overwrite in steady state"),
        of(SINGLE, "overwrite"),
        1.0,
        ("tdb", "at most 1 x TDB"),
    ),
    write(
        ("overwrite", "overwrite in steady state"),
        of(SINGLE, "overwrite"),
        1.15,
        ("kyoto", "at most 1.15 x Kyoto Cabinet"),
    ),
    Goal {
        size: TEN_THOUSAND,
        ..write(
            ("overwrite", "overwrite in steady state, 10 k"),
            of(SINGLE, "overwrite"),
            1.5,
            ("tdb", "at most 1.5 x TDB"),
        )
    },
    write(
        ("delete", "delete in steady state"),
        of(SINGLE, "delete"),
        1.0,
        ("tkrzw", "at most 1 x tkrzw"),
    ),
    write(
        ("space", "bytes on disk over the growth"),
        of(SINGLE, "disk_growth"),
        1.1,
        ("lmdb", "at most 1.1 x LMDB"),
    ),
    Goal {
        size: size(1_000_000, 16),
        ..write(
            ("space", "bytes on disk over the growth, values of 16 bytes"),
            of(SINGLE, "disk_growth"),
            1.3,
            ("lmdb", "at most 1.3 x LMDB"),
        )
    },
    Goal {
        bound: Bound::AtLeast(0.8),
        says: "at least 0.8 of alone",
        group: Group::Writing,
        ..read(
            ("beside", "a reader's speed beside a writing process"),
            MILLION,
            of(SINGLE, "beside_alone"),
            0.8,
            (of(SINGLE, "beside_read"), ""),
        )
    },
    write(
        ("beside", "get beside a writing process"),
        of(SINGLE, "beside_read"),
        1.0,
        ("tdb", "at most 1 x TDB"),
    ),
    write(
        ("beside", "overwrite beside a reading process"),
        of(SINGLE, "beside_write"),
        1.0,
        ("tdb", "at most 1 x TDB"),
    ),
    Goal {
        size: TEN_MILLION,
        ..write(
            ("overwrite-10m", "overwrite after a sync, 10 M"),
            of(SINGLE, "overwrite_synced"),
            1.5,
            ("kyoto", "at most 1.5 x Kyoto Cabinet"),
        )
    },
    longest(
        "longest put while 10 million are loaded",
        "latency_put_max",
        (10.0, "at most 10 ms"),
    ),
    longest(
        "99.99 % of puts while 10 million are loaded",
        "latency_put_99.99",
        (1.0, "at most 1 ms"),
    ),
    longest(
        "longest put while 10 million are overwritten and cleaned",
        "latency_overwrite_max",
        (10.0, "at most 10 ms"),
    ),
    longest(
        "99.99 % of puts while 10 million are overwritten and cleaned",
        "latency_overwrite_99.99",
        (1.0, "at most 1 ms"),
    ),
    writers(
        "2 processes overwrite, times one",
        Measure::Ratio(
            of(SINGLE, "writers_processes_1"),
            of(SINGLE, "writers_processes_2"),
        ),
        (Bound::AtLeast(1.5), "at least 1.5"),
    ),
    writers(
        "2 processes overwrite",
        beside_tdb("writers_processes_2"),
        MOST_TDB,
    ),
    writers(
        "4 processes overwrite",
        Measure::Ratio(
            of(SINGLE, "writers_processes_4"),
            of(SINGLE, "writers_processes_1"),
        ),
        (Bound::AtMost(1.0), "at most 1 x one process"),
    ),
    writers(
        "4 processes overwrite",
        beside_tdb("writers_processes_4"),
        MOST_TDB,
    ),
    writers(
        "8 processes overwrite",
        Measure::Ratio(
            of(SINGLE, "writers_processes_8"),
            of(SINGLE, "writers_processes_1"),
        ),
        (Bound::AtMost(1.0), "at most 1 x one process"),
    ),
    writers(
        "8 processes overwrite",
        beside_tdb("writers_processes_8"),
        MOST_TDB,
    ),
    writers(
        "99 % of the overwrites of 2 processes",
        Measure::Figure(of(SINGLE, "writers_processes_2_p99"), 1e3, " us"),
        (Bound::AtMost(5.0), "at most 5 us"),
    ),
    writers(
        "longest overwrite of 2 processes",
        Measure::Figure(of(SINGLE, "writers_processes_2_longest"), 1e6, " ms"),
        (Bound::AtMost(10.0), "at most 10 ms"),
    ),
    writers(
        "longest overwrite of 8 threads",
        Measure::Figure(of(SINGLE, "writers_threads_8_longest"), 1e6, " ms"),
        (Bound::AtMost(50.0), "at most 50 ms"),
    ),
];
