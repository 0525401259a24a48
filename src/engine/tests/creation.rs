//! Creation of a cache beside other creators and files at its path.
//!
//! `recovery/creation.rs` stops creators; here all of them live.

use crate::engine::tests::*;

// Many threads open a new cache at the same time; all of them get the same one.
#[test]
fn concurrent_creators_share_one_cache() {
    for _ in 0..30 {
        let scratch = Scratch::new();
        std::thread::scope(|scope| {
            for thread in 0..4_u8 {
                let scratch = &scratch;
                scope.spawn(move || {
                    let cache = scratch.open(&tiny());
                    cache.put(&[thread], &[thread]).unwrap();
                    assert_eq!(cache.get(&[thread]).unwrap().unwrap(), [thread]);
                });
            }
        });
        let cache = scratch.open(&tiny());
        assert_eq!(cache.len(), 4);
        assert_clean(&cache);
    }
}

// A file that appears at the path during creation is not replaced.
#[test]
fn creation_replaces_no_file() {
    use crate::sync::failpoint;
    let mut planted = 0;
    for steps in 0.. {
        let scratch = Scratch::new();
        let path = scratch.path().to_owned();
        failpoint::interrupt(steps, move || {
            if !path.exists() {
                std::fs::write(path, "mine").unwrap();
            }
        });
        let opened = tiny().open(scratch.path());
        if failpoint::clear() {
            break;
        }
        if std::fs::read(scratch.path()).unwrap() == b"mine" {
            planted += 1;
            let error = opened.unwrap_err();
            let early = error.is_corruption();
            assert!(early || matches!(error.kind(), crate::ErrorKind::AlreadyExists));
            let dir = scratch.path().parent().unwrap();
            assert_eq!(std::fs::read_dir(dir).unwrap().count(), 2, "and the lock");
        } else {
            assert!(opened.is_ok(), "{opened:?}");
        }
    }
    assert!(planted > 20, "{planted}");
}

// A creation that fails after its commit keeps the files.
#[test]
fn committed_creation_keeps_its_files() {
    use crate::sync::failpoint;
    let mut failed = 0;
    for steps in 0.. {
        let scratch = Scratch::new();
        let path = scratch.path().to_owned();
        let roster = path.with_file_name("cache.roster");
        let in_the_way = roster.clone();
        failpoint::interrupt(steps, move || {
            if path.exists() && !in_the_way.exists() {
                std::fs::create_dir(in_the_way).unwrap();
            }
        });
        let opened = tiny().open(scratch.path());
        if failpoint::clear() {
            break;
        }
        if opened.is_err() {
            failed += 1;
            std::fs::remove_dir(roster).unwrap();
        }
        let cache = scratch.open(&tiny());
        cache.put(b"k", b"v").unwrap();
        assert_clean(&cache);
    }
    assert!(failed > 0);
}

// Opening waits for another creator at most as long as the lock timeout.
#[test]
fn waiting_for_creator_times_out() {
    use std::time::Duration;
    let scratch = Scratch::new();
    let mut options = tiny();
    options.lock_timeout(Some(Duration::from_millis(20)));
    let names = crate::os::file_names::FileNames::resolve(scratch.path(), None).unwrap();
    let creating = crate::engine::locking::lock_creation(&names, &options).unwrap();
    let refused = options.open(scratch.path()).unwrap_err();
    assert!(
        matches!(refused.kind(), crate::ErrorKind::Locked { .. }),
        "{refused}"
    );
    drop(creating);
    assert!(scratch.open(&options).is_empty());
}
