//! What a change does to an entry, and which changes are refused.
//!
//! One handle writes at a time; nothing here reads the files.

use crate::engine::tests::*;

// A value is read as it was put, and an empty value differs from no entry.
#[test]
fn values_round_trip_even_empty() {
    let scratch = Scratch::new();
    let cache = scratch.open(&Options::new());
    assert_eq!(cache.get(b"k").unwrap(), None);
    cache.put(b"k", b"").unwrap();
    assert_eq!(cache.get(b"k").unwrap(), Some(Vec::new()));
    cache.put(b"k", b"value").unwrap();
    assert_eq!(cache.get(b"k").unwrap().as_deref(), Some(&b"value"[..]));
    assert!(cache.delete(b"k").unwrap());
    assert!(!cache.delete(b"k").unwrap());
    assert_eq!(cache.get(b"k").unwrap(), None);
    assert_clean(&cache);
}

#[test]
fn conditional_writes_check_the_state() {
    let scratch = Scratch::new();
    let cache = scratch.open(&Options::new());
    let first = cache.insert_if_absent(b"k", b"1").unwrap().unwrap();
    assert_eq!(cache.insert_if_absent(b"k", b"2").unwrap(), None);
    let second = cache.put_if(b"k", b"2", first).unwrap().unwrap();
    assert!(second > first);
    assert_eq!(cache.put_if(b"k", b"3", first).unwrap(), None);
    assert!(!cache.delete_if(b"k", first).unwrap());
    assert_eq!(cache.entry(b"k").unwrap().unwrap().value(), b"2");
    assert_eq!(cache.version(b"k").unwrap(), Some(second));
    assert!(!cache.update(b"k", |_| Update::Keep).unwrap());
    assert!(
        cache
            .update(b"k", |seen| Update::Put(
                [seen.unwrap().value(), b"+"].concat()
            ))
            .unwrap()
    );
    assert_eq!(cache.get(b"k").unwrap().unwrap(), b"2+");
    assert!(cache.update(b"k", |_| Update::Delete).unwrap());
    assert!(!cache.contains(b"k").unwrap());
    assert_eq!(cache.put_if(b"k", b"x", second).unwrap(), None);
}

// A closure that panics leaves entry and lock unchanged; one that writes gets an error.
#[test]
fn panicking_closure_changes_nothing() {
    let scratch = Scratch::new();
    let cache = scratch.open(&Options::new());
    let other = scratch.open(&Options::new());
    cache.put(b"k", b"v").unwrap();
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        cache.update(b"k", |_| panic!("no"))
    }));
    assert!(caught.is_err());
    assert_eq!(cache.get(b"k").unwrap().unwrap(), b"v");
    other.put(b"k", b"w").unwrap();
    cache
        .update(b"k", |_| {
            for handle in [&cache, &other] {
                assert!(matches!(
                    handle.put(b"x", b"y").as_ref().map_err(crate::Error::kind),
                    Err(crate::ErrorKind::AlreadyWriting)
                ));
                assert_eq!(handle.get(b"k").unwrap().unwrap(), b"w");
            }
            Update::Keep
        })
        .unwrap();
    cache.put(b"k", b"u").unwrap();
}

// The error says which length is accepted.
#[test]
fn oversized_keys_and_values_are_refused() {
    let scratch = Scratch::new();
    let cache = scratch.open(&tiny());
    assert!(matches!(
        cache.put(b"", b"v").as_ref().map_err(crate::Error::kind),
        Err(crate::ErrorKind::KeyLength { len: 0, .. })
    ));
    assert!(matches!(
        cache.get(&[0; 65_536]).as_ref().map_err(crate::Error::kind),
        Err(crate::ErrorKind::KeyLength { len: 65_536, .. })
    ));
    let refused = cache
        .put(b"k", &[0; 20_000])
        .map_err(crate::Error::into_kind);
    let Err(crate::ErrorKind::ValueTooLarge { max, .. }) = refused else {
        panic!("fits")
    };
    cache.put(b"k", &vec![1; max as usize]).unwrap();
    assert!(cache.put(b"k", &vec![1; max as usize + 1]).is_err());
    assert_eq!(cache.get(b"k").unwrap().unwrap().len() as u64, max);
    let large = Scratch::new();
    let cache = large.open(&Options::new());
    cache.put(&[7; 65_535], &vec![9; 3 << 20]).unwrap();
    assert_eq!(cache.get(&[7; 65_535]).unwrap().unwrap(), vec![9; 3 << 20]);
    assert_clean(&cache);
}

// Every change is counted, and clearing is one.
#[test]
fn changes_counts_puts_and_clears() {
    let scratch = Scratch::new();
    let cache = scratch.open(&Options::new());
    let other = scratch.open(Options::new().read_only(true));
    let mut last = other.change_count();
    let mut grown = |what: &str| {
        assert!(other.change_count() > last, "{what}");
        last = other.change_count();
    };
    cache.put(b"k", b"v").unwrap();
    grown("put");
    cache.put(b"k", b"w").unwrap();
    grown("overwrite");
    cache.delete(b"k").unwrap();
    grown("delete");
    cache.clear().unwrap();
    grown("clear");
}

#[test]
fn abandoned_recovery_names_its_place() {
    use crate::engine::switch::give_up;
    use crate::engine::write::mutator::{Abort, At, Mutator};
    use crate::format::heap_addr::HeapAddr;
    use crate::os::file_names::Stage;
    let scratch = Scratch::new();
    let cache = scratch.open(&tiny());
    let handle = &cache.handle;
    let mutator = Mutator::new(
        handle.generation.load_full(),
        std::sync::Arc::clone(&handle.names),
        Stage::Final,
    );
    let place = HeapAddr {
        segment: 3,
        unit: 100,
    };
    for (at, suffix, byte) in [
        (At::Word(word::TAIL), "", 264),
        (At::Index(5_000), "", 5_000),
        (At::Roster(7), ".roster", 64 + 28),
        (At::Heap(place), ".heap.3", 800),
    ] {
        let what = crate::Corruption::EntryRecord;
        let error = give_up(Abort::Recover(what, at), &mutator);
        let path = error.path().unwrap().to_owned();
        let crate::ErrorKind::Corrupted { what: said, at } = error.into_kind() else {
            panic!("{path:?}");
        };
        assert_eq!((said, at), (what, byte));
        assert!(
            path.to_string_lossy().ends_with(&format!("cache{suffix}")),
            "{path:?}"
        );
    }
}
