//! Full checks: beside a writer they report no corruption, and each level reports its own.
//!
//! `damage.rs` tests what a check finds in damaged caches in other respects.

use crate::Corruption;
use crate::engine::tests::*;
use crate::format::heap_addr::HeapAddr;
use crate::format::roster::Position;
use crate::format::slot::Link;

// A full check beside a writer that clears and grows the cache reports no corruption.
#[test]
fn check_beside_growth_finds_nothing() {
    let scratch = Scratch::new();
    let cache = scratch.open(&tiny());
    let done = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for round in 0..12_u32 {
                for i in 0..400_u32 {
                    cache
                        .put(&(round * 1_000 + i).to_le_bytes(), &[1; 60])
                        .unwrap();
                }
                cache.clear().unwrap();
            }
        });
        let mut checks = 0;
        while !writer.is_finished() {
            let report = cache.verify().run().unwrap();
            assert!(report.is_clean(), "{:?}", report.problems);
            checks += 1;
        }
        checks
    });
    assert!(done > 0);
}

// A full check beside single insertions and deletions reports no corruption.
#[test]
fn check_beside_puts_finds_nothing() {
    let scratch = Scratch::new();
    let (cache, other) = (scratch.open(&Options::new()), scratch.open(&Options::new()));
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for round in 0..40_000_u32 {
                let key = (round.wrapping_mul(77) % 200).to_le_bytes();
                if !cache.delete(&key).unwrap() {
                    cache.put(&key, &[1; 60]).unwrap();
                }
            }
        });
        while !writer.is_finished() {
            let report = other.verify().run().unwrap();
            assert!(report.is_clean(), "{:?}", report.problems);
        }
    });
    assert_clean(&other);
}

const LEVELS: [VerifyLevel; 3] = [
    VerifyLevel::Headers,
    VerifyLevel::Slots,
    VerifyLevel::Records,
];

fn filled() -> Scratch {
    let scratch = scratch();
    let cache = scratch.open(&tiny());
    for i in 0..2_000_u32 {
        cache.put(&i.to_le_bytes(), &[2; 40]).unwrap();
    }
    for i in (0..2_000_u32).step_by(3) {
        cache.delete(&i.to_le_bytes()).unwrap();
    }
    scratch
}

// Several threads find at each level what one thread finds.
#[test]
fn parallel_check_equals_sequential_check() {
    let scratch = filled();
    let cache = scratch.open(&Options::new());
    for level in LEVELS {
        let one = cache.verify().level(level).run().unwrap();
        assert!(one.is_clean() && one.regions > 10, "{one:?}");
        assert_eq!(one.totals_compared, level > VerifyLevel::Headers);
        let entries = if level > VerifyLevel::Headers {
            cache.len()
        } else {
            0
        };
        assert_eq!(one.entries, entries);
        assert_eq!(one.records > entries, level == VerifyLevel::Records);
        for jobs in [2, 5] {
            let many = cache.verify().level(level).jobs(jobs).run().unwrap();
            assert_eq!(many, one, "{level:?}, {jobs} jobs");
        }
    }
    let mut told = Vec::new();
    let check = cache.verify().jobs(3);
    let done = check.on_progress(|progress| told.push(progress)).run();
    assert!(done.unwrap().is_clean());
    let last = told.last().unwrap();
    assert_eq!(last.done_bytes, last.total_bytes);
    assert!(told.is_sorted_by_key(|progress| progress.done_bytes));
}

/// Changes the region of the first directory entry.
fn change_first_region(cache: &MmapCache, change: impl FnOnce(&Region<'_>)) {
    let (generation, _) = cache.handle.current().unwrap();
    let first = generation.table.entry(0).unwrap().region();
    change(&generation.table.region(first).unwrap());
}

/// Returns what each level reports of a cache after `corrupt`.
fn problems_by_level(corrupt: impl FnOnce(&MmapCache)) -> [Vec<Corruption>; 3] {
    let scratch = filled();
    let cache = scratch.open(&tiny());
    corrupt(&cache);
    let reader = scratch.open(Options::new().read_only(true));
    LEVELS.map(|level| {
        let one = reader.verify().level(level).run().unwrap();
        let many = reader.verify().level(level).jobs(3).run().unwrap();
        assert_eq!(many.problems, one.problems);
        let mut problems: Vec<_> = one.problems.iter().map(|fault| fault.what).collect();
        problems.dedup();
        problems
    })
}

// Each level notices corruption in what it reads, and in nothing else.
#[test]
fn check_levels_notice_their_corruption() {
    let nothing: Vec<Corruption> = Vec::new();
    let of_record = problems_by_level(|cache| {
        let (generation, _) = cache.handle.current().unwrap();
        let number = generation.header().tail().segment - 1;
        let found = crate::engine::open::segment(&generation, &cache.handle.names, number);
        let segment = found.unwrap().unwrap();
        segment.erase(1_001, 1_002).unwrap();
    });
    assert_eq!(of_record[..2], [nothing.clone(), nothing.clone()]);
    assert!(!of_record[2].is_empty());

    let of_slot = problems_by_level(|cache| {
        change_first_region(cache, |region| {
            let slot = region.slot(region.full().next().unwrap());
            let mut identity = slot.identity();
            identity.hash ^= 1 << 15;
            slot.set_identity(identity);
        });
    });
    assert_eq!(of_slot[..2], [nothing.clone(), nothing.clone()]);
    assert_eq!(of_slot[2], [Corruption::EntryHash]);

    let of_place = problems_by_level(|cache| {
        change_first_region(cache, |region| {
            let slot = region.slot(region.full().next().unwrap());
            let link = slot.link();
            let place = HeapAddr {
                unit: 1 << 30,
                ..link.addr()
            };
            slot.set_link(Link::new(place, link.tag()));
        });
    });
    assert_eq!(of_place[0], nothing);
    assert!(of_place[1].contains(&Corruption::LinkBeyondEnd));
    assert!(of_place[2].contains(&Corruption::EntryRecord));

    let of_segment = problems_by_level(|cache| {
        let number = cache.handle.generation.load().header().tail().segment - 1;
        let path = cache
            .handle
            .names
            .segment(number, crate::os::file_names::Stage::Final);
        let file = std::fs::File::options().write(true).open(path).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &[7; 64], 0).unwrap();
    });
    assert_eq!(of_segment[0], [Corruption::SegmentHeader]);
    assert!(of_segment[1].contains(&Corruption::LinkToMissingSegment));
    assert!(of_segment[2].contains(&Corruption::EntryRecord));

    let of_region = problems_by_level(|cache| {
        change_first_region(cache, |region| {
            region.set_stamp(crate::format::region::RegionStateWord::building(7));
        });
    });
    for problems in of_region {
        assert!(problems.contains(&Corruption::DirectoryMismatch));
    }
}

// A roster position that leads to no entry of its own is found, though all entries are valid.
#[test]
fn check_notices_ownerless_roster_position() {
    let of_roster = problems_by_level(|cache| {
        let (generation, _) = cache.handle.current().unwrap();
        let hole = (0..generation.roster_len())
            .find(|&position| matches!(generation.roster.get(position).unwrap(), Position::Free(_)))
            .unwrap();
        let known = (0..generation.roster_len())
            .find_map(|position| match generation.roster.get(position).unwrap() {
                Position::Slot(number) => Some(number),
                Position::Free(_) => None,
            })
            .unwrap();
        generation.roster.set(hole, Position::Slot(known)).unwrap();
    });
    let what = Corruption::PositionOfOtherEntry;
    assert_eq!(of_roster[1], [what]);
    assert_eq!(of_roster[2], [what]);
}
